"""Where a checkpoint comes from, read from what lies beside it, and what earlier runs found out about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrobust.models import file_hash
from kdrobust.stages.setup import log
from kdrobust.stages.stored import MANIFEST


def training_of(checkpoint: Path) -> dict[str, Any] | None:
    """The `result.json` beside a checkpoint, with the `command` and the `epochs` of its run.

    Returns:
        None where there is none, or it is another checkpoint's.
    """
    folder = checkpoint.parent
    result = _read(folder / "result.json")
    if (result.get("checkpoint") or {}).get("sha256") != file_hash(checkpoint):
        return None
    if command := _read(folder / "manifest.json").get("command"):
        result["command"] = command
    try:
        epochs = OmegaConf.select(OmegaConf.load(folder / "config_resolved.yaml"), "epochs")
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        epochs = None
    return {**result, "epochs": epochs} if isinstance(epochs, int) else result


def teacher_path(checkpoint: Path) -> Path | None:
    """The checkpoint of the teacher that a student learnt from, live or through stored outputs.

    Returns:
        None where the student's result does not say, or that file is gone or has changed since.
    """
    told = _read(checkpoint.parent / "result.json").get("teacher")
    if not isinstance(told, dict):
        return None
    if told.get("transform"):
        log.info("the teacher of %s takes other inputs than its student; it is not in the table", checkpoint)
        return None
    if "checkpoint" in told:
        path, digest = told["checkpoint"], told.get("sha256")
    else:
        origin = _read(Path(str(told.get("outputs", ""))) / MANIFEST).get("checkpoint") or {}
        path, digest = origin.get("path"), origin.get("sha256")
    if not path or not Path(path).is_file() or file_hash(path) != digest:
        log.warning("the teacher of %s is not where it was; set compare=PATH to have it in the table", checkpoint)
        return None
    return Path(path)


def evaluations_of(sha256: str, root: Path) -> list[dict[str, Any]]:
    """What finished runs of stage `evaluate` at or below a folder found out about a checkpoint.

    Args:
        sha256: of the checkpoint.
        root: where to look.

    Returns:
        Each one's `folder`, `threat`, `n`, `clean`, `worst_case`, attacks (`over`), `unreliable` and `reasons`.
    """
    found = []
    for path in sorted(root.rglob("result.json")):
        result = _read(path)
        if result.get("stage") != "evaluate":
            continue
        entries = [each["results"][0] for each in result.get("models") or []] or [result]
        for entry in entries:
            evaluation = entry.get("evaluation") or {}
            if (entry.get("checkpoint") or {}).get("sha256") == sha256 and evaluation.get("n"):
                kept = ("threat", "n", "clean", "worst_case", "unreliable", "reasons")
                told = {key: evaluation[key] for key in kept}
                found.append({"folder": path.parent.as_posix(), **told, "over": list(evaluation["attacks"])})
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
