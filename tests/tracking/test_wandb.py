"""W&B without an account, without a network, and without a key in anything a run writes."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import wandb

from kdrobust.tracking import account
from kdrobust.tracking.recorder import Recorder, close_all, record_all, recorders
from kdrobust.tracking.wandb import WandbRun, origins
from tests.stages.conftest import Workplace

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No account of the machine's, and no W&B settings from outside."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SWEEP_ID", "WANDB_BASE_URL", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_online_needs_an_account_and_a_network(monkeypatch, tmp_path):
    assert account.choose_mode()[0] == "offline"
    monkeypatch.setattr(account, "reachable", lambda: True)
    monkeypatch.setenv("WANDB_MODE", "online")
    mode, reason = account.choose_mode()
    assert mode == "offline", "asked for online, W&B would prompt"
    assert "wandb login" in reason
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert account.choose_mode() == ("online", "logged in")
    monkeypatch.setattr(account, "reachable", lambda: False)
    assert account.choose_mode() == ("offline", "api.wandb.ai cannot be reached")
    for wanted, mode in (("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled")):
        monkeypatch.setenv("WANDB_MODE", wanted)
        assert account.choose_mode()[0] == mode


def test_a_login_is_found_where_wandb_puts_it(monkeypatch, tmp_path):
    assert not account.has_account()
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    assert account.has_account()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert not account.has_account(), "an account elsewhere"
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    assert not account.reachable(timeout=0.5)


def logger(folder, **more):
    return WandbRun(project="p", folder=str(folder), name="n", job_type="distill", **more)


def test_a_refused_login_goes_on_offline(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr("kdrobust.tracking.wandb.choose_mode", lambda: ("online", "logged in"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    real, asked = wandb.init, []

    def init(**given):
        asked.append(given["mode"])
        if given["mode"] == "online":
            raise wandb.errors.CommError(f"{KEY} is not known")
        return real(**given)

    monkeypatch.setattr(wandb, "init", init)
    run = logger(tmp_path)
    with caplog.at_level("INFO"):
        run.begin({"seed": 0})
        run.close(failed=False)
    assert asked == ["online", "offline"]
    assert "offline (refused: *** is not known)" in caplog.text
    assert "wandb leet" in caplog.text
    assert "wandb sync" in caplog.text
    assert KEY not in caplog.text


def test_runs_are_named_by_their_folder_and_an_agent_s_by_the_agent(monkeypatch, tmp_path):
    one, again, other = logger(tmp_path / "a"), logger(tmp_path / "a"), logger(tmp_path / "b")
    assert one.version == again.version != other.version
    assert one._wandb_init["job_type"] == "distill"
    assert one._wandb_init["group"] is None
    assert logger(tmp_path, group="mine")._wandb_init["group"] == "mine"
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    assert logger(tmp_path / "a")._wandb_init["id"] is None


def test_what_a_run_learnt_from():
    one = {"checkpoint": "a.ckpt", "sha256": "0"}
    stored = {"outputs": "folder", "sha256": "1"}
    assert list(origins(None)) == []
    assert list(origins(one)) == [("teacher", "checkpoint", one)]
    both = {"natural": stored, "teacher": one}
    assert list(origins(both)) == [("natural", "outputs", stored), ("teacher", "checkpoint", one)]


def test_a_recorder_that_fails_hides_nothing(caplog):
    class Broken(Recorder):
        def begin(self, config):
            raise NotImplementedError

        def record(self, result, folder):
            raise ValueError("full disk")

        def close(self, *, failed):
            raise OSError("gone")

    loggers = [SimpleNamespace(), Broken()]
    assert len(recorders(loggers)) == 1
    record_all(loggers, {}, None)
    close_all(loggers, failed=True)
    assert "Broken: the result was not recorded (ValueError: full disk)" in caplog.text
    assert "Broken: not closed (OSError: gone)" in caplog.text


def records(folder):
    """Every record of a run's log, read by W&B's own reader."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    call = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    told = subprocess.run(call, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_where_the_server_refuses_a_sweep_has_a_run_a_job_with_lineage_and_no_key_anywhere(
    monkeypatch, tmp_path, capfd
):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    # nothing listens there: the connection is refused
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    place = Workplace(tmp_path)
    tiny = "epochs=1 data.limit_train=64 data.limit_validation=40 threads=1 attack.steps=1 teacher_training.epochs=1"
    steps = "callbacks.robust_validation.attack.steps=1"
    place.run("distill", "-m", *tiny.split(), steps, "method=kd", "model@teacher=mlp", "logger=wandb", "seed=0,1")
    told = "".join(capfd.readouterr())
    jobs = sorted(path.parent for path in tmp_path.glob("outputs/sweeps/*/*/result.json"))
    assert len(jobs) == 2
    assert "offline (127.0.0.1 cannot be reached)" in told
    assert told.count("wandb sync") == 3, "the teacher's run and both students' are closed"
    result = json.loads((jobs[1] / "result.json").read_text())
    found = records(jobs[1])
    (run,) = (record["run"] for record in found if record["type"] == "run")
    assert (run["job_type"], run["run_group"]) == ("distill", jobs[1].parent.name)
    artifacts = {record["artifact"]["name"]: record["artifact"] for record in found if record["type"] == "artifact"}
    teacher = artifacts[f"model-{result['teacher']['sha256'][:12]}"]
    assert teacher["use_after_commit"] is True
    assert not artifacts[f"model-{result['checkpoint']['sha256'][:12]}"].get("use_after_commit")
    (home,) = tmp_path.glob("outputs/teacher/*")
    made = {record["artifact"]["name"] for record in records(home) if record["type"] == "artifact"}
    assert teacher["name"] in made, "the student's input is the teacher's output"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 30
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    assert KEY not in told


def test_stored_outputs_are_an_artifact_between_a_teacher_and_its_student(tmp_path):
    place = Workplace(tmp_path)
    tiny = ["data.limit_train=64", "data.limit_validation=40", "threads=1"]
    steps = ["epochs=1", "attack.steps=1", "callbacks.robust_validation.attack.steps=1"]
    place.run("teacher", *tiny, *steps, "model@teacher=mlp", "run.folder=teacher")
    place.run("outputs", *tiny, "teacher.checkpoint=teacher/best.ckpt", "run.folder=stored", "logger=wandb")
    student = ["method=kd", "model@teacher=mlp", "model@student=mlp", "teacher.outputs=stored"]
    place.run("distill", *tiny, *steps, *student, "run.folder=student", "logger=wandb")
    sha = json.loads((tmp_path / "stored/result.json").read_text())["checkpoint"]["sha256"]
    found = {}
    for name in ("stored", "student"):
        artifacts = [each["artifact"] for each in records(tmp_path / name) if each["type"] == "artifact"]
        ours = [each for each in artifacts if not each["name"].startswith("run-")]
        found[name] = {(each["name"], bool(each.get("use_after_commit"))): each for each in ours}
    assert set(found["stored"]) == {(f"model-{sha[:12]}", True), (f"outputs-{sha[:12]}", False)}
    made, used = found["stored"][f"outputs-{sha[:12]}", False], found["student"][f"outputs-{sha[:12]}", True]
    assert made["digest"] == used["digest"], "the same version, not another one"


@pytest.mark.parametrize("answers", [True, False])
def test_a_server_that_takes_connections_and_never_answers_is_not_reached(monkeypatch, answers):
    import socket
    import threading

    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            connection.recv(1000)
            if answers:
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            connection.recv(1000)
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert account.reachable(timeout=0.5) is answers
