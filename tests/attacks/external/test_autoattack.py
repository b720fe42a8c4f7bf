"""The official AutoAttack: its stored verdicts, and none of its side effects."""

import sys

import numpy as np
import pytest
import torch

from kdrobust.attacks import Threat
from kdrobust.attacks.external import AutoAttack, autoattack
from kdrobust.errors import AttackError, UsageError
from kdrobust.evaluation import evaluate

from .conftest import ARRAYS, Fragile, footprint

TAGS = sorted({key.split("/")[1] for key in ARRAYS.files if key.startswith("autoattack/")})
#: radii at which one sample or none goes through all 5,000 queries of Square
QUICK = ("L2_0.500000", "Linf_0.050000")


def run_at(tag, tiny, **options):
    threat = Threat(norm=tag.split("_")[0].lower(), eps=float(tiny.arrays[f"autoattack/{tag}/eps"]))
    return AutoAttack(threat=threat, **options).run(tiny.model, tiny.inputs, tiny.labels, seed=0)


@pytest.mark.parametrize(
    "tag", [tag if tag in QUICK else pytest.param(tag, marks=pytest.mark.slow) for tag in TAGS], ids=str
)
def test_the_stored_verdicts_of_the_official_code(tag, tiny):
    result = run_at(tag, tiny)
    assert np.array_equal(~result.fooled.numpy(), tiny.arrays[f"autoattack/{tag}/robust_all"])
    assert result.notes == ()
    wrong = tiny.model(tiny.inputs).argmax(1) != tiny.labels
    broken = result.extra["broken_by"] >= 0
    assert torch.equal(broken, result.fooled & ~wrong), "broken by an attack: fooled, and not wrong from the start"


@pytest.fixture
def only(monkeypatch):
    """AutoAttack that runs these attacks alone, with the settings of the standard version."""

    def choose(*names):
        monkeypatch.setitem(autoattack.VERSIONS, "standard", names)
        return AutoAttack(threat=Threat(norm="linf", eps=0.02), batch_size=3)

    return choose


def test_who_broke_what(tiny, monkeypatch):
    monkeypatch.setitem(autoattack.VERSIONS, "standard", ("apgd-ce", "apgd-t"))
    result = run_at("L2_0.200000", tiny)
    assert result.extra["broken_by"].tolist() == [1, 0, 0, -1, 0, -1, -1, 0]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_fab_leaves_no_trace(mode, tiny, tracer, only):
    model = Fragile()
    answers = model.eval()(tiny.inputs).argmax(1)
    model = Fragile()
    with mode():
        before = footprint(model)
        result = only("fab-t").run(model, tiny.inputs.clone(), answers)
        assert footprint(model) == before
    assert set(result.extra["broken_by"].tolist()) <= {-1, 2}
    assert torch.equal(result.extra["broken_by"] == 2, result.fooled)


def test_the_official_code_itself_does_leave_traces(tiny, tracer):
    """What the test above looks for is there to be found."""
    from pyautoattack import AutoAttack as Official

    model = Fragile().eval()
    before = footprint(model)
    official = Official(model, eps=0.02, seed=0, version="custom", attacks=["fab-t"])
    official.fab.n_target_classes, official.fab.n_iter, official.fab.n_restarts = 1, 2, 1
    official.run_standard_evaluation(tiny.inputs, model(tiny.inputs).argmax(1), batch_size=8)
    after = footprint(model)
    assert {key for key in before if before[key] != after[key]} == {"grads", "torch", "trace"}


@pytest.mark.parametrize("breaks_at", [2, 9, 14, 40])
def test_a_model_that_breaks_in_the_middle(breaks_at, tiny, tracer, only):
    from pyautoattack import autoattack as official

    labels = Fragile().eval()(tiny.inputs).argmax(1)
    model, state = Fragile(breaks_at=breaks_at), official.EvaluationState
    before = footprint(model)
    with pytest.raises(RuntimeError, match="boom"):
        only("apgd-ce", "fab-t").run(model, tiny.inputs, labels)
    assert footprint(model) == before
    assert official.EvaluationState is state


def test_warnings_become_notes_and_the_terminal_stays_quiet(tiny, capfd, caplog, only):
    def model(x):
        rounded = (x * 8).round() / 8 + 0 * x
        return tiny.model(rounded) + 0.1 * torch.rand(len(x), 5)

    result = only("apgd-dlr").run(model, tiny.inputs, tiny.labels)
    assert any("randomized defense" in note for note in result.notes)
    (zero,) = [note for note in result.notes if "zero gradient" in note]
    assert zero.endswith("times)")
    assert capfd.readouterr().out == ""
    assert not [record for record in caplog.records if record.name == "auto-attack"]


def test_one_dynamic_model_does_not_get_later_ones_accused(tiny, only):
    def backward(x):
        return x

    def dynamic(x):
        return tiny.model(backward(x))

    attack = only("apgd-ce")
    assert any("dynamic defense" in note for note in attack.run(dynamic, tiny.inputs, tiny.labels).notes)
    assert attack.run(tiny.model, tiny.inputs, tiny.labels).notes == ()


@pytest.mark.parametrize(
    ("version", "classes", "runs"),
    [
        ("standard", 10, ("apgd-ce", "apgd-t", "fab-t", "square")),
        ("standard", 4, ("apgd-ce", "apgd-t", "fab-t", "square")),
        ("standard", 3, ("apgd-ce", "apgd-dlr", "fab-t", "square")),
        ("standard", 2, ("apgd-ce", "fab-t", "square")),
        ("plus", 3, ("apgd-ce", "apgd-dlr", "fab", "square", "fab-t")),
        ("plus", 2, ("apgd-ce", "fab", "square", "fab-t")),
        ("rand", 2, ("apgd-ce",)),
    ],
)
def test_what_runs_on_few_classes(version, classes, runs):
    names, notes = autoattack.runnable(version, classes)
    assert names == runs
    assert bool(notes) == (runs != autoattack.VERSIONS[version])
    assert all(f"there are {classes}" in note and f"not AutoAttack's {version}" in note for note in notes)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes_run_through(classes, tiny):
    model = Fragile(classes=classes).eval()
    labels = model(tiny.inputs).argmax(1)
    result = AutoAttack(threat=Threat(norm="linf", eps=0.5)).run(model, tiny.inputs, labels)
    assert bool(result.fooled.all())
    assert bool(result.notes) == (classes < 4)


def test_a_model_of_one_class(tiny):
    model = Fragile(classes=1)
    with pytest.raises(AttackError, match="one class"):
        AutoAttack(threat=Threat(norm="linf", eps=0.1)).run(model, tiny.inputs, torch.zeros(8, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 1, 8, 8)])
def test_inputs_that_are_no_images_and_other_types(shape, tiny):
    def model(x):
        assert x.shape[1:] == shape
        assert x.dtype == torch.float64
        return tiny.model(x.reshape(-1, 1, 8, 8).float()).double()

    inputs = tiny.inputs.double().reshape(8, *shape)
    result = AutoAttack(threat=Threat(norm="l2", eps=1.0)).run(model, inputs, tiny.labels)
    assert bool(result.fooled.all())
    assert result.adversarial.shape == inputs.shape


def test_in_a_suite(tiny):
    threat = Threat(norm="l2", eps=0.5)
    evaluation = evaluate(
        tiny.model,
        inputs=tiny.inputs,
        labels=tiny.labels,
        indices=torch.arange(8),
        threat=threat,
        attacks={"autoattack": AutoAttack(threat=threat, batch_size=4)},
        batch_size=2,
        seed=0,
        checks=False,
    )
    outcome = evaluation.attacks["autoattack"]
    assert np.array_equal(outcome.correct, tiny.arrays["autoattack/L2_0.500000/robust_all"])
    assert not outcome.disputed.any()
    assert evaluation.side_effects == ()
    names = outcome.spec["broken_by"]
    assert {names[int(number)] for number in outcome.extra["broken_by"][evaluation.clean]} <= {"apgd-ce", "apgd-t"}
    assert np.isnan(outcome.extra["broken_by"][~evaluation.clean]).all()
    assert outcome.spec["batch_size"] == 4
    assert outcome.spec["library"].startswith("pyautoattack 0.2")


def test_mistakes(monkeypatch):
    with pytest.raises(ValueError, match=r"version: .* standard, plus, rand"):
        AutoAttack(threat=Threat(norm="linf", eps=0.1), version="fast")
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(UsageError, match="pip install 'pyautoattack"):
        AutoAttack(threat=Threat(norm="linf", eps=0.1))


def test_attack_by_attack_is_the_official_driver_s_one_call(tiny, only):
    from pyautoattack import AutoAttack as Official

    names = ["apgd-ce", "apgd-t", "fab-t"]
    attack = only(*names)
    ours = attack.run(tiny.model, tiny.inputs, tiny.labels, seed=0)
    official = Official(tiny.model.eval(), eps=0.02, seed=0, version="custom", attacks=names)
    official.apgd_targeted.n_target_classes = official.fab.n_target_classes = 4
    official.apgd.n_restarts = official.apgd_targeted.n_restarts = official.fab.n_restarts = 1
    with torch.random.fork_rng():
        theirs, _ = official.run_standard_evaluation(tiny.inputs, tiny.labels, batch_size=attack.batch_size)
    assert torch.equal(ours.fooled, tiny.model(theirs).argmax(1) != tiny.labels)
    torch.testing.assert_close(ours.adversarial, theirs, rtol=0, atol=1e-6)


def test_one_that_was_killed_goes_on_with_the_next_attack(tiny, only, monkeypatch):
    from tests.attacks.test_cascade import Kept

    whole = only("apgd-ce", "apgd-t", "fab-t").run(tiny.model, tiny.inputs, tiny.labels, seed=0)
    kept = Kept(saves=2)
    attack = only("apgd-ce", "apgd-t", "fab-t")
    with pytest.raises(KeyboardInterrupt):
        attack.run(tiny.model, tiny.inputs, tiny.labels, seed=0, partial=kept)
    kept.left = None
    ran = []
    original = AutoAttack._official

    def watched(self, name, *arguments, **options):
        ran.append(name)
        return original(self, name, *arguments, **options)

    monkeypatch.setattr(AutoAttack, "_official", watched)
    resumed = attack.run(tiny.model, tiny.inputs, tiny.labels, seed=0, partial=kept)
    assert ran == ["fab-t"]
    assert torch.equal(resumed.adversarial, whole.adversarial)
    assert torch.equal(resumed.extra["broken_by"], whole.extra["broken_by"])


def test_square_that_breaks_what_gradients_did_not_is_told(tiny, only, monkeypatch):
    attack = only("apgd-ce", "square")
    moved = torch.zeros_like(tiny.inputs)
    monkeypatch.setattr(
        AutoAttack, "_official", lambda self, name, model, x, y, **_: (x if name == "apgd-ce" else moved[: len(x)], [])
    )
    result = attack.run(tiny.model, tiny.inputs, tiny.labels, seed=0)
    broken = int((result.extra["broken_by"] == 3).sum())
    told = [note for note in result.notes if note.startswith("Square broke")]
    assert bool(told) == (broken > 0)
