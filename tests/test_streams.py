"""What prints into a reader that leaves, a full disk, a narrow encoding, and nothing at all."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdrobust import streams
from kdrobust.cli import main

COMMAND = f"{sys.executable} -m kdrobust"


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


def left() -> int:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def lead(monkeypatch: pytest.MonkeyPatch, descriptor: int) -> None:
    """Let this process's standard output lead there; in the test itself, as pytest sets its own before it."""
    stream = io.TextIOWrapper(io.FileIO(descriptor, "w"), encoding="utf-8")
    monkeypatch.setattr(sys, "__stdout__", stream)
    monkeypatch.setattr(sys, "stdout", stream)


@pytest.mark.parametrize(
    ("where", "expected"),
    [(left, (141, "")), (full, (1, "standard output: cannot be written (No space left on device)\n"))],
)
def test_what_only_prints_ends_with_the_conventional_code(
    where: Callable[[], int],
    expected: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lead(monkeypatch, where())
    assert (main(["list", "methods"]), capsys.readouterr().err) == expected


@pytest.mark.parametrize("where", [left, full])
def test_a_run_goes_on_and_keeps_its_exit_code(
    where: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lead(monkeypatch, where())
    monkeypatch.chdir(tmp_path)
    small = ["data.limit_train=64", "data.limit_validation=20", "callbacks.robust_validation.attack.steps=1"]
    typed = ["distill", "method=standard", "epochs=1", "threads=1", "run.folder=here", *small]
    assert main(typed) == 0
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert ("the files of the run are not affected" in error) == (where is full)
    assert (tmp_path / "here" / "result.json").exists()


def test_letters_that_the_terminal_lacks_are_replaced(tmp_path: Path) -> None:
    done = shell(f"{COMMAND} list threats", tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "?" in done.stdout


def test_a_closed_output_is_not_the_next_file_that_is_opened(tmp_path: Path) -> None:
    """Descriptor 1 would be given to the first file the program opens, and printed into."""
    program = (
        "import os; from kdrobust import streams; streams.install(); print('x'); f = open('file', 'w'); print('y')"
    )
    line = f"{sys.executable} -c \"{program}; f.write('mine'); f.close(); os.write(1, b'more')\" <&- >&- 2>&-"
    assert shell(line, tmp_path).returncode == 0
    assert (tmp_path / "file").read_text() == "mine"


def test_a_line_of_refusal_survives_a_closed_error_stream(tmp_path: Path) -> None:
    assert shell(f"{COMMAND} nope 2>&-", tmp_path).returncode == 2
    assert shell(f"{COMMAND} nope 2>/dev/full", tmp_path).returncode == 2


def test_a_stream_that_another_program_has_put_there_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    streams.install()
    assert sys.stdout is before
