#!/usr/bin/env python3
"""How fast: every row a ratio to a baseline of the same run, runs taking turns, medians; one table, JSON beside it.

    python scripts/benchmarks/run.py --rows attack_resnet18 step_resnet18
    python scripts/benchmarks/run.py checkpoint=outputs/teacher/NAME/best.ckpt data=fashion_mnist --rows pgd20 strength

Rows `pgd20`, `strength` and `suite` need a trained model: what follows is read as by `kdrobust evaluate` (checkpoint,
data, threat, evaluation.num_samples, evaluation.batch_size). A row that cannot be run says why. `speed` is of wall
time, `processor` of this process's own processor time, which other work on the machine disturbs less. A finished row
is kept in the JSON file at once; rows already there are shown and not run again.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import framework_rows
import memory_rows
import process_rows
import torch
import training_rows
from timing import Absent, show

from kdrobust.attacks.kernels import has_fast_bf16
from kdrobust.errors import KdrobustError


def _needs_model(overrides: Sequence[str]) -> None:
    if not any(word.startswith(("checkpoint=", "model.")) for word in overrides):
        raise Absent("needs a trained model; give checkpoint=..., data=..., threat=...")


def _subject(overrides: Sequence[str]) -> tuple[Any, ...]:
    import evaluation_rows

    from kdrobust.config import compose, instantiate
    from kdrobust.evaluation import stratified
    from kdrobust.shorthand import spell_out
    from kdrobust.stages.setup import check_config, prepare_data
    from kdrobust.stages.subject import load_subject, subject_problems

    _needs_model(overrides)
    cfg = compose("evaluate", spell_out("evaluate", ["evaluation=quick", *overrides]))
    check_config(cfg, subject_problems(cfg))
    data = prepare_data(cfg)
    model = load_subject(cfg, data).model.requires_grad_(False).eval()
    test = data.split("test")
    rows = stratified(test.labels, cfg.evaluation.num_samples, seed=int(cfg.evaluation.seed))
    batch, threat = int(cfg.evaluation.batch_size), instantiate(cfg.threat)
    return evaluation_rows, model, test.pixels(rows), test.labels[rows], threat, batch


def _pgd20(overrides: Sequence[str], repeats: int) -> dict[str, Any]:
    rows, model, inputs, labels, threat, batch = _subject(overrides)
    found: dict[str, Any] = rows.pgd(model, inputs, labels, threat=threat, batch=batch, repeats=repeats)
    return found


def _strength(overrides: Sequence[str]) -> dict[str, Any]:
    rows, model, inputs, labels, threat, batch = _subject(overrides)
    found: dict[str, Any] = rows.strength(model, inputs, labels, threat=threat, batch=batch)
    return found


def _suite(overrides: Sequence[str], repeats: int, forms: Sequence[str]) -> dict[str, Any]:
    import autoattack

    _needs_model(overrides)
    return autoattack.compare(overrides, repeats, wrapped=False, forms=forms)


#: Rows whose subject is given by overrides.
_WITH_MODEL = ("pgd20", "strength", "suite")


def rows(options: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows by name."""
    steps, repeats = options.steps, options.repeats
    return {
        **{
            f"attack_{shape}": functools.partial(training_rows.attack, shape, steps=steps, repeats=repeats)
            for shape in training_rows.SHAPES
        },
        **{
            f"step_{student}": functools.partial(training_rows.step, student, steps=steps, repeats=repeats)
            for student in training_rows.STUDENTS
        },
        **{
            f"scaling_{axis}": functools.partial(training_rows.scaling, axis, repeats=repeats)
            for axis in ("batch", "steps", "teachers")
        },
        "memory_resnet18": lambda: memory_rows.peak("resnet18", steps=steps, threads=options.threads),
        **{
            f"framework_{shape}": functools.partial(framework_rows.overhead, shape, repeats=repeats)
            for shape in framework_rows.SETTINGS
        },
        "data": functools.partial(framework_rows.pipeline, repeats=repeats),
        "startup": functools.partial(process_rows.startup, repeats=repeats),
        "sweep": functools.partial(process_rows.sweep, repeats=options.long_repeats),
        "processes": functools.partial(process_rows.processes, repeats=options.long_repeats),
        "pgd20": lambda: _pgd20(options.overrides, repeats),
        "strength": lambda: _strength(options.overrides),
        "suite": lambda: _suite(options.overrides, options.long_repeats, options.forms),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 unless the arguments cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for kdrobust evaluate")
    parser.add_argument("--rows", nargs="+", help="only these")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--subject", default="model", help="what the rows of a trained model are kept under")
    parser.add_argument("--forms", nargs="+", default=["exact", "auto", "bf16"], help="that row suite searches in")
    parser.add_argument(
        "--long-repeats", type=int, default=1, help="of rows suite, sweep and processes, which take minutes"
    )
    parser.add_argument("--steps", type=int, default=10, help="of the training attack")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmarks.json"))
    options = parser.parse_args(arguments)
    known = rows(options)
    unknown = sorted(set(options.rows or ()) - set(known))
    if unknown:
        parser.error(f"--rows: no row {', '.join(unknown)}; there are {', '.join(known)}")
    torch.set_num_threads(options.threads)
    machine = {
        "torch": torch.__version__,
        "threads": options.threads,
        "fast_bf16": has_fast_bf16(torch.device("cpu")),
        "repeats": options.repeats,
        "steps": options.steps,
    }
    kept = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
    report: dict[str, Any] = kept if kept.get("machine") == machine else {"machine": machine, "rows": {}}
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name in options.rows or known:
        # the subject is part of what such a row measured
        key = f"{name}_{options.subject}" if name in _WITH_MODEL else name
        if key not in report["rows"]:
            try:
                report["rows"][key] = known[name]()
            except Absent as reason:
                print(f"\n{name}\n  not run: {reason}")
                continue
            except KdrobustError as error:
                print(error, file=sys.stderr)
                return error.exit_code
            options.json.parent.mkdir(parents=True, exist_ok=True)
            if name in _WITH_MODEL:
                # where the model lies on this machine says nothing to others
                told = [word for word in options.overrides if not word.startswith("checkpoint=")]
                report.setdefault("settings", {})[key] = told
            options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
        show(key, report["rows"][key])
    return 0


if __name__ == "__main__":
    sys.exit(main())
