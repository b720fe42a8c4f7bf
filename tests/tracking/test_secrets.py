"""Secrets: planted in the environment, in an address and in overrides, and looked for in everything that is written."""

import logging
import subprocess

import pytest

from kdrobust.cli import main
from kdrobust.modules.checkpoint_file import checkpoint_content
from kdrobust.tracking import write_json, write_text
from kdrobust.tracking.secrets import (
    known_secrets,
    redact,
    redact_line,
    redact_logs,
    redact_yaml,
    redacted,
    secret_keys,
)

SECRETS = {
    "MY_API_KEY": "sk-planted-1",
    "SOME_TOKEN": "ghp_planted2",
    "APP_SECRET": "planted'3\"x",
    "DB_PASSWORD": "planted-4-pw",
}


@pytest.fixture
def planted(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_what_is_a_secret(monkeypatch, tmp_path, planted):
    monkeypatch.setenv("KEY_DIR", str(tmp_path))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("TOKEN_COUNT", "1234567890")
    monkeypatch.setenv("SIGNING_KEY", str(tmp_path))
    found = known_secrets()
    assert set(SECRETS.values()) <= set(found)
    assert not {str(tmp_path), "false", "1234567890"} & set(found)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://me:pw@host/x.git", "https://***@host/x.git"),
        ("postgresql://me:pw@host/db", "postgresql://***@host/db"),
        ("https://host/a@b", "https://host/a@b"),
        ("+data.token=abc method.alpha=0.3", "+data.token=*** method.alpha=0.3"),
        ("+logger.wandb.api_key='a b'", "+logger.wandb.api_key=***"),
        ("monitor=val/robust_accuracy token=null", "monitor=val/robust_accuracy token=null"),
        ("the token sk-planted-1 here", "the token *** here"),
    ],
)
def test_lines(planted, text, kept):
    assert redact_line(text) == kept


def test_data_and_files(planted, tmp_path):
    data = {"password": "x", "key": "val/accuracy", "tokens": 3, "a": ["ghp_planted2", {"api_key": "y"}], "n": 1.5}
    assert redacted(data) == {
        "password": "***",
        "key": "val/accuracy",
        "tokens": 3,
        "a": ["***", {"api_key": "***"}],
        "n": 1.5,
    }
    write_json(tmp_path / "a.json", {"a": SECRETS["APP_SECRET"]})
    write_text(tmp_path / "a.txt", SECRETS["APP_SECRET"])
    (tmp_path / "a.yaml").write_text("- +x.token=abc\n- seed=1\n")
    redact_yaml(tmp_path / "a.yaml")
    assert (tmp_path / "a.json").read_text() == '{\n  "a": "***"\n}\n'
    assert (tmp_path / "a.txt").read_text() == "***"
    assert (tmp_path / "a.yaml").read_text() == "- +x.token=***\n- seed=1\n"
    assert redact("nothing to hide") == "nothing to hide"


def test_keys_of_secrets(planted):
    data = {
        "a": {"password": "x", "tokens": 3, "url": "https://***@host"},
        "b": ["ghp_planted2", "plain"],
        "key": "val",
    }
    assert secret_keys(data) == secret_keys(redacted(data)) == ["a.password", "a.url", "b.0"]


@pytest.mark.parametrize("typed", [["trainer=ddp_cpu"], ["trainer=ddp_cpu", "-m", "seed=0,1"]], ids=["run", "sweep"])
def test_ranks_do_not_train_with_a_mask(planted, tmp_path, monkeypatch, capsys, typed):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "method=standard", "+notes.own=${oc.env:SOME_TOKEN}", *typed]) != 0
    error = capsys.readouterr().err
    assert "notes.own: holds a secret" in error
    assert "trainer=cpu" in error
    assert "Traceback" not in error
    assert SECRETS["SOME_TOKEN"] not in error
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("more", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
@pytest.mark.parametrize("key", ["run.name", "run.folder", "run.root"])
def test_a_secret_is_no_name_of_a_folder(planted, tmp_path, monkeypatch, capsys, key, more):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "method=standard", f"{key}=a-${{oc.env:SOME_TOKEN}}", *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{key}: holds a secret")
    assert SECRETS["SOME_TOKEN"] not in error
    assert not list(tmp_path.iterdir())


def test_a_swept_name_with_a_secret(planted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "method=standard", "-m", f"run.name=a,b-{SECRETS['SOME_TOKEN']}"]) == 2
    assert "run.name: holds a secret" in capsys.readouterr().err
    assert not list(tmp_path.rglob(f"*{SECRETS['SOME_TOKEN']}*"))


def test_a_long_word_is_looked_through_once(planted):
    """Before: the square of its length, 18 seconds for an override of 3,000 letters, three times over."""
    word = "x" * 400_000
    assert redact_line(word) == word
    assert (
        redact_line(f"{word}_token=abc,a=password=b --my-api-key=c")
        == f"{word}_token=***,a=password=*** --my-api-key=***"
    )


def test_checkpoints_hold_masks(planted):
    content = checkpoint_content({"a": {"path": f"x/{SECRETS['SOME_TOKEN']}/y", "n": [1, "plain"]}})
    assert SECRETS["SOME_TOKEN"].encode() not in bytes(content)
    assert b"x/***/y" in bytes(content)


def test_logs(planted, caplog):
    before = logging.getLogRecordFactory()
    try:
        redact_logs()
        redact_logs()
        with caplog.at_level("INFO"):
            logging.getLogger("other").info("%s from %s", "ghp_planted2", "https://a:b@host")
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.messages == ["*** from https://***@host"]


@pytest.mark.parametrize("more", [[], ["-m", "seed=0,1", "hydra.sweep.dir=outputs/sweeps/s"]], ids=["run", "sweep"])
def test_a_whole_run_leaves_none(planted, tmp_path, monkeypatch, capsys, more):
    monkeypatch.chdir(tmp_path)
    typed = [
        "distill", "method=standard", "epochs=1", "data.limit_train=64", "data.limit_validation=20", "threads=1",
        "callbacks.robust_validation.attack.steps=1", "+notes.own=${oc.env:SOME_TOKEN}",
        "+notes.token=typed-in-5", "+notes.url=https://me:planted6@host/x",
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["kdrobust", *typed, *more])
    code = main([*typed, *more])
    assert code == 0, capsys.readouterr().err
    assert main(["report", "outputs"]) == 0
    out = capsys.readouterr()
    told = out.out + out.err
    for secret in (*SECRETS.values(), "typed-in-5", "planted6"):
        found = subprocess.run(["grep", "-rlF", secret, "outputs"], capture_output=True, text=True, check=False).stdout
        assert found == "", secret
        assert secret not in told
    assert list((tmp_path / "outputs").rglob("result.json"))
