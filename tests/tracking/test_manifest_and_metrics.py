import csv
import sys

from kdrobust.tracking import build_manifest, versions
from kdrobust.tracking.manifest import command, git_state
from kdrobust.tracking.metrics import MetricsCsv


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_an_epoch(tmp_path):
    log = MetricsCsv(tmp_path)
    log.log_metrics({"epoch": 0, "val/accuracy": 0.5}, step=10)
    log.log_metrics({"epoch": 0, "train/loss": 2.0}, step=10)
    log.log_metrics({"epoch": 1, "train/loss": 1.0}, step=20)
    log.finalize("success")
    rows = read(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert rows[0]["train/loss"] == "2.0"
    assert rows[0]["val/accuracy"] == "0.5"
    assert rows[1]["val/accuracy"] == ""


def test_a_resumed_run_keeps_the_rows_before_it(tmp_path):
    first = MetricsCsv(tmp_path)
    for epoch in range(3):
        first.log_metrics({"epoch": epoch, "train/loss": float(epoch)}, step=epoch)
    first.save()
    before = [dict(row) for row in first.rows[:2]]
    second = MetricsCsv(tmp_path)
    second.resume(before)
    second.log_metrics({"epoch": 1, "val/accuracy": 0.5}, step=1)
    # the resume point may be gone back to
    assert before == [{"epoch": 0, "train/loss": 0.0}, {"epoch": 1, "train/loss": 1.0}]
    second.log_metrics({"epoch": 2, "train/loss": 9.0}, step=2)
    second.save()
    assert [row["train/loss"] for row in read(tmp_path / "metrics.csv")] == ["0.0", "1.0", "9.0"]


def test_secrets_do_not_reach_the_manifest(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kdrobust", "distill", "wandb.api_key=abc123", "url=https://me:pw@host/x"])
    text = command()
    assert "abc123" not in text
    assert "pw@" not in text
    assert "distill" in text


def test_manifest_says_what_made_a_result(tmp_path):
    manifest = build_manifest(stage="teacher", seed=3, config_hash="f" * 64)
    assert manifest["versions"] == versions()
    assert {"torch", "python", "pytorch-lightning"} <= set(manifest["versions"])
    assert manifest["seed"] == 3
    assert git_state(tmp_path) == {}
