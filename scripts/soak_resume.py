"""A distillation killed at many random moments, each time taken up again, against the one that was left alone.

Usage: python scripts/soak_resume.py [--kills 20] [--seed 0] [--json soak.json] [--folder FOLDER]

Every kill is a SIGKILL to a fresh process at a moment of one kind: in an epoch's steps, in validation, while the resume
point or the best checkpoint is being written, or while the finished training is evaluated and drawn. The moment is the
n-th time that the run comes to such a place, n drawn at random over the whole run. The run is then started again by the
same command, and what it leaves is compared with the uninterrupted run's: `metrics.csv`, `best.ckpt`, `averaged.ckpt`
and the weights, optimiser and scheduler of `last.ckpt` bit for bit, `result.json` but for its times. Prints a table;
ends with exit code 1 if a run differs, or was not killed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["OMP_NUM_THREADS"] = "1"
COMMAND = [
    "distill", "method=rslad", "model@student=mlp", "+average=ema", "+wrap=awp", "scheduler=plateau", "epochs=6",
    "data.limit_train=512", "data.batch_size=64", "attack.steps=2", "callbacks.robust_validation.attack.steps=2",
    "callbacks.last.every_n_steps=3", "threads=1", "run.folder=run", "teacher_training.epochs=1",
]  # fmt: skip
#: kind of moment: (module, what is called there, how often an uninterrupted run calls it)
PLACES = {
    "training step": ("kdrobust.modules.base", "RobustModule.training_step", 48),
    "validation": ("kdrobust.modules.base", "RobustModule.validation_step", 6),
    "checkpoint writing": ("kdrobust.tracking.atomic", "os.fsync", 40),
    "between two files": ("kdrobust.tracking.atomic", "os.replace", 60),
    "evaluation": ("kdrobust.stages.figures", "training", 1),
}
_KILLED = -signal.SIGKILL
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["kdrobust.launch", "kdrobust.stages.distill"])


def _arm(place: str, count: int) -> None:
    """Let this process kill itself when it comes to a place for the `count`-th time."""
    import importlib

    module, dotted, _ = PLACES[place]
    holder: Any = importlib.import_module(module)
    *path, name = dotted.split(".")
    for part in path:
        holder = getattr(holder, part)
    original, calls = getattr(holder, name), Counter[str]()

    def dies(*arguments: Any, **options: Any) -> Any:
        calls[place] += 1
        if calls[place] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(holder, name, dies)


def _work(folder: Path, place: str, count: int) -> None:
    from kdrobust.cli import main

    os.chdir(folder)
    log = os.open("soak.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    if place:
        _arm(place, count)
    sys.exit(main(COMMAND))


def start(folder: Path, place: str = "", count: int = 0) -> int:
    """Run the distillation in a process of its own, to its end or to its death; returns the exit code."""
    # forked from a server that has imported the packages and done nothing else: that is most of a short run's time
    process = _SERVER.Process(target=_work, args=(folder, place, count))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def equal(one: Any, other: Any) -> bool:
    import torch

    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def differences(run: Path, whole: Path) -> list[str]:
    """What a resumed run's folder has otherwise than the uninterrupted one's."""
    import torch

    found = [
        name
        for name in ("metrics.csv", "best.ckpt", "averaged.ckpt")
        if (run / name).read_bytes() != (whole / name).read_bytes()
    ]
    last = [torch.load(folder / "last.ckpt", weights_only=True) for folder in (run, whole)]
    keys = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "epoch", "global_step")
    found += [f"last.ckpt: {key}" for key in keys if not equal(last[0][key], last[1][key])]
    mine, theirs = (json.loads((folder / "result.json").read_text()) for folder in (run, whole))
    found += [f"result.json: {key}" for key in theirs if key != "seconds" and mine.get(key) != theirs[key]]
    return found


def soak(folder: Path, moments: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Kill and resume at every moment; one record each.

    Raises:
        RuntimeError: the uninterrupted run failed.
    """
    run, whole = folder / "run", folder / "whole"
    # the first run trains the teacher, which all share
    for _ in range(2):
        shutil.rmtree(run, ignore_errors=True)
        if start(folder) != 0:
            raise RuntimeError(f"the uninterrupted run failed, see {folder / 'soak.log'}")
    run.rename(whole)
    records = []
    for number, (place, count) in enumerate(moments, start=1):
        shutil.rmtree(run, ignore_errors=True)
        began = time.monotonic()
        killed = start(folder, place, count) == _KILLED
        point = any((run / name).exists() for name in ("last.ckpt", "previous.ckpt"))
        code = start(folder) if killed else None
        wrong = differences(run, whole) if code == 0 else [f"exit code {code}"]
        records.append(
            {
                "kill": number,
                "place": place,
                "count": count,
                "killed": killed,
                "had_resume_point": point,
                "wrong": wrong,
            }
        )
        told = "bit-identical" if killed and not wrong else f"DIFFERS: {', '.join(wrong)}" if killed else "not killed"
        print(f"{number:3}  {place:18} call {count:3}  {time.monotonic() - began:5.1f} s  {told}", flush=True)
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="soak_resume_"))
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(options.seed)
    kinds = [list(PLACES)[number % len(PLACES)] for number in range(options.kills)]
    records = soak(folder, [(kind, draw.randint(1, PLACES[kind][2])) for kind in kinds])
    same = sum(record["killed"] and not record["wrong"] for record in records)
    counts = Counter(record["place"] for record in records)
    print(f"{same} of {len(records)} resumed runs bit-identical; kills: {dict(counts)}")
    if options.json:
        options.json.write_text(json.dumps({"identical": same, "kills": records}, indent=2) + "\n")
    return 0 if same == len(records) else 1


if __name__ == "__main__":
    sys.exit(main())
