"""Which swept keys change the teacher that a sweep's jobs would share."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from kdrobust.config.paths import search_folders
from kdrobust.headers import read_header

#: What a teacher's training takes over from its student, unless it has its own.
_TAKEN_OVER = ("optimizer", "scheduler")


def teachers_a_value(cfg: DictConfig, keys: Sequence[str], method: str) -> list[str]:
    """One line for each swept key of which every value has a teacher of its own, trained before its students.

    Args:
        cfg: a sweep's own config, of stage `distill`.
        keys: what is swept.
        method: the option of group `method`; one whose header says that it needs no frozen teacher is not warned of.
    """
    if str(OmegaConf.select(cfg, "teacher.checkpoint")) != "auto" or _teaches_itself(method):
        return []
    return [
        f"{key}: also changes the teacher that teacher.checkpoint=auto trains, so that every value has one of its own; "
        f"+teacher_training.{key}=... keeps it one"
        for key in keys
        if key.partition(".")[0] in _TAKEN_OVER and not _has_own(cfg, key)
    ]


def _teaches_itself(method: str) -> bool:
    files = (folder.path / "method" / f"{method}.yaml" for folder in search_folders())
    path = next((file for file in files if file.is_file()), None)
    needs = "" if path is None else read_header(path)["Needs"]
    return needs.startswith("nothing") or "trained along" in needs


def _has_own(cfg: DictConfig, key: str) -> bool:
    root = key.partition(".")[0]
    own = OmegaConf.select(cfg, f"teacher_training.{root}")
    return own is not None and ("_target_" in own or OmegaConf.select(cfg, f"teacher_training.{key}") is not None)
