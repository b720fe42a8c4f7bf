"""`scripts/combinations`: the covering set of runs, in pieces, each going on where it was cut."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.combinations.commands import RUNS, evaluation, preparations, training
from tests.combinations.covering import Covering, Option, cover
from tests.combinations.factors import MATERIALS, factors
from tests.combinations.materials import make
from tests.combinations.processes import Forks, Interpreters, run
from tests.combinations.rules import RULES
from tests.combinations.running import Combination

STATE = "combinations.json"
Record = dict[str, Any]


def covering() -> Covering:
    """The combinations of this checkout's conf/: the same at every call."""
    return cover(factors(), RULES)


def typed(arguments: Sequence[str]) -> str:
    """A command as it can be pasted into a shell."""
    return shlex.join(["kdrobust", *arguments])


def described(chosen: Mapping[str, Option]) -> dict[str, str]:
    """Factor to the option's name."""
    return {name: option.name for name, option in chosen.items()}


def _list(found: Covering) -> None:
    for number, chosen in enumerate(found.combinations):
        print(f"{number:3}  {', '.join(f'{name} {option}' for name, option in described(chosen).items())}")
        folder = f"{RUNS}/distill/{number:03}"
        for needed in preparations(chosen):
            print(f"     {typed(needed.arguments)}")
        print(f"     {typed(training(chosen, folder))}")
        print(f"     {typed(evaluation(chosen, f'{folder}/best.ckpt', f'{RUNS}/evaluate/{number:03}'))}")
    print(
        f"{len(found.combinations)} combinations, {len(found.covered)} pairs; {len(found.excluded)} pairs do not go together:"
    )
    for why in dict.fromkeys(found.excluded.values()):
        print(f"  {sum(each == why for each in found.excluded.values()):4}  {why}")
    for factor in factors():
        for name, why in factor.left_out.items():
            print(f"not run: {factor.name}={name}: {why}")


def _read(path: Path) -> dict[str, Record]:
    if not path.exists():
        return {}
    found: dict[str, Record] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _write(path: Path, records: Mapping[str, Record]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def failures(record: Record) -> list[Record]:
    """The steps of a record with which something is wrong."""
    return [step for step in record["steps"] if step["wrong"]]


def show_failure(number: str, record: Record, lines: int = 12) -> None:
    """Print the commands of a combination's failed steps, and so many of the lines they printed last."""
    for step in failures(record):
        print(f"{number}: {step['name']}: {'; '.join(step['wrong'][:6])}")
        print(f"  {typed(step['arguments'])}")
        for line in step["tail"][-lines:]:
            print(f"  | {line}")


def _table(records: Mapping[str, Record]) -> None:
    names = ["train", "stop", "resume", "reproduce", "evaluate"]
    print(f"{'':4} {'method':20} {'data':13} {'trainer':17} " + " ".join(f"{name:9}" for name in names))
    for number, record in records.items():
        by_name = {step["name"]: step for step in record["steps"]}
        cells = [
            "-" if name not in by_name else "WRONG" if by_name[name]["wrong"] else f"{by_name[name]['seconds']:.0f} s"
            for name in names
        ]
        chosen = record["combination"]
        row = " ".join(f"{cell:9}" for cell in cells)
        print(f"{number:4} {chosen['method']:20} {chosen['data']:13} {chosen['trainer']:17} {row}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/combinations", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print combinations and commands, run nothing")
    parser.add_argument(
        "--only", help="numbers of combinations, e.g. 3 or 3,17; those that have been run are run again"
    )
    parser.add_argument("--piece", default="1/1", help="k/n: every n-th combination, from the k-th; e.g. 2/4")
    parser.add_argument("--out", type=Path, default=Path("outputs/combinations"), help="where they run")
    parser.add_argument("--again", action="store_true", help="run those again that failed")
    parser.add_argument(
        "--interpreters", action="store_true", help="a new interpreter a command, which takes thrice the time"
    )
    parser.add_argument(
        "--silent", action="store_true", help="a sample's silent faults instead: see tests/combinations/silent.py"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 if a combination failed."""
    options = _parser().parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    folder = options.out.absolute()
    if options.silent:
        from tests.combinations.silent import main as silent

        return silent(folder / "silent")
    found = covering()
    if options.list:
        _list(found)
        return 0
    make(folder / MATERIALS)
    piece, pieces = map(int, options.piece.split("/"))
    records = _read(folder / STATE)
    mine = [str(number) for number in range(len(found.combinations)) if number % pieces == piece - 1]
    if options.only:
        mine = options.only.split(",")
    due = []
    for number in mine:
        chosen = described(found.combinations[int(number)])
        record = records.get(number)
        done = record is not None and record["combination"] == chosen and not (options.again and failures(record))
        if options.only or not done:
            due.append(number)
    starter = Interpreters() if options.interpreters else Forks()
    began = time.monotonic()
    for count, number in enumerate(due):
        chosen = found.combinations[int(number)]
        start = time.monotonic()
        steps = Combination(int(number), chosen, folder, starter).run()
        # another piece may have written in the meantime
        records = _read(folder / STATE)
        records[number] = {"combination": described(chosen), "steps": [asdict(step) for step in steps]}
        records = dict(sorted(records.items(), key=lambda item: int(item[0])))
        _write(folder / STATE, records)
        left = (time.monotonic() - began) / (count + 1) * (len(due) - count - 1)
        wrong = failures(records[number])
        verdict = "; ".join(f"{step['name']}: {step['wrong'][0]}" for step in wrong) or "right"
        print(
            f"{number:>3} ({count + 1} of {len(due)})  {chosen['method'].name} {chosen['data'].name} "
            f"{chosen['trainer'].name}  {time.monotonic() - start:.0f} s  left {left / 60:.0f} min  {verdict}"
        )
        show_failure(number, records[number])
    mine_records = {number: records[number] for number in mine if number in records}
    failed = [number for number, record in mine_records.items() if failures(record)]
    report = run(starter, folder, ["report", RUNS, "--out", "report"])
    _table(mine_records)
    for number in failed:
        show_failure(number, mine_records[number], lines=1)
    print(f"{len(mine_records) - len(failed)} of {len(mine)} combinations right; {folder / STATE}")
    if report.code != 0:
        print(f"{typed(report.arguments)}: exit code {report.code}\n{report.output}")
    return 1 if failed or report.code != 0 or len(mine_records) < len(mine) else 0
