"""A working directory with a small `./conf` of its own: stage `study`, groups recipe, net, optim, exp."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(Path(__file__).parent / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path
