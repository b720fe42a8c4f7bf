"""`kdrobust list GROUP`: what can be chosen, read from the headers of the YAML files. No torch, no Hydra."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdrobust.config.paths import search_folders
from kdrobust.config.suggest import available, did_you_mean
from kdrobust.errors import UsageError
from kdrobust.headers import header_lines, read_header

_LOSS_FILES = (
    "prediction.py",
    "knowledge.py",
    "decoupled.py",
    "correlation.py",
    "tempered.py",
    "distances.py",
    "classwise.py",
    "features.py",
    "relations.py",
)
#: What stands in these files beside losses.
NO_LOSSES = ("match_size", "class_weights", "class_temperatures", "FairClassWeights")
#: No choices: Hydra's own groups, a machine's settings, and what `kdrobust search wandb` made.
_HIDDEN = ("hydra", "local", "wandb_sweep")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One thing that can be chosen.

    Attributes:
        name: as on the command line.
        summary: one line.
        provider: whose it is: `kdrobust`, `you`, or a pack's name.
        path: where it is written.
    """

    name: str
    summary: str
    provider: str
    path: Path


def _scan(folder: Path, provider: str, pattern: str) -> list[Option]:
    options = []
    for path in sorted([*folder.glob(f"{pattern}.yaml"), *folder.glob(f"{pattern}.yml")]):
        name = path.relative_to(folder).with_suffix("")
        if not any(part[0] in "._" for part in name.parts) and path.is_file():
            first = header_lines(path)
            options.append(
                Option(name=name.as_posix(), summary=first[0] if first else "", provider=provider, path=path)
            )
    return options


def options(group: str, extra: Path | None = None) -> list[Option]:
    """The options of a group over the whole search path; the user's own hide equally named ones.

    Options in folders of a group are named by their path, as Hydra has it: `paper/rslad_cifar10_resnet18`.

    Args:
        group: a folder under `conf/`; empty for the primary configs.
        extra: a further config folder (`--config-dir`).
    """
    found: dict[str, Option] = {}
    for folder in search_folders(extra):
        for option in _scan(folder.path / group, folder.provider, "**/*" if group else "*"):
            found.setdefault(option.name, option)
    return sorted(found.values(), key=lambda option: (option.name.count("/"), option.name))


def stages(extra: Path | None = None) -> list[Option]:
    """The primary configs: kdrobust's in their order of use, then the user's."""
    order = ("pipeline", "teacher", "outputs", "distill", "evaluate", "export", "prune")
    found = options("", extra)
    return sorted(found, key=lambda stage: order.index(stage.name) if stage.name in order else len(order))


def config_dir_argument(arguments: Sequence[str]) -> Path | None:
    """The folder of Hydra's `--config-dir` flag among a stage's arguments, if it is one."""
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            value = value or (arguments[index + 1] if index + 1 < len(arguments) else "")
            return Path(value).absolute() if Path(value).is_dir() else None
    return None


def groups(extra: Path | None = None) -> list[str]:
    """Every group with at least one option."""
    names = set()
    for folder in search_folders(extra):
        if folder.path.is_dir():
            names |= {child.name for child in folder.path.iterdir() if child.is_dir() and child.name[0] not in "._"}
    return sorted(name for name in names - set(_HIDDEN) if options(name, extra))


def losses() -> list[Option]:
    """The losses of kdrobust's files, functions and classes with state, read without importing them."""
    found = []
    folder = Path(__file__).parent / "losses"
    for name in _LOSS_FILES:
        path = folder / name
        if not path.is_file():
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            if not node.name.startswith("_") and node.name not in NO_LOSSES:
                lines = (ast.get_docstring(node) or "").splitlines()
                # formulas are for the docs; a terminal shows the words before them
                summary = lines[0].partition("$")[0].rstrip(" :,") if lines else ""
                found.append(Option(name=node.name, summary=summary, provider="kdrobust", path=path))
    return found


def find_group(word: str, extra: Path | None = None) -> str:
    """`methods` or `method` to `method`.

    Args:
        word: what was asked for.
        extra: a further config folder.

    Raises:
        UsageError: no such group.
    """
    known = groups(extra)
    forms = [word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ies") + "y", f"{word}s"]
    if word in ("dataset", "datasets"):
        forms.append("data")
    for form in forms:
        if form in known:
            return form
    names = sorted({*(_plural(name) for name in known), "losses", "stages"})
    raise UsageError(f"list {word}: no such group{did_you_mean(word, [*names, *known])}; groups: {available(names)}")


def _plural(group: str) -> str:
    if group.endswith("s") or group in ("data", "debug"):
        return group
    return group + ("es" if group.endswith("ch") else "s")


def table(found: Sequence[Option]) -> str:
    """Names and summaries in two columns, the user's own marked."""
    width = max((len(option.name) for option in found), default=0)
    lines = []
    for option in found:
        mark = {"kdrobust": "", "you": " (yours)"}.get(option.provider, f" (from {option.provider})")
        lines.append(f"  {option.name:<{width}}  {option.summary}{mark}".rstrip())
    return "\n".join(lines)


def method_table(found: Sequence[Option]) -> str:
    """Methods with paper, year, what they need and what a training step costs, one line each."""
    rows = [("METHOD", "PAPER", "YEAR", "NEEDS", "PASSES", "WHAT IT IS")]
    for option in found:
        header = read_header(option.path)
        passes = header.student_passes
        mine = "" if option.provider == "kdrobust" else f" ({'yours' if option.provider == 'you' else option.provider})"
        paper = header.paper.removesuffix(str(header.year or "")).strip().rstrip(",")
        needs = header["Needs"].split(";")[0].replace("nothing", "-") or "?"
        rows.append(
            (
                option.name,
                paper or "-",
                str(header.year or "-"),
                needs,
                str(passes if passes is not None else "?"),
                f"{header.summary}{mine}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    return "\n".join(f"  {line}" for line in lines)


def render(arguments: Sequence[str]) -> str:
    """What `kdrobust list ARGUMENTS` prints.

    Raises:
        UsageError: no such group, or more than one.
    """
    extra = config_dir_argument(arguments)
    arguments = [text for text in arguments if not text.startswith(("--config-dir", "-cd"))]
    arguments = [text for text in arguments if extra is None or Path(text).absolute() != extra]
    if len(arguments) > 1:
        raise UsageError(f"list {' '.join(arguments)}: one group at a time")
    if not arguments:
        counts = {_plural(name): len(options(name, extra)) for name in groups(extra)}
        counts |= {"losses": len(losses()), "stages": len(stages(extra))}
        width = max(map(len, counts))
        lines = [f"  {name:<{width}}  {count}" for name, count in sorted(counts.items())]
        return "\n".join(["kdrobust list GROUP, where GROUP is one of", *lines])
    if arguments[0] in ("loss", "losses"):
        return f"{table(losses())}\nuse one: method.terms.NAME.loss=..., or in your own conf/method/NAME.yaml"
    if arguments[0] in ("stage", "stages"):
        return f"{table(stages(extra))}\nuse one: kdrobust STAGE"
    group = find_group(arguments[0], extra)
    if group == "method":
        note = (
            "NEEDS: clean = the teacher's answers to clean inputs, stored ones suffice; live = it is also asked about "
            "attacked inputs\nPASSES: of the student in a training step (forward and backward), attack included"
        )
        return f"{method_table(options(group, extra))}\n{note}\nuse one: method=NAME; your own: ./conf/method/NAME.yaml"
    spellings = {"model": "model@student=NAME, model@teacher=NAME", "search": "-m search=NAME"}
    places = spellings.get(group, f"{group}=NAME")
    return f"{table(options(group, extra))}\nuse one: {places}; your own: ./conf/{group}/NAME.yaml"
