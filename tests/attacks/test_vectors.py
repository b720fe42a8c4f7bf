"""Our loop against arrays that other libraries' own code returned; keys and sources in vectors/attacks.md."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kdrobust.attacks import GradientAttack, Threat

ARRAYS = np.load(Path(__file__).parent / "vectors" / "attacks.npz")
LINF = {"e8": (8 / 255, 2 / 255), "e100m": (0.1, 0.025)}
L2 = {"e500m": (0.5, 0.1), "e1500m": (1.5, 0.3)}


def tensor(key):
    return torch.from_numpy(np.asarray(ARRAYS[key]))


def network(prefix):
    weights = [tensor(f"{prefix}/{name}").double() for name in ("conv_w", "conv_b", "fc_w", "fc_b")]

    def forward(x):
        hidden = F.relu(F.conv2d(x, weights[0], weights[1], stride=2)).flatten(1)
        return hidden @ weights[2].T + weights[3]

    return forward


MODEL, TEACHER = network("model"), network("teacher")
X, Y = tensor("x").double(), tensor("y").long()


def attack(norm, tag, initial=None, labels=Y, **settings):
    eps, step = (LINF if norm == "linf" else L2)[tag]
    settings = {"steps": 10, "step_size": step, **settings}
    runner = GradientAttack(threat=Threat(norm=norm, eps=eps), **settings)
    return runner(MODEL, X, labels, teacher=TEACHER, initial=initial, validate=False)


def keys(prefix):
    found = [key for key in ARRAYS.files if key.startswith(prefix + "/")]
    assert found, prefix
    return found


def assert_equal(ours, key, atol=None):
    theirs = tensor(key).double()
    tolerance = atol or (1e-9 if ARRAYS[key].dtype == np.float64 else 1e-6)
    assert float((ours - theirs).abs().max()) <= tolerance, key


@pytest.mark.parametrize("tag", LINF)
def test_fgsm(tag):
    ours = attack("linf", tag, steps=1, step_size=LINF[tag][0])
    for key in keys(f"fgsm_linf/{tag}"):
        assert_equal(ours, key)


@pytest.mark.parametrize("tag", L2)
def test_fgm_l2(tag):
    ours = attack("l2", tag, steps=1, step_size=L2[tag][0])
    for key in keys(f"fgm_l2/{tag}"):
        assert_equal(ours, key)


@pytest.mark.parametrize("tag", LINF)
def test_pgd_without_a_random_start(tag):
    ours = attack("linf", tag)
    for key in keys(f"pgd_linf_ce/{tag}"):
        assert_equal(ours, key)


def uniform_start(tag):
    return X + LINF[tag][0] * tensor("start/uniform_pm1").double()


@pytest.mark.parametrize("tag", LINF)
def test_pgd_from_a_uniform_start(tag):
    ours = attack("linf", tag, initial=uniform_start(tag).clamp(0, 1))
    for key in keys(f"pgd_linf_ce_uniform_start/{tag}"):
        assert_equal(ours, key)


@pytest.mark.parametrize("tag", LINF)
def test_ard_starts_unclipped(tag):
    ours = attack("linf", tag, initial=uniform_start(tag))
    for key in keys(f"ard_ce_linf/{tag}"):
        assert_equal(ours, key)


@pytest.mark.parametrize("tag", LINF)
def test_targeted_pgd(tag):
    ours = attack("linf", tag, labels=tensor("y_target").long(), targeted=True)
    for key in keys(f"pgd_linf_ce_targeted/{tag}"):
        assert_equal(ours, key)


@pytest.mark.parametrize("tag", LINF)
def test_fgsm_rs(tag):
    ours = attack("linf", tag, initial=uniform_start(tag).clamp(0, 1), steps=1, step_size=1.25 * LINF[tag][0])
    for key in keys(f"fgsm_rs/{tag}"):
        assert_equal(ours, key)


@pytest.mark.parametrize("tag", LINF)
@pytest.mark.parametrize("momentum", [1.0, 0.5])
def test_mi_fgsm_and_its_documented_disagreement(tag, momentum):
    ours = attack("linf", tag, momentum=momentum)
    for key in keys(f"mifgsm_linf/{tag}_mu{momentum}"):
        if "sign_momentum" in key:
            assert float((ours - tensor(key).double()).abs().max()) > 1e-3
        else:
            assert_equal(ours, key)


@pytest.mark.parametrize("tag", L2)
def test_pgd_l2_projects_before_it_clips(tag):
    ours = attack("l2", tag)
    for key in keys(f"pgd_l2_ce/{tag}"):
        if "clip_then_project" in key:
            assert float((ours - tensor(key).double()).abs().max()) > 1e-3
        else:
            assert_equal(ours, key)


@pytest.mark.parametrize("tag", LINF)
@pytest.mark.parametrize(("goal", "prefix"), [("margin", "pgd_linf_margin"), ("dlr", "pgd_linf_dlr")])
def test_margin_and_dlr(tag, goal, prefix):
    ours = attack("linf", tag, goal=goal)
    checked = 0
    for key in keys(f"{prefix}/{tag}"):
        if "advlib_best" in key or "advlib_found" in key:
            continue
        assert_equal(ours, key)
        checked += 1
    assert checked


def normal_start():
    return X + 0.001 * tensor("start/normal_noise").double()


@pytest.mark.parametrize("tag", LINF)
def test_trades_starts_unclipped_unlike_torchattacks(tag):
    ours = attack("linf", tag, initial=normal_start(), goal="kl_to_clean")
    assert_equal(ours, f"trades_kl_linf/{tag}/trades_official")
    clipped = attack("linf", tag, initial=normal_start().clamp(0, 1), goal="kl_to_clean")
    assert_equal(clipped, f"trades_kl_linf/{tag}/torchattacks_tpgd")


@pytest.mark.parametrize("tag", LINF)
@pytest.mark.parametrize(
    ("goal", "prefix"), [("kl_to_teacher", "rslad_kl_linf"), ("kl_to_live_teacher", "adaad_kl_linf")]
)
def test_distillation_attacks(tag, goal, prefix):
    ours = attack("linf", tag, initial=normal_start(), goal=goal)
    for key in keys(f"{prefix}/{tag}"):
        assert_equal(ours, key)


def test_a_detached_live_teacher_would_be_noticed():
    ours = attack("linf", "e8", initial=normal_start(), goal="kl_to_live_teacher")
    detached = GradientAttack(
        threat=Threat(norm="linf", eps="8/255"),
        goal=lambda target: (
            lambda x, z: F.kl_div(z.log_softmax(1), TEACHER(x).detach().softmax(1), reduction="none").sum(1)
        ),
        steps=10,
        step_size="2/255",
    )(MODEL, X, Y, initial=normal_start(), validate=False)
    assert int(((ours - detached).abs() > 1e-6).sum()) > 50
