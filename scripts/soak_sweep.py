"""A sweep of twelve jobs, killed three times and taken up again, against the same sweep left alone.

Usage: python scripts/soak_sweep.py [--jobs-at-a-time 2] [--kills 3] [--seed 0] [--folder FOLDER]

Every kill is a SIGKILL to the sweep and all it started, at a random moment. Prints what was found after each one, and
ends with exit code 1 if a job is missing, was run again after it had completed, or has other figures than the
uninterrupted sweep's.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GRID = [
    "distill", "-m", "method=pgd_at", "model@student=mlp", "epochs=4", "data.limit_train=512",
    "data.limit_validation=100", "attack.steps=2", "callbacks.robust_validation.attack.steps=2",
    "threat.eps=0.02,0.05", "optimizer.lr=0.003,0.01", "seed=0,1,2",
]  # fmt: skip
COMPARED = (
    "job",
    "status",
    "threat.eps",
    "optimizer.lr",
    "seed",
    "value",
    "accuracy",
    "robust_accuracy",
    "config_hash",
)


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(folder / "soak.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "kdrobust", *arguments],
            cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def jobs(folder: Path, sweep: str) -> list[dict[str, Any]]:
    found = (json.loads(path.read_text()) for path in (folder / sweep / "jobs").glob("*.json"))
    return sorted(found, key=lambda job: job["job"])


def counts(folder: Path, sweep: str) -> str:
    return ", ".join(f"{n} {status}" for status, n in Counter(job["status"] for job in jobs(folder, sweep)).items())


def kill_after(process: subprocess.Popen[bytes], folder: Path, sweep: str, target: int, extra: float) -> None:
    """Kill the whole session once `target` jobs have completed, and `extra` seconds have passed."""
    while process.poll() is None:
        if sum(job["status"] == "completed" for job in jobs(folder, sweep)) >= target:
            break
        time.sleep(0.05)
    time.sleep(extra)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def table(folder: Path, sweep: str) -> list[dict[str, str]]:
    with open(folder / sweep / "sweep.csv", encoding="utf-8") as file:
        return [{name: row[name] for name in COMPARED} for row in csv.DictReader(file)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs-at-a-time", type=int, default=2)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="soak_"))
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(options.seed)
    many = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={options.jobs_at_a_time}"]
    launcher = many if options.jobs_at_a_time > 1 else []
    completed: dict[int, int] = {}
    began = time.monotonic()
    for kill in range(options.kills):
        command = [*GRID, "hydra.sweep.dir=killed", *launcher] if kill == 0 else ["sweep", "resume", "killed"]
        target = round(12 * (kill + draw.uniform(0.2, 0.8)) / (options.kills + 1))
        kill_after(start(folder, *command), folder, "killed", target, draw.uniform(0.0, 2.0))
        print(f"kill {kill + 1} at {time.monotonic() - began:.0f} s: {counts(folder, 'killed')}", flush=True)
        for job in jobs(folder, "killed"):
            if job["status"] == "completed":
                completed.setdefault(job["job"], job["starts"])
    code = start(folder, "sweep", "resume", "killed").wait()
    print(f"resumed to its end at {time.monotonic() - began:.0f} s, exit code {code}: {counts(folder, 'killed')}")
    again = [job["job"] for job in jobs(folder, "killed") if job["starts"] != completed.get(job["job"], job["starts"])]
    problems = [f"job {number} was started again after it had completed" for number in again]
    began = time.monotonic()
    code = start(folder, *GRID, "hydra.sweep.dir=whole").wait()
    print(f"uninterrupted, one job at a time: {time.monotonic() - began:.0f} s, exit code {code}")
    killed, whole = table(folder, "killed"), table(folder, "whole")
    problems += [
        f"job {one['job']}: {one} is not {other}" for one, other in zip(killed, whole, strict=True) if one != other
    ]
    problems += [f"job {row['job']}: {row['status']}" for row in killed if row["status"] != "completed"]
    starts = Counter(job["starts"] for job in jobs(folder, "killed"))
    print(f"starts of a job: {dict(sorted(starts.items()))}; values: {sorted({row['value'][:6] for row in whole})}")
    print("\n".join(problems) or f"{len(whole)} jobs, the same figures in both tables, none run twice after completing")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
