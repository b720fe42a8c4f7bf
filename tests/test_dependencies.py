"""Every dependency has a lower and an upper bound, and the pinned versions lie between them."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAMED = [
    *PROJECT["build-system"]["requires"],
    *PROJECT["project"]["dependencies"],
    *(line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra),
]
#: What builds the package is not part of it.
BUILD = set(PROJECT["build-system"]["requires"])


def bounds(specifier: SpecifierSet) -> tuple[bool, bool]:
    operators = {clause.operator for clause in specifier}
    return bool(operators & {">=", "==", "~="}), bool(operators & {"<", "<=", "==", "~="})


@pytest.mark.parametrize("line", [line for line in NAMED if line not in BUILD])
def test_both_bounds(line):
    assert bounds(Requirement(line).specifier) == (True, True)


def test_a_missing_bound_is_found():
    assert bounds(SpecifierSet(">=1")) == (True, False)
    assert bounds(SpecifierSet("<2")) == (False, True)


def test_pinned_versions_lie_within_the_bounds():
    pins = dict(
        line.split("==")
        for line in map(str.strip, (ROOT / "constraints.txt").read_text().splitlines())
        if "==" in line and not line.startswith("#")
    )
    found = [requirement for requirement in map(Requirement, NAMED) if requirement.name in pins]
    assert len(found) >= 10
    wrong = [str(each) for each in found if not each.specifier.contains(pins[each.name].split(";")[0].strip())]
    assert wrong == []
