"""What a run leaves behind: atomic files, its status and lock, its manifest, its metrics."""

from kdrobust.tracking.atomic import write_bytes, write_json, write_text
from kdrobust.tracking.folder import (
    hold,
    is_finished,
    is_held,
    lock,
    mark_failed,
    read_status,
    wait_for_first_rank,
    write_result,
)
from kdrobust.tracking.held import require_held
from kdrobust.tracking.integrity import damage, regular
from kdrobust.tracking.manifest import build_manifest, versions
from kdrobust.tracking.ranks import is_main_process, made_by

__all__ = [
    "build_manifest",
    "damage",
    "hold",
    "is_finished",
    "is_held",
    "is_main_process",
    "lock",
    "made_by",
    "mark_failed",
    "read_status",
    "regular",
    "require_held",
    "versions",
    "wait_for_first_rank",
    "write_bytes",
    "write_json",
    "write_result",
    "write_text",
]
