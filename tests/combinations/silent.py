"""Faults that end with exit code 0: two processes against one, an option that changes nothing, one that should not.

Run by `scripts/combinations --silent`; each line is a comparison of two tiny runs of the real command line.
"""

from __future__ import annotations

import csv
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdrobust.reproduce import compare
from tests.combinations.judging import equal, implausible, result
from tests.combinations.processes import Forks, Interpreters, run
from tests.combinations.scanning import options, read

#: Networks without batch norm, whose statistics are a process's own, and no ε warm-up, which would hide the attack.
BASE = (
    *("model@teacher=wide_cnn", "teacher.network.width=0.25", "model@student=small_cnn", "epochs=2"),
    *("data.limit_train=128", "data.limit_validation=40", "data.batch_size=32", "attack.steps=2"),
    *("callbacks.robust_validation.attack.steps=2", "callbacks.attack.warmup=0", "teacher_training.epochs=1"),
    *("natural_training.epochs=1", "teacher_training.attack.steps=2", "run.root=runs"),
)
#: Of `BASE`, for two processes that see together what one sees.
TWO = ("trainer=ddp_cpu", "data.batch_size=16")
_CLOSE = 1e-4
#: Said of a run, not found by it.
_NAMES = ("config_hash", "name")
#: Ways of reading and recording, by which no figure may change.
KEEPING = (
    *(("data.loader=workers", f"data.num_workers={count}") for count in (0, 2)),
    ("callbacks.last.every_n_steps=1",),
    ("callbacks=early_stopping",),
    ("teacher.outputs=null",),
    ("threads=2",),
)
#: What has to change something; the options of groups and the numbers of methods are found by scanning.
CHANGING = (
    *(("trainer.gradient_clip_val=0.1",), ("trainer.accumulate_grad_batches=2",), ("trainer.precision=bf16-mixed",)),
    *(("data.augmentation={_target_:kdrobust.data.Augmentation,crop_padding:1}",), ("data.batch_size=16",)),
    *(("optimizer.lr=0.001",), ("optimizer.weight_decay=0.1",), ("seed=1",), ("data.split_seed=1",), ("epochs=3",)),
    *(("threat.eps=0.05",), ("attack.steps=3",), ("attack.step_size=0.01",), ("callbacks.attack.warmup=0.9",)),
    *(("callbacks.robust_validation.attack.steps=4",), ("teacher_training.epochs=2",), ("teacher_training.seed=1",)),
    *(("student.normalize=true",), ("data.limit_train=96",), ("teacher.precision=bf16",)),
)


@dataclass(kw_only=True)
class Runs:
    """Runs in one folder, each made once.

    Attributes:
        folder: where commands are typed.
        starter: how they are started.
    """

    folder: Path
    starter: Forks | Interpreters
    made: int = 0

    def made_by(self, lines: Sequence[str]) -> tuple[Path | None, str]:
        """The folder of a run of `distill`, and the last line of its output; None where it failed."""
        self.made += 1
        place = f"runs/distill/{self.made:03}"
        # nothing that is not there can be given steps
        base = [line for line in BASE if not ("attack=none" in lines and line.startswith("attack."))]
        ended = run(self.starter, self.folder, ["distill", *base, *lines, f"run.folder={place}"])
        last = ended.output.strip().splitlines()[-1:] or ["no output"]
        return (self.folder / place if ended.code == 0 else None), last[0]


def table(folder: Path) -> list[dict[str, float]]:
    """The numbers of a run's metrics.csv, one mapping an epoch."""
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "best.ckpt", weights_only=True, map_location="cpu")["state_dict"]
    return found


def apart(one: Path, other: Path, close: float = _CLOSE) -> list[str]:
    """Where two runs that saw the same samples differ by more than a rounding error."""
    found = []
    for first, second in zip(table(one), table(other), strict=True):
        if first.keys() != second.keys():
            found.append(f"columns {sorted(first.keys() ^ second.keys())}")
        found += [
            f"epoch {first['epoch']:.0f}: {name} {value} against {second[name]}"
            for name, value in first.items()
            if name in second and not math.isclose(value, second[name], rel_tol=close, abs_tol=close)
        ]
    counts = [result(folder)["validation"]["samples"] for folder in (one, other)]
    if counts[0] != counts[1]:
        found.append(f"validated on {counts[0]} and {counts[1]} samples")
    return found


def changed(one: Path, other: Path) -> list[str]:
    """What one run has otherwise than another."""
    found = [] if table(one) == table(other) else ["metrics.csv"]
    found += [] if equal(weights(one), weights(other)) else ["weights"]
    rows = compare(result(one), result(other))
    return [*found, *(key for key, first, second in rows if first != second and key.split(".")[0] not in _NAMES)]


def method_numbers() -> Iterator[tuple[str, str]]:
    """Every number at the top of every method, with another value: (method, line)."""
    for method in options("method"):
        for key, value in read("method", method).items():
            if isinstance(value, bool):
                yield method, f"method.{key}={str(not value).lower()}"
            elif isinstance(value, int | float):
                other = value / 2 if value else 0.5
                yield method, f"method.{key}={other:g}"


def group_lines() -> Iterator[tuple[str, ...]]:
    """The options of the groups that act on a training, but those that `BASE` has already."""
    yield from ((f"optimizer={name}",) for name in options("optimizer") if name != "adam")
    yield from ((f"scheduler={name}",) for name in options("scheduler") if name != "one_cycle")
    yield from ((f"+wrap={name}",) for name in options("wrap"))
    yield from ((f"+average={name}",) for name in options("average"))
    flat = "features.student=head", "features.teacher=head"
    for name in options("features"):
        maps = "features.student=features.2", "features.teacher=features.2"
        yield (f"+features={name}", *(flat if name in ("pkt", "relational", "similarity_preserving") else maps))
    for name in options("attack"):
        if name != "method":
            yield (f"attack={name}",)


def _same_teachers(folder: Path) -> list[str]:
    """The lines that give a run the teachers of another: trained by two processes they would differ by rounding."""
    teachers = result(folder)["teacher"] or {}
    if "checkpoint" in teachers:
        return [f"teacher.checkpoint={teachers['checkpoint']}"]
    return [
        f"{name if name == 'teacher' else f'teachers.{name}'}.checkpoint={origin['checkpoint']}"
        for name, origin in teachers.items()
    ]


def _two_processes(runs: Runs, method: str) -> list[str]:
    one, said = runs.made_by([f"method={method}"])
    if one is None:
        return [said]
    two, said = runs.made_by([f"method={method}", *TWO, *_same_teachers(one)])
    if two is None:
        return [said]
    return [*apart(one, two), *implausible(one, 2), *implausible(two, 2)]


def _changes(runs: Runs, base: Path, lines: Sequence[str], wanted: bool) -> list[str]:
    made, said = runs.made_by(lines)
    if made is None:
        return [said]
    found = changed(base, made)
    if wanted:
        return [*([] if found else ["changes nothing"]), *implausible(made)]
    return found


def main(folder: Path) -> int:
    """Compare, print a line a comparison; 1 if one is wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    runs = Runs(folder=folder, starter=Forks())
    failed = 0

    def tell(what: str, wrong: Sequence[str], began: float) -> None:
        nonlocal failed
        failed += bool(wrong)
        print(f"{what:70} {time.monotonic() - began:4.0f} s  {'; '.join(wrong[:4]) or 'right'}", flush=True)

    for method in options("method"):
        began = time.monotonic()
        tell(f"{method}: two processes against one", _two_processes(runs, method), began)
    bases: dict[str, Path | None] = {}
    jobs = [("rslad", list(lines), True) for lines in (*CHANGING, *group_lines())]
    jobs += [("rslad", list(lines), False) for lines in KEEPING]
    jobs += [(method, [line], True) for method, line in method_numbers()]
    for method, lines, wanted in jobs:
        began = time.monotonic()
        if method not in bases:
            bases[method] = runs.made_by([f"method={method}"])[0]
        base = bases[method]
        said = "changes something" if wanted else "changes nothing"
        wrong = (
            ["the run without it failed"]
            if base is None
            else _changes(runs, base, [f"method={method}", *lines], wanted)
        )
        tell(f"{method} {' '.join(lines)}: {said}", wrong, began)
    print(f"{failed} wrong; {folder}")
    return 1 if failed else 0
