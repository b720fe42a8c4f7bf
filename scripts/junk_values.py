#!/usr/bin/env python
"""Junk at every key of a stage's config, by the command line: each input is refused in a few lines, or could run.

Usage: python scripts/junk_values.py [--stage distill] [--values 1] [--seed 0] [--json junk.json] [OVERRIDE ...]

Composes the stage with the overrides, walks every key below it, and types `KEY=JUNK` for so many values of `JUNK` drawn
by the seed, in one process. What passes every check stops where its run folder would be opened. Prints what went wrong:
a traceback, an exit code that is neither 1 nor 2, more than three lines, or more than ten seconds. Ends with exit code
1 if anything did.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")
JUNK = (
    "null", "true", "-1", "0", "1e308", "nan", "inf", "''", "'a b'", "'\\t'", "[]", "[1,[2]]", "[null]", "[-1]", "{}",
    "{a:1}", "{_target_:os.system}", "{_target_:torch.optim.SGD}", "${seed}", "${nowhere}", "${.}", "1" + "0" * 30,
    "8/255", "x" * 3000, "0.5", "'../../x'", "???", "ü", "a=b", "-",
)  # fmt: skip
_LINES, _SECONDS = 3, 10.0
_RUNS = 77


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an input.

    Attributes:
        typed: the override.
        verdict: `runs`, `refused` or what is wrong.
        lines: of the message.
        seconds: until it was there.
        message: the first lines.
    """

    typed: str
    verdict: str
    lines: int
    seconds: float
    message: str


def keys(stage: str, overrides: Sequence[str]) -> list[str]:
    """Every dotted key of a composed config but Hydra's own, nodes included."""
    from kdrobust.config.compose import load
    from kdrobust.config.interpolations import walk

    found = (key for key, *_ in walk(load(stage, overrides, multirun=True)))
    return [key for key in found if "[" not in key and key.split(".")[0] != "hydra"]


@contextlib.contextmanager
def stopped_before_work() -> Iterator[None]:
    """Within, a run that passes every check ends where its folder would be opened."""
    from kdrobust.errors import KdrobustError
    from kdrobust.stages import setup

    class Stopped(KdrobustError):
        exit_code = _RUNS

    @contextlib.contextmanager
    def open_run(*_: Any) -> Iterator[str]:
        raise Stopped("every check passed")
        yield ""

    before = setup.open_run
    setup.open_run = open_run  # type: ignore[assignment]
    try:
        yield
    finally:
        setup.open_run = before


def try_input(stage: str, overrides: Sequence[str], typed: str) -> Outcome:
    """Type an override in this process; within `stopped_before_work`."""
    from kdrobust.cli import main

    error, began = io.StringIO(), time.monotonic()
    code: Any
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        try:
            code = main([stage, *overrides, typed])
        except BaseException as raised:
            code = f"{type(raised).__name__}: {raised}"
    message, seconds = error.getvalue().strip(), time.monotonic() - began
    lines = len(message.splitlines())
    verdict = "runs" if code == _RUNS else "refused"
    if code not in (1, 2, _RUNS):
        verdict = f"ended with {code}"
    elif "Traceback" in message:
        verdict = "traceback"
    elif lines > _LINES:
        verdict = f"{lines} lines"
    elif seconds > _SECONDS:
        verdict = f"{seconds:.0f} s"
    return Outcome(typed=typed, verdict=verdict, lines=lines, seconds=round(seconds, 2), message=message[:600])


def cache_grammar() -> None:
    """The same few hundred interpolations are parsed for every input."""
    import omegaconf._utils
    import omegaconf.base

    parse = functools.lru_cache(maxsize=None)(omegaconf.base.parse)
    omegaconf.base.parse = omegaconf._utils.parse = parse  # type: ignore[attr-defined]


def main() -> int:
    """Try them and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", default="distill")
    parser.add_argument("--values", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    cache_grammar()
    draw, outcomes = random.Random(given.seed), []
    record = given.json.absolute() if given.json else None
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place), stopped_before_work():
        places = keys(given.stage, given.overrides)
        for number, key in enumerate(places, start=1):
            for value in draw.sample(JUNK, given.values):
                outcome = try_input(given.stage, given.overrides, f"{key}={value}")
                outcomes.append(outcome)
                if outcome.verdict not in ("runs", "refused"):
                    print(f"{outcome.typed[:100]}: {outcome.verdict}\n    {outcome.message[-300:]}", flush=True)
            if number % 50 == 0:
                print(f"{number} of {len(places)} keys", flush=True)
    wrong = [each for each in outcomes if each.verdict not in ("runs", "refused")]
    runs = sum(each.verdict == "runs" for each in outcomes)
    print(f"{len(outcomes)} inputs at {len(places)} keys of {given.stage}: {runs} could run, {len(wrong)} wrong")
    if record:
        record.write_text(json.dumps([asdict(each) for each in outcomes], indent=2), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
