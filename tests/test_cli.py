from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import kdrobust
from kdrobust import cli, listing
from kdrobust.errors import DataError, UsageError

ROOT = Path(__file__).resolve().parents[1]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(Path(__file__).parent / "config" / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stages replaced by one that notes what it was given, and does what `act` says."""
    noted: list[dict[str, Any]] = []

    def run_stage(cfg: Any, folder: Path, *, sweep: str | None = None) -> float:
        stage = str(cfg.stage)
        plain = OmegaConf.to_container(cfg, resolve=True)
        noted.append({"stage": stage, "cfg": plain, "folder": folder, "cwd": Path.cwd(), "env": dict(os.environ)})
        return float(act(plain) or 0.0)

    module = types.ModuleType("kdrobust.stages")
    module.run_stage = run_stage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kdrobust.stages", module)
    return noted


ACT: dict[str, Callable[[dict[str, Any]], Any]] = {}


def act(plain: dict[str, Any]) -> Any:
    return ACT.get("act", lambda _: 0.0)(plain)


@pytest.fixture
def when(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[dict[str, Any]], Any]], None]:
    return lambda function: monkeypatch.setitem(ACT, "act", function)


def fails_at(seed: int, error: BaseException) -> Callable[[dict[str, Any]], Any]:
    def function(plain: dict[str, Any]) -> None:
        if plain["seed"] == seed:
            raise error

    return function


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_overview_names_every_stage(arguments: list[str], capsys: Capture) -> None:
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    for stage in listing.stages():
        assert stage.name in out
        assert stage.summary in out


def test_version_is_the_project_s(capsys: Capture) -> None:
    import tomllib

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"kdrobust {kdrobust.__version__}\n"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == kdrobust.__version__


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["distil"], "distil: no such stage; did you mean distill?"),
        (["dcotor"], "dcotor: no such stage; did you mean doctor?"),
        (["seed=3"], "seed=3: a stage comes first: kdrobust STAGE seed=3"),
        (["--cfg", "job"], "--cfg: a stage comes first"),
        (["list", "metods"], "list metods: no such group; did you mean methods?"),
        (["list", "methods", "models"], "list methods models: one group at a time"),
        (["doctor", "--fast"], "doctor --fast: no such argument"),
        (["study", "recipe.alhpa=3"], "recipe.alhpa: no such key; did you mean recipe.alpha?"),
        (["study", "recipe=plian"], "recipe=plian: no such option; did you mean plain?"),
        (["study", "--fast"], "--fast: no such flag"),
        (["study", "--cfg", "everything"], "argument --cfg/-c: invalid choice"),
        (["study", "--config-dir", "nowhere"], "--config-dir=nowhere: no such folder"),
        (["study", "seed=-1"], "seed: expected an integer >= 0 and < 2**32, got -1"),
        (["study", "epochs=many"], "epochs: expected an integer >= 1 (and at most 1000000), got 'many'"),
        (["study", "run.name=???"], "run.name: not given; set run.name=..."),
        (["study", "run.name='${nowhere}'"], "run.name: "),
        (["study", "+epoch=3"], "+epoch=3: nothing reads epoch; did you mean epochs?"),
        (["study", "-m", "recipe.alhpa=1,2"], "recipe.alhpa: no such key"),
        (["study", "-m", "recipe=plain,plian", "seed=1,2"], "recipe=plian: no such option; did you mean plain?"),
        (["study", "-m", "seed=interval(0,1)"], "study: BasicSweeper does not support sweep type"),
        (["study", "--cfg", "job", "recipe.alhpa=3"], "recipe.alhpa: no such key"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    folder: Path, runs: list[Any], arguments: list[str], line: str, capsys: Capture
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err + captured.out
    assert not runs
    if "-m" not in arguments:
        assert not (folder / "outputs").exists()


def test_a_stage_runs_with_its_config_in_its_folder(folder: Path, runs: list[Any]) -> None:
    assert cli.main(["study", "recipe=bold", "threat.eps=8/255"]) == 0
    (run,) = runs
    assert run["stage"] == "study"
    assert run["cfg"]["threat"]["eps"] == "8/255"
    assert "hydra" not in run["cfg"]
    assert run["cwd"] == folder
    assert run["folder"].parent == folder / "outputs/study"
    assert run["folder"].name.startswith("bold_small-")
    assert run["folder"].is_dir()
    assert "HYDRA_FULL_ERROR" not in run["env"]


def test_the_same_command_resumes_and_never_overwrites(folder: Path, runs: list[Any]) -> None:
    for _ in range(2):
        assert cli.main(["study"]) == 0
    (runs[1]["folder"] / "status.json").write_text(json.dumps({"status": "completed"}))
    assert cli.main(["study"]) == 0
    assert runs[0]["folder"] == runs[1]["folder"]
    assert runs[2]["folder"].name == runs[0]["folder"].name + "-2"


def test_a_user_s_primary_config_may_name_another_stage(folder: Path, runs: list[Any]) -> None:
    (folder / "conf/mine.yaml").write_text("# Mine\ndefaults:\n  - study\n  - _self_\nstage: distill\nepochs: 5\n")
    assert cli.main(["mine"]) == 0
    assert runs[0]["stage"] == "distill"
    assert runs[0]["cfg"]["epochs"] == 5


def test_config_dir_adds_stages_and_options(folder: Path, runs: list[Any], tmp_path_factory: Any) -> None:
    more = tmp_path_factory.mktemp("more")
    (more / "recipe").mkdir()
    (more / "recipe/third.yaml").write_text("# Third\nalpha: 0.875\nattack: {}\nterms: {}\n")
    (more / "other.yaml").write_text("# Other\ndefaults:\n  - study\n  - _self_\n")
    assert cli.main(["study", "--config-dir", str(more), "recipe=third"]) == 0
    assert cli.main(["other", f"--config-dir={more}"]) == 0
    assert runs[0]["cfg"]["recipe"]["alpha"] == 0.875


@pytest.mark.parametrize(("error", "code"), [(DataError("x_train: NaN"), 1), (UsageError("threat.eps: negative"), 2)])
def test_user_errors_are_their_line_and_their_code(
    folder: Path, runs: list[Any], when: Any, error: Exception, code: int, capsys: Capture
) -> None:
    when(fails_at(0, error))
    assert cli.main(["study"]) == code
    assert capsys.readouterr().err == f"{error}\n"


def test_the_full_traceback_is_there_for_those_who_ask(
    folder: Path, runs: list[Any], when: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    when(fails_at(0, DataError("x_train: NaN")))
    assert cli.main(["study"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_bugs_keep_their_traceback(folder: Path, runs: list[Any], when: Any, capsys: Capture) -> None:
    when(fails_at(0, RuntimeError("a bug")))
    assert cli.main(["study"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "RuntimeError: a bug" in err
    assert "Error executing job" not in err


def test_an_interrupt_is_130(folder: Path, runs: list[Any], when: Any, capsys: Capture) -> None:
    when(fails_at(0, KeyboardInterrupt()))
    assert cli.main(["study"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_sigterm_is_143_and_the_old_handler_comes_back(folder: Path, runs: list[Any], when: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    when(lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(["study"]) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_sweep_runs_every_job_in_its_own_folder(folder: Path, runs: list[Any]) -> None:
    assert cli.main(["study", "-m", "seed=0,1", "threat.eps=4/255,8/255"]) == 0
    assert {(run["cfg"]["seed"], run["cfg"]["threat"]["eps"]) for run in runs} == {
        (seed, eps) for seed in (0, 1) for eps in ("4/255", "8/255")
    }
    assert {run["folder"] for run in runs} == {folder / "outputs/sweeps/fixed" / str(job) for job in range(4)}
    assert [run["cfg"]["run"]["name"] for run in runs] == ["plain_small"] * 4


def test_a_sweep_s_values_may_refer_to_other_keys(folder: Path, runs: list[Any], capsys: Capture) -> None:
    """What was typed was read as a reference before it was parsed: a traceback, or another job's value."""
    assert cli.main(["study", "-m", "seed=3,4", "epochs=9,${seed}"]) == 0
    assert [(run["cfg"]["seed"], run["cfg"]["epochs"]) for run in runs] == [(3, 9), (3, 3), (4, 9), (4, 4)]
    capsys.readouterr()
    assert cli.main(["study", "-m", "seed=${nowhere},1"]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "seed" in error
    assert "nowhere" in error


def test_a_failed_job_lets_the_others_go_on_and_is_told_at_the_end(
    folder: Path, runs: list[Any], when: Any, capsys: Capture
) -> None:
    when(fails_at(1, DataError("x_train: NaN")))
    assert cli.main(["study", "-m", "seed=0,1,2", "hydra.sweeper.max_batch_size=1"]) == 1
    assert [run["cfg"]["seed"] for run in runs] == [0, 1, 2]
    err = capsys.readouterr().err
    assert err == "1 of 3 jobs failed:\n  1 (seed=1): x_train: NaN\n"


def test_a_bug_in_a_sweep_shows_its_traceback_once_and_its_line_at_the_end(
    folder: Path, runs: list[Any], when: Any, capsys: Capture
) -> None:
    when(fails_at(0, RuntimeError("a bug")))
    assert cli.main(["study", "-m", "seed=0,1"]) == 1
    err = capsys.readouterr().err
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("0 (seed=0): RuntimeError: a bug")
    assert len(runs) == 2


def test_one_exit_code_of_all_failed_jobs_is_the_sweep_s(folder: Path, runs: list[Any], when: Any) -> None:
    when(fails_at(0, UsageError("no")))
    assert cli.main(["study", "-m", "seed=0,1"]) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_output_folder(folder: Path, runs: list[Any], capsys: Capture) -> None:
    (folder / "outputs").mkdir()
    (folder / "outputs").chmod(0o500)
    assert cli.main(["study"]) == 1
    assert "set run.root=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["study"], ["study", "-m", "seed=0,1"]])
def test_an_output_folder_that_is_a_file(folder: Path, runs: list[Any], arguments: list[str], capsys: Capture) -> None:
    (folder / "outputs").write_text("not a folder")
    assert cli.main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith(str(Path("outputs")))
    assert "set run.root=FOLDER" in err
    assert err.count("\n") == 1


def test_logs_are_plain_on_the_terminal_and_dated_in_the_run_folder(
    folder: Path, runs: list[Any], when: Any, capsys: Capture
) -> None:
    import logging

    when(lambda _: logging.getLogger("kdrobust").info("one line"))
    assert cli.main(["study"]) == 0
    assert capsys.readouterr().out == "one line\n"
    (line,) = (runs[0]["folder"] / "run.log").read_text().splitlines()
    assert line.endswith("INFO kdrobust: one line")
    assert line != "INFO kdrobust: one line"


def test_a_wrong_number_is_one_line_before_any_folder_exists(folder: Path, runs: list[Any], capsys: Capture) -> None:
    (folder / "conf/recipe/two.yaml").write_text("# Two\ndefaults: [_base]\nx: ${mul:2,${threat.eps}}\n")
    assert cli.main(["study", "recipe=two", "threat.eps=abc"]) == 2
    assert capsys.readouterr().err == "threat.eps: expected a number or a fraction such as 8/255, got 'abc'\n"
    assert not (folder / "outputs").exists()


def test_a_wrong_number_in_a_sweep_is_told_before_any_job(folder: Path, runs: list[Any], capsys: Capture) -> None:
    (folder / "conf/recipe/two.yaml").write_text("# Two\ndefaults: [_base]\nx: ${mul:2,${threat.eps}}\n")
    assert cli.main(["study", "-m", "recipe=two", "seed=0,1", "threat.eps=4/255,8/255,abc"]) == 2
    assert capsys.readouterr().err == "threat.eps: expected a number or a fraction such as 8/255, got 'abc'\n"
    assert runs == []
    assert not (folder / "outputs").exists()
    assert cli.main(["study", "-m", "recipe=two", "seed=0,1", "threat.eps=4/255"]) == 0
    assert len(runs) == 2


def test_hydra_s_own_commands_work(folder: Path, runs: list[Any], capsys: Capture) -> None:
    assert cli.main(["study", "--cfg", "job", "recipe=bold"]) == 0
    assert OmegaConf.create(capsys.readouterr().out).recipe.alpha == 0.5
    assert cli.main(["study", "--cfg", "job", "--resolve", "-p", "run"]) == 0
    assert "name: plain_small" in capsys.readouterr().out
    assert cli.main(["study", "--info", "defaults"]) == 0
    assert "recipe/plain" in capsys.readouterr().out
    assert "HYDRA_FULL_ERROR" not in os.environ
    assert not runs


def test_stage_help_shows_choices_keys_and_examples(folder: Path, capsys: Capture) -> None:
    assert cli.main(["study", "--help"]) == 0
    out = capsys.readouterr().out
    assert "A stage of the tests' own" in out
    assert "Command: kdrobust study recipe=bold" in out
    assert "net@student=small" in out
    assert "bold, plain" in out
    assert "epochs=3" in out
    assert "how long" in out
    assert "seed=0" in out
    assert "hydra.run" not in out
    assert "_study" not in out


@pytest.mark.parametrize("stage", [stage.name for stage in listing.stages()])
def test_every_shipped_stage_has_help(stage: str, capsys: Capture) -> None:
    assert cli.main([stage, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"kdrobust {stage}" in told
    choices = told[told.find("Choices") : told.find("Keys (KEY=VALUE)")]
    assert max(map(len, choices.splitlines()), default=0) <= 120
    if "experiment=" in choices:
        assert "kdrobust list experiment" in choices


SCRIPT = """
import sys
from kdrobust.cli import main

code = main(sys.argv[1:])
heavy = [name for name in ("torch", "pytorch_lightning", "torchvision", "sklearn", "matplotlib") if name in sys.modules]
print("HEAVY", heavy, file=sys.stderr)
sys.exit(code)
"""


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(call, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["study", "recipe.alhpa=3"], 2),
        (["study", "seed=-1"], 2),
        (["study", "--help"], 0),
        (["list", "losses"], 0),
        (["study", "--cfg", "job"], 0),
    ],
)
def test_light_commands_import_nothing_heavy(folder: Path, arguments: list[str], code: int) -> None:
    done = command(*arguments, cwd=folder)
    assert done.returncode == code
    assert "HEAVY []" in done.stderr


def test_refusals_load_nothing_slow(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = (
        "import sys; from kdrobust.cli import main; code = main(['study', 'recipe.alhpa=3']); "
        "print([name for name in ('torch', 'pytorch_lightning', 'wandb', 'optuna', 'sklearn') if name in sys.modules]); "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout.strip() == "[]"
