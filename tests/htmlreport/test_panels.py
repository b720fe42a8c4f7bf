from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from kdrobust.htmlreport import pareto_front
from kdrobust.htmlreport.panels import (
    flatten,
    job_command,
    mark_undominated,
    override,
    share_configs,
    swept_keys,
    threat_text,
)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and a != b


@pytest.mark.parametrize("seed", range(20))
def test_pareto_front_is_its_definition(seed: int) -> None:
    draw = random.Random(seed)
    points = [(draw.randrange(6) / 5, draw.randrange(6) / 5) for _ in range(draw.randrange(1, 25))]
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert pareto_front(points) == expected


def test_pareto_front_of_nothing_and_of_equals() -> None:
    assert pareto_front([]) == []
    assert pareto_front([(0.5, 0.5), (0.5, 0.5), (0.5, 0.4)]) == [True, True, False]


def row(**more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"clean": {"value": 0.9}, "robust": {"value": 0.5}, "setting": "a", "teacher": False}
    return base | {"overrides": {}, "config": {}, "choices": {}, "settings": {}, "trained_by": "distill"} | more


def test_only_runs_of_one_setting_dominate_each_other_and_teachers_none() -> None:
    low = {"value": 0.1}
    rows = [row(robust=low), row(setting="b"), row(teacher=True), row(setting="c", robust=None)]
    mark_undominated(rows)
    assert [each["undominated"] for each in rows] == [True, True, False, False]
    rows.append(row())
    mark_undominated(rows)
    assert [each["undominated"] for each in rows] == [False, True, False, False, True]


def test_swept_keys_take_config_and_choice_where_an_override_is_missing() -> None:
    rows = [
        row(overrides={"method.alpha": "0.5", "method": "rslad", "run.name": "x"}),
        row(config={"method.alpha": 0.1}, choices={"method": "ard"}, overrides={"run.name": "y"}),
        row(trained_by="teacher", config={"method.alpha": 0.9}, overrides={"epochs": "3"}),
        row(teacher=True, overrides={"method.alpha": "0.7"}),
    ]
    assert swept_keys(rows) == ["method.alpha", "method"]
    assert rows[0]["settings"] == {"method.alpha": "0.5", "method": "rslad"}
    assert (rows[0]["own"], rows[1]["own"]) == (["method.alpha", "method"], [])
    assert rows[1]["settings"] == {"method.alpha": "0.1", "method": "ard"}
    assert rows[2]["settings"] == rows[3]["settings"] == {}


def test_one_value_is_no_sweep() -> None:
    assert swept_keys([row(overrides={"a": "1"}), row(overrides={"a": "1"}), row()]) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1", ("a.b", "1")),
        ("+a=x=y", ("a", "x=y")),
        ("++a=", ("a", "")),
        ("~a", None),
        ("~a=1", None),
        ("bare", None),
    ],
)
def test_override(text: str, expected: tuple[str, str] | None) -> None:
    assert override(text) == expected


def test_job_command_is_quoted() -> None:
    assert job_command("distill", ["a=[1,2]", "name=it's; rm"]) == "kdrobust distill 'a=[1,2]' 'name=it'\"'\"'s; rm'"


def test_flatten_and_share() -> None:
    tree = {
        "a": {"b": 1, "c": []},
        "l": [{"x": 1}, 2],
        "wandb_api_key": "s",
        "token": None,
        "inf": float("inf"),
        "e": {},
    }
    flat = dict(flatten(tree))
    assert flat == {
        "a.b": 1,
        "a.c": [],
        "l[0].x": 1,
        "l[1]": 2,
        "wandb_api_key": "•••",
        "token": None,
        "inf": "inf",
        "e": {},
    }
    rows = [row(config={"a": 1, "b": True, "c": 0}), row(config={"a": 1, "b": 1}), row()]
    assert share_configs(rows) == {"a": 1}
    assert [each["config"] for each in rows] == [{"b": True, "c": 0}, {"b": 1}, {}]
    assert [each["configured"] for each in rows] == [True, True, False]
    assert share_configs([]) == {}


def test_threat_text() -> None:
    texts = [threat_text({"norm": norm, "eps": eps}) for norm, eps in itertools.product(("linf", "l2"), (8 / 255, 0.5))]
    assert texts == ["ℓ∞, ε = 8/255", "ℓ∞, ε = 0.5", "ℓ2, ε = 8/255", "ℓ2, ε = 0.5"]
    assert threat_text({}) == ""
