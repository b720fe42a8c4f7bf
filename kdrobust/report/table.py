"""The comparison of models as a table: for the terminal, as Markdown, as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from kdrobust.report.details import detail_lines, detail_notes, detail_of, w_robust_of
from kdrobust.report.markdown import markdown_table
from kdrobust.report.rows import Figure, Row, attack_texts, attack_title, read_row, threat_text
from kdrobust.tracking.csv_file import csv_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
    from rich.table import Table

_MARK = "†"
#: Letters of a model's name that a narrow terminal leaves it in a line.
_NAME = 24
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def human(count: float | None) -> str:
    """A count with a unit: 151.2 k, 3.4 M; a dash where it is unknown."""
    if count is None:
        return "–"
    # 999,950 and more would round to 1000.0 k: that is 1.0 M
    for size, unit in _UNITS:
        if count >= 0.99995 * size:
            return f"{count / size:.1f} {unit}"
    return f"{count:g}"


def accuracy_text(figure: Figure, *, interval: bool = False) -> str:
    """An accuracy in per cent: `56.5`, with seeds `56.5 ± 0.8`, with its interval `56.5 [53.4–59.5]`."""
    text = f"{100 * figure.mean:.1f}"
    text += spread_text(figure.std)
    if interval:
        # without a space inside, so that a narrow terminal breaks the line before it
        text += f" [{100 * figure.interval[0]:.1f}–{100 * figure.interval[1]:.1f}]"
    return text


def spread_text(std: float | None) -> str:
    """The seeds' spread in points, ` ± 0.8`; nothing of one seed, or of equal figures, which do not tell it."""
    if not std:
        return ""
    points = 100 * std
    return f" ± {points:.1f}" if points >= 0.05 else f" ± {points:.1g}"


def _keys(rows: Sequence[Row]) -> list[str]:
    keys = list(dict.fromkeys(key for row in rows for key in row.figures if key != "worst_case"))
    # beside one iterative attack the worst case mostly says what that attack does
    below = any(
        row.figures["worst_case"].mean < row.figures[keys[-1]].mean
        for row in rows
        if {"worst_case", keys[-1]} <= row.figures.keys()
    )
    return [*keys, "worst_case"] if len(keys) > 3 or below else keys


def _cells(row: Row, keys: Sequence[str]) -> list[str]:
    last = [key for key in keys if key in row.figures][-1:]
    cells = [f"{row.name} {_MARK}" if row.reasons else row.name, human(row.parameters), human(row.flops)]
    for key in keys:
        known = key in row.figures
        cells.append(accuracy_text(row.figures[key], interval=key in last) if known else "–")
    return [*cells, f"{row.n:,}"]


def _headers(keys: Sequence[str], rows: Sequence[Row]) -> list[str]:
    confidence = f"{100 * float(rows[0].setting['confidence']):g} % CI"
    titles = [attack_title(key) for key in keys]
    titles[-1] += f" [{confidence}]"
    return ["model", "parameters", "FLOPs", *titles, "n"]


def footnotes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know to believe the table: threat, attacks, samples, seeds, verdict of the trust checks."""
    read = [read_row(row) for row in rows]
    if not read:
        return []
    lines = ["Accuracies in per cent of all n samples; wrong without attack counts as broken."]
    threats = dict.fromkeys(threat_text(row.setting["threat"]) for row in read)
    lines.append("Threat: " + "; ".join(threats) + ".")
    lines += _trained_for(rows)
    attacks: dict[str, list[Mapping[str, Any]]] = {}
    for row in read:
        for key, value in row.setting["attacks"].items():
            attacks.setdefault(key, []).append(value["spec"])
    lines.append("Attacks: " + "; ".join(attack_texts(key, specs) for key, specs in attacks.items()) + ".")
    lines += [
        f"{attack_title(key)} on {row.name} broke "
        + ", ".join(f"{count} by {name}" for name, count in entry["broken_by"].items())
        + "."
        for row in read
        for key, entry in row.setting["attacks"].items()
        if entry.get("broken_by") and row.seeds == 1
    ]
    confidence = f"{100 * float(read[0].setting['confidence']):g} %"
    spread = f"[low–high]: {confidence} Wilson interval over the samples"
    seeds = sorted({row.seeds for row in read if row.seeds > 1})
    if seeds:
        spread += f"; ±: standard deviation over {' or '.join(map(str, seeds))} seeds"
    lines.append(spread + ".")
    lines += detail_notes(read)
    lines.append(_verdict(read))
    lines += [f"{_MARK} {row.name}: unreliable: {reason}" for row in read for reason in row.reasons]
    return lines


def _trained_for(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a model that was trained against another threat than any it is measured under."""
    measured: dict[tuple[str, str], tuple[str, bool]] = {}
    for row in rows:
        result = row["results"][0]
        trained = result.get("trained_for")
        if trained:
            told, name = threat_text(trained), row["name"]
            # at several radii a model has a row each, named after it and its threat
            model = (result.get("checkpoint") or {}).get("sha256") or name, told
            shown, known = measured.get(model, (name, False))
            shown = shown if shown == name else name.partition(" (")[0]
            measured[model] = shown, known or told == threat_text(result["evaluation"]["threat"])
    return [
        f"{name} was trained against another threat: {threat}."
        for (_, threat), (name, same) in measured.items()
        if not same
    ]


def _verdict(rows: Sequence[Row]) -> str:
    failed = [row.name for row in rows if row.reasons]
    unchecked = [row.name for row in rows if not row.checked and not row.reasons]
    warned = [
        f"{row.name} ({', '.join(dict.fromkeys(line.split()[0] for line in row.warnings))})"
        for row in rows
        if row.warnings and row.checked and not row.reasons
    ]
    parts = []
    if failed:
        parts.append(f"failed for {', '.join(failed)} ({_MARK})")
    if unchecked:
        parts.append(f"not run for {', '.join(unchecked)}")
    if warned:
        parts.append(f"passed with warnings for {', '.join(warned)}")
    if not parts:
        return "Trust checks: passed for every model."
    others = "; passed for the others" if len(failed) + len(warned) + len(unchecked) < len(rows) else ""
    return "Trust checks: " + "; ".join(parts) + others + "."


def comparison_table(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> Group:
    """The table and its footnotes for a terminal; hand it to `print_table`.

    Where the terminal is too narrow for all columns, model, clean accuracy, the last accuracy (the worst case) and n
    stay together, and what does not fit beside them follows in further tables.

    Args:
        rows: see `kdrobust.report.read_row`.
        title: above the table.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    read = [read_row(row) for row in rows]
    if not read:
        return Group()
    tables: list[RenderableType] = [_Stacked(read, title)]
    if details := detail_lines(read):
        second = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for place, header in enumerate(details[0]):
            second.add_column(Text(header), justify="right" if place else "left")
        for line in details[1:]:
            second.add_row(*(Text(cell) for cell in line), style="yellow" if line[0].endswith(_MARK) else None)
        tables.append(second)
    notes = [Text(line, style="yellow" if line.startswith(_MARK) else "dim") for line in footnotes(rows)]
    return Group(*tables, *notes)


class _Stacked:
    """Accuracies in as many tables as the terminal's width asks for.

    Args:
        rows: the models.
        title: above the first table.
    """

    def __init__(self, rows: Sequence[Row], title: str) -> None:
        keys = _keys(rows)
        self._title = title
        self._headers = [header.replace(" [", "\n[") for header in _headers(keys, rows)]
        self._lines = [_cells(row, keys) for row in rows]
        self._styles = ["yellow" if row.reasons else None for row in rows]
        # model, clean accuracy, worst case, n
        self._headline = [0, 3, len(self._headers) - 2, len(self._headers) - 1]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, columns in enumerate(self._parted(options.max_width)):
            yield self._table(columns, title=self._title if not number else "")

    def _parted(self, width: int) -> list[list[int]]:
        """Which columns stand in which table."""
        parts = [list(self._headline)]
        for place in range(len(self._headers)):
            if place in self._headline:
                continue
            if self._least([*parts[-1], place]) > width and len(parts[-1]) > 1:
                parts.append([0])
            parts[-1].append(place)
        return [sorted(set(part)) for part in parts]

    def _least(self, columns: Sequence[int]) -> int:
        """The width that some columns need, with the space between them."""
        from rich.cells import cell_len

        texts = {place: [self._headers[place], *(line[place] for line in self._lines)] for place in columns}
        needed = 0
        for place, column in texts.items():
            # a name and an interval may take several lines where the terminal is narrow, numbers may not
            pieces = [piece for text in column for piece in (text.split() if self._wraps(place) else text.split("\n"))]
            longest = max(map(cell_len, pieces))
            needed += min(longest, _NAME) if place == 0 else longest
        return needed + 2 * len(columns)

    def _wraps(self, place: int) -> bool:
        return place in (0, len(self._headers) - 2)

    def _table(self, columns: Sequence[int], *, title: str) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, collapse_padding=True
        )
        for place in columns:
            wraps = self._wraps(place)
            table.add_column(
                Text(self._headers[place]),
                justify="right" if place else "left",
                no_wrap=not wraps,
                min_width=12 if wraps else None,
                overflow="ellipsis" if place else "fold",
            )
        for line, style in zip(self._lines, self._styles, strict=True):
            # further tables are of attacks alone, which not every model has met
            if any(line[place] != "–" for place in columns[1:]):
                # Text, not markup: an interval's brackets are no style
                table.add_row(*(Text(line[place]) for place in columns), style=style)
        return table


def print_table(table: RenderableType, *, file: TextIO | None = None) -> None:
    """Print a table to the terminal; into a pipe or a file without colours and wide enough for every column.

    Args:
        table: what `comparison_table` gave.
        file: where to; None: standard output.
    """
    from rich.console import Console

    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(table)


def comparison_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table and its footnotes as Markdown text.

    Args:
        rows: see `kdrobust.report.read_row`.
    """
    read = [read_row(row) for row in rows]
    if not read:
        return ""
    keys = _keys(read)
    headers = _headers(keys, read)
    tables = [markdown_table([headers, *(_cells(row, keys) for row in read)])]
    if details := detail_lines(read):
        tables.append(markdown_table(details))
    return "\n\n".join(tables) + "\n\n" + "\n".join(f"- {line}" for line in footnotes(rows)) + "\n"


def comparison_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures as CSV text: one line a model and attack, shares in [0, 1], unrounded; unknown ones are empty.

    Args:
        rows: see `kdrobust.report.read_row`.
    """
    columns = ["model", "parameters", "flops", "norm", "eps", "attack", "n", "seeds", "accuracy", "std", "low", "high"]
    further = ["w_robust", "worst_class", "worst_class_accuracy", "ece", "nll"]
    table: list[list[Any]] = []
    for row in map(read_row, rows):
        threat = row.setting["threat"]
        for key, figure in row.figures.items():
            cost = [row.parameters, row.flops]
            spread = [figure.std, *figure.interval]
            where = [threat["norm"], threat["eps"], key, row.n, row.seeds]
            detail = detail_of(row, key)
            beside = (w_robust_of(row), detail.worst_class, detail.worst_accuracy, detail.ece, detail.nll)
            table.append([row.name, *cost, *where, figure.mean, *spread, str(bool(row.reasons)).lower(), *beside])
    return csv_text([*columns, "unreliable", *further], table)
