"""The generated pages are what the sources say now."""

import importlib.util
import re
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


def test_every_fault_of_the_table_names_a_test_that_is_there():
    tests = SCRIPT.parents[1] / "tests"
    named = re.findall(
        r"`((?:tests/|test_)[\w/.]+)`", (SCRIPT.parents[1] / "docs" / "faults.md").read_text(encoding="utf-8")
    )
    sources = [path.read_text(encoding="utf-8") for path in tests.rglob("test_*.py")]
    assert len(named) > 20
    missing = [
        name
        for name in named
        if not (
            (tests.parent / name).exists() if name.startswith("tests/") else any(f"def {name}(" in s for s in sources)
        )
    ]
    assert missing == []
