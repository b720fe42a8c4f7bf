"""A run that was killed and taken up again is the uninterrupted run, to the bit, whatever its method carries."""

import pytest
import torch

from kdrobust.config import compose
from kdrobust.modules import ResumePoint
from tests.processes import AROUND, TINY, run, teacher_file

#: method and wraps together, and what of their state must be in the comparison
CARRIED = {
    "mtard": (["method=mtard"], ["state.balance.weights", "state.balance.first"]),
    "fair and ema": (["method=fair_rslad", "+average=ema"], ["state.sample_weight.weights"]),
    "absld": (["method=absld"], ["state.adversarial.temperatures", "state.clean.temperatures"]),
    "peeraid": (["method=peeraid"], []),
    "lbgat": (["method=lbgat"], []),
    "saad and swa": (["method=saad", "+average=swa", "callbacks.average.begin=0"], []),
    "triangle and awp": ([*AROUND["triangle"], "+wrap=awp"], ["state.weighting.sums", "state.weighting.counts"]),
    "curriculum and adapter": (
        [*AROUND["hint"], *AROUND["curriculum"][1:]],
        ["state.knowledge.raw_temperature", "adapters.features.layers.0.weight", "adapters.features.layers.1.running_var"],
    ),
}  # fmt: skip
OURS = ("AveragedWeights", "CollapseWarning", "OverfittingWarning")


class KilledError(Exception):
    pass


def same(first, second, where=""):
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key, value in first.items():
            same(value, second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for place, value in enumerate(first):
            same(value, second[place], f"{where}[{place}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return teacher_file(tmp_path_factory.mktemp("teacher"))


@pytest.mark.parametrize("label", CARRIED)
def test_resumed_equals_uninterrupted(tmp_path, checkpoint, monkeypatch, label):
    lines, carried = CARRIED[label]
    composed = compose("distill", ["epochs=2", "data.limit_train=64", *TINY, *lines])
    whole = run(composed.copy(), tmp_path / "whole", checkpoint)
    original = ResumePoint.on_train_epoch_start

    def dies(self, trainer, module):
        original(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KilledError

    monkeypatch.setattr(ResumePoint, "on_train_epoch_start", dies)
    with pytest.raises(KilledError):
        run(composed.copy(), tmp_path / "killed", checkpoint)
    monkeypatch.undo()
    # what the dead process had in memory is gone; a torch generator is no part of a run
    torch.manual_seed(1234)
    resumed = run(composed.copy(), tmp_path / "killed", checkpoint)
    assert resumed["steps"] == whole["steps"] == 8
    same(resumed["weights"], whole["weights"])
    same(resumed["optimizer"], whole["optimizer"])
    for name in OURS:
        same(resumed["callbacks"].get(name, {}), whole["callbacks"].get(name, {}), name)
    same(resumed["metrics"], whole["metrics"])
    kept = torch.load(tmp_path / "killed" / "last.ckpt", weights_only=True)["state_dict"]
    for key in carried:
        # not what a fresh start has: zeros or ones
        value = kept[f"objective.{key}"]
        assert not bool(((value == 0) | (value == 1)).all()), key
    if "+average" in "".join(lines):
        assert whole["callbacks"]["AveragedWeights"]["count"] == (2 if "swa" in label else 8)
