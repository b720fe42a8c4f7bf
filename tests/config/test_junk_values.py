"""A sample of `scripts/junk_values.py`, and what it found."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FOUND = [
    ("distill", "stage=${nowhere}"),
    ("distill", "teacher_training.method='../../x'"),
    ("distill", "natural_training=8/255"),
    ("distill", "trainer.gradient_clip_val={_target_:torch.optim.SGD}"),
    ("distill", "trainer.limit_train_batches='\\t'"),
    ("distill", "trainer.limit_val_batches={a:1}"),
    ("distill", "method.terms=foo"),
    ("distill", "method.terms.clean.loss=[1]"),
    ("distill", "method.terms.clean.loss={}"),
    ("distill", "student.network=foo"),
    ("distill", "student.network=null"),
    ("distill", "teacher.network=foo"),
    ("teacher", "teacher.network=foo"),
    ("distill", "data.source=foo"),
    ("export", "evaluation.corruptions=[-1]"),
]
SAMPLED = 16


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(SCRIPTS)
        yield importlib.import_module("junk_values")


@pytest.fixture
def stopped(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with script.stopped_before_work():
        yield


@pytest.mark.parametrize(("stage", "typed"), FOUND)
def test_what_it_found(script: Any, stopped: None, stage: str, typed: str) -> None:
    """Before: tracebacks, and lines of single letters."""
    outcome = script.try_input(stage, [], typed)
    assert outcome.verdict == "refused", outcome
    assert typed.partition("=")[0].removesuffix(".loss") in outcome.message


@pytest.mark.parametrize("stage", ["distill", "evaluate", "export"])
def test_a_sample_of_every_stage_is_refused_or_could_run(script: Any, stopped: None, stage: str) -> None:
    draw = random.Random(stage)
    places = script.keys(stage, [])
    assert len(places) > 40
    pairs = [(draw.choice(places), draw.choice(script.JUNK)) for _ in range(SAMPLED)]
    outcomes = [script.try_input(stage, [], f"{key}={value}") for key, value in pairs]
    # how long one takes is the machine's matter here
    assert [each for each in outcomes if each.verdict not in ("runs", "refused") and " s" not in each.verdict] == []


def test_what_it_calls_wrong(script: Any, stopped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdrobust import cli

    def fail(*_: Any) -> int:
        raise ValueError("a fault of the program")

    assert script.try_input("distill", ["method=pgd_at"], "seed=3").verdict == "runs"
    monkeypatch.setattr(cli, "_start", fail)
    assert script.try_input("distill", [], "seed=3").verdict == "traceback"
