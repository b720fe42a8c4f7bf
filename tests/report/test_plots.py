"""Plots: real PNG files of a readable size that show what the numbers say."""

import ast
import itertools
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from kdrobust import report
from kdrobust.errors import RunFolderError
from kdrobust.report import adversarial_grid, comparison, training_curves
from kdrobust.report.style import figure

HEADER = "epoch,step,lr-Adam,train/loss,train/terms/adversarial,train/terms/clean,val/accuracy,val/robust_accuracy\n"
ROWS = "0,10,0.001,2.2,2.3,2.0,0.30,0.10\n1,20,0.002,1.5,1.7,1.2,0.60,0.40\n2,30,0.001,1.2,1.4,1.0,0.70,0.35\n"


def size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.fixture
def drawn(monkeypatch):
    """Every figure drawn in the test, to look at what is on it."""
    from kdrobust.report import plots

    seen = []

    def spy(path, **sizes):
        context = figure(path, **sizes)

        class Spy:
            def __enter__(self):
                seen.append(context.__enter__())
                return seen[-1]

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Spy()

    monkeypatch.setattr(plots, "figure", spy)
    return seen


def metrics(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text, encoding="utf-8")
    return path


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_training_curves_mark_the_epoch_whose_weights_are_kept(tmp_path, drawn):
    training_curves(metrics(tmp_path, HEADER + ROWS), tmp_path / "training.png")
    width, height = size(tmp_path / "training.png")
    assert 1000 <= width <= 2000
    assert 400 <= height <= 800
    loss, accuracy, rate = drawn[0].axes
    assert [axis.get_title(loc="left") for axis in (loss, accuracy, rate)] == [
        "Training loss",
        "Accuracy",
        "Learning rate",
    ]
    assert all(axis.get_xlabel() == "epoch" for axis in (loss, accuracy, rate))
    assert legend(loss) == ["objective", "adversarial (unweighted)", "clean (unweighted)"]
    assert "best epoch 2: 40.0 % attacked" in legend(accuracy)
    robust = next(line for line in accuracy.lines if line.get_label() == "validation, attacked")
    assert robust.get_xdata().tolist() == [1, 2, 3]
    assert robust.get_ydata().tolist() == [0.1, 0.4, 0.35]


def test_runs_without_attack_terms_or_rate_are_drawn_too(tmp_path, drawn):
    training_curves(metrics(tmp_path, "epoch,step,train/loss,val/accuracy\n0,5,1.0,0.5\n"), tmp_path / "a.png")
    loss, accuracy = drawn[0].axes
    assert loss.lines[0].get_marker() == "o"
    assert legend(accuracy) == ["validation, clean", "best epoch 1: 50.0 % clean"]


def test_gaps_and_numbers_that_are_none_leave_gaps(tmp_path, drawn):
    text = "epoch,step,train/loss,val/accuracy\n0,5,nan,0.5\n1,10,1.0,\n2,15,0.5,0.7\n"
    training_curves(metrics(tmp_path, text), tmp_path / "a.png")
    loss, accuracy = drawn[0].axes
    assert loss.lines[0].get_xdata().tolist() == [2, 3]
    assert accuracy.lines[0].get_xdata().tolist() == [1, 3]


def test_missing_metrics_are_one_line_with_the_file(tmp_path):
    with pytest.raises(RunFolderError, match=r"nothing\.csv: cannot be read"):
        training_curves(tmp_path / "nothing.csv", tmp_path / "a.png")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_grid_shows_answers_with_symbols_and_what_changed(tmp_path, drawn, channels, kind):
    generator = torch.Generator().manual_seed(0)
    clean = 0.1 + 0.8 * torch.rand(10, channels, 8, 8, generator=generator)
    adversarial = clean + 0.05 * torch.randn(clean.shape, generator=generator).sign()
    labels, before = torch.arange(10), torch.arange(10)
    after = torch.tensor([0, 0, 2, 2, 4, 4, 6, 6, 8, 8])
    arrays = [clean, adversarial, labels, before, after]
    arrays = [array.numpy() for array in arrays] if kind == "numpy" else [clean.requires_grad_(True), *arrays[1:]]
    names = ["T-shirt/top", "trouser", "a name that is too long"]
    adversarial_grid(*arrays, names, "ℓ∞, ε = 0.05", tmp_path / "grid.png")
    width, height = size(tmp_path / "grid.png")
    assert width > height > 400
    axes = np.array(drawn[0].axes).reshape(3, 8)
    assert [axis.get_title() for axis in axes[0, :3]] == ["✓ T-shirt/top", "✓ trouser", "✓ a name that…"]
    assert [axis.get_title() for axis in axes[2, :4]] == [
        "✓ T-shirt/top",
        "✗ T-shirt/top",
        "✓ a name that…",
        "✗ a name that…",
    ]
    assert axes[2, 4].get_title() == "✓ 4"
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["clean", "change\n× 10", "attacked"]
    assert "ε = 0.05" in drawn[0].get_suptitle()
    shown = np.asarray(axes[1, 0].images[0].get_array())
    assert (shown.min(), shown.max()) == pytest.approx((0.0, 1.0), abs=1e-5)


def test_grid_of_an_attack_that_did_nothing(tmp_path):
    clean = np.full((1, 1, 4, 4), 0.5)
    adversarial_grid(clean, clean, [0], [0], [0], ["zero"], "ε = 0", tmp_path / "grid.png")
    assert size(tmp_path / "grid.png")[1] > 400


@pytest.mark.parametrize("shape", [(4, 64), (4, 2, 8, 8), (0, 1, 8, 8)])
def test_grid_refuses_what_is_no_image(tmp_path, shape):
    with pytest.raises(ValueError, match="expected images"):
        adversarial_grid(np.zeros(shape), np.zeros(shape), [], [], [], [], "", tmp_path / "grid.png")


def test_comparison_draws_every_figure_with_its_interval(tmp_path, drawn, rows, result):
    bad = {"name": "masked", "results": [result(900, 700, 650, checks=[("S6", "fail", "no gradient")])]}
    comparison([*rows, bad], tmp_path / "comparison.png")
    width, _ = size(tmp_path / "comparison.png")
    assert width == 1200
    axis = drawn[0].axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["teacher", "student", "masked †"]
    assert [round(bar.get_width(), 3) for bar in axis.patches] == [0.9, 0.7, 0.65, 0.71, 0.485, 0.464, 0.9, 0.7, 0.65]
    assert [bar.get_hatch() for bar in axis.patches] == [None] * 6 + ["//"] * 3
    assert "46.4 ± 0.4" in [text.get_text() for text in axis.texts]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["clean", "FGSM", "PGD-20"]
    assert "n = 1,000" in axis.get_xlabel()
    assert "unreliable, failed a trust check (S6)" in drawn[0].get_supxlabel()


def test_comparison_of_many_attacks_at_several_radii_stays_readable(tmp_path, drawn, result):
    def met(own, other, eps):
        met_from = {f"{attack}_from_{other}_wide_cnn_digits-6eade511": 480 for attack in ("mi_fgsm", "pgd20")}
        name = f"{own}_wide_cnn_digits-6eade511 (ℓ∞, ε = {eps:g})"
        return {"name": name, "results": [result(812, 600, 503, eps=eps, **met_from)]}

    rows = [met(*pair, eps) for pair in (("rslad", "pgd_at"), ("pgd_at", "rslad")) for eps in (0.1, 0.2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        comparison(rows, tmp_path / "comparison.png")
    whole, axis = drawn[0].bbox, drawn[0].axes[0]
    assert axis.get_window_extent().width > 0.6 * whole.width
    legend = drawn[0].legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= whole.width
    # text is laid out for the file's resolution and measured at another
    assert legend.y0 > axis.get_window_extent().y1 - 10
    assert all(tick.get_window_extent().x0 >= 0 for tick in axis.get_yticklabels())
    ticks = [tick.get_window_extent() for tick in axis.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(ticks))


def test_comparison_of_one_model_and_of_none(tmp_path, drawn, rows):
    comparison(rows[:1], tmp_path / "one.png")
    assert "seeds" not in drawn[0].get_supxlabel()
    with pytest.raises(ValueError, match="at least one row"):
        comparison([], tmp_path / "none.png")


def test_the_same_figures_give_the_same_bytes_and_no_display_is_needed(tmp_path, rows, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    for name in ("a.png", "b.png"):
        comparison(rows, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_heavy_packages_are_imported_where_they_are_used():
    sources = sorted(Path(report.__file__).parent.glob("*.py"))
    assert len(sources) >= 4
    for source in sources:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        modules = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        modules |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not {name for name in modules if name.split(".")[0] in ("matplotlib", "rich", "PIL")}, source.name


def test_an_unwritable_place_is_one_line(tmp_path, rows):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match=r"comparison\.png: cannot be written"):
        comparison(rows, tmp_path / "file" / "comparison.png")
