#!/usr/bin/env python3
"""Our cascade and our wrapper of AutoAttack against the published driver: time as a ratio, and every differing verdict.

    python scripts/benchmarks/autoattack.py checkpoint=outputs/distill/NAME/best.ckpt threat.eps=0.1

Arguments are those of `kdrobust evaluate` (data, threat, evaluation.num_samples, evaluation.batch_size, threads ...).
They take turns in one process, `--repeats N` times (default 1); `speed` is the published driver's median time over each
one's, of wall time and of this process's own processor time, which other work on the machine disturbs less.
`--json FILE` keeps them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pyautoattack import AutoAttack as Published
from timing import compared, show
from torch import Tensor

from kdrobust.config import compose, instantiate
from kdrobust.errors import KdrobustError
from kdrobust.evaluation import stratified
from kdrobust.shorthand import spell_out
from kdrobust.stages.setup import check_config, prepare_data, set_threads
from kdrobust.stages.subject import load_subject, subject_problems

#: In which our cascade searches.
FORMS = ("exact", "auto", "bf16")
NORMS = {"linf": "Linf", "l2": "L2"}


def published(model: torch.nn.Module, inputs: Tensor, labels: Tensor, threat: Any, batch: int, seed: int) -> Tensor:
    """The published driver as its authors call it: which samples stand."""
    attack = Published(model, eps=threat.radius, norm=NORMS[threat.norm], seed=seed, version="standard")
    classes = model(inputs[:1]).shape[1]
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, classes - 1)
    adversarial, _ = attack.run_standard_evaluation(inputs, labels, batch_size=batch)
    return right(model, adversarial, labels)


@torch.no_grad()
def right(model: torch.nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Which samples are answered correctly, [N] bool."""
    return torch.cat([model(piece) for piece in inputs.split(1000)]).argmax(dim=1) == labels


def compare(
    overrides: Sequence[str], repeats: int, *, wrapped: bool = True, forms: Sequence[str] = FORMS
) -> dict[str, Any]:
    """The row: each run's seconds, how many stand and which samples differ from the published driver's verdict.

    Raises:
        KdrobustError: overrides that name no model, data or threat that can be used.
    """
    # `fast` first: what is given on the command line wins over it
    cfg = compose("evaluate", spell_out("evaluate", ["evaluation=fast", *overrides]))
    check_config(cfg, subject_problems(cfg))
    data = prepare_data(cfg)
    subject = load_subject(cfg, data)
    model = subject.model.requires_grad_(False).eval()
    set_threads(cfg, model, data.spec, int(cfg.evaluation.batch_size))
    test, seed, batch = data.split("test"), int(cfg.evaluation.seed), int(cfg.evaluation.batch_size)
    rows = stratified(test.labels, cfg.evaluation.num_samples, seed=seed)
    inputs, labels, keys = test.pixels(rows), test.labels[rows], test.indices[rows]
    threat = instantiate(cfg.threat)
    standard = compose("evaluate", spell_out("evaluate", ["evaluation=standard", *overrides]))

    def attacked(config: Any, name: str) -> Callable[[], Tensor]:
        attack = instantiate(config.evaluation.attacks)[name]
        return lambda: right(model, attack.run(model, inputs, labels, keys=keys, seed=seed).adversarial, labels)

    def cascade(precision: str) -> Callable[[], Tensor]:
        words = ["evaluation=fast", *overrides, f"evaluation.precision={precision}"]
        return attacked(compose("evaluate", spell_out("evaluate", words)), "cascade")

    runs: dict[str, Callable[[], Tensor]] = {
        "published AutoAttack": lambda: published(model, inputs, labels, threat, batch, seed),
        **({"our wrapper of it": attacked(standard, "autoattack")} if wrapped else {}),
        **{f"our cascade, {precision}": cascade(precision) for precision in forms},
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    stands: dict[str, Tensor] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            began, worked = time.perf_counter(), time.process_time()
            stands[name] = run()
            times[name].append((time.perf_counter() - began, time.process_time() - worked))
    table = compared(times)
    reference = stands[next(iter(runs))]
    clean = right(model, inputs, labels)
    for name, row in table.items():
        differing = torch.nonzero(stands[name] != reference).flatten()
        verdicts = {int(keys[at]): "stands" if stands[name][at] else "falls" for at in differing}
        row["reached"] = {"robust": int(stands[name].sum()), "of": len(labels), "verdicts that differ": len(verdicts)}
        row["differs"] = verdicts
    subjected = {
        "clean": int(clean.sum()),
        "threat": threat.describe(),
        "batch_size": batch,
        "sha256": subject.origin["sha256"],
    }
    return {**table, "published AutoAttack": {**table["published AutoAttack"], "subject": subjected}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 unless the arguments cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for kdrobust evaluate")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        table = compare(options.overrides, options.repeats)
    except KdrobustError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    show("AutoAttack and ours", table)
    for name, row in table.items():
        told = ", ".join(f"{key} ({verdict})" for key, verdict in row["differs"].items())
        if told:
            print(f"  {name} differs on sample {told}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
