"""S12, S17, S18, and S11's order: what a forward or backward pass must not do."""

import dataclasses

import pytest
import torch
from torch import nn

from kdrobust.attacks import Threat
from kdrobust.evaluation import CheckSettings, evaluate
from kdrobust.evaluation.checks import REGISTRY, Probe
from tests.evaluation import defences


@pytest.fixture
def judge(digits):
    data = {key: digits[key][:100] for key in ("inputs", "labels", "indices")}

    def run(id, model, eps=0.1, norm="linf"):
        evaluation = evaluate(
            digits["models"]["cnn", 0.0], batch_size=100, seed=0, checks=False, **data,
            threat=Threat(norm=norm, eps=eps), attacks={},
        )  # fmt: skip
        probe = Probe(evaluation=evaluation, model=model, inputs=data["inputs"], device="cpu", settings=CheckSettings())
        return REGISTRY[id].run(probe)

    return run


@pytest.fixture
def cnn(digits):
    return digits["models"]["cnn", 0.0]


def by_grad(x, model):
    return torch.autograd.grad(model(x).sum(), x)[0]


def by_backward(x, model):
    model(x).sum().backward()
    return x.grad


def by_torch_backward(x, model):
    torch.autograd.backward(model(x).sum())
    return x.grad


def by_func(x, model):
    return torch.func.grad(lambda at: model(at).sum())(x)


def by_optimiser(x, model):
    x.grad = torch.ones_like(x)
    torch.optim.SGD([x], lr=0.01).step()
    return torch.zeros_like(x)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (by_grad, "torch.autograd.grad"),
        (by_backward, "Tensor.backward"),
        (by_torch_backward, "torch.autograd.backward"),
        (by_func, "torch.autograd.grad"),
        (by_optimiser, "SGD.step"),
    ],
)
def test_s12_sees_every_way_to_optimise(judge, cnn, how, told):
    class Optimises(nn.Module):
        def forward(self, inputs):
            with torch.enable_grad():
                x = inputs.detach().clone().requires_grad_(True)
                change = how(x, cnn)
            return cnn(inputs + 0.01 * change)

    found = judge("S12", Optimises())
    assert found.verdict == "fail"
    assert f"{told} 1 times" in found.detail
    assert judge("S12", cnn).verdict == "pass"
    cnn.zero_grad(set_to_none=True)


def test_s12_leaves_no_hook_behind(judge, cnn):
    judge("S12", cnn)
    x = torch.rand(2, requires_grad=True)
    (x**2).sum().backward()
    torch.optim.SGD([x], lr=0.1).step()
    assert judge("S12", cnn).measured == {"calls": {}}


def test_s17_tells_memory_from_steepness(judge, digits, cnn):
    pixels, labels = digits["inputs"][:100].float() / 255, digits["labels"][:100]
    memory = judge("S17", defences.Memorised(cnn, pixels, labels))
    assert memory.verdict == "fail"
    assert memory.measured["isolated"] == 100
    some = judge("S17", defences.Memorised(cnn, pixels[:3], labels[:3]))
    assert (some.verdict, some.measured["isolated"]) == ("warn", 3)
    for model in (cnn, defences.Scaled(cnn), defences.Quantised(cnn)):
        assert judge("S17", model).measured["isolated"] <= 2


def test_s17_moves_stay_in_the_box(judge, cnn):
    seen = []

    class Watched(nn.Module):
        def forward(self, inputs):
            seen.append((float(inputs.min()), float(inputs.max())))
            return cnn(inputs)

    judge("S17", Watched())
    assert min(low for low, _ in seen) >= 0
    assert max(high for _, high in seen) <= 1
    assert len(seen) == 7


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_s18_believes_the_forward_pass(judge, cnn, norm):
    eps = 1.0 if norm == "l2" else 0.1
    honest = judge("S18", cnn, eps, norm)
    assert honest.verdict == "pass"
    assert 0.8 < honest.measured["median_rise_over_promised"] < 1.2
    flipped = judge("S18", defences.Flipped(cnn), eps, norm)
    assert (flipped.verdict, flipped.measured["fell"]) == ("fail", 100)
    assert judge("S18", defences.Scrambled(cnn), eps, norm).verdict == "fail"
    assert judge("S18", defences.Detached(cnn), eps, norm).verdict == "skipped"


def test_s11_sees_that_neighbours_matter(judge, cnn):
    class Neighbours(nn.Module):
        """Adds what the sample before it in the batch looks like; alone, a sample is its own neighbour."""

        def forward(self, inputs):
            return cnn(inputs) + inputs.roll(1, dims=0).flatten(1)[:, 20:30] * (len(inputs) > 1)

    found = judge("S11", Neighbours())
    assert found.verdict == "fail"
    assert found.measured["relative_difference_reordered"] > 0.01
    assert "in another order" in found.detail
    assert judge("S11", cnn).measured["relative_difference_reordered"] < 1e-5


def test_a_model_that_cannot_be_looked_at_fails_and_loses_nothing(digits, cnn):
    class Shy(nn.Module):
        def forward(self, inputs):
            if len(inputs) == 1:
                raise ValueError("Expected more than 1 value per channel\nand more of this")
            return cnn(inputs)

    data = {key: digits[key][:50] for key in ("inputs", "labels", "indices")}
    evaluation = evaluate(
        Shy(), batch_size=50, seed=0, **data, threat=Threat(norm="linf", eps=0.1), attacks={}, checks=True
    )
    assert "S11 determinism: could not be run: Expected more than 1 value per channel" in evaluation.reasons
    assert len(evaluation.checks) == len(REGISTRY)


def test_nothing_is_looked_at_without_samples(judge, cnn, digits):
    empty = {key: digits[key][:0] for key in ("inputs", "labels", "indices")}
    evaluation = evaluate(
        cnn, batch_size=10, seed=0, **empty, threat=Threat(norm="linf", eps=0.1), attacks={}, checks=True
    )
    verdicts = {check.id: check.verdict for check in evaluation.checks}
    assert {verdicts[f"S{number}"] for number in (2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 14, 17, 18)} == {"skipped"}
    assert evaluation.reasons == []
    assert dataclasses.asdict(evaluation.checks[0])["verdict"] == "pass"
