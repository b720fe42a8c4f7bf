"""The rules of the house, read off the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "kdrobust"

#: Rooms by height: a room imports from its own height only itself, and from lower ones.
HEIGHTS = (
    ("errors", "spec", "randomness", "version", "intervals"),
    ("config", "tracking", "headers", "refusal", "streams", "limits"),
    ("models", "data", "distributed", "transforms", "media"),
    ("losses", "attacks", "views", "serving"),
    ("modules", "evaluation", "sweeps", "report", "htmlreport", "conformance", "export", "detection"),
    ("stages",),
    (
        *("cli", "launch", "multirun", "shorthand", "resuming", "listing", "help", "doctor", "reproduce", "frontier"),
        "benchmark",
        *("loading", "__main__", "__init__"),
    ),
)
#: Exceptions to the order, each with its reason.
ALLOWED = {
    ("kdrobust/__init__.py", "version"),
}
#: Words that happen to be a method's name too, each with what they mean there.
HOMONYMS = {
    "kdrobust/attacks/external/autoattack.py": {"standard"},  # AutoAttack's version of that name
}
HEIGHT = {room: height for height, rooms in enumerate(HEIGHTS) for room in rooms}
ENTRY = HEIGHTS[-1]


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, also inside functions; kdrobust's with the room spelled out."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            if node.module == "kdrobust":
                yield from (f"kdrobust.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def rooms_imported(path: Path) -> set[str]:
    return {
        module.split(".")[1] for module in imported(path) if module.startswith("kdrobust.") and "__" not in module
    } - {room_of(path)}


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    assert room in HEIGHT, f"{room}: a new room needs its place in HEIGHTS"
    for other in rooms_imported(path):
        assert other in HEIGHT, f"{other}: a new room needs its place in HEIGHTS"
        if (name_of(path), other) in ALLOWED:
            continue
        if room in ENTRY:
            continue
        lower = HEIGHT[other] < HEIGHT[room]
        beside = HEIGHT[other] == HEIGHT[room] and not _leads_back(other, room)
        assert lower or beside, f"{name_of(path)} imports kdrobust.{other}, which lies beside or above it"


def _leads_back(start: str, goal: str) -> bool:
    """Whether a room's imports, followed within its height, reach another room."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        room = todo.pop()
        if room == goal:
            return True
        if room not in seen:
            seen.add(room)
            todo += [
                other
                for path in sources()
                if room_of(path) == room
                for other in rooms_imported(path)
                if HEIGHT.get(other) == HEIGHT[room]
            ]
    return False


@pytest.mark.parametrize("path", sorted((PACKAGE / "losses").glob("*.py")), ids=name_of)
def test_losses_import_only_torch(path: Path) -> None:
    import sys

    for module in imported(path):
        root = module.split(".")[0]
        assert root == "torch" or root in sys.stdlib_module_names or module.startswith("kdrobust.losses"), module


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_only_the_entries_import_stages(path: Path) -> None:
    if room_of(path) not in ("stages", *ENTRY):
        assert "stages" not in rooms_imported(path)


@pytest.mark.parametrize(
    "path", sorted([*sources(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]), ids=name_of
)
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", [path for path in sources() if path.name == "__init__.py"], ids=name_of)
def test_init_files_only_hand_on(path: Path) -> None:
    for node in tree_of(path).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
        assert docstring or names or isinstance(node, ast.ImportFrom | ast.Import), ast.unparse(node)[:80]


def method_names() -> set[str]:
    return {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml") if not path.stem.startswith("_")}


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_code_names_a_method(path: Path) -> None:
    if room_of(path) not in ("modules", "stages", "losses", "attacks", "views", "evaluation", "distributed"):
        return
    constants = {
        node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = (constants & method_names()) - HOMONYMS.get(name_of(path), set())
    assert not named, f"{name_of(path)} names {named}: what a method does is said in its YAML"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_public_things_are_explained(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), f"{name_of(path)}: what is this file for?"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name_of(path)}:{node.lineno}: {node.name}"


def committed() -> Iterator[Path]:
    for folder in ("kdrobust", "conf", "scripts", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if (
                path.suffix in (".py", ".yaml", ".yml", ".md", ".toml", "")
                and path.is_file()
                and "__pycache__" not in path.parts
            ):
                yield path
    yield from (path for path in ROOT.glob("*") if path.suffix in (".md", ".toml"))


def test_no_path_of_one_machine() -> None:
    pattern = re.compile(r"/(?:home|Users|root|work|workspace|mnt)/[\w.]")
    for path in committed():
        found = pattern.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)}: {found[0] if found else ''}"


def test_every_config_says_what_it_is() -> None:
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
        assert lines, path
        assert lines[0].startswith("# "), f"{path.relative_to(ROOT)}: begins with a comment that says what it is"
