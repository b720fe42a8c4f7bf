"""State dicts as people save them, and what is refused in one line."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdrobust.errors import CheckpointError
from kdrobust.models import load_state


def small(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"module.model.{name}": value for name, value in state.items()}},
        lambda state: {"net": {f"_orig_mod.{name}": value for name, value in state.items()}},
    ],
)
def test_weights_in_the_usual_wrappings(wrap, tmp_path):
    torch.save(wrap(small(1).state_dict()), tmp_path / "weights.pt")
    model = load_state(small(0), tmp_path / "weights.pt")
    assert torch.equal(model[1].weight, small(1)[1].weight)


def test_weights_as_safetensors(tmp_path):
    save_file(small(1).state_dict(), tmp_path / "weights.safetensors")
    assert torch.equal(load_state(small(0), tmp_path / "weights.safetensors")[1].weight, small(1)[1].weight)
    (tmp_path / "weights.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_state(small(0), tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_state(small(0), tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (lambda: small(), "holds more than data"),
        (lambda: [1, 2], "no state dict"),
        (lambda: {"state_dict": {"1.weight": "text"}}, "no state dict"),
        (dict, "no state dict"),
        (lambda: {**small().state_dict(), "2.weight": torch.zeros(1)}, "the model has no 2.weight"),
        (lambda: {"1.weight": torch.zeros(5, 64)}, "it has no 1.bias"),
        (lambda: {"1.weight": torch.zeros(7, 64), "1.bias": torch.zeros(7)}, r"1\.weight has shape \(7, 64\)"),
        (lambda: {"other": torch.zeros(1)}, "it has no 1.weight"),
    ],
)
def test_weights_that_are_refused(content, word, tmp_path):
    torch.save(content(), tmp_path / "weights.pt")
    before = small()
    with pytest.raises(CheckpointError, match=word) as error:
        load_state(before, tmp_path / "weights.pt")
    assert "\n" not in str(error.value)
    assert torch.equal(before[1].weight, small()[1].weight)
