from __future__ import annotations

import functools
import os
import re
import sys
from pathlib import Path
from typing import Any

import components
import pytest
import torch
from omegaconf import OmegaConf

from kdrobust.config import check, compose, dead_keys, ensure, instantiate, kinds, numbers, register, to_plain
from kdrobust.config.compose import load
from kdrobust.config.dead import dead_additions
from kdrobust.config.kinds import OPTIMIZER, Kind
from kdrobust.errors import UsageError

register()
PART = {"_target_": "components.Part", "eps": "8/255"}
#: What the keys of this file's configs take.
PARTS = Kind(label="a part", bases=("components.Part", "components.Open"))


@pytest.fixture(autouse=True)
def slots(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("part", "one", "two.inner", "two.whole", "x", "a.b", "a.part")
    monkeypatch.setattr(kinds, "_PATTERNS", {**kinds._PATTERNS, **{re.compile(re.escape(key)): PARTS for key in keys}})


def config(**keys: Any) -> Any:
    return OmegaConf.create({"trusted_modules": ["components"], **keys})


def test_nothing_wrong_is_no_line() -> None:
    assert (
        check(config(part={**PART, "steps": 3, "mode": "train", "shape": [1, 2], "path": "a/b", "rate": "1/2"})) == []
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"stpes": 3}, "part.stpes: components.Part takes no 'stpes'; did you mean part.steps?"),
        ({"zzzzzz": 3}, "part.zzzzzz: components.Part takes no 'zzzzzz'; it takes eps, flag"),
        ({"eps": "abc"}, "part.eps: expected a number or a fraction such as 8/255, got 'abc'"),
        ({"eps": None}, "part.eps: expected a number or a fraction such as 8/255, got null"),
        ({"eps": True}, "part.eps: expected a number or a fraction such as 8/255, got true"),
        ({"eps": "???"}, "part.eps: not given; set part.eps=..."),
        ({"eps": "${nowhere.x}"}, "part.eps: cannot resolve ${nowhere.x}: "),
        ({"rate": "fast"}, "part.rate: expected a number"),
        ({"rate": [1]}, "part.rate: expected a number"),
        ({"steps": 1.5}, "part.steps: expected an integer, got 1.5"),
        ({"steps": "10"}, "part.steps: expected an integer, got '10'"),
        ({"steps": True}, "part.steps: expected an integer, got true"),
        ({"mode": "evla"}, "part.mode: expected one of 'eval', 'train', got 'evla'"),
        ({"shape": 3}, "part.shape: expected a list, got 3"),
        ({"shape": [1, "x"]}, "part.shape: expected a list"),
        ({"limits": [0.0]}, "part.limits: expected a list"),
        ({"path": 3}, "part.path: expected a path or null, got 3"),
        ({"flag": "yes"}, "part.flag: expected true or false, got 'yes'"),
        ({"name": 3}, "part.name: expected a text or null, got 3"),
        ({"schedule": "late"}, "part.schedule: expected a number"),
        ({"options": [1]}, "part.options: expected a mapping or null"),
        ({"inner": {"_target_": "components.Part"}}, "part.inner.eps: components.Part needs it"),
        ({"_target_": "components.Prat"}, "part._target_: components has no 'Prat'; did you mean components.Part?"),
        ({"_target_": "components.CALLS"}, "part._target_: components.CALLS is not a class or function"),
        ({"_target_": "elsewhere.Part"}, "part._target_: elsewhere.Part is not allowed"),
        ({"_target_": 3}, "part._target_: expected a dotted path"),
    ],
)
def test_each_problem_is_one_line_with_the_full_key(change: dict[str, Any], line: str) -> None:
    problems = check(config(part={**PART, **change}))
    assert len(problems) == 1
    assert problems[0].startswith(line)


def test_problems_deep_in_lists_and_mappings_are_found() -> None:
    cfg = config(a={"b": [PART, {"c": {**PART, "stpes": 1}}]})
    assert [line.split(":")[0] for line in check(cfg)] == ["a.b[1].c.stpes"]


def test_all_problems_are_told_together() -> None:
    cfg = config(seed=-1, part={"_target_": "components.Part", "mode": "x", "stpes": 2})
    with pytest.raises(UsageError) as caught:
        ensure(cfg, ["method.alpha: too large"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 problems in the configuration:"
    assert {line.strip().split(":")[0] for line in lines[1:]} == {
        "seed",
        "part.mode",
        "part.stpes",
        "part.eps",
        "method.alpha",
    }
    with pytest.raises(UsageError, match=r"^seed: expected an integer >= 0 and < 2\*\*32, got -1$"):
        ensure(config(seed=-1))


def test_one_wrong_value_read_in_many_places_is_one_line_at_its_source() -> None:
    cfg = config(
        radius={"eps": "abc"},
        one={**PART, "eps": "${radius.eps}"},
        two={"inner": {**PART, "eps": "${one.eps}"}, "whole": "${one}"},
    )
    assert check(cfg) == ["radius.eps: expected a number or a fraction such as 8/255, got 'abc' (one.eps reads it)"]


def test_arithmetic_on_a_wrong_value_is_told_at_the_value() -> None:
    cfg = config(radius={"eps": "abc"}, a="${div:${radius.eps},4}", b={"c": "${a}", "d": "${mul:2,${a}}"})
    assert check(cfg) == ["radius.eps: expected a number or a fraction such as 8/255, got 'abc'"]


def test_a_missing_value_read_elsewhere_is_told_once() -> None:
    assert check(config(checkpoint="???", part={**PART, "name": "${checkpoint}"})) == [
        "checkpoint: not given; set checkpoint=..."
    ]


def test_circles_are_told_and_do_not_hang() -> None:
    problems = check(config(a="${b}", b="${a}"))
    assert {line.split(":")[0] for line in problems} <= {"a", "b"}
    assert problems


def test_partial_nodes_may_lack_arguments_and_open_signatures_take_anything() -> None:
    assert check(config(part={"_target_": "components.Part", "_partial_": True})) == []
    assert check(config(part={"_target_": "components.Open", "first": 1, "whatever": 2})) == []
    assert check(config(optimizer={"_target_": "torch.optim.SGD", "_partial_": True, "lr": "1/10"})) == []
    assert (
        "did you mean optimizer.momentum"
        in check(config(optimizer={"_target_": "torch.optim.SGD", "_partial_": True, "momentun": 0.9}))[0]
    )


@pytest.mark.parametrize(
    ("key", "bad", "good"),
    [
        ("seed", "x", 0),
        ("seed", True, 7),
        ("seeds", [0, 0], [0, 1]),
        ("epochs", 0, 1),
        ("epochs", 1.5, 3),
        ("trusted_modules", "components", ["components"]),
        ("run", {"name": 3}, {"name": "x"}),
        ("data", "digits", {"_target_": "kdrobust.data.DataModule", "_partial_": True}),
        ("teacher", {"checkpoint": 3}, {"checkpoint": None}),
    ],
)
def test_primary_keys_are_typed(key: str, bad: Any, good: Any) -> None:
    assert len(check(OmegaConf.create({key: bad}))) == 1
    assert check(OmegaConf.create({key: bad}))[0].startswith(key)
    assert check(OmegaConf.create({key: good})) == []


EVIL = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "torch.load",
    "torch.hub.load",
    "torch.nn.os.system",
    "torch.nn.init.torch.hub.load",
    "torch.optim.optimizer.warnings.warn",
    "kdrobust.cli.main",
    "kdrobust.config.build.functools.partial",
    "kdrobust.errors.__builtins__",
    "torch.nn.Module.__init__.__globals__",
    "kdrobust.randomness.hashlib.sha256",
    "",
    "..os.system",
]


@pytest.mark.parametrize("target", EVIL)
@pytest.mark.parametrize("shape", ["plain", "partial", "nested", "listed"])
def test_dangerous_targets_do_nothing(target: str, shape: str, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    node: Any = {"_target_": target, "_args_": [f"touch {witness}"]}
    if shape == "partial":
        node["_partial_"] = True
    elif shape == "nested":
        node = {**PART, "inner": node}
    elif shape == "listed":
        node = {"deep": [[node]]}
    cfg = config(x=node)
    assert any("_target_: " in line or "_args_: " in line for line in check(cfg))
    with pytest.raises(UsageError):
        instantiate(cfg.x)
    assert not witness.exists()


def test_a_refused_module_is_not_imported() -> None:
    for name in ("this", "antigravity"):
        assert check(OmegaConf.create({"x": {"_target_": f"{name}.x"}}))
        assert name not in sys.modules


def test_a_kind_finds_its_components() -> None:
    assert OPTIMIZER.find("torch.optim.AdamW") is torch.optim.AdamW
    with pytest.raises(UsageError, match=r"did you mean torch\.optim\.AdamW"):
        OPTIMIZER.find("torch.optim.AdamWW")
    with pytest.raises(UsageError, match=r"OneCycleLR is not an optimizer; this key takes an optimizer \(torch\.optim"):
        OPTIMIZER.find("torch.optim.lr_scheduler.OneCycleLR")


def test_instantiate_gives_plain_objects_and_numbers() -> None:
    cfg = config(
        part={**PART, "rate": "1/4", "shape": [1, 2], "options": {"a": {"b": 1}}, "inner": PART, "name": "1/2"}
    )
    part = instantiate(cfg.part)
    assert part.given["eps"] == pytest.approx(8 / 255)
    assert part.given["rate"] == 0.25
    assert part.given["name"] == "1/2"
    assert type(part.given["shape"]) is list
    assert type(part.given["options"]["a"]) is dict
    assert isinstance(part.given["inner"], components.Part)


def test_partials_late_arguments_and_mappings_without_target() -> None:
    cfg = config(
        optimizer={"_target_": "torch.optim.SGD", "_partial_": True, "lr": "1/4"},
        scheduler={"factory": None, "x": [1]},
    )
    factory, weights = instantiate(cfg.optimizer), [torch.nn.Parameter(torch.zeros(1))]
    assert isinstance(factory, functools.partial)
    assert factory(weights, momentum=0.5).defaults["momentum"] == 0.5
    late = instantiate(cfg.optimizer, momentum=0.5)(weights)
    assert (late.defaults["lr"], late.defaults["momentum"]) == (0.25, 0.5)
    assert instantiate(cfg.scheduler) == {"factory": None, "x": [1]}
    thing = object()
    assert instantiate(config(x={"_target_": "components.Open", "first": 1}).x, thing=thing).others["thing"] is thing
    assert instantiate(None) is None


def test_a_constructors_refusal_names_the_key_and_a_bug_keeps_its_own_error() -> None:
    with pytest.raises(UsageError, match=r"^a\.part\.eps: expected a number >= 0, got -1"):
        instantiate(config(a={"part": {**PART, "eps": -1}}).a)
    with pytest.raises(UsageError, match=r"^part: .*needs_this"):
        instantiate(config(part={"_target_": "components.Part", "eps": 1, "needs_this": 1}).part)
    with pytest.raises(RuntimeError, match="a bug"):
        instantiate(config(part={"_target_": "components.broken"}).part)


def test_to_plain_keeps_fractions_and_numbers_reads_them() -> None:
    cfg = config(x={"eps": "8/255", "names": ["1/4", "a"], "y": "${.eps}"})
    assert to_plain(cfg.x) == {"eps": "8/255", "names": ["1/4", "a"], "y": "8/255"}
    assert numbers(cfg.x) == {"eps": pytest.approx(8 / 255), "names": [0.25, "a"], "y": pytest.approx(8 / 255)}
    with pytest.raises(UsageError, match=r"x\.z"):
        to_plain(config(x={"z": "???"}).x)
    with pytest.raises(UsageError, match=r"x\.z"):
        numbers(config(x={"z": "${nowhere}"}).x)


def test_dead_keys_are_those_nothing_reads(folder: Path) -> None:
    assert dead_keys(compose("study").recipe, "recipe") == []
    forced = compose("study", ["+recipe.temprature=4", "+recipe.zzz=1", "+recipe.attack.stpes=3"])
    lines = dead_keys(forced.recipe, "recipe")
    assert lines[0] == "recipe.temprature: nothing reads it; did you mean recipe.temperature?"
    assert lines[1].startswith("recipe.zzz: nothing reads it; remove it with ~recipe.zzz")
    assert lines[2] == "recipe.attack.stpes: nothing reads it; did you mean recipe.attack.steps?"


def test_forced_top_level_keys_that_nothing_reads(folder: Path) -> None:
    overrides = ["+epoch=3", "+width=2", "recipe.alpha=${width}"]
    assert dead_additions(load("study", overrides), overrides) == [
        "+epoch=3: nothing reads epoch; did you mean epochs?"
    ]


def test_environment_is_left_alone() -> None:
    before = dict(os.environ)
    check(config(part=PART))
    assert dict(os.environ) == before
