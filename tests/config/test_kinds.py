"""Each slot takes components of its kind: every public name of the packages it takes them from is tried."""

import functools
import importlib
import inspect
import pkgutil
import sys
import textwrap

import pytest
from omegaconf import OmegaConf

from kdrobust.config import check, instantiate, kinds
from kdrobust.config.kinds import KINDS, SLOTS, argument, slot
from kdrobust.errors import UsageError
from kdrobust.modules import multistep

#: What our own packages hold of each kind; of other packages', every class of the base.
OURS = {
    "a threat model": "Threat",
    "an attack of a training": "GradientAttack NoAttack",
    "an attack": "APGD ArtAttack AutoAttack CarliniWagner Cascade DDN FMN FoolboxAttack GradientAttack JointAttack NoAttack "
    "Square TorchAttack TransferAttack",
    "an attack on classifier and detector": "JointAttack",
    "an attack's goal": "kl_to_clean kl_to_linear_teacher kl_to_live_teacher kl_to_teacher",
    "a callback": "AttackCallback AveragedWeights CollapseWarning HeldFolder NonFinite OverfittingWarning ProgressLines ResumePoint "
    "RobustValidation SharedAnswers StepCount WeightPerturbation",
    "a logger": "MetricsCsv TrackioRun WandbRun",
    "a learning rate scheduler": "multistep",
    "a strategy": "ConfigDDPStrategy",
    "a data module": "DataModule",
    "a data source": "Digits ImageFolder Npz Pairs SpokenWords TorchvisionImages",
    "an augmentation": "Augmentation",
    "what fetches recordings": "EspeakDigits FreeSpokenDigits",
    "a transform": "Corrupt LogMel Resize Spectrogram",
}
NETWORKS = (
    "Classifier ConvNet DSCNN Detector InvertedResidual LogMel MLP MobileNetV2 Normalize PostActivationBlock PreActResNet "
    "PreActivationBlock ResNet SpectrogramCNN Timm WaveformCNN WideResNet"
)
OURS |= dict.fromkeys(("a network", "a module", "a model, or a function that makes one"), NETWORKS)


def modules(package):
    """A package and everything public below it that can be imported here."""
    try:
        root = importlib.import_module(package)
    except ModuleNotFoundError:
        return  # it names a class
    yield root
    for found in pkgutil.walk_packages(getattr(root, "__path__", []), f"{package}."):
        if not any(piece.startswith("_") for piece in found.name.split(".")):
            try:
                yield importlib.import_module(found.name)
            except ImportError:
                continue  # an extra that is not installed


@functools.cache
def names():
    packages = {package for kind in KINDS for package in (*kind.packages, *kind.makers)} | {"pytorch_lightning.trainer"}
    # what the command line runs, writes and fetches with is looked at too
    packages |= {
        f"kdrobust.{name}" for name in ("serving", "export", "benchmark", "stages", "sweeps", "config", "media")
    }
    found = {f"{module.__name__}.{name}" for package in packages for module in modules(package) for name in dir(module)}
    return sorted(name for name in found if not name.rpartition(".")[2].startswith("_"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_of_all_public_names_a_kind_takes_its_components_only(kind):
    assert len(names()) > 7_000
    accepted = {}
    for name in names():
        try:
            found = kind.find(name)
        except UsageError:
            continue
        accepted[name] = found
    bases = tuple(base for base in map(kinds._named, kind.bases) if not getattr(base, "_is_protocol", False))
    for name, found in accepted.items():
        if found.__module__.startswith("kdrobust."):
            assert found.__name__ in OURS[kind.label].split(), name
        elif inspect.isclass(found):
            assert issubclass(found, bases), name
        else:
            assert name.startswith("torchvision.models.")
            assert issubclass(inspect.get_annotations(found, eval_str=True)["return"], bases), name
    ours = {found.__name__ for found in accepted.values() if found.__module__.startswith("kdrobust.")}
    missing = set(OURS.get(kind.label, "").split()) - ours - {"TrackioRun"}
    assert not missing


def test_every_slot_has_a_kind_wherever_its_config_is_written():
    assert set(SLOTS.values()) <= set(KINDS)
    for prefix in ("", "derived.teachers.natural.", "derived.jobs.teacher_outputs.", "teacher_training.", "baseline."):
        assert slot(f"{prefix}callbacks.best") is kinds.CALLBACK
        assert slot(f"{prefix}derived.rungs[0].attacks.pgd20") is kinds.ATTACK
        assert slot(f"{prefix}derived.rungs[11].threat") is kinds.THREAT
        assert slot(f"{prefix}teachers.natural.network") is kinds.NETWORK
        for key in ("callbacks", "callbacks.best.mode", "method.terms", "run", "optimizer.lr"):
            assert slot(f"{prefix}{key}") is None


MINE = """
import torch
from torch import nn
open({mark!r}, "w").close()

class Head(nn.Module):
    pass

class Net(nn.Module):
    def __init__(self, *, spec=None, head: Head | None = None, layers: list[nn.Module] = (), free=None, size: int = 3):
        super().__init__()

class NotANetwork:
    pass

def schedule(optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.StepLR(optimizer, 1)

def unannotated(optimizer):
    return schedule(optimizer)

def goal(target):
    return lambda inputs, logits: logits.sum(1)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_of_the_test.py").write_text(textwrap.dedent(MINE.format(mark=str(tmp_path / "imported"))))
    yield tmp_path / "imported"
    sys.modules.pop("mine_of_the_test", None)


def test_the_user_s_package_is_held_to_the_same_kinds(mine):
    trusted = ["mine_of_the_test"]
    with pytest.raises(UsageError, match=r"trusted_modules=\[mine_of_the_test\]"):
        kinds.NETWORK.find("mine_of_the_test.Net")
    assert not mine.exists()
    network = kinds.NETWORK.find("mine_of_the_test.Net", trusted)
    assert kinds.SCHEDULER.find("mine_of_the_test.schedule", trusted)
    assert kinds.GOAL.find("mine_of_the_test.goal", trusted)
    for kind, name in [
        (kinds.NETWORK, "NotANetwork"), (kinds.NETWORK, "schedule"), (kinds.NETWORK, "goal"), (kinds.CALLBACK, "Net"),
        (kinds.SCHEDULER, "unannotated"), (kinds.OPTIMIZER, "schedule"), (kinds.LOGGER, "NotANetwork"),
        (kinds.NETWORK, "torch.hub.load"), (kinds.NETWORK, "open"),
    ]:  # fmt: skip
        with pytest.raises(UsageError, match=r"is not an? |not allowed|has no"):
            kind.find(f"mine_of_the_test.{name}", trusted)
    assert argument(network, "head", trusted).bases == ("mine_of_the_test.Head",)
    assert argument(network, "layers", trusted) is kinds.MODULE
    assert argument(network, "free", trusted) is kinds.MODULE
    assert argument(network, "size", trusted) is None


def test_an_argument_takes_what_its_annotation_says(mine):
    def problems(**arguments):
        node = {"_target_": "mine_of_the_test.Net", "_partial_": True, **arguments}
        root = OmegaConf.create({"trusted_modules": ["mine_of_the_test"], "student": {"network": node}})
        found = check(root)
        if found:
            with pytest.raises(UsageError):
                instantiate(root.student.network)
        else:
            instantiate(root.student.network)(spec=None)
        return found

    assert problems(head={"_target_": "mine_of_the_test.Head"}, layers=[{"_target_": "torch.nn.GELU"}]) == []
    assert "not allowed" in problems(head={"_target_": "torch.nn.GELU"})[0]
    assert "not allowed" in problems(layers=[{"_target_": "os.mkdir"}])[0]
    assert problems(size={"_target_": "mine_of_the_test.Head"})[0].startswith("student.network.size: a value is taken")


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("optimizer", {"_target_": "torch.optim.SGD", "_partial_": True, "lr": {"_target_": "torch.nn.GELU"}},
         "optimizer.lr: a value is taken here, no component"),
        ("optimizer", {"_target_": "torch.optim.SGD", "_partial_": "yes"}, "optimizer._partial_: expected true or false"),
        ("optimizer", {"_target_": "torch.optim.SGD", "_partial_": True, "_convert_": "junk"},
         "optimizer._convert_: no such instruction"),
        ("optimizer", {"_target_": "torch.optim.SGD", "_partial_": True, "_args_": [1]}, "optimizer._args_: no such"),
        ("callbacks", {"own": {"x": 1}}, "callbacks.own: expected a callback, a mapping with `_target_`, got a mapping"),
        ("callbacks", {"own": 5}, "callbacks.own: expected a callback, a mapping with `_target_`, got 5"),
        ("logger", {"own": {"_target_": "torch.nn.Identity"}}, "logger.own._target_: torch.nn.Identity is not allowed"),
        ("data", {"_target_": "torch.nn.Identity"}, "data._target_: torch.nn.Identity is not allowed"),
        ("somewhere", {"_target_": "kdrobust.attacks.Threat"}, "somewhere: a value is taken here, no component"),
        ("threat", "${optimizer}", "threat: torch.optim.SGD is not allowed"),
    ],
)  # fmt: skip
def test_what_is_no_component_of_the_slot_is_one_line(key, value, line):
    cfg = OmegaConf.create({"optimizer": {"_target_": "torch.optim.SGD", "_partial_": True}, key: value})
    problems = [problem for problem in check(cfg) if "needs it" not in problem]
    assert len(problems) == 1
    assert problems[0].startswith(line)


def test_null_leaves_a_slot_empty():
    keys = {"scheduler": {"factory": None}, "callbacks": {"best": None}, "logger": None, "attack": None}
    assert check(OmegaConf.create(keys)) == []


def test_without_a_kind_nothing_is_built():
    with pytest.raises(UsageError, match="a value is taken here"):
        instantiate({"_target_": "kdrobust.attacks.Threat", "norm": "linf", "eps": 0.1})
    assert kinds.SCHEDULER.find("kdrobust.modules.multistep") is multistep
