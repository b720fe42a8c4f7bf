"""Which teacher a student's config implies, and what of the student's settings its training takes over."""

import pytest
from omegaconf import OmegaConf

from kdrobust.config import compose, conf_dir, config_hash, numbers
from kdrobust.errors import UsageError
from kdrobust.losses import Objective
from kdrobust.stages import implied
from kdrobust.stages.implied import is_implied, teacher_config, teacher_node, training_problems
from kdrobust.stages.teachers import teacher_problems
from tests.processes import SHORT, TINY


def made(*overrides):
    return compose("distill", [*SHORT, *TINY, *overrides])


def test_a_further_teacher_is_the_main_one_with_what_differs():
    cfg = made("method=iad_2", "teachers.natural.checkpoint=b.ckpt", "teacher.checkpoint=a.ckpt")
    assert teacher_node(cfg, "teacher").checkpoint == "a.ckpt"
    natural = teacher_node(cfg, "natural")
    assert natural.checkpoint == "b.ckpt"
    assert natural.network == cfg.teacher.network
    assert natural.training == "natural_training"
    with pytest.raises(UsageError, match=r"teachers\.absent: the method learns from it; set \+teachers\.absent"):
        teacher_node(cfg, "absent")


def test_a_teacher_is_implied_where_its_training_would_make_it():
    cfg = made("method=iad_2", "teacher.checkpoint=auto")
    assert is_implied(cfg)
    assert is_implied(cfg, "natural")
    cfg = made("method=iad_2", "teacher.checkpoint=a.ckpt", "teachers.natural.checkpoint=b.ckpt")
    assert not is_implied(cfg)
    assert not is_implied(cfg, "natural")
    cfg = made("method=iad_2", "teacher.checkpoint=null", "teachers.natural.checkpoint=null")
    assert not is_implied(cfg), "a main teacher that is not named is asked for, not trained"
    assert is_implied(cfg, "natural")


def test_attack_steps_that_grow_are_the_student_s_own():
    plain = made("method=rslad")
    grown = made("method=rslad", "callbacks.attack.growth=1", "callbacks.attack.first_steps=1")
    assert grown.callbacks.attack.growth == 1
    assert config_hash(teacher_config(grown)) == config_hash(teacher_config(plain))
    warmed = made("method=rslad", "callbacks.attack.warmup=0.5")
    assert teacher_config(warmed).callbacks.attack.warmup == 0.5


def test_what_a_student_is_chosen_by_is_its_own():
    plain = made("method=rslad")
    chosen = made("method=rslad", "callbacks.best.monitor=val/accuracy")
    assert chosen.callbacks.best.monitor == "val/accuracy"
    assert config_hash(teacher_config(chosen)) == config_hash(teacher_config(plain))
    own = made("method=rslad", "+teacher_training.monitor=val/accuracy")
    assert teacher_config(own).callbacks.best.monitor == "val/accuracy"


def test_a_teacher_s_own_criterion_is_that_of_the_callbacks():
    plain = OmegaConf.load(conf_dir() / "callbacks" / "default.yaml")
    assert OmegaConf.to_container(plain)["best"]["monitor"] == implied._MONITOR


def test_a_teacher_is_trained_without_what_only_the_student_has():
    cfg = made("method=iad_2", "+average=ema", "+wrap=awp")
    robust, natural = (teacher_config(cfg, name) for name in ("teacher", "natural"))
    for config in (robust, natural):
        assert config.stage == "teacher"
        assert not {"average", "weight_perturbation"} & set(config.callbacks)
        assert "checkpoint" not in config.teacher
    assert "average" in cfg.callbacks
    assert robust.callbacks.best.monitor == "val/robust_accuracy"
    assert natural.callbacks.best.monitor == "val/accuracy"
    assert natural.method.terms.keys() == {"prediction"}
    cfg.teachers.natural.training = "elsewhere"
    with pytest.raises(UsageError, match=r"teachers\.natural\.training=elsewhere: no such node"):
        teacher_config(cfg, "natural")


@pytest.mark.parametrize("training", ["teacher", "natural"])
def test_a_student_s_learning_rate_is_its_teacher_s_unless_that_has_its_own(training):
    plain, slow = made("method=iad_2"), made("method=iad_2", "optimizer.lr=0.001")
    assert teacher_config(slow, training).optimizer.lr == 0.001
    rate = plain.optimizer.lr
    kept = made("method=iad_2", "optimizer.lr=0.001", f"+{training}_training.optimizer.lr={rate}")
    assert kept.optimizer.lr == 0.001
    assert config_hash(teacher_config(kept, training)) == config_hash(teacher_config(plain, training))


def test_a_teacher_s_optimizer_may_be_another():
    cfg = made("method=rslad", "+optimizer@teacher_training.optimizer=sgd", "optimizer.lr=0.5")
    assert teacher_config(cfg).optimizer == compose("distill", ["optimizer=sgd"]).optimizer
    cfg = made("method=rslad", "scheduler=constant", "+scheduler@teacher_training.scheduler=cosine")
    assert teacher_config(cfg).scheduler == compose("distill", ["scheduler=cosine"]).scheduler


def test_a_key_of_a_teacher_s_training_that_nothing_reads_is_named():
    cfg = made("method=iad_2", "+teacher_training.optimzer.lr=0.1", "+natural_training.epoch=3")
    first, second = training_problems(cfg)
    assert first.startswith("teacher_training.optimzer: nothing reads it; did you mean optimizer?; it takes name, seed")
    assert second.startswith("natural_training.epoch: nothing reads it; did you mean epochs?")
    assert teacher_problems(cfg, Objective(numbers(cfg.method))) == [first, second]
    assert training_problems(made("method=iad_2")) == []


def test_a_training_says_what_it_has_of_its_own():
    cfg = made("method=rslad", "+teacher_training.optimizer.lr=0.01", "teacher_training.epochs=7")
    (line,) = [implied.own_training("teacher_training", teacher_config(cfg), cfg.teacher_training)]
    assert line.startswith(
        "epochs=7 (teacher_training.epochs), seed=0 (teacher_training.seed), method, attack, optimizer"
    )
    assert line.endswith("data, threat, scheduler, trainer are the student's")
