"""The page about the trust checks is the one their list makes."""

from dataclasses import fields
from pathlib import Path

from kdrobust.evaluation import CheckSettings
from kdrobust.evaluation.checks import REGISTRY
from kdrobust.evaluation.checks.document import PAGE, markdown

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_page_is_up_to_date():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == markdown(), "run scripts/docs.py"


def test_every_check_and_every_setting_has_its_line():
    lines = markdown().splitlines()
    for check in REGISTRY.values():
        (line,) = (line for line in lines if line.startswith(f"| {check.id} |"))
        assert check.definition in line
        assert line.count("|") == 6
        assert f"| {check.severity} |" in line
    for setting in fields(CheckSettings):
        (line,) = (line for line in lines if line.startswith(f"| `{setting.name}` |"))
        assert len(line) > 40


def test_severity_is_what_the_definition_says():
    for check in REGISTRY.values():
        says = "fail" if "ail" in check.definition else "warn"
        assert check.severity == says, check.id
    assert {check.id for check in REGISTRY.values() if check.severity == "warn"} == {"S7", "S8", "S10", "S16"}
    assert sorted(int(id[1:]) for id in REGISTRY) == list(range(19))
