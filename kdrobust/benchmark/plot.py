"""docs/benchmark.png: every method's robust accuracy with its interval, a panel a student."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from kdrobust.benchmark.page import COMMITTED
from kdrobust.benchmark.rows import Row, read_all, rows_of
from kdrobust.benchmark.suite import read_suite
from kdrobust.report import threat_text
from kdrobust.report.style import BLUE, GREY, VERMILLION, figure


def _drawn(results: Path) -> tuple[list[Row], str]:
    """The rows of the main block, and a hash of what is drawn of them."""
    suite = read_suite(COMMITTED)
    rows = rows_of(suite, suite.blocks["main"], read_all(suite, results)["main"])
    figures = [[row.method, row.student, row.robust, row.clean, row.p, row.unreliable] for row in rows]
    return rows, hashlib.sha256(repr(figures).encode()).hexdigest()


def is_current(path: Path, results: Path) -> bool:
    """Whether a PNG shows what the records say; where there are none, whether there is no PNG."""
    from PIL import Image

    rows, digest = _drawn(results)
    if not rows or not path.is_file():
        return not rows and not path.is_file()
    with Image.open(path) as image:
        return bool(image.info.get("Description") == digest)


def redraw(path: Path, results: Path) -> None:
    """Draw the main block of the committed suite; without records, remove the PNG.

    Raises:
        RunFolderError: the PNG cannot be written.
    """
    rows, digest = _drawn(results)
    if not rows:
        path.unlink(missing_ok=True)
        return
    suite = read_suite(COMMITTED)
    draw(rows, path, baseline=suite.baseline, title=suite.blocks["main"].question, told=digest)


def draw(rows: Sequence[Row], path: Path, *, baseline: str, title: str, told: str | None = None) -> None:
    """A dot a method with its t interval over seeds, the most robust on top; hollow: clean accuracy.

    Args:
        rows: of one block, a student's together.
        path: of the PNG.
        baseline: whose mean is the line; methods that differ from it beyond seed noise are coloured.
        title: what is shown.
        told: kept in the file as its description.

    Raises:
        RunFolderError: the PNG cannot be written.
    """
    from matplotlib.ticker import PercentFormatter

    students = list(dict.fromkeys(row.student for row in rows))
    most = max(sum(row.student == student for row in rows) for student in students)
    with figure(path, width=5.2 * len(students), height=1.4 + 0.22 * most, told=told) as drawn:
        axes = drawn.subplots(1, len(students), squeeze=False, sharex=True)[0]
        for axis, student in zip(axes, students, strict=True):
            mine = [row for row in rows if row.student == student][::-1]
            for height, row in enumerate(mine):
                mean = row.robust
                ends = (mean.value if end is None else end for end in (mean.low, mean.high))
                low, high = (min(1.0, max(0.0, end)) for end in ends)
                colour = _colour(row)
                axis.plot([low, high], [height, height], color=colour, linewidth=1.4)
                axis.plot(mean.value, height, "o", color=colour, markersize=5)
                axis.plot(row.clean.value, height, "o", color=colour, markersize=4, markerfacecolor="white")
            line = next((row.robust.value for row in mine if row.method == baseline), None)
            if line is not None:
                axis.axvline(line, color="#444444", linewidth=0.8, linestyle=":")
            axis.set_yticks(range(len(mine)), [row.method + (" †" if row.unreliable else "") for row in mine])
            axis.tick_params(axis="y", labelsize=8.5)
            axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
            axis.grid(axis="x")
            axis.margins(y=0.02)
            parameters = mine[0].records[0]["parameters"]
            axis.set_title(f"{student}: {parameters:,} parameters")
        drawn.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        first, seeds = rows[0].records[0], max(row.robust.n for row in rows)
        attacks = ", ".join(name for name in first["attacks"] if "_from_" not in name)
        note = (
            f"filled: robust ({threat_text(first['threat'])}; worst of {attacks}), hollow: clean; n = {first['n']:,}\n"
            f"bars: 95 % t intervals over {seeds} seeds; dotted: {baseline}; colour: differs from it (Holm, 5 %)"
        )
        drawn.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color="#444444")


def _colour(row: Row) -> str:
    if row.difference is None or not row.beyond_noise:
        return GREY
    return BLUE if row.difference.value > 0 else VERMILLION
