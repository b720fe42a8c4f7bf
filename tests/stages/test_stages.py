"""Each stage, run as a user runs it, in a folder of its own."""

import json
import re
import shutil

import pytest
import torch

from kdrobust.models import read_checkpoint, restore_classifier
from tests.stages.conftest import IMPLIED, TEACHER, TINY

FILES = ("config_resolved.yaml", "manifest.json", "status.json", "result.json", "metrics.csv", "training.png")


def test_a_teacher_leaves_everything(trained):
    for name in (*FILES, "best.ckpt", "last.ckpt", "examples.png"):
        assert (trained / name).stat().st_size > 0, name
    result = json.loads((trained / "result.json").read_text())
    assert result["threat"]["eps"] == 0.1
    assert result["attack"]["steps"] == 2
    assert result["validation_attack"]["goal"] == "cross_entropy"
    assert 0 <= result["validation"]["robust_accuracy"] <= result["validation"]["accuracy"] <= 1
    assert result["model"]["parameters"] == sum(
        p.numel() for p in restore_classifier(trained / "best.ckpt").parameters()
    )


def test_distill_live_and_from_stored_outputs_agree_on_the_first_loss(workplace, trained):
    checkpoint = trained / "best.ckpt"
    common = [*TINY, "model@student=small_cnn", "epochs=1", "method=kd"]
    workplace.run("distill", *common, f"teacher.checkpoint={checkpoint}", "run.folder=live")
    workplace.run("outputs", f"teacher.checkpoint={checkpoint}", *TINY[1:3], "run.folder=stored")
    workplace.run("distill", *common, "teacher.outputs=stored", "run.folder=from_store")
    live, stored = (
        torch.load(workplace.folder / name / "best.ckpt", weights_only=True)["state_dict"]
        for name in ("live", "from_store")
    )
    for name, value in live.items():
        torch.testing.assert_close(stored[name], value, rtol=1e-4, atol=1e-5)
    result = json.loads((workplace.folder / "live" / "result.json").read_text())
    assert result["weights"]["knowledge"]["weight"] == pytest.approx(0.9)
    assert not any(name.startswith("teacher") for name in live)


@pytest.mark.parametrize("method", ["ard", "rslad", "adaad", "dtkd", "article_mse"])
def test_every_distillation_method_trains(workplace, trained, method):
    workplace.run(
        "distill",
        *TINY,
        f"method={method}",
        f"teacher.checkpoint={trained / 'best.ckpt'}",
        "run.folder=run",
        "epochs=1",
    )
    result = json.loads((workplace.folder / "run" / "result.json").read_text())
    assert result["teacher"]["sha256"]
    assert 0.0 <= result["validation"]["agreement"] <= 1.0
    assert 0.0 <= result["validation"]["transferability"] <= 1.0


@pytest.mark.parametrize("method", ["standard", "pgd_at", "fgsm_rs", "trades", "mart"])
def test_every_method_without_a_teacher_trains_and_loads_none(workplace, method):
    workplace.run("distill", *TINY, f"method={method}", "epochs=1", "run.folder=run", "teacher.checkpoint=absent.ckpt")
    assert json.loads((workplace.folder / "run" / "result.json").read_text())["teacher"] is None


def test_evaluate_measures_and_keeps_every_verdict(workplace, trained, capsys):
    workplace.run(
        "evaluate",
        f"checkpoint={trained / 'best.ckpt'}",
        "evaluation.num_samples=60",
        "run.folder=run",
        "threat.eps=0.05",
    )
    result = json.loads((workplace.folder / "run" / "result.json").read_text())["evaluation"]
    import numpy as np

    samples = np.load(workplace.folder / "run" / "samples.npz")
    assert result["n"] == len(samples["labels"]) == 60
    assert result["clean"]["correct"] == int(samples["clean"].sum())
    assert result["attacks"]["pgd20"]["correct"] == int(samples["pgd20"].sum())
    assert {check["id"] for check in result["checks"]} >= {"S0", "S1", "S3", "S6", "S11"}
    printed = capsys.readouterr().out
    assert "PGD-20" in printed
    assert "ε = 0.05" in printed
    assert "Trust checks" in printed


def test_an_absent_teacher_is_trained_once_and_shared_by_a_sweep(workplace):
    workplace.run(
        "distill", "-m", *TINY, *TEACHER, "teacher_training.epochs=1", "method.alpha=0.1,0.5", "method.temperature=1,4",
        "epochs=1",
    )  # fmt: skip
    results = sorted((workplace.folder / "outputs" / "sweeps").glob("*/*/result.json"))
    assert len(results) == 4
    weights = {json.loads(path.read_text())["weights"]["clean"]["weight"] for path in results}
    assert weights == {0.1, 0.5}
    assert len({json.loads(path.read_text())["teacher"]["sha256"] for path in results}) == 1
    workplace.only("outputs/teacher/*")


def test_the_pipeline_and_its_second_half_after_a_kill(workplace, capsys):
    command = [
        "pipeline", *TINY, *TEACHER, "teacher_training.epochs=1", "epochs=1", "seeds=[0,1]", "evaluation.num_samples=40",
    ]  # fmt: skip
    workplace.run(*command)
    folder = workplace.only("outputs/pipeline/*")
    result = json.loads((folder / "result.json").read_text())
    assert [model["name"] for model in result["models"]] == ["teacher", "student alone", "student distilled"]
    assert [len(model["results"]) for model in result["models"]] == [1, 2, 2]
    for name in ("comparison.md", "comparison.csv", "comparison.png"):
        assert (folder / name).exists()
    printed = capsys.readouterr().out
    assert "student distilled" in printed
    # as if it had been killed before the last student
    before = (folder / "comparison.csv").read_text()
    shutil.rmtree(folder / "student_distilled" / "seed_1")
    (folder / "status.json").write_text(
        json.dumps({**json.loads((folder / "status.json").read_text()), "status": "failed"})
    )
    kept = (folder / "student_alone" / "seed_0" / "best.ckpt").stat().st_mtime_ns
    workplace.run("pipeline", f"resume={folder}")
    assert (folder / "student_alone" / "seed_0" / "best.ckpt").stat().st_mtime_ns == kept
    assert (folder / "comparison.csv").read_text() == before
    # the same command again has nothing to compute
    capsys.readouterr()
    workplace.run(*command)
    assert workplace.only("outputs/pipeline/*") == folder
    again = capsys.readouterr().out
    assert "this pipeline is finished; its table again (run.name=NAME runs it anew" in again
    assert again.splitlines()[1:] == [line for line in printed.splitlines() if not re.match(r"\[\d\d:", line)]


def weights(path):
    checkpoint = read_checkpoint(path)
    return checkpoint["state_dict"], checkpoint["optimizer_states"], checkpoint["lr_schedulers"]


@pytest.mark.parametrize("scheduler", ["one_cycle", "plateau", "cosine"])
def test_a_killed_run_resumes_to_the_same_bits(workplace, scheduler, monkeypatch):
    from kdrobust.modules import ResumePoint

    command = ["distill", *TINY, *IMPLIED, "epochs=4", f"scheduler={scheduler}"]
    workplace.run(*command, "run.folder=whole")
    original = ResumePoint.on_train_epoch_start

    def dies(self, trainer, module):
        original(self, trainer, module)
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ResumePoint, "on_train_epoch_start", dies)
    with pytest.raises(AssertionError):
        workplace.run(*command, "run.folder=killed")
    assert json.loads((workplace.folder / "killed" / "status.json").read_text())["status"] == "failed"
    monkeypatch.undo()
    workplace.run(*command, "run.folder=killed")
    whole, killed = (weights(workplace.folder / name / "last.ckpt") for name in ("whole", "killed"))
    for name, value in whole[0].items():
        assert torch.equal(killed[0][name], value), name
    assert str(killed[1]) == str(whole[1])
    assert str(killed[2]) == str(whole[2])
    for name in ("metrics.csv",):
        assert (workplace.folder / "killed" / name).read_text() == (workplace.folder / "whole" / name).read_text()
    best = [read_checkpoint(workplace.folder / name / "best.ckpt") for name in ("whole", "killed")]
    assert all(torch.equal(value, best[1]["state_dict"][name]) for name, value in best[0]["state_dict"].items())
    # for those who use the model; what only a resumed training needs is in last.ckpt
    assert not best[0].keys() & {"optimizer_states", "lr_schedulers"}


def test_the_same_command_again_never_overwrites(workplace):
    command = ["distill", *TINY, "method=standard", "epochs=1"]
    workplace.run(*command)
    workplace.run(*command)
    assert len(list((workplace.folder / "outputs" / "distill").iterdir())) == 2


def test_ema_and_bf16(workplace):
    workplace.run("distill", *TINY, *IMPLIED, "+average=ema", "trainer.precision=bf16-mixed", "run.folder=run")
    assert (workplace.folder / "run" / "best.ckpt").exists()
    averaged = json.loads((workplace.folder / "run" / "result.json").read_text())["averaged"]
    assert averaged["mode"] == "ema"
    assert 0 <= averaged["robust_accuracy"] <= averaged["accuracy"] <= 1
    assert restore_classifier(workplace.folder / "run" / "averaged.ckpt")
