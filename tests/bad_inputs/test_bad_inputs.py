"""Every bad input: one clear line with the key or file and the remedy, the right exit code, and nothing left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdrobust.cli import main
from kdrobust.conformance.__main__ import main as conformance
from tests.bad_inputs import configs, files
from tests.bad_inputs.cases import lay_out

ROOT = Path(__file__).resolve().parents[2]
ALL = [
    *configs.COMMANDS, *configs.OVERRIDES, *configs.FILES, *configs.SEARCHES,
    *files.DATA, *files.CHECKPOINTS, *files.OUTPUTS, *files.VECTORS, *files.RUNS,
]  # fmt: skip
SLOW_TO_LOAD = ("torch", "pytorch_lightning", "torchvision", "wandb", "optuna", "sklearn", "matplotlib")


def folders(place):
    return {path.relative_to(place) for path in place.rglob("*") if path.is_dir()}


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.what)
def test_a_bad_input(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    lay_out(case, tmp_path)
    before = folders(tmp_path)
    code = conformance(list(case.typed)) if case.conformance else main(list(case.typed))
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    assert code == case.code, error
    assert 1 <= len(error.splitlines()) <= case.lines, error
    assert [word for word in case.words if word not in error] == [], error
    assert folders(tmp_path) == before


def test_there_are_enough_of_them_and_no_two_alike():
    assert len(ALL) >= 200
    assert len({case.what for case in ALL}) == len(ALL)
    assert len({(case.typed, case.what if case.files else "") for case in ALL}) == len(ALL)


SCRIPT = """
import contextlib, io, json, sys
from kdrobust.cli import main

found = {}
asked = json.load(sys.stdin)
for typed in asked["typed"]:
    with contextlib.redirect_stderr(io.StringIO()):
        code = main(typed)
    found[" ".join(typed)] = [code, [name for name in asked["slow"] if name in sys.modules]]
print(json.dumps(found))
"""


def test_what_needs_no_model_is_refused_before_anything_slow_is_loaded(tmp_path):
    needs_a_file = {name for case in configs.COMMANDS for name in case.files}
    assert not needs_a_file
    typed = [list(case.typed) for case in configs.COMMANDS]
    typed += [["distill", line] for line in ("seed=-1", "method=rsald", "threat.eps=abc", "run.name=${nowhere}")]
    typed += [["distill", "-m", "method.alhpa=1,2"], ["distill", "-m", "search=absent"]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps({"typed": typed, "slow": SLOW_TO_LOAD}), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert len(found) == len(typed)
    assert {command: result for command, result in found.items() if result != [2, []]} == {}


def test_a_process_refuses_like_a_call(tmp_path):
    call = [sys.executable, "-m", "kdrobust", "distill", "method.temprature=4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "method.temprature: no such key; did you mean method.temperature? (add a new key with +method.temprature=4)\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_refusal_after_the_command_went_on_keeps_what_was_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "status.json").write_text('{"status": "completed"}')
    (tmp_path / "done" / "run.log").write_text("the run's own\n")
    assert main(["distill", "run.folder=done"]) == 1
    assert {path.name for path in (tmp_path / "done").iterdir()} == {"status.json", "run.log"}
    assert (tmp_path / "done" / "run.log").read_text() == "the run's own\n"
