"""What the benchmark's pictures show: dots, lines and maps of rows that nobody trained."""

import matplotlib.figure
import pytest

from kdrobust.benchmark import plot
from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.rows import rows_of
from tests.benchmark.suites import record, suite, teacher


@pytest.fixture
def drawn(monkeypatch):
    """The figures as they are saved."""
    figures = []
    savefig = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda self, *args, **more: figures.append(self) or savefig(self, *args, **more),
    )
    return figures


@pytest.mark.parametrize(
    "grid",
    [{}, {"teacher.width": [1, 2, 4]}, {"threat.eps": [0.1, 0.2, 0.3]}, {"a.b": [1, 2, 3], "a.c": [1, 2, 3, 4]}],
    ids=["dots", "ladder", "line", "map"],
)
def test_every_form_shows_what_is_measured(tmp_path, drawn, grid):
    """What is written on the picture: as many ticks and cells as the block has values, methods by name."""
    node = {"question": "Why " * 40 + "not?", "methods": ["pgd_at", "gentle"], "students": ["small"], "grid": grid}
    made = suite(blocks={"main": {"question": "Who?"}, "asked": node})
    block = made.blocks["asked"]

    def told(job):
        return {"threat": {"norm": "linf", "eps": float(job.values.get("threat.eps", 0.1))}} | (
            {"teachers": {"teacher": teacher()}} if job.method == "gentle" else {}
        )

    rows = rows_of(made, block, [record(job, **told(job)) for job in jobs_of(made, block)])
    plot.draw(block, rows, tmp_path / "one.png", baseline="pgd_at", told="this")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    (axes, *others) = drawn[0].axes
    labels = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    texts = [text.get_text() for text in axes.texts]
    if not grid:
        assert {"pgd_at", "gentle"} <= set(labels)
    elif len(grid) == 2:
        assert (len(others), len(texts)) == (1, 12)
        assert set(texts) == {"60.0\nclean 90.0"}
    else:
        (values,) = grid.values()
        assert [line.get_label() for line in axes.get_legend().get_lines()] == ["gentle", "pgd_at"]
        known = "\nteacher 80.0 %" if "teacher.width" in grid else ""
        assert labels[:3] == [f"{value}{known}" for value in values]
    title = drawn[0]._suptitle.get_window_extent(drawn[0].canvas.get_renderer())
    assert title.x1 <= drawn[0].bbox.x1
    assert drawn[0]._supxlabel.get_window_extent(drawn[0].canvas.get_renderer()).x1 <= drawn[0].bbox.x1
    note = " ".join(drawn[0]._supxlabel.get_text().split())
    assert ("ℓ∞, ε from 0.1 to 0.3" if "threat.eps" in grid else "ℓ∞, ε = 0.1") in note
    assert "3 seeds" in note


def dots(made, robust, path, **more):
    """A picture of block `main` by robust counts, a method each, of three seeds that are one apart."""
    block = made.blocks["main"]
    found = [record(job, robust=robust[job.method] + job.seed, **more) for job in jobs_of(made, block)]
    plot.draw(block, rows_of(made, block, found), path, baseline="pgd_at")


def test_who_is_far_below_stands_beside_the_axis_with_its_figure(tmp_path, drawn):
    dots(suite(), {"pgd_at": 60, "gentle": 57, "standard": 2}, tmp_path / "one.png")
    for axis in drawn[0].axes:
        left = axis.get_xlim()[0]
        assert 0.45 < left < 0.555, "below the interval of the least robust of the others: 55.5 to 60.5"
        assert [text.get_text() for text in axis.texts] == ["◂ 3.0 %"]
        named = [label.get_text() for label in axis.get_yticklabels()]
        assert named[round(axis.texts[0].get_position()[1])] == "standard"
        filled = [line for line in axis.lines if line.get_marker() == "s" and line.get_markersize() == 5]
        assert sorted(round(float(line.get_xdata()[0]), 2) for line in filled) == [0.58, 0.61]
        hollow = [line for line in axis.lines if line.get_marker() == "s" and line.get_markersize() == 4]
        assert len(hollow) == 3, "clean accuracy of all of them"
    assert "◂ not on the axis" in drawn[0]._supxlabel.get_text()


def test_no_clean_accuracy_is_beside_the_axis(tmp_path, drawn):
    dots(suite(), {"pgd_at": 60, "gentle": 57, "standard": 2}, tmp_path / "one.png", clean=30)
    assert all(0.2 < axis.get_xlim()[0] < 0.3 for axis in drawn[0].axes)
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["◂ 3.0 %"]


def test_who_is_not_far_below_stands_on_the_axis(tmp_path, drawn):
    dots(suite(), {"pgd_at": 60, "gentle": 50, "standard": 40}, tmp_path / "one.png")
    for axis in drawn[0].axes:
        assert not axis.texts
        assert axis.get_xlim()[0] < 0.4
    note = " ".join(drawn[0]._supxlabel.get_text().split())
    assert "not on the axis" not in note
    assert "blue above, orange below pgd_at beyond noise (Holm, 5 %)" in note
