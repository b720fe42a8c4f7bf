"""Limits that the shell sets on a process and PyTorch does not survive: said before it is loaded."""

from __future__ import annotations

import os

from kdrobust.errors import UsageError

#: Bytes of address space: with 3.4 GiB a training of the smallest model ended without a word in its first figure, with
#: 3.8 it completed (PyTorch 2.14 for CUDA on a CPU, one thread).
LEAST_ADDRESS_SPACE = 3_900_000 * 1024


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


def address_space_line(error: BaseException) -> str:
    """What to say of an error that stems from the limit of address space or memory; empty: it does not."""
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
