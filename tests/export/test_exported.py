"""An exported file under attack: its own answers, its twin's gradient."""

import pytest
import torch

from kdrobust.attacks import GradientAttack, Square, Threat
from kdrobust.export import Exported, StraightThrough, agreement, quantize_onnx
from kdrobust.serving import open_runtime
from tests.export.models import classifier, exported, metadata, pixels


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized")
    source = exported(folder)
    quantize_onnx(source, folder / "int8.onnx", kind="static_int8", calibration=pixels(64))
    return Exported(open_runtime(folder / "int8.onnx"))


def test_values_are_the_file_s_and_gradients_the_twin_s(quantized):
    twin, x = classifier(), pixels(6)
    both = StraightThrough(quantized, twin)
    moving = x.clone().requires_grad_(True)
    logits = both(moving)
    assert torch.equal(logits.detach(), quantized(x))
    assert not torch.equal(logits.detach(), twin(x).detach())
    (through,) = torch.autograd.grad(logits[:, 1].sum(), moving)
    (own,) = torch.autograd.grad(twin(moving)[:, 1].sum(), moving)
    assert torch.equal(through, own)
    with torch.no_grad():
        assert torch.equal(both(x), quantized(x))


def test_attacks_judge_on_the_file(quantized):
    both, x = StraightThrough(quantized, classifier()), pixels(30)
    labels = quantized(x).argmax(dim=1)
    threat = Threat(norm="linf", eps=0.3)
    gradient = GradientAttack(
        threat=threat, goal="cross_entropy", steps=10, step_size=0.1, start="uniform", keep="best"
    )
    for attack in (gradient, Square(threat=threat, queries=50)):
        found = attack.run(both, x, labels, keys=None, seed=0)
        fooled = quantized(found.adversarial).argmax(dim=1) != labels
        assert torch.equal(found.fooled, fooled)
        assert fooled.any()
        assert float((found.adversarial - x).abs().max()) <= 0.3 + 1e-6


def test_agreement_lists_what_differs():
    first, second, x = classifier(0), classifier(1), pixels(20)
    labels, indices = torch.zeros(20, dtype=torch.int64), torch.arange(100, 120)
    arguments = {"inputs": x, "labels": labels, "indices": indices, "batch_size": 8}
    same = agreement(first, classifier(0), **arguments)
    assert (same.n, same.max_difference <= 1e-6, same.differing, same.within_tolerance) == (20, True, (), True)
    found = agreement(first, second, **arguments)
    one, two = first(x).detach(), second(x).detach()
    rows = torch.nonzero(one.argmax(1) != two.argmax(1)).flatten()
    assert [each.index for each in found.differing] == (rows + 100).tolist()
    assert len(found.differing) > 0
    assert [each.after for each in found.differing] == two.argmax(1)[rows].tolist()
    assert found.max_difference == pytest.approx(float((one - two).abs().max()), abs=1e-6)
    assert not found.within_tolerance


class ByBatch(torch.nn.Module):
    """Answers a sample by what stands beside it."""

    def forward(self, inputs):
        return classifier()(inputs) + (len(inputs) == 1)


def test_agreement_looks_at_single_samples_too():
    arguments = {"inputs": pixels(9), "labels": torch.zeros(9).long(), "indices": torch.arange(9), "batch_size": 9}
    assert agreement(classifier(), ByBatch(), **arguments).max_difference == pytest.approx(1.0, abs=1e-4)


def test_uint8_counts_as_pixels(quantized):
    x = (pixels(9) * 255).round().byte()
    arguments = {"labels": torch.zeros(9).long(), "indices": torch.arange(9), "batch_size": 4}
    one = agreement(classifier(), quantized, inputs=x, **arguments)
    two = agreement(classifier(), quantized, inputs=x.float() / 255, **arguments)
    assert one == two
    assert metadata().classes == 3
