"""A sweep that would train a teacher for every value says so."""

import pytest

from kdrobust.config import compose
from kdrobust.stages.implied import OWN_STEPS
from kdrobust.sweeps.implied import _TAKEN_OVER, teachers_a_value

RATE = "optimizer.lr"


@pytest.mark.parametrize("key", [RATE, "optimizer", "scheduler.gamma"])
def test_a_swept_key_that_the_teacher_s_training_takes_over_is_told(key):
    (line,) = teachers_a_value(compose("distill", []), [key, "method.alpha", "threat.eps", "seed"], "rslad")
    assert line.startswith(f"{key}: also changes the teacher")
    assert line.endswith(f"+teacher_training.{key}=... keeps it one")


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        ([], "pgd_at"),
        ([], "peeraid"),
        (["+teacher_training.optimizer.lr=0.005"], "rslad"),
        (["+optimizer@teacher_training.optimizer=adam"], "rslad"),
        (["teacher.checkpoint=best.ckpt"], "rslad"),
    ],
)
def test_one_teacher_is_nothing_to_tell(overrides, method):
    assert teachers_a_value(compose("distill", overrides), [RATE], method) == []


def test_another_key_of_its_own_does_not_keep_it_one():
    cfg = compose("distill", ["+teacher_training.optimizer.weight_decay=0"])
    assert len(teachers_a_value(cfg, [RATE], "rslad")) == 1


def test_a_method_nobody_knows_may_need_a_teacher():
    assert len(teachers_a_value(compose("distill", []), [RATE], "unheard_of")) == 1


def test_what_is_told_is_what_a_teacher_s_training_may_have_of_its_own():
    assert _TAKEN_OVER == OWN_STEPS
