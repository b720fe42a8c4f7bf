from __future__ import annotations

import json
import shutil
import types
from pathlib import Path

import pytest

from kdrobust import cli, doctor, listing

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(Path(__file__).parent / "config" / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_lists_mark_the_user_s_own(folder: Path, capsys: Capture) -> None:
    assert cli.main(["list", "recipes"]) == 0
    out = capsys.readouterr().out
    assert "bold   Bold: more of everything (yours)" in out
    assert "_base" not in out
    assert cli.main(["list", "method"]) == 0
    assert "(yours)" not in capsys.readouterr().out.split("use one")[0]
    (folder / "conf/method").mkdir()
    (folder / "conf/method/rslad.yaml").write_text("# @package _global_\n# My RSLAD\n")
    assert cli.main(["list", "methods"]) == 0
    assert "My RSLAD (yours)" in capsys.readouterr().out


def test_options_in_folders_are_named_by_their_path(folder: Path, capsys: Capture) -> None:
    recipes = folder / "conf/recipe"
    for name in ("paper/mine.yaml", "paper/deep/er.yml", "paper/_base.yaml", "_hidden/x.yaml", ".cache/y.yaml"):
        (recipes / name).parent.mkdir(parents=True, exist_ok=True)
        (recipes / name).write_text(f"# What {name} is\n")
    found = {option.name: option for option in listing.options("recipe")}
    nested = [name for name in found if "/" in name]
    assert nested == ["paper/mine", "paper/deep/er"]
    assert list(found)[-2:] == nested, "what lies in the group's own folder comes first"
    assert found["paper/mine"].summary == "What paper/mine.yaml is"
    assert found["paper/mine"].provider == "you"
    assert cli.main(["list", "recipes"]) == 0
    assert "  paper/mine " in capsys.readouterr().out
    assert all("/" not in stage.name for stage in listing.stages()), "the primary configs are those at the top"
    assert "paper/rslad_cifar10_resnet18" in {option.name for option in listing.options("experiment")}


def test_list_without_a_group_counts_them(capsys: Capture) -> None:
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert "methods" in out
    assert "losses" in out
    assert cli.main(["list", "stages"]) == 0
    assert "distill" in capsys.readouterr().out


def test_losses_are_listed_by_their_docstrings(capsys: Capture) -> None:
    from kdrobust.losses import knowledge, prediction

    assert cli.main(["list", "losses"]) == 0
    out = capsys.readouterr().out
    for module in (prediction, knowledge):
        for name, function in vars(module).items():
            if isinstance(function, types.FunctionType) and function.__module__ == module.__name__ and name[0] != "_":
                assert f"  {name} " in out
    assert "$" not in out


@pytest.mark.parametrize("group", listing.groups())
def test_every_shipped_option_has_a_header(group: str) -> None:
    for option in listing.options(group):
        assert option.summary, f"{option.path} needs a comment line that says what it is"


def test_doctor_reports_every_area(folder: Path, capsys: Capture) -> None:
    code = cli.main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert {"versions", "devices", "extras", "outputs"} <= {finding["area"] for finding in findings}
    assert code == int(any(finding["status"] == "broken" for finding in findings))
    assert next(f for f in findings if f["name"] == "torch")["status"] == "ok"
    assert cli.main(["doctor"]) == code
    assert "torchmetrics" in capsys.readouterr().out


def test_doctor_has_help(capsys: Capture) -> None:
    assert cli.main(["doctor", "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_a_command_to_paste_is_not_wrapped(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    cli.main(["doctor", "--json"])
    commands = [each["detail"] for each in json.loads(capsys.readouterr().out) if each["status"] == "missing"]
    cli.main(["doctor"])
    told = capsys.readouterr().out
    assert max(map(len, commands)) > 60
    assert all(command in told for command in commands)


def test_doctor_finds_data_where_it_lies_and_says_how_to_get_the_rest(folder: Path) -> None:
    (folder / "conf/data").mkdir()
    (folder / "conf/data/cifar10.yaml").write_text("# CIFAR-10\nroot: data\n")
    (folder / "conf/data/svhn.yaml").write_text("# SVHN\nroot: elsewhere\n")
    (folder / "conf/data/broken.yaml").write_text("# Broken\nroot: [\n")
    (folder / "data/cifar-10-batches-py").mkdir(parents=True)
    findings = {finding.name: finding for finding in doctor.data()}
    assert findings["cifar10"].status == "ok"
    assert findings["svhn"].status == "missing"
    assert "elsewhere" in findings["svhn"].detail
    assert findings["broken"].status == "missing"


def test_doctor_looks_where_the_environment_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "there/MNIST/raw").mkdir(parents=True)
    assert {f.name: f for f in doctor.data()}["mnist"].detail.startswith("not in datasets")
    monkeypatch.setenv("KDROBUST_DATA", str(folder / "there"))
    assert {f.name: f for f in doctor.data()}["mnist"].status == "ok"


def test_doctor_fails_where_something_required_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", ("surely-not-installed",))
    monkeypatch.setattr(doctor, "devices", list)
    assert cli.main(["doctor", "--json"]) == 1
    assert "pip install surely-not-installed" in capsys.readouterr().out


def test_methods_are_listed_with_what_they_need_and_cost(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text("# Mine: a method\n# Source: Doe, CVPR 2031\n# Needs: teacher (live)\n")
    assert cli.main(["list", "methods", "--config-dir", str(tmp_path)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["mtard"].split()[1:6] == ["Zhao", "et", "al.,", "ECCV", "2022"]
    assert "teachers.robust (live) and teachers.natural (clean)" in lines["mtard"]
    assert "  12  " in lines["mtard"]
    assert "2031  teacher (live)" in lines["mine"]
    assert lines["mine"].rstrip().endswith("Mine: a method (yours)")


def test_doctor_knows_what_speech_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDROBUST_DATA", str(folder / "there"))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    found = {finding.name: finding for finding in doctor.data()}
    assert found["espeak_digits"].status == found["fsdd"].status == found["speech_commands"].status == "missing"
    assert found["espeak_digits"].detail == "apt install espeak-ng"
    assert "unpack speech_commands_v0.02.tar.gz" in found["speech_commands"].detail
    (folder / "there/fsdd/recordings").mkdir(parents=True)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}")
    found = {finding.name: finding for finding in doctor.data()}
    assert found["fsdd"].status == "ok"
    assert found["espeak_digits"].detail == "/bin/espeak-ng"
