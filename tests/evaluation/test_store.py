"""Finished attacks survive a kill, and are taken only for the very same question."""

import dataclasses

import numpy as np
import pytest

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.evaluation import evaluate
from kdrobust.evaluation.store import AttackStore

CONTEXT = {"model": "a", "seed": 0}


class Counted(GradientAttack):
    """A gradient attack that counts its calls."""

    calls = 0

    def run(self, *arguments, **options):
        type(self).calls += 1
        return super().run(*arguments, **options)


@pytest.fixture
def question(fixture_model, fixture_data):
    Counted.calls = 0
    threat = Threat(norm="linf", eps=0.05)
    attacks = {
        "one": Counted(threat=threat, goal="cross_entropy", steps=1, step_size=0.05, start="none"),
        "many": Counted(threat=threat, goal="margin", steps=4, step_size=0.02, start="uniform"),
    }
    return {
        "model": fixture_model(), "threat": threat, "attacks": attacks, "batch_size": 4, "seed": 0, "checks": False,
        **fixture_data,
    }  # fmt: skip


def equal(first, second):
    for field in dataclasses.fields(first):
        mine, theirs = getattr(first, field.name), getattr(second, field.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
        elif field.name == "extra":
            assert set(mine) == set(theirs)
            for key in mine:
                np.testing.assert_array_equal(mine[key], theirs[key])
        else:
            assert mine == theirs, field.name


def test_what_is_kept_is_what_was_found(question, tmp_path):
    store = AttackStore(tmp_path / "attacks", CONTEXT)
    whole = evaluate(**question, store=store)
    calls = Counted.calls
    assert calls > 0
    again = evaluate(**question, store=store)
    assert Counted.calls == calls  # nothing was attacked twice
    for name in whole.attacks:
        equal(again.attacks[name], whole.attacks[name])


def test_an_evaluation_killed_between_two_attacks_goes_on_with_the_second(question, tmp_path):
    store = AttackStore(tmp_path / "attacks", CONTEXT)
    evaluate(**{**question, "attacks": {"one": question["attacks"]["one"]}}, store=store)
    before = Counted.calls

    class Killed(Exception):
        pass

    def kill(what, done, total):
        if what == "many":
            raise Killed

    with pytest.raises(Killed):
        evaluate(**question, store=store, progress=kill)
    calls = Counted.calls
    resumed = evaluate(**question, store=store)
    assert calls - before == 1  # the batch that was under way
    assert Counted.calls - calls == 2  # both batches of the second attack, none of the first
    equal_to = evaluate(**question)
    for name in resumed.attacks:
        np.testing.assert_array_equal(resumed.attacks[name].correct, equal_to.attacks[name].correct)


@pytest.mark.parametrize("change", ["context", "spec", "name"])
def test_another_question_is_asked_anew(question, tmp_path, change):
    store = AttackStore(tmp_path, CONTEXT)
    outcome = evaluate(**question, store=store).attacks["one"]
    assert store.load("one", outcome.spec) is not None
    if change == "context":
        assert AttackStore(tmp_path, {**CONTEXT, "model": "b"}).load("one", outcome.spec) is None
    elif change == "spec":
        assert store.load("one", {**outcome.spec, "steps": 2}) is None
    else:
        assert store.load("another", outcome.spec) is None


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "absent"])
def test_a_damaged_file_is_made_again(question, tmp_path, damage):
    store = AttackStore(tmp_path, CONTEXT)
    whole = evaluate(**question, store=store)
    path = store.path("one", whole.attacks["one"].spec)
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes({"truncate": content[: len(content) // 2], "garbage": b"not a zip", "empty": b""}[damage])
    assert store.load("one", whole.attacks["one"].spec) is None
    evaluate(**question, store=store)
    equal(store.load("one", whole.attacks["one"].spec), dataclasses.replace(
        whole.attacks["one"], seconds=store.load("one", whole.attacks["one"].spec).seconds
    ))  # fmt: skip


def test_extra_numbers_and_notes_come_back(tmp_path):
    store = AttackStore(tmp_path, CONTEXT)
    outcome = evaluate_outcome()
    store.save("square", outcome)
    equal(store.load("square", outcome.spec), outcome)


def evaluate_outcome():
    from kdrobust.evaluation import AttackOutcome

    n = 3
    floats = {key: np.arange(n, dtype=np.float32) for key in ("goal_start", "goal_end", "distance", "outside")}
    flags = {"correct": np.array([True, False, True]), "disputed": np.zeros(n, dtype=bool)}
    extra = {"queries": np.array([5.0, np.nan, 7.0], dtype=np.float32)}
    return AttackOutcome(spec={"attack": "Square"}, seconds=1.5, extra=extra, notes=("slow",), **floats, **flags)
