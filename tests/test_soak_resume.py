"""The quick version of `scripts/soak_resume.py`: a real SIGKILL at a place of every kind, at a fixed moment."""

import importlib
import json
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
#: with the second step after a resume point; the second checkpoint of an epoch (best.ckpt); last.ckpt renamed away
MOMENTS = [("training step", 30), ("checkpoint writing", 24), ("between two files", 33), ("evaluation", 1)]


@pytest.fixture(scope="module")
def script():
    # its processes import it by name
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(SCRIPTS)
        yield importlib.import_module("soak_resume")


def test_killed_runs_end_as_the_one_that_was_left_alone(script, tmp_path):
    records = script.soak(tmp_path, MOMENTS)
    assert [record["wrong"] for record in records] == [[]] * len(MOMENTS)
    assert all(record["killed"] and record["had_resume_point"] for record in records)


def test_a_difference_is_found(script, tmp_path):
    import torch

    for name in ("run", "whole"):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("metrics.csv", "best.ckpt", "averaged.ckpt"):
            (folder / file).write_text(name if file == "metrics.csv" else "")
        state = {key: {} for key in ("state_dict", "lr_schedulers", "callbacks", "epoch", "global_step")}
        # one bit of one moment of the optimiser
        state["optimizer_states"] = [{"exp_avg": torch.tensor([1.0, 1.0 + 2**-23 * (name == "run")])}]
        torch.save(state, folder / "last.ckpt")
        (folder / "result.json").write_text(json.dumps({"seconds": len(name), "validation": {"accuracy": len(name)}}))
    found = script.differences(tmp_path / "run", tmp_path / "whole")
    assert found == ["metrics.csv", "last.ckpt: optimizer_states", "result.json: validation"]
