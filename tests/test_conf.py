"""Every YAML under conf/ is found by scanning, composed, checked, and what it describes is built."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kdrobust.config import check, compose, conf_dir, instantiate, numbers
from kdrobust.losses import Objective, method_problems

CONF = conf_dir()
STAGES = sorted(path.stem for path in CONF.glob("*.yaml") if not path.stem.startswith("_"))
OPTIONS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if not path.stem.startswith("_"))
#: values that only a user has
GIVEN = {
    "image_folder": ["data.source.path=somewhere"],
    "npz": ["data.source.path=some.npz"],
    "timm": ["student.network.name=resnet18"],
}
NEEDS = {"evaluate": ["checkpoint=some.ckpt"], "outputs": ["teacher.checkpoint=some.ckpt"]}
#: group -> (stage that has it, override)
MOUNTS = {
    "model": ("distill", "model@student={}"),
    "weighting": ("distill", "weighting@method.weighting={}"),
    "evaluation": ("evaluate", "evaluation={}"),
    "wrap": ("distill", "+wrap={}"),
    "average": ("distill", "+average={}"),
    "features": ("distill", "+features={}"),
    "teachers": ("distill", "+teachers={}"),
}
#: what a group's options need beside them
BESIDE = {
    "weighting": ["method=dtkd"],
    "features": ["method=kd", "features.student=network.1", "features.teacher=network.2"],
    "teachers": ["method=iad_2"],
}


def composed(group, option):
    stage, spelling = MOUNTS.get(group, ("distill", f"{group}={{}}"))
    overrides = [spelling.format(option), *GIVEN.get(option, []), *NEEDS.get(stage, [])]
    return compose(stage, [*BESIDE.get(group, []), *overrides])


def test_nothing_is_missed():
    on_disk = [path for path in CONF.rglob("*.yaml") if not path.stem.startswith("_")]
    assert len(on_disk) == len(STAGES) + len(OPTIONS)
    assert {"teacher", "distill", "outputs", "evaluate", "pipeline"} == set(STAGES)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_headers(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if not line.startswith("# @package"))
    assert first.startswith("# ")
    assert len(first) > 12


@pytest.mark.parametrize("stage", STAGES)
def test_primary_configs(stage):
    assert check(compose(stage, NEEDS.get(stage, []))) == []


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_options_compose_and_pass_the_check(group, option):
    cfg = composed(group, option)
    cfg.run.folder = "run"  # the stage sets it before it checks
    assert check(cfg) == []


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_what_an_option_describes_is_built(group, option, tmp_path):
    cfg = composed(group, option)
    cfg.run.folder = str(tmp_path)
    if group == "method":
        method = numbers(cfg.method)
        assert method_problems(method) == []
        assert Objective.from_method(method).references
    elif group == "model":
        assert instantiate(cfg.student.network).keywords
    elif group == "weighting":
        assert Objective.from_method(numbers(cfg.method)).weighting is not None
    elif group in ("wrap", "features"):
        objective = Objective.from_method(numbers(cfg.method))
        added = {"igdm": "gradient", "input_gradient": "input_gradient"}.get(option, "features")
        assert added in objective.terms or option in ("awp", "fair")
        assert all(instantiate(cfg.callbacks).values())
        assert (objective.method.sample_weight is not None) == (option == "fair")
    elif group == "average":
        assert instantiate(cfg.callbacks.average).mode == option
    elif group == "teachers":
        assert "natural" in cfg.teachers
    elif group == "evaluation":
        attacks = instantiate(cfg.evaluation.attacks)
        assert all(attack.describe()["threat"]["eps"] == 0.1 for attack in attacks.values())
    elif group in ("experiment", "debug"):
        assert Objective.from_method(numbers(cfg.method)).references
        instantiate(cfg.optimizer)
    elif group == "logger":
        assert group in cfg
    elif group == "trainer":
        factory = instantiate(cfg.trainer)
        assert factory.keywords["use_distributed_sampler"] is False
        assert factory.keywords["inference_mode"] is False
        if cfg.trainer.accelerator == "cpu":
            factory(logger=False, enable_checkpointing=False)
    else:
        built = instantiate(cfg[group])
        assert built is not None


def test_published_networks_are_the_yaml_s(tmp_path):
    import torch

    from kdrobust.models import build_classifier
    from kdrobust.spec import InputSpec

    spec = InputSpec(shape=(3, 32, 32), classes=10)
    published = {"resnet18": 11.17, "preact_resnet18": 11.17, "mobilenet_v2": 2.24, "wrn_34_10": 46.16}
    for option, millions in published.items():
        network = instantiate(composed("model", option).student.network)
        with torch.device("meta"):
            count = sum(p.numel() for p in build_classifier(network, spec=spec).parameters())
        assert round(count / 1e6, 2) == millions


def test_experiments_override_primary_keys():
    assert compose("distill", ["experiment=article_mse"]).epochs == 10
    assert compose("distill", ["experiment=article_mse", "epochs=3"]).epochs == 3


def test_a_step_follows_its_radius():
    cfg = compose("distill", ["threat.eps=8/255"])
    assert cfg.attack.step_size == pytest.approx(2 / 255)
    assert compose("distill", ["attack.step_size=2/255"]).attack.step_size == "2/255"
    attack = instantiate(compose("distill", ["method=fgsm_rs", "threat.eps=8/255"]).attack)
    assert attack.step_size == pytest.approx(10 / 255)


def test_the_method_decides_the_goal_and_evaluation_does_not():
    assert compose("distill", ["method=rslad", "attack=fgsm"]).attack.goal == "kl_to_teacher"
    assert compose("distill", ["method=rslad"]).callbacks.robust_validation.attack.goal == "cross_entropy"
    resolved = OmegaConf.to_container(compose("evaluate", ["checkpoint=x"]).evaluation.attacks, resolve=True)
    assert {attack["goal"] for attack in resolved.values()} == {"cross_entropy"}


def test_shipped_conf_is_where_it_should_be():
    assert (Path(CONF) / "distill.yaml").exists()
