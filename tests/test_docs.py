"""The generated pages are what the sources say now."""

import importlib.util
from pathlib import Path

import pytest

from tests.methods import METHODS

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "docs.py"


@pytest.fixture(scope="module")
def docs():
    spec = importlib.util.spec_from_file_location("docs_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date(docs):
    stale = [
        name
        for name, page in docs.PAGES.items()
        if (SCRIPT.parents[1] / "docs" / name).read_text(encoding="utf-8") != page()
    ]
    assert not stale, "run scripts/docs.py"


def test_every_method_has_its_row_and_nothing_differs(docs):
    page = (SCRIPT.parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")
    for name in METHODS:
        assert f"| [`{name}`](#{name}) |" in page
        assert f"### `{name}`" in page
    assert "DIFFERS" not in page
    assert "| None |" not in page


def test_a_stale_page_is_told_and_not_written(docs, tmp_path, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "PAGES", {"one.md": lambda: "text\n"})
    assert docs.main(["--check"]) == 1
    assert "docs/one.md" in capsys.readouterr().err
    assert not (tmp_path / "docs" / "one.md").exists()
    assert docs.main([]) == 0
    assert (tmp_path / "docs" / "one.md").read_text() == "text\n"
    assert docs.main(["--check"]) == 0
