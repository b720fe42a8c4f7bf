"""Checkpoints: round trip, and everything that is refused."""

import os
import pickle
import random

import pytest
import torch

from kdrobust.errors import CheckpointError
from kdrobust.models import (
    MLP,
    build_classifier,
    check_spec,
    checkpoint_payload,
    file_hash,
    load_weights,
    read_checkpoint,
    restore_classifier,
    stored_spec,
)
from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(1, 4, 4), classes=3, mean=(0.5,), std=(0.25,), class_names=("a", "b", "c"))


def save(path, target="kdrobust.models.MLP", spec=SPEC, **change):
    model = build_classifier(lambda *, spec: MLP(spec=spec, hidden=[6]), spec=spec, normalize=True, seed=5)
    node = {"network": {"_target_": target, "_partial_": True, "hidden": [6]}, "normalize": True}
    payload = checkpoint_payload(model=node, spec=spec, stage="teacher", threat=None)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights, "kdrobust": payload | change}, path)
    return model


def test_round_trip(tmp_path):
    model, images, before = save(tmp_path / "a.ckpt"), torch.rand(4, 1, 4, 4), torch.get_rng_state()
    assert torch.equal(restore_classifier(tmp_path / "a.ckpt")(images), model(images))
    assert stored_spec(read_checkpoint(tmp_path / "a.ckpt")) == SPEC
    assert torch.equal(before, torch.get_rng_state())


def test_hash(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_hash(tmp_path / "f").startswith("ba7816bf8f01cfea")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_malicious_pickle_is_not_executed(tmp_path):
    torch.save({"state_dict": {}, "kdrobust": Malicious(tmp_path / "owned")}, tmp_path / "zip.ckpt")
    (tmp_path / "raw.ckpt").write_bytes(pickle.dumps(Malicious(tmp_path / "owned"), protocol=2))
    for name in ("zip.ckpt", "raw.ckpt"):
        with pytest.raises(CheckpointError, match="not loaded"):
            read_checkpoint(tmp_path / name)
        assert not (tmp_path / "owned").exists()


def test_unreadable(tmp_path):
    save(tmp_path / "a.ckpt")
    whole = (tmp_path / "a.ckpt").read_bytes()
    noise = [bytes([first]) + random.Random(first).randbytes(500) for first in (0, 1, 7, 200, 255)]
    contents = [b"", b"\x00", *noise, *(whole[: len(whole) * k // 8] for k in range(1, 8))]
    for content in contents:
        (tmp_path / "b.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"b\.ckpt"):
            read_checkpoint(tmp_path / "b.ckpt")
    with pytest.raises(CheckpointError, match="no such"):
        read_checkpoint(tmp_path / "missing.ckpt")
    with pytest.raises(CheckpointError, match="folder"):
        read_checkpoint(tmp_path)


def test_a_flipped_weight_is_found_out(tmp_path):
    model = save(tmp_path / "a.ckpt")
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    weight = next(model.parameters()).detach().numpy().tobytes()
    content[content.index(weight)] ^= 1
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"a\.ckpt: damaged \(its content has another checksum .*; train it again"
    ):
        read_checkpoint(tmp_path / "a.ckpt")


def test_bytes_that_pop_an_empty_stack(tmp_path):
    (tmp_path / "b.ckpt").write_bytes(b".")
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "b.ckpt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"a": 1}, [1, 2], {"kdrobust": {}}])
def test_foreign(tmp_path, content):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="not a kdrobust checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_other_format(tmp_path):
    save(tmp_path / "a.ckpt", format=99)
    with pytest.raises(CheckpointError, match="99"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_other_model(tmp_path):
    save(tmp_path / "a.ckpt")
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    for hidden, words in (([7], "has shape"), ([6, 6], "another model"), ([], "another model")):
        other = build_classifier(
            lambda *, spec, hidden=hidden: MLP(spec=spec, hidden=hidden), spec=SPEC, normalize=True
        )
        with pytest.raises(CheckpointError, match=words):
            load_weights(other, checkpoint, "a.ckpt")


@pytest.mark.parametrize(
    ("spec", "words"),
    [(InputSpec(shape=(1, 4, 4), classes=10), "3 classes"), (InputSpec(shape=(1, 8, 8), classes=3), "takes inputs")],
)
def test_other_data(tmp_path, spec, words):
    save(tmp_path / "a.ckpt")
    check_spec(read_checkpoint(tmp_path / "a.ckpt"), SPEC, "a.ckpt")
    with pytest.raises(CheckpointError, match=words):
        check_spec(read_checkpoint(tmp_path / "a.ckpt"), spec, "a.ckpt")


@pytest.mark.parametrize(
    "target",
    ["os.system", "", "kdrobust.models.file_hash", "kdrobust.models.Gone", "kdrobust.modelsx.MLP", "torch.load"],
)
def test_foreign_targets_are_refused(tmp_path, target):
    save(tmp_path / "a.ckpt", target=target)
    with pytest.raises(CheckpointError, match="network"):
        restore_classifier(tmp_path / "a.ckpt")
