"""The networks for spoken words: sizes, shapes, and what a checkpoint of theirs remembers."""

import pytest
import torch
from omegaconf import OmegaConf

from kdrobust.config import conf_dir, instantiate
from kdrobust.errors import CheckpointError, DataError
from kdrobust.models import DSCNN, Classifier, SpectrogramCNN, check_spec, checkpoint_payload, restore_classifier
from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(1, 8000), classes=10, bounds=(-1.0, 1.0), sample_rate=8000)


@pytest.mark.parametrize(("option", "least", "most"), [("spectrogram_cnn", 900e3, 1.1e6), ("ds_cnn", 5e3, 50e3)])
def test_the_options_are_a_teacher_of_a_million_and_a_small_student(option, least, most):
    node = OmegaConf.load(conf_dir() / "model" / f"{option}.yaml")
    network = instantiate(node.network)(spec=SPEC)
    assert least < sum(parameter.numel() for parameter in network.parameters()) < most
    assert network(torch.zeros(2, 1, 8000)).shape == (2, 10)


@pytest.mark.parametrize("network", [SpectrogramCNN, DSCNN])
def test_the_gradient_reaches_the_waveform_and_is_finite_on_padding(network):
    torch.manual_seed(0)
    model = network(spec=SPEC, channels=(4, 8) if network is SpectrogramCNN else 8).eval()
    signal = torch.zeros(3, 1, 8000)
    signal[:, :, 3000:5000] = 0.2 * torch.randn(3, 1, 2000)
    signal.requires_grad_(True)
    torch.nn.functional.cross_entropy(model(signal), torch.tensor([0, 1, 2])).backward()
    assert bool(signal.grad.isfinite().all())
    assert bool((signal.grad.abs().flatten(1).amax(dim=1) > 0).all())


def test_images_are_refused():
    with pytest.raises(DataError, match="needs waveforms"):
        DSCNN(spec=InputSpec(shape=(1, 8, 8), classes=10))


def test_a_checkpoint_keeps_range_and_rate(tmp_path):
    network = {"_target_": "kdrobust.models.DSCNN", "channels": 8, "blocks": 1, "_partial_": True}
    model = Classifier(DSCNN(spec=SPEC, channels=8, blocks=1), spec=SPEC)
    payload = checkpoint_payload(
        model={"network": network, "normalize": False}, spec=SPEC, stage="teacher", threat=None
    )
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"kdrobust": payload, "state_dict": state}, tmp_path / "a.ckpt")
    restored = restore_classifier(tmp_path / "a.ckpt").eval()
    signal = torch.randn(2, 1, 8000).mul(0.1)
    assert torch.equal(restored(signal), model.eval()(signal))
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    check_spec(checkpoint, SPEC, "a.ckpt")
    other = InputSpec(shape=(1, 8000), classes=10, bounds=(-1.0, 1.0), sample_rate=16000)
    with pytest.raises(CheckpointError, match=r"built for sample_rate 8000, the data have 16000"):
        check_spec(checkpoint, other, "a.ckpt")
    with pytest.raises(CheckpointError, match="built for bounds"):
        check_spec(checkpoint, InputSpec(shape=(1, 8000), classes=10, sample_rate=8000), "a.ckpt")
    # checkpoints of before had pixels
    del checkpoint["kdrobust"]["spec"]["bounds"], checkpoint["kdrobust"]["spec"]["sample_rate"]
    check_spec(checkpoint, InputSpec(shape=(1, 8000), classes=10), "a.ckpt")
