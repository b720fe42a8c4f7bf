"""A job's configs, its record out of what the stages left, and the search before it; nothing is trained."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from kdrobust.benchmark import work
from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.records import schema
from kdrobust.config import config_hash
from kdrobust.errors import UsageError
from kdrobust.stages.implied import teacher_config
from tests.benchmark.suites import suite


def first_job(block="main", **changes):
    made = suite(**changes)
    return jobs_of(made, made.blocks[block])[0]


def test_the_configs_are_those_of_the_stages(tmp_path):
    root = tmp_path / "a folder, [odd]"
    job = first_job("ladder")
    cfg = work.training_config(job, root, ("optimizer.lr=0.02",))
    assert (cfg.stage, cfg.seed, cfg.epochs, cfg.run.root) == ("distill", 0, 6, str(root))
    assert (cfg.method.alpha, cfg.threat.eps, cfg.optimizer.lr) == (0, 0.1, 0.02)
    measured = work.evaluation_config(job, root, root / "student-1" / "best.ckpt")
    assert (measured.stage, measured.run.name) == ("evaluate", "student-1")
    assert measured.checkpoint == str(root / "student-1" / "best.ckpt")
    assert "cascade" in measured.evaluation.attacks


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"settings": ["data=digit"]}, "did you mean digits"),
        ({"settings": ["data=digits", "optimizer.lr=fast"]}, "optimizer.lr"),
        ({"evaluation": ["evaluation=quik"]}, "did you mean quick"),
        ({"settings": ["data=digits", "+teachers.natural.checkpoint=null"]}, "teachers.natural"),
    ],
)
def test_a_job_that_cannot_run_is_refused(tmp_path, changes, told):
    with pytest.raises(UsageError, match=told):
        work.check_job(first_job(**changes), tmp_path)


CLEAN = np.array([1, 1, 1, 1, 0, 1], bool)
PGD = np.array([1, 1, 0, 1, 0, 1], bool)
FOREIGN = np.array([0, 1, 1, 1, 0, 1], bool)
LABELS = np.array([0, 0, 0, 1, 1, 1])


def evaluation(folder: Path, *, pgd=PGD, predicted=LABELS):
    """What stage `evaluate` would have left: six samples, one attack of its own, one that was transferred."""
    folder.mkdir(parents=True)
    arrays = {"clean": CLEAN, "pgd20": pgd, "mi_fgsm_from_teacher": FOREIGN, "worst_case": pgd & FOREIGN}
    arrays |= {"indices": np.arange(6), "labels": LABELS, "clean/predicted": predicted.astype(np.float32)}
    np.savez(folder / "samples.npz", **arrays)
    figure = {name: {"correct": int(arrays[name].sum())} for name in ("pgd20", "mi_fgsm_from_teacher")}
    found = {
        "n": 6,
        "threat": {"norm": "linf", "eps": 0.1, "bounds": [0, 1]},
        "clean": {"correct": 5},
        "attacks": figure,
        "worst_case": {"correct": int(arrays["worst_case"].sum())},
        "unreliable": False,
        "reasons": [],
    }
    return {
        "evaluation": found,
        "model": {"parameters": 10, "flops": 20, "size_bytes": 40},
        "checkpoint": {"sha256": "c" * 64},
        "versions": {"kdrobust": "0", "torch": "2", "numpy": "2"},
        "seconds": 2.5,
        "config_hash": "d" * 64,
    }


def test_robust_is_over_the_attacks_everybody_meets(tmp_path):
    told = work.figures(tmp_path / "own", evaluation(tmp_path / "own"))
    assert (told["n"], told["clean"], told["robust"]) == (6, 5, 4)
    assert told["attacks"] == {"pgd20": 4, "mi_fgsm_from_teacher": 4}
    assert told["worst_class"] == {"label": 0, "accuracy": pytest.approx(2 / 3)}


def test_a_record_holds_student_and_teachers_side_by_side(tmp_path, monkeypatch):
    import jsonschema

    job = first_job()
    teacher, student = tmp_path / "teacher-1", tmp_path / "student-1"
    kept = {
        teacher: evaluation(teacher, pgd=np.array([1, 1, 1, 0, 0, 1], bool), predicted=1 - LABELS),
        student: evaluation(student),
    }
    trained = {
        "config_hash": "e" * 64,
        "validation": {"samples": 5, "epoch": 1, "accuracy": 0.12345678},
        "seconds": 7.0,
        "warnings": ["collapsed"],
        "attack": {"steps": 10, "climbed": "bf16"},
    }

    def ran(cfg, told):
        if cfg.stage == "distill":
            return student, trained
        folder = Path(str(cfg.checkpoint)).parent
        return folder, kept[folder]

    monkeypatch.setattr(work, "_run", ran)
    monkeypatch.setattr(work, "asked_teachers", lambda cfg, objective: ["teacher"])
    monkeypatch.setattr(work, "find_checkpoint", lambda cfg, name: teacher / "best.ckpt")
    made = work.do(job, tmp_path)
    jsonschema.validate(json.loads(json.dumps(made)), {**schema()["$defs"]["record"], "$defs": schema()["$defs"]})
    assert made["teachers"]["teacher"] == {
        "sha256": "c" * 64, "parameters": 10, "flops": 20, "n": 6, "clean": 5, "robust": 4, "unreliable": False,
        "worst_class": {"label": 1, "accuracy": pytest.approx(1 / 3)}, "agreement": 0, "kept": 3,
    }  # fmt: skip
    assert made["seconds"] == {"training": 7.0, "evaluation": 2.5, "training_cpu": made["seconds"]["training_cpu"]}
    assert made["validation"]["accuracy"] == 0.123457
    assert made["warnings"] == ["collapsed"]
    assert made["climbed"] == "bf16"
    trained["attack"] = {}
    assert "climbed" not in work.do(job, tmp_path)

    # a search that another seed's record tells is not made again
    found = {"overrides": ["method.alpha=0.25"], "trials": 3, "robust_validation_accuracy": 0.7}
    asked = []
    monkeypatch.setattr(work, "_tuned", None)
    monkeypatch.setattr(work, "_run", lambda cfg, told: asked.append(cfg) or ran(cfg, told))
    again = work.do(replace(first_job("tuned"), tuned=found), tmp_path)
    assert again["tuned"] == found
    assert [cfg.method.alpha for cfg in asked if cfg.stage == "distill"] == [0.25]


def test_averaged_weights_are_what_is_measured_where_some_were_asked_for(tmp_path):
    plain, averaged = first_job(), first_job(settings=["data=digits", "+average=swa"])
    assert work.student_checkpoint(work.training_config(plain, tmp_path)) == "best.ckpt"
    assert work.student_checkpoint(work.training_config(averaged, tmp_path)) == "averaged.ckpt"
    work.check_job(averaged, tmp_path)


RATE = "optimizer.lr"
SEARCHED = {
    "methods": ["gentle"],
    "students": ["small"],
    "tune": {"trials": 2, "seed": 7, "spaces": {"gentle": {RATE: {"type": "float", "low": 0.001, "high": 0.02}}}},
}


@pytest.mark.parametrize("method", ["rslad", "iad_2"])
def test_a_search_leaves_the_teachers_as_they_are(tmp_path, method):
    job = first_job("fast", blocks={"fast": SEARCHED}, methods={"pgd_at": [], "gentle": [f"method={method}"]})
    plain, tuned = work.training_config(job, tmp_path), work.tuned_config(job, tmp_path, (f"{RATE}=0.02", "seed=7"))
    assert (plain.optimizer.lr, tuned.optimizer.lr, tuned.seed) == (0.01, 0.02, 7)
    names = ["natural", "teacher"] if method == "iad_2" else ["teacher"]
    for name in names:
        before, after = (teacher_config(cfg, name) for cfg in (plain, tuned))
        assert config_hash(before) == config_hash(after)
        assert config_hash(teacher_config(work.training_config(job, tmp_path, (f"{RATE}=0.02",)), name)) != config_hash(
            before
        )
    work.check_job(job, tmp_path)


def test_without_a_teacher_there_is_nothing_to_leave(tmp_path):
    job = first_job("fast", blocks={"fast": SEARCHED}, methods={"pgd_at": [], "gentle": ["method=trades"]})
    assert config_hash(work.tuned_config(job, tmp_path, (f"{RATE}=0.02",))) == config_hash(
        work.training_config(job, tmp_path, (f"{RATE}=0.02",))
    )


def test_a_search_that_would_change_a_teacher_is_refused_before_it_starts(tmp_path):
    space = {"gentle": {"threat.eps": {"type": "choice", "values": [0.1, 0.2]}}}
    job = first_job("fast", blocks={"fast": {**SEARCHED, "tune": {**SEARCHED["tune"], "spaces": space}}})
    with pytest.raises(UsageError, match=r"seed 0: threat.eps=0.2: changes its teacher, a search is the student's"):
        work.check_job(job, tmp_path)


def composed(job, root, further=()):
    """The two keys a search of these tests looks at, without composing anything."""
    given = dict(text.split("=", 1) for text in (*job.training, *further))
    return OmegaConf.create({"method": {"alpha": given["method.alpha"]}, "seed": given["seed"]})


def searched(job, monkeypatch, root, *, best_near=0.3):
    asked = []
    monkeypatch.setattr(work, "tuned_config", composed)

    def ran(cfg, told):
        asked.append((round(float(cfg.method.alpha), 4), int(cfg.seed)))
        return root, {"validation": {"robust_accuracy": 1 - abs(float(cfg.method.alpha) - best_near)}}

    monkeypatch.setattr(work, "_run", ran)
    return work._tuned(job, job.tune, root), asked


def test_tuning_tries_the_method_s_own_values_first_and_keeps_the_best(tmp_path, monkeypatch):
    job = first_job("tuned")
    found, asked = searched(job, monkeypatch, tmp_path)
    assert len(asked) == job.tune.trials == 3
    assert asked[0] == (0.5, 7)
    assert {seed for _, seed in asked} == {7}
    best = min(asked, key=lambda pair: abs(pair[0] - 0.3))[0]
    assert found["robust_validation_accuracy"] == pytest.approx(1 - abs(best - 0.3), abs=1e-4)
    own, _ = searched(job, monkeypatch, tmp_path, best_near=0.5)
    assert own == {"overrides": [], "trials": 3, "robust_validation_accuracy": 1.0}


def test_trials_that_take_a_while_are_told(tmp_path, monkeypatch, capsys):
    job = first_job("tuned")
    searched(job, monkeypatch, tmp_path)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(work, "_TOLD_SECONDS", -1.0)
    searched(job, monkeypatch, tmp_path, best_near=0.5)
    first, *_, last = capsys.readouterr().out.splitlines()
    told = "trial 1 of 3: 100.0% robust on validation in 0 s; 0 s of tuning to go"
    assert first == f"{job.label}: {told}"
    assert "trial 3 of 3: " in last


def test_a_search_that_was_cut_proposes_the_same_again(tmp_path, monkeypatch):
    job = first_job("tuned")
    _, first = searched(job, monkeypatch, tmp_path)
    _, again = searched(job, monkeypatch, tmp_path)
    assert first == again
    other = replace(job, tune=replace(job.tune, seed=8))
    _, different = searched(other, monkeypatch, tmp_path)
    assert [alpha for alpha, _ in different[1:]] != [alpha for alpha, _ in first[1:]]
