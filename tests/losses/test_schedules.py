"""Schedules at and between their corners; the simple ones are in test_objective."""

import pytest

from kdrobust.losses.schedules import cosine, linear, step, switch, warmup


def test_straight_and_curved_lines_begin_later_and_go_down():
    line = {"start": 4.0, "end": 0.0, "begin": 2.0, "until": 6.0}
    assert [linear(epoch, **line) for epoch in (0, 2, 3, 6, 9)] == [4.0, 4.0, 3.0, 0.0, 0.0]
    assert [cosine(epoch, **line) for epoch in (0, 2, 4, 6, 9)] == pytest.approx([4.0, 4.0, 2.0, 0.0, 0.0])
    # flat at both ends
    assert cosine(2.4, **line) > linear(2.4, **line)
    assert cosine(5.6, **line) < linear(5.6, **line)


def test_steps_and_a_switch_count_from_the_milestone_on():
    assert [step(epoch, start=8.0, milestones=[1, 3], factor=0.5) for epoch in (0, 0.99, 1, 3)] == [8.0, 8.0, 4.0, 2.0]
    assert step(5.0, start=8.0, milestones=[], factor=0.5) == 8.0
    assert switch(0, start=1.0, end=2.0, begin=0) == 2.0


def test_warmup_has_a_stair_an_epoch():
    assert [warmup(epoch, end=3.0, epochs=4) for epoch in (0, 0.9, 1, 2.5, 3, 50)] == [0.75, 0.75, 1.5, 2.25, 3.0, 3.0]
    assert warmup(0, end=1.0, epochs=1) == 1.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linear(0, start=0, end=1, until=2, begin=2), r"until \(2\) must lie after begin \(2\)"),
        (lambda: cosine(0, start=0, end=1, until=1, begin=5), "must lie after"),
        (lambda: warmup(0, end=1, epochs=0), "epochs must be positive"),
    ],
)
def test_ranges_that_are_none(call, words):
    with pytest.raises(ValueError, match=words):
        call()
