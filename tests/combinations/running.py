"""One combination: trained, stopped and taken up again, reproduced, evaluated; every step judged."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.combinations.commands import RUNS, evaluation, preparations, training
from tests.combinations.covering import Option
from tests.combinations.judging import differences, implausible
from tests.combinations.processes import Ended, Forks, Interpreters, run

EPOCHS = 3
_TERMINATED = 143
_LINES = 12
_TRIES = 3


@dataclass(kw_only=True)
class Step:
    """One command of a combination.

    Attributes:
        name: what it is for.
        arguments: what followed `kdrobust`.
        seconds: how long it took.
        wrong: what is wrong with it; empty if nothing is.
        tail: the last lines of its output, where something is.
    """

    name: str
    arguments: list[str]
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)


class Combination:
    """The steps of one combination, in a folder that it shares with others.

    Args:
        number: its place in the list, which its folders are named by.
        chosen: factor to option.
        folder: where commands are typed.
        starter: how they are started.
    """

    def __init__(self, number: int, chosen: Mapping[str, Option], folder: Path, starter: Forks | Interpreters) -> None:
        self.number, self.chosen, self.folder, self.starter = number, chosen, folder, starter
        self.steps: list[Step] = []

    def place(self, stage: str, suffix: str = "") -> str:
        """A run folder of this combination, relative to where commands are typed."""
        return f"{RUNS}/{stage}/{self.number:03}{suffix}"

    def run(self) -> list[Step]:
        """All steps; one that fails ends those that begin from what it leaves."""
        # what a cut run of this script has left
        for stale in self.folder.glob(f"{RUNS}/*/{self.number:03}*"):
            shutil.rmtree(stale)
        for needed in preparations(self.chosen):
            if not (self.folder / needed.file).exists():
                shutil.rmtree((self.folder / needed.file).parent, ignore_errors=True)
                if self._step(f"make {Path(needed.file).parent.name}", list(needed.arguments)).wrong:
                    return self.steps
        whole = self.place("distill")
        step = self._step("train", training(self.chosen, whole))
        if step.wrong:
            return self.steps
        epochs = None if self.chosen["callbacks"].name == "early_stopping" else EPOCHS
        step.wrong += implausible(self.folder / whole, EPOCHS if epochs else None)
        self._stopped_and_resumed(whole)
        self._step("reproduce", ["reproduce", f"{whole}/result.json", "--anyway", "--out", f"{whole}-again"])
        self._evaluated(whole)
        return self.steps

    def _step(self, name: str, arguments: list[str], code: int = 0, **options: Any) -> Step:
        ended = run(self.starter, self.folder, arguments, **options)
        step = Step(name=name, arguments=arguments, seconds=round(ended.seconds, 1), wrong=_wrong(ended, code))
        if step.wrong:
            step.tail = [line for line in ended.output.splitlines() if line.strip()][-_LINES:]
        self.steps.append(step)
        return step

    def _stopped_and_resumed(self, whole: str) -> None:
        cut = self.place("distill", "-cut")
        place = self.folder / cut
        arguments = training(self.chosen, cut)
        for _ in range(_TRIES):
            shutil.rmtree(place, ignore_errors=True)
            step = self._step("stop", arguments, code=_TERMINATED, until=lambda: _rows(place) > 0)
            if step.wrong != [f"exit code 0, expected {_TERMINATED}"]:
                break
            # it was faster than the signal
            self.steps.remove(step)
        else:
            self.steps.append(step)
        if step.wrong:
            return
        step = self._step("resume", ["distill", f"resume={cut}"])
        if not step.wrong:
            step.wrong += differences(self.folder / whole, place)

    def _evaluated(self, whole: str) -> None:
        names = ["best.ckpt", *(["averaged.ckpt"] if (self.folder / whole / "averaged.ckpt").exists() else [])]
        files = [f"{whole}/{name}" for name in names]
        checkpoint = files[0] if len(files) == 1 else f"[{','.join(files)}]"
        place = self.place("evaluate")
        step = self._step("evaluate", evaluation(self.chosen, checkpoint, place))
        if not step.wrong:
            step.wrong += implausible(self.folder / place)


def _wrong(ended: Ended, code: int) -> list[str]:
    found = []
    if ended.code != code:
        found.append("took too long" if ended.code is None else f"exit code {ended.code}, expected {code}")
    if "Traceback (most recent call last)" in ended.output:
        found.append("a traceback")
    if ended.left:
        found.append("a process of it was left")
    return found


def _rows(folder: Path) -> int:
    """Epochs that a run has logged."""
    try:
        return len((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()) - 1
    except OSError:
        return 0
