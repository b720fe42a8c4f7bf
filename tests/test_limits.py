from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import pytest

from kdrobust import limits
from kdrobust.errors import UsageError

SHELL = f"ulimit -v 2000000; {sys.executable} -m kdrobust"


@pytest.mark.parametrize("command", ["distill", "predict", "detect", "benchmark", "reproduce x", "sweep resume x"])
def test_too_little_address_space_is_said_before_torch_is_loaded(command: str, monkeypatch, capsys) -> None:
    from kdrobust.cli import main

    monkeypatch.setattr(limits, "_address_space", lambda: 2**31)
    assert main(command.split()) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith("ulimit -v: 2.0 GiB of address space; PyTorch needs 3.7 GiB")
    assert out.err.count("\n") == 1


def test_under_the_shell_s_limit() -> None:
    done = subprocess.run(["bash", "-c", f"{SHELL} distill"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("ulimit -v: 1.9 GiB")
    light = subprocess.run(["bash", "-c", f"{SHELL} list"], capture_output=True, text=True, timeout=60)
    assert light.returncode == 0, light.stderr


def test_no_limit_and_a_large_one(monkeypatch) -> None:
    for limit in (resource.RLIM_INFINITY, 2**40):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        limits.require_address_space()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits.LEAST_ADDRESS_SPACE - 1, -1))
    with pytest.raises(UsageError, match="ulimit -v"):
        limits.require_address_space()


def test_errors_that_stem_from_it(monkeypatch) -> None:
    monkeypatch.setattr(limits, "_address_space", lambda: 2**33)
    for error in (MemoryError(), ImportError("libtorch_cpu.so: failed to map segment from shared object")):
        assert "8.0 GiB" in limits.limit_line(error)
    for other in (ImportError("No module named x"), ValueError("x"), OSError(errno.EPERM, "no")):
        assert limits.limit_line(other) == ""
    monkeypatch.setattr(limits, "_address_space", lambda: None)
    assert "data.batch_size" in limits.limit_line(MemoryError())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
@pytest.mark.parametrize("name", [None, "outputs/x/.hydra/config.yaml"])
def test_a_full_disk_where_another_library_writes(number: int, name: str | None, tmp_path, monkeypatch, capsys) -> None:
    """Hydra's own files are the first of a run folder: 29 lines of traceback on a disk of 4 kB."""
    from hydra.core import utils

    from kdrobust.cli import main

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(utils, "_save_config", refuse)
    assert main(["distill", "method=pgd_at"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert os.strerror(number) in error
    assert not list(tmp_path.rglob("*.ckpt"))
