"""conf/attack and conf/threat: every option, as Hydra composes it."""

import re

import pytest
import torch

from kdrobust.attacks import GradientAttack, NoAttack, Threat
from kdrobust.config import compose, conf_dir, instantiate
from kdrobust.errors import UsageError


def options(group):
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.stem.startswith("_"))


@pytest.mark.parametrize("threat", options("threat"))
def test_a_threat_is_what_its_file_name_says(threat):
    described = instantiate(compose("distill", [f"threat={threat}"]).threat).describe()
    bounds = [0.0, 1.0]
    if ratio := re.fullmatch(r"snr_(\d+)db", threat):
        eps, bounds = pytest.approx(10 ** (-int(ratio[1]) / 20)), [-1.0, 1.0]
        assert described == {"norm": "l2", "eps": eps, "bounds": bounds, "relative": True}
        return
    if threat.startswith("waveform_"):
        threat, bounds = threat.removeprefix("waveform_"), [-1.0, 1.0]
    norm, _, size = threat.partition("_")
    eps = float(size) if "." in size else int(size.split("_")[0]) / int(size.split("_")[1])
    assert described == {"norm": norm, "eps": pytest.approx(eps), "bounds": bounds}


@pytest.mark.parametrize("name", options("attack"))
def test_every_attack_can_reach_all_of_the_ball(name):
    attack = instantiate(compose("distill", ["threat=l2_0.5", f"attack={name}"]).attack)
    if name == "none":
        assert isinstance(attack, NoAttack)
        return
    described = attack.describe()
    assert (described["threat"]["norm"], described["threat"]["eps"]) == ("l2", 0.5)
    assert 0 < described["step_size"] <= 1.25 * 0.5 + 1e-12
    assert described["steps"] * described["step_size"] >= 0.5 - 1e-9


def test_what_the_options_say():
    def described(*overrides):
        return instantiate(compose("distill", ["threat=linf_0.1", *overrides]).attack).describe()

    one_step = described("attack=fgsm")
    assert (one_step["steps"], one_step["step_size"], one_step["start"]) == (1, pytest.approx(0.1), "none")
    assert described("attack=fgsm_rs")["step_size"] == pytest.approx(0.125)
    assert described("attack=mi_fgsm")["momentum"] == 1.0
    assert described("attack=pgd50")["restarts"] == 5
    assert described("attack=pgd_l2", "attack.steps=5")["step_size"] == pytest.approx(0.05)
    assert described("attack=pgd", "attack.step_size=2/255")["step_size"] == pytest.approx(2 / 255)
    assert [described(f"attack={name}")["goal"] for name in ("margin", "dlr")] == ["margin", "dlr"]
    assert described("attack=pgd", "method=rslad")["goal"] == "kl_to_teacher"
    assert described("attack=method", "method=ard")["model_mode"] == "train"
    assert described("attack=method", "method=trades")["start"] == "normal"


def test_a_goal_with_a_temperature_is_one_line_of_yaml():
    goal = "{_target_: kdrobust.attacks.goals.kl_to_teacher, _partial_: true, temperature: 4}"
    attack = instantiate(compose("distill", ["attack=pgd", f"attack.goal={goal}"]).attack)
    assert attack.describe()["goal"] == "kl_to_teacher(temperature=4)"


def test_one_step_on_trades_from_the_clean_input_says_what_to_do():
    attack = instantiate(compose("distill", ["attack=fgsm", "method=trades"]).attack)
    with pytest.raises(UsageError, match=r"attack\.start=normal"):
        attack(torch.nn.Flatten(), torch.rand(2, 4), torch.tensor([0, 1]))
    mended = instantiate(compose("distill", ["attack=fgsm", "method=trades", "attack.start=normal"]).attack)
    assert isinstance(mended, GradientAttack)
    assert isinstance(mended.threat, Threat)
    assert float((mended(torch.nn.Linear(4, 3), torch.rand(2, 4), torch.tensor([0, 1]))).min()) >= 0
