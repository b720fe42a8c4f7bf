"""docs/benchmark*.png: a picture a block, robust and clean accuracy with intervals over seeds, a panel a student."""

from __future__ import annotations

import hashlib
import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdrobust.benchmark.page import COMMITTED, picture
from kdrobust.benchmark.rows import Row, read_all, rows_of
from kdrobust.benchmark.statistics import Difference, Mean
from kdrobust.benchmark.suite import Block, read_suite
from kdrobust.benchmark.tables import own_attacks, percent, point, teachers_robust
from kdrobust.report import threat_text
from kdrobust.report.style import BLUE, CYCLE, GREY, VERMILLION, figure, percent_axis

#: Grids with fewer values an axis are dots, a row a point.
_AXIS = 3
#: Robust accuracies so far below all others that an axis for both would show no difference among the others.
_APART = 0.2
#: Of the title, bold, and of the note.
_LETTERS_AN_INCH = 9.5
_NOTE_LETTERS_AN_INCH = 13.0


def _drawn(results: Path) -> dict[str, tuple[Block, list[Row], str]]:
    """The blocks of the committed suite by their picture's name: their rows, and a hash of what is drawn of them."""
    suite = read_suite(COMMITTED)
    found = read_all(suite, results)
    drawn = {}
    for name, block in suite.blocks.items():
        rows = rows_of(suite, block, found[name])
        figures = [
            [block.question, row.method, row.student, row.values, row.means, row.differences, row.unreliable]
            for row in rows
        ]
        taught = [[record["teachers"] for record in row.records] for row in rows]
        digest = hashlib.sha256(repr([figures, taught]).encode()).hexdigest()
        drawn[picture(name)] = (block, rows, digest)
    return drawn


def stale(folder: Path, results: Path) -> list[str]:
    """The pictures in a folder that do not show what the records say; one of a block without records is one too."""
    from PIL import Image

    names = []
    for name, (_, rows, digest) in _drawn(results).items():
        path = folder / name
        if not rows or not path.is_file():
            current = not rows and not path.is_file()
        else:
            with Image.open(path) as image:
                current = image.info.get("Description") == digest
        if not current:
            names.append(name)
    return names


def redraw(folder: Path, results: Path) -> list[str]:
    """Draw what is stale of the committed suite; the picture of a block without records is removed.

    Returns:
        Names of the pictures that changed.

    Raises:
        RunFolderError: a PNG cannot be written.
    """
    names = stale(folder, results)
    for name, (block, rows, digest) in _drawn(results).items():
        if name in names and not rows:
            (folder / name).unlink(missing_ok=True)
        elif name in names:
            baseline = read_suite(COMMITTED).baseline if block.baseline is None else block.baseline
            draw(block, rows, folder / name, baseline=baseline, told=digest)
    return names


def draw(block: Block, rows: Sequence[Row], path: Path, *, baseline: str, told: str | None = None) -> None:
    """A block's picture: a line a method over a grid of one key, a map of a grid of two, dots otherwise.

    Args:
        block: whose question is the title.
        rows: its rows, a student's together.
        path: of the PNG.
        baseline: the method that others are compared with.
        told: kept in the file as its description.

    Raises:
        RunFolderError: the PNG cannot be written.
    """
    lengths = [len(values) for values in block.grid.values()]
    if len(lengths) == 1 and lengths[0] >= _AXIS:
        _lines(block, rows, path, told)
    elif len(lengths) == 2 and min(lengths) >= _AXIS:
        _maps(block, rows, path, told)
    else:
        _dots(block, rows, path, baseline, told)


def _dots(block: Block, rows: Sequence[Row], path: Path, baseline: str, told: str | None) -> None:
    """A dot a row with its t interval over seeds, the most robust on top; hollow: clean accuracy."""
    students = _students(rows)
    most = max(sum(row.student == student for row in rows) for student in students)
    with figure(path, width=2.6 + 4.0 * max(1.3, len(students)), height=1.4 + 0.22 * max(5, most), told=told) as drawn:
        axes = drawn.subplots(1, len(students), squeeze=False, sharex=True)[0]
        left = _left(rows)
        for axis, student in zip(axes, students, strict=True):
            mine = [row for row in rows if row.student == student][::-1]
            for height, row in enumerate(mine):
                colour, shape = _colour(row.difference), "s" if _alone(row) else "o"
                clean = _colour(row.differences["clean"])
                if left is not None and row.robust.value < left:
                    axis.text(
                        left + 0.004, height, f"◂ {percent(row.robust.value)} %", color=colour, va="center", fontsize=8
                    )
                else:
                    axis.plot(_ends(row.robust), [height, height], color=colour, linewidth=1.4)
                    axis.plot(row.robust.value, height, shape, color=colour, markersize=5)
                axis.plot(row.means["clean"].value, height, shape, color=clean, markersize=4, markerfacecolor="white")
            line = next((row.robust.value for row in mine if row.method == baseline and not row.values), None)
            if line is not None:
                axis.axvline(line, color="#444444", linewidth=0.8, linestyle=":")
            axis.set_yticks(range(len(mine)), [_named(row) for row in mine])
            axis.tick_params(axis="y", labelsize=8.5)
            percent_axis(axis.xaxis)
            axis.grid(axis="x")
            axis.set_ylim(-0.6, len(mine) - 0.4)
            axis.set_title(_titled(mine))
        if left is not None:
            axes[0].set_xlim(left=left)
        against = sorted({row.against for row in rows if row.difference and row.difference.corrected is not None})
        marks = [
            _bars(rows),
            "squares: no teacher given",
            *([f"dotted: {baseline}"] if any(row.method == baseline and not row.values for row in rows) else []),
            *([f"blue above, orange below {' or '.join(against)} beyond noise (Holm, 5 %)"] if against else []),
            *(["◂ not on the axis"] if left is not None else []),
        ]
        _frame(drawn, block, f"filled: robust ({_terms(rows)}), hollow: clean\n{'; '.join(marks)}")


def _left(rows: Sequence[Row]) -> float | None:
    """Where the axis of dots begins if rows far below all others are left of it; None where there are none.

    Clean accuracies are on it in any case.
    """
    ranked = sorted(rows, key=lambda row: -row.robust.value)
    for place, (above, below) in enumerate(itertools.pairwise(ranked), start=1):
        if above.robust.value - below.robust.value > _APART:
            shown = [end for row in ranked[:place] for end in _ends(row.robust)]
            return min(*shown, *(row.means["clean"].value for row in ranked)) - 0.04
    return None


def _lines(block: Block, rows: Sequence[Row], path: Path, told: str | None) -> None:
    """A line a method over the values of a grid's one key: robust accuracy with its t interval, and clean accuracy."""
    ((key, values),) = block.grid.items()
    students, methods = _students(rows), sorted({row.method for row in rows})
    with figure(path, width=2.6 + 4.0 * max(1.3, len(students)), height=4.4, told=told) as drawn:
        axes = drawn.subplots(1, len(students), squeeze=False, sharey=True)[0]
        for axis, student in zip(axes, students, strict=True):
            at = {(row.method, row.values[key]): row for row in rows if row.student == student}
            for place, (method, colour) in enumerate(zip(methods, itertools.cycle(CYCLE), strict=False)):
                known = [(x, at[method, value]) for x, value in enumerate(values) if (method, value) in at]
                # side by side, or the intervals hide each other
                across = [x + 0.08 * (place - (len(methods) - 1) / 2) for x, _ in known]
                axis.plot(
                    across, [row.robust.value for _, row in known], "o-", color=colour, label=method, markersize=5
                )
                axis.plot(
                    across,
                    [row.means["clean"].value for _, row in known],
                    "o:",
                    color=colour,
                    markerfacecolor="white",
                    markersize=4,
                )
                for x, (_, row) in zip(across, known, strict=True):
                    axis.plot([x, x], _ends(row.robust), color=colour, linewidth=1.2)
            axis.set_xticks(range(len(values)), [_tick(value, student, rows, key) for value in values])
            axis.set_xlabel(key)
            axis.set_ylim(0.0, 1.0)
            percent_axis(axis.yaxis)
            axis.grid(axis="y")
            axis.set_title(_titled([row for row in rows if row.student == student]))
        axes[-1].legend(loc="lower left")
        note = f"filled: robust ({_terms(rows)}), hollow: clean\n{_bars(rows)}"
        _frame(drawn, block, note)


def _maps(block: Block, rows: Sequence[Row], path: Path, told: str | None) -> None:
    """A map a method and student over the values of a grid's two keys: robust accuracy, and clean accuracy small."""
    (down, lows), (across, highs) = block.grid.items()
    panels = list(dict.fromkeys((row.student, row.method) for row in rows))
    values = [row.robust.value for row in rows]
    with figure(path, width=max(6.8, 5.2 * len(panels)), height=1.6 + 0.75 * len(lows), told=told) as drawn:
        axes = drawn.subplots(1, len(panels), squeeze=False)[0]
        for axis, (student, method) in zip(axes, panels, strict=True):
            mine = [row for row in rows if (row.student, row.method) == (student, method)]
            at = {(row.values[down], row.values[across]): row for row in mine}
            cells = [
                [at[low, high].robust.value if (low, high) in at else float("nan") for high in highs] for low in lows
            ]
            axis.imshow(cells, cmap="viridis", vmin=min(values), vmax=max(values), aspect="auto")
            middle = (min(values) + max(values)) / 2
            for (low, high), row in at.items():
                axis.text(
                    highs.index(high),
                    lows.index(low),
                    f"{percent(row.robust.value)}\nclean {percent(row.means['clean'].value)}",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if row.robust.value < middle else "black",
                )
            axis.set_xticks(range(len(highs)), highs)
            axis.set_yticks(range(len(lows)), lows)
            axis.set_xlabel(across)
            axis.set_ylabel(down)
            axis.set_title(f"{method}, {_titled(mine)}")
        _frame(drawn, block, f"robust, in % ({_terms(rows)}), clean below it; means over {_seeds(rows)}")


def _frame(drawn: Any, block: Block, note: str) -> None:
    title = textwrap.fill(block.question, int(_LETTERS_AN_INCH * drawn.get_figwidth()))
    drawn.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    wide = int(_NOTE_LETTERS_AN_INCH * drawn.get_figwidth())
    note = "\n".join(textwrap.fill(line, wide) for line in note.splitlines())
    drawn.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color="#444444")


def _students(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.student for row in rows))


def _titled(rows: Sequence[Row]) -> str:
    return f"{rows[0].student}: {rows[0].records[0]['parameters']:,} parameters"


def _terms(rows: Sequence[Row]) -> str:
    records = [record for row in rows for record in row.records]
    threats = sorted((record["threat"]["norm"], record["threat"]["eps"]) for record in records)
    told = threat_text(records[0]["threat"])
    if threats[0] != threats[-1]:
        told = f"{told.partition(',')[0]}, ε from {threats[0][1]:g} to {threats[-1][1]:g}"
    return f"{told}; worst of {', '.join(own_attacks(records[0]))}; n = {records[0]['n']:,}"


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({row.robust.n for row in rows})
    return f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seed{'s' * (counts[0] > 1)}"


def _bars(rows: Sequence[Row]) -> str:
    counts = {row.robust.n for row in rows}
    return "one seed, no intervals" if counts == {1} else f"bars: 95 % t intervals over {_seeds(rows)}"


def _named(row: Row) -> str:
    return " ".join([row.method, *point(row)]) + (" †" if row.unreliable else "")


def _tick(value: str, student: str, rows: Sequence[Row], key: str) -> str:
    """A value of the axis, with its teacher's robust accuracy where the axis is about teachers."""
    if not key.startswith("teacher"):
        return value
    records = [record for row in rows if row.student == student and row.values[key] == value for record in row.records]
    robust = [strength for record in records if (strength := teachers_robust(record)) is not None]
    return f"{value}\nteacher {percent(sum(robust) / len(robust))} %" if robust else value


def _ends(mean: Mean) -> list[float]:
    ends = (mean.value if end is None else end for end in (mean.low, mean.high))
    return [min(1.0, max(0.0, end)) for end in ends]


def _alone(row: Row) -> bool:
    return not any(record["teachers"] for record in row.records)


def _colour(difference: Difference | None) -> str:
    if difference is None or not difference.beyond_noise:
        return GREY
    return BLUE if difference.value > 0 else VERMILLION
