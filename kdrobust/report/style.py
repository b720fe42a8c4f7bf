"""How kdrobust's plots look: colours that colour-blind readers can tell apart, one font size, files written whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdrobust.tracking.atomic import write_bytes

#: Okabe & Ito's palette (2008), without its yellow, which is too pale for lines on white.
BLUE, ORANGE, VERMILLION, GREEN, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#6B6B6B",
)
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)

_RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
}


@contextmanager
def figure(path: str | Path, *, width: float, height: float, told: str | None = None) -> Iterator[Any]:
    """A figure to draw on; written as PNG in one step when the block ends.

    Args:
        path: of the PNG.
        width: in inches, at 150 dots an inch.
        height: in inches.
        told: kept in the file as its description.

    Raises:
        RunFolderError: the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # no pyplot: no global state, no window, nothing to close
    with mpl.rc_context(_RC):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        buffer = io.BytesIO()
        # no software stamp: the same figures give the same bytes
        drawn.savefig(buffer, format="png", dpi=150, metadata={"Software": None, "Description": told})
    write_bytes(path, buffer.getvalue())


def percent_axis(axis: Any) -> None:
    """Shares on an axis as per cent: `60 %`, and `62.5 %` where its ticks are that close, none of them rounded.

    Args:
        axis: a matplotlib axis, `axes.xaxis` or `axes.yaxis`.
    """
    from matplotlib.ticker import FuncFormatter

    # digits that only floating point has are cut
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g} %"))
