"""Networks of a package of the user's own: trained, and rebuilt from their checkpoints by every command that reads one."""

import json
import os
import signal
import sys

import numpy as np
import pytest
from torch import nn

import kdrobust
from kdrobust.data import DataModule, Digits
from kdrobust.errors import CheckpointError, UsageError
from kdrobust.modules import RobustModule
from kdrobust.stages.networks import check_batch
from tests.stages.conftest import TINY, Workplace

PACKAGE = """from torch import nn

class Net(nn.Module):
    def __init__(self, *, spec, width: int = 4, activation=None):
        super().__init__()
        layers = nn.Conv2d(spec.shape[0], width, 3, stride=2), nn.BatchNorm2d(width), activation or nn.ReLU()
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(spec.classes))
        self.body.eval()(__import__("torch").zeros(1, *spec.shape))
        self.body.train()

    def forward(self, inputs):
        return self.body(inputs)

class Plain(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()

class Misspelt(Net):
    def __init__(self, *, spec):
        super().__init__(spec=spec)
        self.head = nn.Linear(3, spec.num_classes)

class Doubling(Net):
    def forward(self, inputs):
        return self.body(inputs.mul_(2))

class InPlace(Net):
    def forward(self, inputs):
        return self.body(nn.functional.relu_(inputs))

class Narrow(Net):
    def forward(self, inputs):
        return self.body(inputs)[:, :3]

class Flat(nn.Module):
    def __init__(self, *, spec):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, spec.classes))

    def forward(self, inputs):
        return self.body(inputs)
"""
TRUST = "trusted_modules=[acme_of_the_test]"
LEFT_OUT = ["~student.network.channels", "~student.network.hidden", "~student.network.width"]
EVALUATE = ["evaluate", "evaluation.num_samples=20", "evaluation.checks=false", "~evaluation.attacks.pgd20"]


def student(name):
    return [f"student.network._target_=acme_of_the_test.{name}", *LEFT_OUT]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the package, which is on no search path but by being the working directory."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "acme_of_the_test").mkdir()
    (folder / "acme_of_the_test" / "__init__.py").write_text(PACKAGE)
    before = list(sys.path)
    yield Workplace(folder)
    sys.path[:] = before
    sys.modules.pop("acme_of_the_test", None)


@pytest.fixture(scope="module")
def short(trained):
    return ["distill", *TINY, "epochs=1", f"teacher.checkpoint={trained / 'best.ckpt'}"]


@pytest.fixture(scope="module")
def own(place, short):
    """A student of the package with a layer of torch's as its argument."""
    activation = "+student.network.activation._target_=torch.nn.GELU"
    place.run(*short, *student("Net"), activation, TRUST, "run.folder=own")
    return "own/best.ckpt"


def asked_to_trust(capsys):
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    return "'acme_of_the_test.Net'" in error and "add trusted_modules=[acme_of_the_test]" in error


def test_every_command_takes_it_where_it_is_trusted_and_only_there(place, own, capsys):
    np.save(place.folder / "digits.npy", np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32))
    evaluate = [*EVALUATE, f"checkpoint={own}", "run.root=evaluated"]
    predict = ["predict", own, "input=digits.npy", "output=answers.csv"]
    train = ["distill", *TINY, "epochs=1", "run.root=trained"]
    teacher, student = f"teacher.checkpoint={own}", f"+student.checkpoint={own}"
    for command in (
        evaluate,
        predict,
        [*train, teacher, "student.network.channels=[4]"],
        [*train, student, "method=pgd_at"],
        ["export", f"checkpoint={own}", "run.root=refused"],
        ["prune", f"checkpoint={own}", "run.root=refused"],
    ):
        capsys.readouterr()
        place.run(*command, code=1)
        assert asked_to_trust(capsys), command
    for command in (evaluate, predict, [*train, teacher, student]):
        place.run(*command, TRUST)


def test_it_is_loaded_where_it_is_trusted(place, own, monkeypatch):
    path = place.folder / own
    with pytest.raises(CheckpointError, match=r"trusted_modules=\[acme_of_the_test\]"):
        kdrobust.load(path)
    monkeypatch.chdir(place.folder)
    model = kdrobust.load(path, trusted_modules=["acme_of_the_test"])
    assert type(model._runtime.module.network).__name__ == "Net"
    assert type(model._runtime.module.network.body[2]).__name__ == "GELU"
    assert model.predict(np.zeros((2, 1, 8, 8), dtype=np.float32)).logits.shape == (2, 10)
    # trust ends with the command it was given to
    with pytest.raises(CheckpointError):
        kdrobust.load(path)


def test_a_stopped_run_goes_on_where_it_is_trusted_again(place, short, capsys, monkeypatch):
    original = RobustModule.training_step

    def step(self, batch, batch_idx):
        if self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(RobustModule, "training_step", step)
        place.run(*short, "epochs=2", *student("Net"), TRUST, "run.folder=stopped", code=143)
    assert f"to go on: kdrobust distill resume={place.folder / 'stopped'} {TRUST}, or" in capsys.readouterr().out
    place.run("distill", "resume=stopped", code=2)
    assert f"add {TRUST}" in capsys.readouterr().err
    place.run("distill", "resume=stopped", TRUST)
    assert "going on after" in capsys.readouterr().out
    place.run("reproduce", "stopped", "--anyway", code=2)
    assert "add --trust acme_of_the_test" in capsys.readouterr().err
    place.run("reproduce", "stopped", "--anyway", "--trust", "acme_of_the_test")


def test_two_ranks_evaluate_it(place, own):
    place.run(*EVALUATE, f"checkpoint={own}", TRUST, "trainer=ddp_cpu", "run.folder=ranks")
    assert json.loads((place.folder / "ranks/result.json").read_text())["evaluation"]["n"] == 20


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Plain", ["student.network._target_=acme_of_the_test.Plain", "takes no `spec`", "def __init__(self, *, spec"]),
        ("Misspelt", ["student.network=acme_of_the_test.Misspelt", "num_classes", "spec.classes"]),
        ("Doubling", ["student.network=acme_of_the_test.Doubling", "in place", "x = x.clone()"]),
        ("InPlace", ["student.network=acme_of_the_test.InPlace", "in place", "inplace=False"]),
        ("Narrow", ["student.network=acme_of_the_test.Narrow", "3 classes", "spec.classes"]),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_a_teacher_is_trained(place, capsys, name, words):
    place.run("distill", *TINY, *student(name), TRUST, "run.root=none", code=2)
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert all(word in error for word in words), error
    assert not os.path.exists(place.folder / "none/teacher")


def test_batches_of_one_need_more_than_one_value_a_channel(place, short, capsys):
    flat = ["method=standard", *student("Flat"), TRUST]
    place.run(*short, *flat, "data.batch_size=1", "run.folder=one", code=2)
    error = capsys.readouterr().err.strip()
    assert error.startswith("data.batch_size=1:"), error
    assert len(error.splitlines()) == 1, error


def test_a_map_of_several_values_is_enough_for_a_batch_of_one():
    data = DataModule(source=Digits(), name="digits", batch_size=1, limit_train=10)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(1))
    check_batch(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), data, 1)
    for model in (linear, pooled):
        with pytest.raises(UsageError, match=r"data.batch_size=1: .* set at least 2"):
            check_batch(model, data, 1)
        assert model.training
    few = DataModule(source=Digits(), name="digits", batch_size=64, limit_train=10)
    check_batch(linear, few, 2)
    with pytest.raises(UsageError, match="10 training samples"):
        check_batch(linear, few, 10)
