"""Every YAML under conf/ is found by scanning, composed, checked, and what it describes is built."""

import functools
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from kdrobust.config import DERIVED, compose, conf_dir, config_hash, instantiate, numbers, to_plain, to_text
from kdrobust.config.resolved import from_text
from kdrobust.errors import UsageError
from kdrobust.headers import header_lines
from kdrobust.losses import Objective, method_problems
from kdrobust.stages.implied import teacher_config
from kdrobust.stages.run import resolve, stage_of
from kdrobust.sweeps.search import parse_search
from kdrobust.sweeps.study import distribution, pruner_of, sampler_of

CONF = conf_dir()
#: No options of a stage: what `kdrobust search wandb` made for W&B agents, which tests/sweeps/test_wandb_sweep.py checks,
#: and the benchmark's suites, whose jobs tests/benchmark/test_plan.py composes.
FOREIGN = ("wandb_sweep", "suite")
STAGES = sorted(path.stem for path in CONF.glob("*.yaml") if not path.stem.startswith("_"))
#: group and option as one writes them: ("experiment", "paper/rslad_cifar10_resnet18")
OPTIONS = sorted(
    (
        path.relative_to(CONF).parts[0],
        path.relative_to(CONF / path.relative_to(CONF).parts[0]).with_suffix("").as_posix(),
    )
    for path in CONF.glob("*/**/*.yaml")
    if not path.stem.startswith("_") and path.parent.name not in FOREIGN
)
RECIPES = [option for group, option in OPTIONS if group == "experiment" and option.startswith("paper/")]
#: values that only a user has
_DETECTION = ["data.source.classifier=some.ckpt", "data.source.surrogate=other.ckpt"]
GIVEN = {
    "detection": _DETECTION,
    "detector": ["data=detection", *_DETECTION],
    **{f"detection/{name}": _DETECTION for name in ("teacher", "adversarial")},
    "detection/student": [*_DETECTION, "teacher.checkpoint=detector.ckpt"],
    "image_folder": ["data.source.path=somewhere"],
    "npz": ["data.source.path=some.npz"],
    "spoken_words": ["data.source.path=somewhere"],
    "timm": ["student.network.name=resnet18"],
    "minimum_norm_l2": ["threat=l2_0.5", "threat.eps=0.1"],
}
NEEDS = {
    "evaluate": ["checkpoint=some.ckpt"],
    "export": ["checkpoint=some.ckpt"],
    "prune": ["checkpoint=some.ckpt"],
    "outputs": ["teacher.checkpoint=some.ckpt"],
}
#: What this machine may lack.
NOT_HERE = (
    r"is not installed; pip install 'kdrobust\[|no CUDA device|No supported gpu backend|problems in the configuration"
)
#: group -> (stage that has it, override)
MOUNTS = {
    "model": ("distill", "model@student={}"),
    "weighting": ("distill", "weighting@method.weighting={}"),
    "evaluation": ("evaluate", "evaluation={}"),
    "wrap": ("distill", "+wrap={}"),
    "average": ("distill", "+average={}"),
    "features": ("distill", "+features={}"),
    "teachers": ("distill", "+teachers={}"),
    "transform": ("distill", "transform@data.transform={}"),
}
#: what a group's options need beside them
BESIDE = {
    "weighting": ["method=dtkd"],
    "features": ["method=kd", "features.student=network.1", "features.teacher=network.2"],
    "teachers": ["method=iad_2"],
    "teachers/robust_and_natural": ["method=mtard"],
    "evaluation/detection": ["data=detection"],
}


@functools.cache
def composed_once(group, option):
    stage, spelling = MOUNTS.get(group, ("distill", f"{group}={{}}"))
    if option in RECIPES:
        stage = recipe_stage(option)
    overrides = [spelling.format(option), *GIVEN.get(option, []), *NEEDS.get(stage, [])]
    return compose(stage, [*BESIDE.get(group, []), *BESIDE.get(f"{group}/{option}", []), *overrides])


def composed(group, option):
    return composed_once(group, option).copy()


def recipe_header(option):
    return "\n".join(header_lines(CONF / "experiment" / f"{option}.yaml"))


def recipe_stage(option):
    """The stage a recipe's own command is for."""
    return re.search(rf"^Command: kdrobust (\w+) experiment={option} trainer=gpu", recipe_header(option), re.M)[1]


def test_nothing_is_missed():
    on_disk = [
        path for path in CONF.rglob("*.yaml") if not path.stem.startswith("_") and path.parent.name not in FOREIGN
    ]
    assert len(on_disk) == len(STAGES) + len(OPTIONS)
    assert {"teacher", "distill", "outputs", "evaluate", "export", "prune", "pipeline"} == set(STAGES)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_headers(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if not line.startswith("# @package"))
    assert first.startswith("# ")
    assert len(first) > 12


def accepted_again(cfg):
    """A composed config is accepted, and its written form too, which is the same run: hash, teachers, jobs and all."""
    resolved = resolve(cfg)
    written = from_text(to_text(OmegaConf.to_container(resolved)))
    assert written == resolved
    assert config_hash(written) == config_hash(cfg)
    stage_of(written).check(written, [])
    derived = written[DERIVED]
    for name, teacher in derived.get("teachers", {}).items():
        own = config_hash(teacher)
        assert own == config_hash(teacher_config(cfg, name))
        assert teacher.run.folder.endswith(own[:8])
        stage_of(teacher).check(teacher, [])
    for job in derived.get("jobs", {}).values():
        stage_of(job).check(job, [])
    return written


@pytest.mark.parametrize("stage", STAGES)
def test_primary_configs_are_accepted_and_so_is_what_is_written_of_them(stage):
    accepted_again(compose(stage, NEEDS.get(stage, [])))


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_options_are_accepted_and_so_is_what_is_written_of_them(group, option):
    refused = ""
    try:
        accepted_again(composed(group, option))
    except UsageError as error:
        refused = str(error)
    # an option may need an extra or a device, and then says so
    assert [line for line in refused.splitlines() if not re.search(NOT_HERE, line)] == []


@pytest.mark.parametrize("method", [option for group, option in OPTIONS if group == "method"])
def test_every_method_goes_through_a_pipeline(method):
    cfg = accepted_again(compose("pipeline", [f"method={method}", "seeds=[3]"]))
    jobs = cfg[DERIVED].jobs
    alone, distilled = jobs["student_alone/seed_3"], jobs["student_distilled/seed_3"]
    assert (alone.seed, distilled.seed, distilled.data.seed) == (3, 3, 3)
    assert distilled.attack == distilled.callbacks.attack.attack == cfg.attack
    # each student is attacked as its own method says
    for student in (alone, distilled):
        assert student.attack == student.callbacks.attack.attack
        assert student.attack.goal == student.method.attack.goal
    assert (alone.attack.goal, alone.attack.start) == ("cross_entropy", "uniform")
    for name in cfg[DERIVED].teachers:
        node = distilled.teacher if name == "teacher" else distilled.teachers[name]
        given = node.checkpoint if name in Objective.from_method(numbers(cfg.method)).teachers else None
        assert given in (None, f"{cfg[DERIVED].teachers[name].run.folder}/best.ckpt")


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
    elif group == "transform":
        assert instantiate(cfg.data).transform.keywords == {
            key: value for key, value in to_plain(cfg.data.transform).items() if not key.startswith("_")
        }
    elif group == "teachers":
        assert "natural" in cfg.teachers
    elif group == "evaluation":
        attacks = instantiate(cfg.evaluation.attacks)
        adaptive = cfg.evaluation.get("adaptive")
        described = [
            attack.describe() for attack in [*attacks.values(), *([instantiate(adaptive)] if adaptive else [])]
        ]
        assert all(each["threat"]["eps"] == 0.1 for each in described)
    elif group in ("experiment", "debug"):
        objective = Objective.from_method(numbers(cfg.method))
        assert objective.references
        assert all(made for key, made in instantiate(cfg.callbacks).items() if cfg.callbacks[key] is not None)
        weights = [torch.nn.Parameter(torch.zeros(1))]
        optimizer = instantiate(cfg.optimizer)(params=weights)
        if option in RECIPES:
            late = {"total_steps": 10} if cfg.scheduler.interval == "step" else {}
            instantiate(cfg.scheduler)["factory"](optimizer, **late)
            assert objective.method.partners or bool(objective.teachers) == (cfg.stage == "distill")
    elif group == "search":
        search = parse_search(option, to_plain(cfg.search))
        assert sampler_of(search, 0)
        assert pruner_of(search)
        assert all(distribution(parameter) for parameter in search.space)
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
    from kdrobust.models import build_classifier
    from kdrobust.spec import InputSpec

    spec = InputSpec(shape=(3, 32, 32), classes=10)
    published = {"resnet18": 11.17, "preact_resnet18": 11.17, "mobilenet_v2": 2.24, "wrn_34_10": 46.16}
    published |= {"resnet20": 0.27, "resnet56": 0.86, "resnet8x4": 1.21, "resnet32x4": 7.41}
    published |= {"wrn_16_2": 0.69, "wrn_40_2": 2.24, "wrn_70_16": 266.80}
    for option, millions in published.items():
        network = instantiate(composed("model", option).student.network)
        with torch.device("meta"):
            count = sum(p.numel() for p in build_classifier(network, spec=spec).parameters())
        assert round(count / 1e6, 2) == millions


def test_experiments_override_primary_keys():
    assert compose("distill", ["experiment=article_mse"]).epochs == 10
    assert compose("distill", ["experiment=article_mse", "epochs=3"]).epochs == 3


@pytest.mark.parametrize("option", RECIPES)
def test_a_recipe_says_where_it_comes_from_and_that_it_was_not_run(option):
    text = recipe_header(option)
    for line in ("Source: ", "Published figures: ", "Not run here: no GPU."):
        assert len(re.findall(f"^{line}", text, re.M)) == 1, line
    method, data, network = re.fullmatch(r"paper/(\w+)_(cifar100?)_(\w+)", option).groups()
    cfg = composed("experiment", option)
    trained = cfg.student if cfg.stage == "distill" else cfg.teacher
    assert trained.network == composed("model", network).student.network
    assert cfg.data.name == data
    assert cfg.run.name.startswith(f"{method}_{network}_{data}")


def test_recipes_hold_what_the_official_code_does():
    cfg = composed("experiment", "paper/rslad_cifar10_resnet18")
    optimizer = instantiate(cfg.optimizer)(params=[torch.nn.Parameter(torch.zeros(1))])
    scheduler = instantiate(cfg.scheduler)["factory"](optimizer)
    assert sorted(scheduler.milestones) == [215, 260, 285]
    assert [instantiate(cfg.attack).step_size, cfg.method.reduction] == [pytest.approx(2 / 255), "classes_mean"]
    assert cfg.callbacks.attack.warmup == 0
    trades = composed("experiment", "paper/trades_cifar10_wrn_34_10")
    assert instantiate(trades.attack).describe()["threat"]["eps"] == 0.031
    assert instantiate(trades.attack).step_size == 0.007
    tenfold = numbers(composed("experiment", "paper/rslad_cifar100_resnet18").method)["terms"]
    assert [tenfold[name]["weight"] for name in ("adversarial", "clean")] == pytest.approx([50 / 6, 10 / 6])
    for option, milestones in (("mart_cifar10_resnet18", [74, 89, 99]), ("peeraid_cifar10_resnet18", [214, 259, 284])):
        cfg = composed("experiment", f"paper/{option}")
        assert sorted(instantiate(cfg.scheduler)["factory"](optimizer).milestones) == milestones


def test_a_recipe_of_the_second_student_changes_the_student_alone():
    first, second = (
        OmegaConf.to_container(composed("experiment", f"paper/rslad_cifar10_{name}"), resolve=False)
        for name in ("resnet18", "mobilenet_v2")
    )
    assert first.pop("student") != second.pop("student")
    assert first.pop("run") != second.pop("run")
    assert first == second


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
