"""The manifest: everything needed to say what made a result."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdrobust.tracking.secrets import redact_line

PACKAGES = (
    "kdrobust",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyautoattack",
)
#: Variables of the environment that decide how many threads compute.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def versions() -> dict[str, str]:
    """Installed versions of what numbers depend on; absent packages are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """Commit and cleanliness of the package's checkout; empty where it was installed from a wheel."""
    where = folder or Path(__file__).resolve().parents[2]
    if not (where / ".git").exists():
        return {}

    def git(*arguments: str) -> str:
        call = ["git", "-C", str(where), *arguments]
        return subprocess.run(call, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def machine() -> dict[str, Any]:
    """The kind of machine: system, architecture, processor and number of cores."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def command() -> str:
    """The command line, with anything that looks like a secret masked."""
    return shlex.join(["kdrobust", *map(redact_line, sys.argv[1:])])


def build_manifest(*, stage: str, seed: int, config_hash: str) -> dict[str, Any]:
    """The manifest of a run that starts now.

    Args:
        stage: which stage.
        seed: the run's seed.
        config_hash: of the resolved config.
    """
    return {
        "stage": stage,
        "command": command(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "config_hash": config_hash,
        "versions": versions(),
        "git": git_state(),
        "platform": machine(),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }
