"""The manifest: everything needed to say what made a result."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
_SECRET = re.compile(r"(key|token|secret|password)[^=\s]*=\S+", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/@\s]+@")


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


def command() -> str:
    """The command line, with anything that looks like a secret masked."""
    text = shlex.join(["kdrobust", *sys.argv[1:]])
    return _CREDENTIALS.sub("://***@", _SECRET.sub(lambda match: match[0].split("=")[0] + "=***", text))


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
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
    }
