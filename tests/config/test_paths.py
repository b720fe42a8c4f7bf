from __future__ import annotations

import types
from importlib import metadata
from pathlib import Path

import pytest

from kdrobust.config import compose, conf_dir, paths
from kdrobust.config.paths import search_folders
from kdrobust.errors import UsageError


class Point:
    """An entry point."""

    def __init__(self, name: str, value: object) -> None:
        self.name, self.value = name, value

    def load(self) -> object:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def offer(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: list(points) if group == "kdrobust.conf" else [])


def test_own_conf_is_absolute_and_the_repository_s() -> None:
    assert conf_dir().is_absolute()
    assert conf_dir() == Path(__file__).resolve().parents[2] / "conf"


def test_a_wheel_s_conf_lies_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kdrobust/conf").mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "kdrobust/config/paths.py"))
    assert conf_dir() == tmp_path / "kdrobust/conf"


def test_own_conf_is_not_taken_for_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(conf_dir().parent)
    assert search_folders()[0].provider == "kdrobust"


def test_user_conf_is_seen_beside_kdrobust_s_own(folder: Path) -> None:
    (folder / "conf/optimizer").mkdir()
    (folder / "conf/optimizer/mine.yaml").write_text("# Mine\nlr: 1\n")
    with pytest.raises(UsageError, match=r"optimizer=mien: .*did you mean mine\?; available: .*mine, sgd"):
        compose("study", ["+optimizer=mien"])
    assert compose("study", ["+optimizer=mine"]).optimizer.lr == 1
    assert compose("study", ["+optimizer=sgd"]).optimizer.momentum == 0.9


def test_packs_are_found_after_the_user_s(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = tmp_path_factory.mktemp("pack")
    (pack / "recipe").mkdir()
    (pack / "recipe/packed.yaml").write_text("# From a pack\nalpha: 0.75\n")
    (pack / "recipe/bold.yaml").write_text("# Hidden by the user's\nalpha: 0.0\n")
    offer(monkeypatch, Point("extra", str(pack)))
    assert compose("study", ["recipe=packed"]).recipe.alpha == 0.75
    assert compose("study", ["recipe=bold"]).recipe.alpha == 0.5
    assert [found.provider for found in search_folders()] == ["you", "kdrobust", "extra"]


def test_a_pack_may_be_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("pack")
    module.__path__ = [str(tmp_path)]
    offer(monkeypatch, Point("extra", module))
    assert search_folders()[-1].path == tmp_path


@pytest.mark.parametrize("value", [ImportError("gone"), 3])
def test_a_broken_pack_is_named(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, Point("extra", value))
    with pytest.raises(UsageError, match=r"kdrobust\.conf:extra"):
        search_folders()
