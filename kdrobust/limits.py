"""Limits of the machine and the shell that end a process: address space, memory, disks, open files."""

from __future__ import annotations

import errno
import os

from kdrobust.errors import UsageError

#: Bytes of address space: with 3.4 GiB a training of the smallest model ended without a word in its first figure, with
#: 3.8 it completed (PyTorch 2.14 for CUDA on a CPU, one thread).
LEAST_ADDRESS_SPACE = 3_900_000 * 1024
#: What this package's own writing does not say already: Hydra's files, logs, other libraries' caches.
_REMEDIES = {
    errno.ENOSPC: "free some space on the disk of run.root, or set run.root to another",
    errno.EDQUOT: "free some of your quota on the disk of run.root, or set run.root to another",
    errno.EMFILE: "allow more open files (ulimit -n), or set data.num_workers lower",
}


def require_address_space() -> None:
    """Refuse to load PyTorch where it does not fit: it would abort, most often without a word.

    Raises:
        UsageError: `ulimit -v` is below `LEAST_ADDRESS_SPACE`.
    """
    limit = _address_space()
    if limit is not None and limit < LEAST_ADDRESS_SPACE:
        raise UsageError(
            f"ulimit -v: {limit / 2**30:.1f} GiB of address space; PyTorch needs {LEAST_ADDRESS_SPACE / 2**30:.1f} GiB "
            "at the least: `ulimit -v unlimited` (memory itself is limited with a cgroup, as SLURM and Docker do)"
        )


def limit_line(error: BaseException) -> str:
    """What to say of an error that stems from a limit; empty: it does not."""
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}: {_REMEDIES[error.errno]}, then give the same command again"
    is_import = isinstance(error, ImportError) and "failed to map segment" in str(error)
    if not isinstance(error, MemoryError) and not is_import:
        return ""
    limit = _address_space()
    if limit is None:
        return (
            "out of memory: a smaller data.batch_size, fewer data (data.limit_train) or fewer jobs at a time need less"
        )
    return f"out of memory: this shell limits address space to {limit / 2**30:.1f} GiB; `ulimit -v unlimited` lifts it"


def _address_space() -> int | None:
    """The limit in bytes; None: there is none, or the system knows no such limit."""
    if os.name != "posix":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
