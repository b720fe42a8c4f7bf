"""Foolbox' own PGD through the adapter is our PGD; minimum-norm attacks answer within ε."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.attacks.external import FoolboxAttack

from .conftest import Fragile, footprint

LINF, L2 = Threat(norm="linf", eps=0.1), Threat(norm="l2", eps=0.5)


def test_what_the_library_is_asked(monkeypatch, tiny):
    asked = SimpleNamespace()

    class LinfPGD:
        def __init__(self, *, steps=40):
            asked.steps = steps

        def __call__(self, model, inputs, criterion, *, epsilons):
            asked.model, asked.epsilons = model, epsilons
            return inputs + 1, inputs, torch.ones(len(inputs), dtype=torch.bool)

    library, attacks = ModuleType("foolbox"), ModuleType("foolbox.attacks")
    library.__path__, library.attacks, attacks.LinfPGD = [], attacks, LinfPGD
    library.PyTorchModel = lambda model, **settings: SimpleNamespace(training=model.training, **settings)
    monkeypatch.setitem(sys.modules, "foolbox", library)
    monkeypatch.setitem(sys.modules, "foolbox.attacks", attacks)
    attack = FoolboxAttack(threat=LINF, name="LinfPGD", options={"steps": 7})
    result = attack.run(tiny.model, tiny.inputs, tiny.labels)
    assert (asked.steps, asked.epsilons) == (7, 0.1)
    assert (asked.model.bounds, asked.model.training) == ((0.0, 1.0), False)
    assert torch.equal(result.adversarial, tiny.inputs), "the answer within ε, not the raw one"
    assert int(result.fooled.sum()) == 2, "what it says about success is not believed"


@pytest.mark.parametrize(("threat", "name", "size"), [(LINF, "LinfPGD", 0.025), (L2, "L2PGD", 0.1)])
def test_their_pgd_is_ours(threat, name, size, tiny):
    pytest.importorskip("foolbox")
    theirs = FoolboxAttack(threat=threat, name=name, options={"abs_stepsize": size, "steps": 10, "random_start": False})
    result = theirs.run(tiny.model, tiny.inputs, tiny.labels)
    ours = GradientAttack(threat=threat, steps=10, step_size=size)
    torch.testing.assert_close(result.adversarial, ours(tiny.model, tiny.inputs, tiny.labels), atol=1e-6, rtol=0)
    assert result.notes == ()


@pytest.mark.parametrize("name", ["LinfDeepFoolAttack", "LinfPGD"])
def test_others_run_and_leave_no_trace(name, tiny, tracer):
    pytest.importorskip("foolbox")
    model = Fragile()
    before = footprint(model)
    result = FoolboxAttack(threat=LINF, name=name, options={"steps": 5}).run(model, tiny.inputs, tiny.labels)
    assert footprint(model) == before
    assert float(LINF.distance(result.adversarial, tiny.inputs).max()) <= 0.1 + 1e-6
