from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from kdrobust.config import compose, config_hash, register, run_folder
from kdrobust.config.compose import load
from kdrobust.config.resolvers import slug

register()


def finish(folder: Path, status: str = "completed") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps({"status": status}))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("${mul:1.25,8/255}", 1.25 * 8 / 255),
        ("${div:${eps},4}", 8 / 255 / 4),
        ("${sub:1,1/6}", 5 / 6),
        ("${add:1,${eps}}", 1 + 8 / 255),
        ("${frac:8/255}", 8 / 255),
        ("${frac:-1/4}", -0.25),
    ],
)
def test_arithmetic_takes_fractions_and_gives_floats(expression: str, value: float) -> None:
    result = OmegaConf.create({"eps": "8/255", "x": expression}).x
    assert isinstance(result, float)
    assert result == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("expression", ["${div:1,0}", "${mul:abc,2}", "${frac:true}", "${choice:nowhere}"])
def test_nonsense_is_refused(expression: str) -> None:
    with pytest.raises(InterpolationResolutionError):
        _ = OmegaConf.create({"x": expression}).x


@pytest.mark.parametrize(
    ("text", "piece"), [("8/255", "8-255"), ("../x y", "x-y"), ("", "run"), ("ä_b.c", "b.c".join(["_", ""]))]
)
def test_slug_is_one_harmless_file_name(text: str, piece: str) -> None:
    assert slug(text) == piece
    assert "/" not in slug(text)


def test_register_twice_is_register_once() -> None:
    register()
    register()
    assert OmegaConf.create({"x": "${mul:2,3}"}).x == 6.0


def test_hash_ignores_where_a_run_is_written(folder: Path) -> None:
    plain = compose("study")
    digest = config_hash(plain)
    assert digest == config_hash(compose("study", ["run.root=elsewhere"]))
    assert digest == config_hash(compose("study", ["run.folder=some/where"]))
    assert digest != config_hash(compose("study", ["seed=1"]))
    assert digest != config_hash(compose("study", ["recipe.alpha=0.3"]))
    assert digest == config_hash(load("study", []))


def test_a_resolved_copy_hashes_like_its_config(folder: Path) -> None:
    cfg = compose("study", ["run.folder=runs/a", "+watch={path: '${run.folder}/last.ckpt'}"])
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert config_hash(resolved) == config_hash(cfg)
    unset = compose("study", ["+watch={path: '${run.folder}/last.ckpt'}"])
    assert config_hash(unset) == config_hash(cfg)


def test_folder_is_named_after_stage_name_and_content(folder: Path) -> None:
    cfg = compose("study", ["recipe=bold"])
    made = run_folder(cfg)
    assert made.parent == Path("outputs/study")
    assert made.name == f"bold_small-{config_hash(cfg)[:8]}"


def test_a_finished_run_is_never_entered_again_and_an_unfinished_one_is(folder: Path) -> None:
    cfg = compose("study")
    first = run_folder(cfg)
    finish(first, "failed")
    assert run_folder(cfg) == first
    finish(first)
    assert run_folder(cfg) == first.with_name(first.name + "-2")
    finish(first.with_name(first.name + "-2"))
    assert run_folder(cfg) == first.with_name(first.name + "-3")
    assert run_folder(cfg, reuse_finished=True) == first


@pytest.mark.parametrize("content", ["", "[]", '{"status": ', "\x00"])
def test_a_damaged_status_counts_as_unfinished(folder: Path, content: str) -> None:
    cfg = compose("study")
    first = run_folder(cfg)
    first.mkdir(parents=True)
    (first / "status.json").write_text(content)
    assert run_folder(cfg) == first


def test_an_explicit_folder_wins(folder: Path) -> None:
    finish(Path("mine"))
    assert run_folder(compose("study", ["run.folder=mine"])) == Path("mine")


def hydra_dir(cfg: object) -> str:
    from hydra.core.hydra_config import HydraConfig

    HydraConfig.instance().set_config(cfg)  # type: ignore[arg-type]
    return str(cfg.hydra.run.dir)  # type: ignore[attr-defined]


def test_resolver_is_stable_for_a_config_and_fresh_for_the_next(folder: Path) -> None:
    cfg = load("study", [])
    first = hydra_dir(cfg)
    finish(Path(first))
    assert hydra_dir(cfg) == first
    assert hydra_dir(cfg.copy()) == first
    assert hydra_dir(load("study", [])) == first + "-2"


def test_copied_resolver_caches_do_not_mix_jobs(folder: Path) -> None:
    one = load("study", ["seed=1"])
    folder_one = hydra_dir(one)
    two = load("study", ["seed=2"])
    OmegaConf.copy_cache(from_config=one, to_config=two)
    assert hydra_dir(two) != folder_one
