"""A made-up RobustBench with the real one's broken import: what is loaded, and what is refused in one line."""

import sys
import textwrap

import pytest
import torch
from torch import nn

from kdrobust.errors import CheckpointError, UsageError
from kdrobust.models import load_robustbench


def small(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder on the import path; what is imported from it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "robustbench":
            del sys.modules[name]


ZOO = """
    import os
    import torch
    from torch import nn
    def load_model(model_name, model_dir, dataset, threat_model):
        if (dataset, threat_model, model_name) != ("cifar10", "Linf", "Wong2020Fast"):
            raise KeyError(model_name)
        path = os.path.join(model_dir, dataset, threat_model, model_name + ".pt")
        if not os.path.exists(path):
            raise OSError("no network\\nat all")
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
        model.load_state_dict(torch.load(path))
        return model
"""


@pytest.fixture
def zoo(packages):
    """A package with the real one's import of a name that is on no index."""
    head = "from autoattack import AutoAttack\nfrom autoattack.state import EvaluationState\n"
    write(packages, {"robustbench/__init__.py": head, "robustbench/utils.py": ZOO})
    return packages


def wong(folder, **changes):
    return load_robustbench(
        **{"name": "Wong2020Fast", "dataset": "cifar10", "norm": "linf", "folder": folder, **changes}
    )


def test_a_model_of_the_zoo(zoo):
    place = zoo / "weights" / "cifar10" / "Linf" / "Wong2020Fast.pt"
    place.parent.mkdir(parents=True)
    torch.save(small(1).state_dict(), place)
    model = wong(zoo / "weights")
    assert torch.equal(model[1].weight, small(1)[1].weight)
    assert not [name for name in sys.modules if name.split(".")[0] == "autoattack"], "only while it is imported"
    import pyautoattack

    assert pyautoattack.state.EvaluationState is sys.modules["robustbench"].EvaluationState


def test_weights_of_the_zoo_run_no_code(zoo, monkeypatch):
    place = zoo / "cifar10" / "Linf" / "Wong2020Fast.pt"
    place.parent.mkdir(parents=True)
    torch.save(small(1), place)
    monkeypatch.setattr("torch.serialization._default_to_weights_only", lambda module: False)
    with pytest.raises(CheckpointError, match="not loaded"):
        wong(zoo)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in __import__("os").environ


def test_zoo_mistakes(zoo, packages):
    with pytest.raises(UsageError, match="no such model for cifar10 and L2"):
        wong(zoo, norm="l2")
    with pytest.raises(UsageError, match="no such model for cifar10 and Linf"):
        wong(zoo, name="Wong2020Slow")
    with pytest.raises(CheckpointError, match=r"OSError: no network\); its weights belong in .*Wong2020Fast\.pt"):
        wong(zoo)


def test_no_zoo(monkeypatch, packages):
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(UsageError, match="robustbench is not installed; pip install robustbench"):
        wong(packages)


def test_a_zoo_that_lacks_a_package(packages):
    write(packages, {"robustbench/__init__.py": "import a_module_that_nobody_has", "robustbench/utils.py": ""})
    with pytest.raises(UsageError, match="pip install a_module_that_nobody_has"):
        wong(packages)
