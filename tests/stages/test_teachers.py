"""Which teachers and partners a run has, and where they come from."""

import json
import socket
import subprocess

import pytest
import torch
from omegaconf import OmegaConf

from kdrobust.config import compose, numbers
from kdrobust.errors import CheckpointError, UsageError
from kdrobust.losses import Objective
from kdrobust.stages import teachers
from kdrobust.stages.implied import teacher_node
from kdrobust.stages.setup import prepare_data
from kdrobust.stages.teachers import (
    asked_teachers,
    find_checkpoint,
    load_teachers,
    needs_live_teacher,
    new_partners,
    teacher_problems,
)
from kdrobust.tracking import hold, is_finished, owner
from tests.processes import SHORT, TINY, teacher_file


def made(*overrides):
    cfg = compose("distill", [*SHORT, *TINY, *overrides])
    return cfg, Objective(numbers(cfg.method))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return teacher_file(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def data():
    return prepare_data(made()[0])


@pytest.mark.parametrize(
    ("overrides", "asked"),
    [
        (["method=rslad"], ["teacher"]),
        (["method=pgd_at"], []),
        (["method=pgd_at", "attack.goal=kl_to_teacher"], ["teacher"]),  # the attack alone asks
        (["method=mtard"], ["natural", "robust"]),
        (["method=iad_2"], ["natural", "teacher"]),
        (["method=lbgat"], []),  # its teacher learns
        (["method=peeraid"], []),
        (["method=standard", "attack.goal=kl_to_teacher"], []),  # nothing is attacked
    ],
)
def test_who_is_asked(overrides, asked):
    assert asked_teachers(*made(*overrides)) == asked


@pytest.mark.parametrize(
    ("overrides", "name", "live"),
    [
        (["method=rslad"], "teacher", False),
        (["method=kd"], "teacher", False),
        (["method=adaad"], "teacher", True),
        (["method=saad"], "teacher", True),
        (["method=iad_2"], "natural", False),
        (["method=mtard"], "robust", True),
        (["method=kd", "+features=hint", "features.student=layer1", "features.teacher=layer1"], "teacher", True),
        (["method=kd", "+wrap=input_gradient"], "teacher", True),
        (["method=rslad", "attack.goal=kl_to_live_teacher"], "teacher", True),
    ],
)
def test_what_stored_outputs_cannot_answer(overrides, name, live):
    assert needs_live_teacher(*made(*overrides), name) == live


def test_checkpoints_are_found_or_named(tmp_path, checkpoint):
    cfg, _ = made("method=iad_2", f"teacher.checkpoint={checkpoint}", f"teachers.natural.checkpoint={tmp_path}/no.ckpt")
    assert find_checkpoint(cfg) == checkpoint
    with pytest.raises(UsageError, match=r"teachers\.natural\.checkpoint=.*no\.ckpt: no such file") as error:
        find_checkpoint(cfg, "natural")
    assert "teachers.natural.checkpoint=auto" in str(error.value)
    cfg.teacher.checkpoint = None
    with pytest.raises(UsageError, match=r"teacher\.checkpoint: not given"):
        find_checkpoint(cfg)


def test_teachers_are_loaded_frozen_with_their_hashes(checkpoint, data):
    cfg, objective = made("method=mtard")
    for name in ("robust", "natural"):
        cfg.teachers[name].checkpoint = str(checkpoint)
    models, origin = load_teachers(cfg, objective, data)
    assert set(models) == set(origin) == {"robust", "natural"}
    assert origin["robust"]["sha256"] == origin["natural"]["sha256"]
    for model in models.values():
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
    cfg, objective = made(f"teacher.checkpoint={checkpoint}")
    models, origin = load_teachers(cfg, objective, data)
    assert origin["checkpoint"] == str(checkpoint)
    assert load_teachers(*made("method=pgd_at"), data) == ({}, None)


def test_outputs_for_a_teacher_that_has_to_answer_live(tmp_path, data):
    cfg, objective = made("method=adaad", f"teacher.outputs={tmp_path}")
    with pytest.raises(UsageError, match=r"teacher\.outputs: this method asks the teacher about attacked inputs"):
        load_teachers(cfg, objective, data)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+teachers.natural.checkpoint=a.ckpt"], "teachers.natural: the method reads no such model; it reads teacher"),
        (["method=pgd_at", "+teachers.natural.checkpoint=a"], "teachers.natural: the method reads no such model"),
        (["method=mtard", "+teachers.robust.chekpoint=a"], "teachers.robust.chekpoint: nothing reads it; it takes"),
        (["+partners.peer.checkpoint=a"], "partners.peer: the method reads no such model"),
        (["method=peeraid", "+partners.peer=small_cnn"], "partners.peer: expected keys such as checkpoint"),
    ],
)
def test_problems(overrides, words):
    (problem,) = teacher_problems(*made(*overrides))
    assert problem.startswith(words)


def test_partners_are_built_like_the_teacher_and_start_where_they_are_told(checkpoint, data, tmp_path):
    cfg, objective = made("method=peeraid")
    first = new_partners(cfg, objective, data)["peer"]
    second = new_partners(cfg, objective, data)["peer"]
    assert first.training
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    cfg.seed = 1
    assert not torch.equal(new_partners(cfg, objective, data)["peer"].network.head.weight, first.network.head.weight)
    cfg.partners = OmegaConf.create({"peer": {"checkpoint": str(checkpoint)}})
    started = new_partners(cfg, objective, data)["peer"]
    kept = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert torch.equal(started.network.head.weight, kept["model.network.head.weight"])
    assert all(parameter.requires_grad for parameter in started.parameters())
    cfg.partners.peer.checkpoint = f"{tmp_path}/no.ckpt"
    with pytest.raises(UsageError, match=r"partners\.peer\.checkpoint=.*no\.ckpt: no such file; leave it out"):
        new_partners(cfg, objective, data)


def test_what_differs_may_be_a_number_of_the_network_alone(checkpoint, data):
    cfg, objective = made("method=peeraid", "+partners.peer.network.width=0.1")
    wide = new_partners(cfg, objective, data)["peer"]
    assert wide.network.head.in_features > 6
    assert wide.network.layers == 2  # as the teacher's blocks say
    cfg, objective = made(
        "method=peeraid", "+partners.peer.network.width=0.1", f"+partners.peer.checkpoint={checkpoint}"
    )
    with pytest.raises(CheckpointError):  # of a narrower network
        new_partners(cfg, objective, data)
    node = teacher_node(made("method=mtard", "+teachers.robust.network.width=0.1")[0], "robust")
    assert (node.network.width, node.network.blocks) == (0.1, [1, 1])


def test_a_teacher_of_another_threat_is_warned_of(checkpoint, data, caplog, tmp_path):
    told = "teacher: was trained against ℓ∞, ε = 0.1, the student is trained against ℓ∞, ε = 8/255"
    content = torch.load(checkpoint)
    content["kdrobust"]["threat"] = {"norm": "linf", "eps": 0.1}
    torch.save(content, tmp_path / "robust.ckpt")
    for path, eps, warned in (
        ("robust.ckpt", "8/255", True),
        ("robust.ckpt", "0.1", False),
        (checkpoint, "0.2", False),
    ):
        cfg, objective = made("method=rslad", f"teacher.checkpoint={tmp_path / path}", f"threat.eps={eps}")
        load_teachers(cfg, objective, data)
        assert (told in caplog.text) is ("trained against" in caplog.text) is warned
        caplog.clear()


def test_who_waits_for_a_job_says_so_and_takes_over_where_it_is_killed(tmp_path, monkeypatch, caplog):
    """Before: a waiting job said that it trains the teacher, and nothing more until the end."""
    folder = tmp_path / "teacher"
    folder.mkdir()
    other = subprocess.Popen(["sleep", "60"])
    mine = {"pid": other.pid, "host": socket.gethostname(), "born": owner._born(other.pid)}
    (folder / "run.lock").write_text(json.dumps(mine))

    def run_config(config):
        with hold(folder, config_hash="0"):
            return {}

    def kill(_seconds):
        other.kill()
        other.wait()

    monkeypatch.setattr("kdrobust.stages.run.run_config", run_config)
    monkeypatch.setattr(teachers.time, "sleep", kill)
    with caplog.at_level("INFO", logger="kdrobust"):
        assert teachers.once(OmegaConf.create({"run": {"folder": str(folder)}}), "making it", together=True) == folder
    told = [line for line in caplog.messages if line.startswith("making it")]
    assert told == [
        f"making it in {folder} (another job is at it; waiting)",
        f"making it in {folder} (once; later runs reuse it)",
    ]
    assert is_finished(folder)
