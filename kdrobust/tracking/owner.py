"""Which process works on something, and whether it is still there."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Beyond the numbers that a system gives to processes.
_MOST = 2**31


def _born(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # the name in parentheses may hold blanks; a zombie still has a stat file
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def me() -> dict[str, Any]:
    """This process, as a status file names it."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "born": _born(os.getpid())}


def is_gone(owner: Any) -> bool:
    """Whether a process has ended, also if its number belongs to another one by now.

    Args:
        owner: what `me` returned there. Of a process on another host nothing is known: it counts as alive.
    """
    if not isinstance(owner, Mapping) or not isinstance(owner.get("pid"), int) or not 0 < owner["pid"] < _MOST:
        # no process: its file was damaged, or written by somebody else
        return True
    if owner.get("host") != socket.gethostname():
        return False
    pid = owner["pid"]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return owner.get("born") is not None and _born(pid) != owner["born"]
