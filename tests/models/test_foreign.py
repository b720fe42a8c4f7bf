"""Models from elsewhere: what is loaded, and what is refused in one line."""

import sys
import textwrap
import warnings

import pytest
import torch
from torch import nn

from kdrobust.errors import CheckpointError, UsageError
from kdrobust.models import (
    check_answers,
    load_imported,
    load_timm,
    load_torchscript,
    normalised,
)
from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(1, 8, 8), classes=5)


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
        if name.split(".")[0] == "mine":
            del sys.modules[name]


@pytest.fixture
def script(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(small(1)), tmp_path / "model.pt")
        torch.jit.save(torch.jit.freeze(torch.jit.script(small(1).eval())), tmp_path / "frozen.pt")
    return tmp_path / "model.pt"


def test_a_script_runs_only_if_trusted(script):
    with pytest.raises(UsageError, match=r"model\.trust=true"):
        load_torchscript(script, trust=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_torchscript(script, trust=True)
    inputs = torch.rand(3, 1, 8, 8)
    assert torch.allclose(model(inputs), small(1)(inputs))


def test_scripts_that_are_none(script, tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_torchscript(tmp_path / "absent.pt", trust=True)
    torch.save(small().state_dict(), tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"torch\.jit\.save"):
        load_torchscript(tmp_path / "state.pt", trust=True)
    frozen = load_torchscript(tmp_path / "frozen.pt", trust=True)
    with pytest.raises(CheckpointError, match=r"without torch\.jit\.freeze"):
        check_answers(frozen, torch.rand(2, 1, 8, 8), classes=5, what="model.torchscript=frozen.pt")


@pytest.fixture
def mine(packages):
    source = """
        from torch import nn
        class Net(nn.Sequential):
            def __init__(self, width=5):
                super().__init__(nn.Flatten(), nn.Linear(64, width))
        def make(width=5):
            return Net(width)
        def text():
            return "text"
        constant = 3
    """
    write(packages, {"mine/__init__.py": "", "mine/nets.py": source})
    return packages


@pytest.mark.parametrize("path", ["mine.nets:make", "mine.nets.make", "mine.nets:Net", "mine.nets.Net"])
def test_a_function_or_class_by_its_path(path, mine):
    torch.save({"1.weight": torch.ones(7, 64), "1.bias": torch.zeros(7)}, mine / "weights.pt")
    state = torch.get_rng_state()
    model = load_imported(path, weights=mine / "weights.pt", arguments={"width": 7}, trusted=["mine"])
    assert torch.equal(model(torch.ones(1, 1, 8, 8)), torch.full((1, 7), 64.0))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("path", "arguments", "words"),
    [
        ("os:system", {}, ["not allowed", "standard library"]),
        ("mine.nets:mkae", {}, ["has no 'mkae'"]),
        ("mine.nets:constant", {}, ["not a class or function"]),
        ("mine.nets:text", {}, ["made a str, not a torch.nn.Module"]),
        ("mine.nets:make", {"depth": 3}, ["depth", "model.arguments"]),
        ("absent.nets:make", {}, ["absent", "not allowed"]),
    ],
)
def test_paths_that_are_refused(path, arguments, words, mine):
    with pytest.raises(UsageError) as error:
        load_imported(path, arguments=arguments, trusted=["mine"])
    assert all(word in str(error.value) for word in [f"model.import={path}", *words]), error.value
    assert "\n" not in str(error.value)


def test_nothing_of_an_untrusted_package_is_run(packages):
    write(packages, {"mine/__init__.py": "raise SystemExit('imported')"})
    with pytest.raises(UsageError, match=r"trusted_modules=\[mine\]"):
        load_imported("mine:make")


def test_a_timm_model_with_weights_of_ones_own(tmp_path):
    timm = pytest.importorskip("timm")
    spec = InputSpec(shape=(1, 32, 32), classes=7)
    trained = timm.create_model("test_resnet", in_chans=1, num_classes=7)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    # nothing is fetched where weights are given
    model = load_timm("test_resnet", spec=spec, weights=tmp_path / "weights.pt", arguments={"pretrained": True})
    inputs = torch.rand(2, 1, 32, 32)
    assert torch.allclose(model.eval()(inputs), trained.eval()(inputs))


def test_timm_mistakes():
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match=r"model\.timm=resnet18x: timm has no such model; near: .*resnet18"):
        load_timm("resnet18x", spec=SPEC)
    with pytest.raises(UsageError, match=r"model\.weights=PATH"):
        load_timm("resnet18", spec=SPEC)
    with pytest.raises(UsageError, match=r"making the model failed .*depht"):
        load_timm("resnet18", spec=SPEC, weights="w.pt", arguments={"depht": 3})


def test_normalisation_is_explicit():
    model, inputs = small(), torch.rand(2, 1, 8, 8)
    assert torch.equal(normalised(model, spec=SPEC, normalize=None)(inputs), model(inputs))
    shifted = normalised(model, spec=SPEC, normalize={"mean": [0.5], "std": [0.25]})
    torch.testing.assert_close(shifted(inputs), model((inputs - 0.5) / 0.25))


@pytest.mark.parametrize(
    ("normalize", "word"),
    [
        ({"mean": [0.5]}, "expected {mean"),
        ({"mean": [0.5], "std": [0.25], "var": [1]}, "expected {mean"),
        ({"mean": [0.5, 0.5], "std": [1.0]}, "2 numbers for 1 channels"),
        ({"mean": [0.5], "std": [0.0]}, "positive"),
        ({"mean": 0.5, "std": [1.0]}, "one a channel"),
        ("imagenet", "expected {mean"),
    ],
)
def test_normalisations_that_are_none(normalize, word):
    with pytest.raises(UsageError, match=word):
        normalised(small(), spec=SPEC, normalize=normalize)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda x: (x,), "returns a tuple"),
        (lambda x: x.flatten(), r"returns \(\d+,\) for 2 inputs"),
        (lambda x: torch.zeros(len(x), 10), "10 classes, the data have 5"),
        (lambda x: x @ torch.zeros(3, 3), r"does not take inputs \(1, 8, 8\)"),
    ],
)
def test_answers_that_are_no_logits(answer, word):
    model = small()
    model.forward = answer
    with pytest.raises(CheckpointError, match=word) as error:
        check_answers(model, torch.rand(2, 1, 8, 8), classes=5, what="model.timm=x")
    assert str(error.value).startswith("model.timm=x: ")
    assert "\n" not in str(error.value)
