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


def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"module.model.{name}": value for name, value in state.items()}},
        lambda state: {"net": {f"_orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {"state_dict": {**prefixed("model.", state), "mean": torch.zeros(3), "std": torch.ones(3)}},
        lambda state: {**prefixed("student.", state), "teacher.0.weight": torch.zeros(9, 9)},
        lambda state: {**prefixed("student.", state), **prefixed("teacher.", wide().state_dict())},
        lambda state: {"student": state, "teacher": wide().state_dict(), "optimizer": {"lr": 0.1}, "epoch": 3},
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
        (lambda: prefixed("model.", {**small().state_dict(), "2.weight": torch.zeros(1)}), "the model has no 2.weight"),
        (lambda: {"net.1.weight": torch.zeros(5, 64), "mean": torch.zeros(1)}, "no 1.bias; .* begin with net., mean"),
        (
            lambda: {**prefixed("teacher.", small().state_dict()), **prefixed("student.", small().state_dict())},
            "several times in it: student., teacher.; set model.prefix=",
        ),
        (
            lambda: {**small().state_dict(), **prefixed("ema.", small().state_dict())},
            "several times in it: names without a prefix, ema.; set model.prefix=ema.",
        ),
    ],
)
def test_weights_that_are_refused(content, word, tmp_path):
    torch.save(content(), tmp_path / "weights.pt")
    before = small()
    with pytest.raises(CheckpointError, match=word) as error:
        load_state(before, tmp_path / "weights.pt")
    assert "\n" not in str(error.value)
    assert torch.equal(before[1].weight, small()[1].weight)


def test_what_is_left_out_is_said(tmp_path, caplog):
    torch.save({**prefixed("model.", small(1).state_dict()), "mean": torch.zeros(3)}, tmp_path / "weights.pt")
    load_state(small(0), tmp_path / "weights.pt")
    (record,) = caplog.records
    assert "left out: mean" in record.message
    assert "model.normalize" in record.message


def test_a_prefix_chooses_among_several(tmp_path):
    both = {**prefixed("teacher.", small(1).state_dict()), **prefixed("student.", small(2).state_dict())}
    torch.save(both, tmp_path / "weights.pt")
    for prefix, seed in (("teacher", 1), ("student.", 2)):
        model = load_state(small(0), tmp_path / "weights.pt", prefix=prefix)
        assert torch.equal(model[1].weight, small(seed)[1].weight)
    with pytest.raises(CheckpointError, match=r"no name in it begins with pupil\..*there are teacher\., student\."):
        load_state(small(0), tmp_path / "weights.pt", prefix="pupil")


def test_batch_norm_of_torch_before_0_4_1(tmp_path):
    def net():
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))

    old = {name: value + 1 for name, value in net().state_dict().items() if "num_batches" not in name}
    torch.save(prefixed("module.", old), tmp_path / "old.pth")
    model = load_state(net(), tmp_path / "old.pth")
    assert torch.equal(model[1].running_mean, old["1.running_mean"])
    assert int(model[1].num_batches_tracked) == 0
    # of two batch norms one with its counter is no old file, but a cut one
    two = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    torch.save(
        {name: value for name, value in two.state_dict().items() if name != "1.num_batches_tracked"},
        tmp_path / "cut.pth",
    )
    with pytest.raises(CheckpointError, match=r"no 1\.num_batches_tracked"):
        load_state(two, tmp_path / "cut.pth")
