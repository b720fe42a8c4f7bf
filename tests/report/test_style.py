"""How plots look."""

import pytest
from matplotlib.figure import Figure

from kdrobust.errors import RunFolderError
from kdrobust.report.style import figure, percent_axis


@pytest.mark.parametrize(
    ("ticks", "told"),
    [
        ([0.6, 0.625, 0.65], ["60 %", "62.5 %", "65 %"]),
        ([0.0, 0.1 + 0.2, 1.0], ["0 %", "30 %", "100 %"]),
        ([-0.05, 0.0], ["-5 %", "0 %"]),
    ],
)
def test_ticks_are_per_cent_and_not_rounded(ticks, told):
    axes = Figure().subplots()
    axes.set_xticks(ticks)
    percent_axis(axes.xaxis)
    assert [label.get_text() for label in axes.get_xticklabels()] == told


def test_a_figure_is_written_whole_with_its_description(tmp_path):
    from PIL import Image

    path = tmp_path / "one.png"
    with figure(path, width=2, height=1, told="what was drawn") as drawn:
        drawn.subplots().plot([0, 1])
    with Image.open(path) as image:
        assert image.size == (300, 150)
        assert image.text["Description"] == "what was drawn"


def test_a_figure_that_cannot_be_drawn_or_written_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), figure(tmp_path / "one.png", width=2, height=1):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError), figure(tmp_path / "file" / "one.png", width=2, height=1):
        pass
