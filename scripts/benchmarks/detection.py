"""The figures of docs/detection.md: classifiers, detectors and their evaluation for several seeds, and their mean.

`python scripts/benchmarks/detection.py OUT [SEED ...]` works in OUT; what has finished is not run again. On one core a
seed takes about ten minutes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdrobust.report.markdown import markdown_table

#: name, architecture: the classifier that is protected, the training's surrogate, the test's
CLASSIFIERS = (("protected", "small_cnn"), ("surrogate", "mlp"), ("heldout", "wide_cnn"))
DETECTORS = ("teacher", "student", "alone", "adversarial")
EPS = "0.05,0.15,0.3"
#: What thresholds are fixed on; the attacks are the same.
THRESHOLDS = ("clean", "natural")


def kdrobust(folder: Path, *arguments: str) -> None:
    """Run a stage in a folder, unless it has finished there."""
    if not (folder / "result.json").exists():
        command = [sys.executable, "-m", "kdrobust", *arguments, f"run.folder={folder}", "threads=1"]
        subprocess.run(command, check=True)


def seed_folder(out: Path, seed: int, detectors: Sequence[str]) -> Path:
    """Everything of one seed; returns its folder."""
    place = out / f"seed_{seed}"
    for number, (name, model) in enumerate(CLASSIFIERS):
        kdrobust(
            place / name, "teacher", "data=digits", f"model@teacher={model}", "method=standard", "epochs=40",
            "optimizer.lr=0.003", "callbacks.robust_validation=null", "callbacks.best.monitor=val/accuracy",
            f"seed={10 * seed + number}",
        )  # fmt: skip
    best = {name: place / name / "best.ckpt" for name in (*(each[0] for each in CLASSIFIERS), *DETECTORS)}
    data = [
        f"data.source.classifier={best['protected']}",
        f"data.source.surrogate={best['surrogate']}",
        f"data.root={out / 'data'}",
        f"seed={seed}",
    ]
    kdrobust(place / "teacher", "teacher", "experiment=detection/teacher", *data)
    student = ("distill", "experiment=detection/student", *data)
    kdrobust(place / "student", *student, f"teacher.checkpoint={best['teacher']}")
    kdrobust(place / "alone", *student, "method=standard")
    if "adversarial" in detectors:
        kdrobust(place / "adversarial", "teacher", "experiment=detection/adversarial", *data)
    for kind in THRESHOLDS:
        kdrobust(
            place / f"evaluation_{kind}", "evaluate", "data=detection", "evaluation=detection", *data,
            f"threat.eps={EPS}", f"evaluation.threshold_on={kind}", f"evaluation.surrogates=[{best['heldout']}]",
            f"checkpoint={','.join(str(best[name]) for name in detectors)}",
        )  # fmt: skip
    return place


def spread(values: Sequence[float], *, percent: bool = False) -> str:
    """Mean and standard deviation over the seeds."""
    scale, digits = (100.0, 1) if percent else (1.0, 3)
    text = f"{scale * statistics.mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {scale * statistics.stdev(values):.{digits}f}"


def table(found: Sequence[Any]) -> str:
    """Means over seeds as Markdown: a line an attack and ε, a column a detector; then shifts, checks and speed."""
    entries = {name: [row["results"][0] for rows in found for row in rows if row["name"] == name] for name in DETECTORS}
    figures = {
        name: [[*each["detection"]["attacks"], *each["detection"]["adaptive"]] for each in seeds]
        for name, seeds in entries.items()
    }
    head = [f"{name} ({len(seeds)})" for name, seeds in entries.items()]
    rows = [["attack", "ε", "fool the classifier", *head]]
    for place, row in enumerate(figures["teacher"][0]):
        fooling = [seed[place]["fooling"] / seed[place]["attacked"] for seed in figures["teacher"]]
        cells = [row["attack"], f"{row['eps']:g}", spread(fooling, percent=True)]
        for seeds in figures.values():
            areas = [seed[place]["auroc"] for seed in seeds if seed[place]["auroc"] is not None]
            hits = [seed[place]["at_fpr"]["0.05"]["detected"]["share"] or 0.0 for seed in seeds]
            known = len(areas) == len(seeds)
            cells.append(f"{spread(areas)} ({spread(hits, percent=True)} %)" if known else "–")
        rows.append(cells)
    alarmed = [["flagged, no attack", *head]]
    alarms = {name: [_alarms(each["detection"]) for each in seeds] for name, seeds in entries.items()}
    for name in alarms["teacher"][0]:
        cells = [spread([seed[name] for seed in seeds], percent=True) for seeds in alarms.values()]
        alarmed.append([name, *cells])
    lines = [markdown_table(rows, words=None), "", markdown_table(alarmed, words=None)]
    for name, seeds in entries.items():
        failed = [each["name"] for seed in seeds for each in seed["detection"]["checks"] if not each["passed"]]
        speed = spread([seed["model"]["latency"][-1]["samples_per_second"] for seed in seeds])
        size = seeds[0]["model"]["parameters"]
        lines += ["", f"{name}: {size} parameters, {speed} images a second, failed checks: {failed or 'none'}"]
    return "\n".join(lines)


def _alarms(detection: Any) -> dict[str, float]:
    """Share flagged at 5 % FPR of clean images and of each shift, its severities averaged."""
    found: dict[str, list[float]] = {"clean": [detection["clean"]["0.05"]["share"]]}
    for row in detection["shifts"]:
        name = f"{row['shift']} (in training)" if row["trained"] else row["shift"]
        found.setdefault(name, []).append(row["at_fpr"]["0.05"]["share"])
    return {name: statistics.mean(shares) for name, shares in found.items()}


def main() -> None:
    """Run and print."""
    out = Path(sys.argv[1]).resolve()
    seeds = [int(seed) for seed in sys.argv[2:]] or [0, 1, 2]
    # adversarial training takes longer than all the rest: of the first seed only
    folders = [seed_folder(out, seed, DETECTORS if seed == seeds[0] else DETECTORS[:-1]) for seed in seeds]
    texts = []
    for kind in THRESHOLDS:
        found = [json.loads((place / f"evaluation_{kind}" / "detection.json").read_text()) for place in folders]
        texts.append(f"## Thresholds on {kind} validation images\n\n{table(found)}\n")
    (out / "detection.md").write_text("\n".join(texts), encoding="utf-8")
    print("\n".join(texts))


if __name__ == "__main__":
    main()
