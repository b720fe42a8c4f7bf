#!/usr/bin/env python3
"""What a fast recipe costs and keeps: robust accuracy and wall time against the standard recipe, seed by seed.

    python scripts/benchmarks/recipes.py teacher.checkpoint=outputs/teacher/NAME/best.ckpt
    python scripts/benchmarks/recipes.py --recipe fast/rslad_fashion_mnist --standard data=fashion_mnist method=rslad

The two take turns, one process at a time, for every seed of `--seeds`; every student is evaluated on the whole test set
(`evaluation=quick`: clean, FGSM, PGD-20, trust checks). Further arguments are overrides of both trainings, e.g.
`threat.eps=0.1` or the teacher. Runs lie in `--folder`: a finished one is not made again, so the study may be killed
and continued. Times are of the training command, start-up included: wall time, and the processor time, which other
work on the machine disturbs less (of the last process, where a training was killed and continued). Prints a table;
`recipes.json` lies beside the runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def run(arguments: Sequence[str], folder: Path, log: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """A stage's result, of the finished run in `folder` or else of one made now, and the seconds it took."""
    path, clock = folder / "result.json", folder.with_suffix(".seconds.json")
    if not path.exists():
        command = [sys.executable, "-m", "kdrobust", *arguments, f"run.folder={folder}"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with log.open("ab") as file:
            code = subprocess.run(command, stdout=file, stderr=file).returncode
        if code:
            raise SystemExit(f"{' '.join(command)}: ended with {code}; see {log}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        clock.write_text(json.dumps({"seconds": time.perf_counter() - began, "processor": worked}), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8")), json.loads(clock.read_text(encoding="utf-8"))


def measured(name: str, recipe: Sequence[str], common: Sequence[str], seed: int, folder: Path) -> dict[str, Any]:
    """One student, trained and evaluated."""
    place, log = folder / f"{name}_seed_{seed}", folder / "recipes.log"
    _, clock = run(["distill", *recipe, *common, f"seed={seed}"], place, log)
    threat = [override for override in common if override.startswith("threat")]
    data = [override for override in recipe if override.startswith("data=")] or ["data=fashion_mnist"]
    settings = [f"checkpoint={place / 'best.ckpt'}", "evaluation=quick", "evaluation.num_samples=null", *data, *threat]
    found = run(["evaluate", *settings], folder / f"{name}_seed_{seed}_evaluation", log)[0]["evaluation"]
    return {
        "recipe": name,
        "seed": seed,
        **clock,
        "clean": found["clean"]["accuracy"],
        "robust": found["worst_case"]["accuracy"],
        "samples": found["n"],
        "unreliable": found["unreliable"],
        "threat": found["threat"],
    }


def summary(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Mean and deviation over a recipe's seeds."""
    own = [row for row in rows if row["recipe"] == name]
    told: dict[str, Any] = {"recipe": name, "n": len(own)}
    for key in ("clean", "robust", "seconds", "processor"):
        values = [row[key] for row in own]
        told[key] = statistics.mean(values)
        told[f"{key}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of both trainings")
    parser.add_argument("--recipe", default="fast/rslad_fashion_mnist")
    parser.add_argument("--standard", nargs="*", default=["data=fashion_mnist", "method=rslad"], help="the other one")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("outputs/recipes"))
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    recipes = {"standard": options.standard, "fast": [f"experiment={options.recipe}"]}
    rows = [
        measured(name, recipe, options.overrides, seed, options.folder)
        for seed in options.seeds
        for name, recipe in recipes.items()
    ]
    standard, fast = (summary(rows, name) for name in recipes)
    report = {
        "recipe": options.recipe,
        "standard": options.standard,
        "overrides": options.overrides,
        "rows": rows,
        "summary": [standard, fast],
        "seconds_ratio": fast["seconds"] / standard["seconds"],
        "processor_ratio": fast["processor"] / standard["processor"],
        "robust_difference": fast["robust"] - standard["robust"],
    }
    (options.folder / "recipes.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    threat = rows[0]["threat"]
    print(f"{threat['norm']}, eps {threat['eps']:g}; worst of FGSM and PGD-20; n = {rows[0]['samples']} test samples")
    for told in (standard, fast):
        figures = f"{cell(told, 'clean')}   {cell(told, 'robust')}   {told['seconds']:.0f} s"
        print(f"{told['recipe']:<9} {figures}   {told['n']} seeds")
    difference = 100 * report["robust_difference"]
    times = f"time {report['seconds_ratio']:.2f} (processor {report['processor_ratio']:.2f})"
    print(f"fast : standard   {times}   robust {difference:+.2f} points")
    flagged = [f"{row['recipe']} seed {row['seed']}" for row in rows if row["unreliable"]]
    if flagged:
        print(f"flagged by the trust checks: {', '.join(flagged)}")
    return 0


def cell(told: dict[str, Any], key: str) -> str:
    """Mean and deviation in per cent."""
    deviation = told[f"{key}_std"]
    return f"{key} {100 * told[key]:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


if __name__ == "__main__":
    sys.exit(main())
