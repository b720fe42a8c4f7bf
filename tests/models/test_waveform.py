import pytest
import torch

from kdrobust.errors import DataError
from kdrobust.models import WaveformCNN, build_classifier
from kdrobust.spec import InputSpec

SOUND = InputSpec(shape=(1, 8000), classes=10, bounds=(-1.0, 1.0), sample_rate=8000)


def test_size_is_what_its_yaml_says():
    model = build_classifier(WaveformCNN, spec=SOUND)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e3) == 31
    assert model.eval()(torch.zeros(2, 1, 8000)).shape == (2, 10)


def test_it_hears_what_moves():
    model = build_classifier(WaveformCNN, spec=SOUND).eval()
    waves = torch.sin(torch.arange(8000.0) * torch.tensor([[0.2], [0.9]])).unsqueeze(1).requires_grad_(True)
    logits = model(waves)
    assert not torch.allclose(logits[0], logits[1])
    (gradient,) = torch.autograd.grad(logits.sum(), waves)
    assert gradient.abs().amax(dim=2).min() > 0


@pytest.mark.parametrize(
    ("shape", "words"), [((1, 8, 8), "needs signals"), ((1, 100), "so many strides need 512 samples")]
)
def test_refusals(shape, words):
    with pytest.raises(DataError, match=words):
        WaveformCNN(spec=InputSpec(shape=shape, classes=3))
