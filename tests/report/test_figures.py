"""Figures of an evaluation: real PNG files that show what the numbers say."""

import importlib
import struct
import warnings
from dataclasses import asdict

import numpy as np
import pytest
import torch

from kdrobust.evaluation import LossSurface, calibration, fixed_eps_curve, per_class, security_curve
from kdrobust.report import class_bars, corruption_bars, gallery, loss_surface_plot, reliability_diagram, security_plot
from kdrobust.report.style import figure

MODULES = ("classes", "corruption_bars", "gallery", "reliability", "security", "surface")


@pytest.fixture
def drawn(monkeypatch):
    """Every figure drawn in the test, to look at what is on it."""
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

    for name in MODULES:
        monkeypatch.setattr(importlib.import_module(f"kdrobust.report.{name}"), "figure", spy)
    monkeypatch.delenv("DISPLAY", raising=False)
    with warnings.catch_warnings():
        # matplotlib says so where a layout collapses or a letter is missing
        warnings.simplefilter("error")
        yield seen


def size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def texts(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


@pytest.fixture
def exact():
    return security_curve(np.linspace(0, 0.3, 100), np.arange(100) >= 10, limit=64 / 255)


@pytest.fixture
def fixed():
    return fixed_eps_curve([0.0, 8 / 255, 64 / 255, 1.0], [90, 70, 20, 0], 100)


def test_security_curves_of_two_sources_and_models(tmp_path, drawn, exact, fixed):
    other = fixed_eps_curve([0.0, 8 / 255, 1.0], [95, 90, 60], 100)
    entries = [
        {"name": "student", "curve": exact},
        {"name": "student", "curve": asdict(fixed)},
        {"name": "masked", "curve": other, "unreliable": True},
    ]
    security_plot(entries, tmp_path / "s.png", eps=8 / 255, chance=0.1)
    assert size(tmp_path / "s.png") == (1140, 615)
    main, far = drawn[0].axes
    assert main.get_xlim() == pytest.approx((0, 32 / 255))
    assert far.get_xlim() == pytest.approx((32 / 255, 1.0))
    assert far.get_xscale() == "log"
    student, masked = texts(main)
    assert student.startswith(f"student: mean {100 * exact.auc:.1f} % to 64/255, half stand at ")
    assert masked == f"masked †: mean {100 * other.auc:.1f} % to 1, half never fall"
    steps = [line for line in main.lines if line.get_drawstyle() == "steps-post"]
    assert len(steps) == 1
    assert steps[0].get_ydata().tolist() == list(exact.accuracy)
    assert steps[0].get_color() == main.get_legend().get_lines()[0].get_color()
    # in the far panel only what lies there, so that points of the other one do not hang outside
    assert [line.get_xdata().tolist() for line in far.lines if line.get_marker() == "o"] == [[64 / 255, 1.0], [1.0]]
    # one line a model for the accuracy without attack: that of its exact curve
    dashed = [line.get_ydata()[0] for line in main.lines if line.get_alpha() == 0.6]
    assert dashed == [0.9, 0.95]
    assert "failed a trust check" in drawn[0].get_supxlabel()


def test_security_curves_in_other_units_and_ranges(tmp_path, drawn, exact):
    curve = security_curve([0.4, 1.2, np.inf], [True] * 3, limit=2.0)
    security_plot([{"name": "m", "curve": curve}], tmp_path / "l2.png", norm="l2", eps=0.5)
    (axis,) = drawn[0].axes
    assert "ℓ2" in axis.get_xlabel()
    assert texts(axis) == [f"m: mean {100 * curve.auc:.1f} % to 2, half stand at 1.2"]
    assert "†" not in drawn[0].get_supxlabel()
    security_plot([{"name": "m", "curve": exact}], tmp_path / "alone.png")
    assert drawn[1].axes[0].get_xlim()[1] == pytest.approx(64 / 255)
    single = fixed_eps_curve([0.0], [5], 10)
    security_plot([{"name": "m", "curve": single}], tmp_path / "point.png", eps=0.1)
    assert size(tmp_path / "point.png")[0] == 960


def test_security_plot_refuses_nothing(tmp_path):
    for entries in ([], [{"name": "m", "curve": security_curve([], [], limit=1.0)}]):
        with pytest.raises(ValueError, match="at least one curve"):
            security_plot(entries, tmp_path / "a.png")


def classes(count, samples=600):
    draw = np.random.default_rng(count)
    labels = np.concatenate([np.arange(count), draw.integers(0, count, samples)])
    clean = draw.random(len(labels)) < 0.9
    robust = clean & (draw.random(len(labels)) < 0.3 + 0.5 * (labels % 3) / 2)

    def plain(verdicts):
        found = per_class(labels, verdicts)
        return {key: getattr(found, key) for key in ("correct", "accuracy", "low", "high")} | {
            "worst": asdict(found.worst)
        }

    found = per_class(labels, clean)
    attacked = plain(robust)
    return {
        "labels": found.labels, "n": found.n, "clean": plain(clean), "attacks": {"pgd20": attacked}, "worst_case": attacked,
    }  # fmt: skip


def test_class_bars_show_every_class_and_the_worst_one(tmp_path, drawn):
    from matplotlib.colors import to_hex

    data = classes(10)
    class_bars(data, tmp_path / "c.png", class_names=["T-shirt/top", "trouser"], attack="pgd20", unreliable=True)
    axis = drawn[0].axes[0]
    bars = axis.patches[:20]
    assert [bar.get_height() for bar in bars] == [*data["clean"]["accuracy"], *data["worst_case"]["accuracy"]]
    worst = data["labels"].index(data["worst_case"]["worst"]["label"])
    red = [to_hex(bar.get_facecolor()) == "#d55e00" for bar in bars]
    assert red == [place == 10 + worst for place in range(20)]
    assert [tick.get_text() for tick in axis.get_xticklabels()][:3] == ["T-shirt/top", "trouser", "2"]
    assert drawn[0].get_suptitle() == "Accuracy by class †"
    accuracy = 100 * data["worst_case"]["worst"]["accuracy"]
    assert f"{accuracy:.1f} % [" in drawn[0].get_supxlabel()
    assert "PGD-20" in [text.get_text() for text in drawn[0].legends[0].get_texts()]


def test_many_classes_are_a_profile(tmp_path, drawn):
    data = classes(100, samples=3000)
    class_bars(data, tmp_path / "c.png")
    axis = drawn[0].axes[0]
    profile = next(line for line in axis.lines if line.get_label() == "worst case").get_ydata()
    assert profile.tolist() == sorted(data["worst_case"]["accuracy"])
    assert "next: " in drawn[0].get_supxlabel()


def test_one_class_is_drawn_and_none_is_refused(tmp_path, drawn):
    class_bars(classes(1), tmp_path / "one.png")
    assert size(tmp_path / "one.png")[1] > 400
    with pytest.raises(ValueError, match="needs samples"):
        class_bars({"labels": []}, tmp_path / "none.png")


def test_reliability_diagram_draws_bins_gaps_and_means(tmp_path, drawn):
    draw = np.random.default_rng(0)
    sure = draw.uniform(0.3, 1.0, 400)
    clean = calibration(sure, draw.random(400) < sure, nll=draw.random(400))
    attacked = calibration(sure, draw.random(400) < sure - 0.25)
    panels = {"clean": clean, "pgd20": asdict(attacked), "fgsm": None, "nothing": calibration([], [])}
    reliability_diagram(panels, tmp_path / "r.png")
    clean_axis, attacked_axis, counts, _ = drawn[0].axes
    assert [axis.get_title(loc="left") for axis in (clean_axis, attacked_axis)] == ["clean", "PGD-20"]
    assert clean_axis.get_title(loc="right") == f"ECE {100 * clean.ece:.1f} %, NLL {clean.nll:.2f}"
    assert attacked_axis.get_title(loc="right") == f"ECE {100 * attacked.ece:.1f} %"
    heights = [bar.get_height() for bar in counts.patches]
    assert heights == pytest.approx([count / 400 for count in clean.bin_counts])
    accuracies = [value for value in attacked.bin_accuracy if value is not None]
    assert [bar.get_height() for bar in attacked_axis.patches[: len(accuracies)]] == pytest.approx(accuracies)
    with pytest.raises(ValueError, match="at least one sample"):
        reliability_diagram({"clean": None, "fgsm": calibration([], [])}, tmp_path / "none.png")


@pytest.mark.parametrize(("channels", "count"), [(1, 5), (3, 1)])
def test_gallery_magnifies_around_grey_and_tells_both_answers(tmp_path, drawn, channels, count):
    generator = torch.Generator().manual_seed(0)
    clean = 0.2 + 0.6 * torch.rand(count, channels, 8, 8, generator=generator)
    adversarial = clean + 0.05 * torch.randn(clean.shape, generator=generator).sign()
    before = torch.full((count, 3), 0.0)
    before[:, 1] = np.log(8.0)
    after = before.flip(1).roll(1, dims=1).requires_grad_(True)
    labels = torch.ones(count, dtype=torch.long)
    gallery(
        clean, adversarial, labels, before, after, tmp_path / "g.png", class_names=["cat", "dog"], threat="ε = 0.05"
    )
    axes = np.array(drawn[0].axes).reshape(count, 3)
    assert [axis.get_title() for axis in axes[0]] == ["✓ dog (80 %)", "true: dog", "✗ 2 (80 %)"]
    change = np.asarray(axes[0, 1].images[0].get_array())
    assert (change.min(), change.max()) == pytest.approx((0.0, 1.0), abs=1e-5)
    assert "× 10 around grey" in drawn[0].get_supxlabel()
    assert "ε = 0.05" in drawn[0].get_suptitle()
    gallery(clean, clean, labels, before, before, tmp_path / "same.png", magnify=4.0, most=1)
    assert np.asarray(drawn[1].axes[1].images[0].get_array()) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="two times images"):
        gallery(clean.flatten(1), clean.flatten(1), labels, before, before, tmp_path / "none.png")


def plane(count, *, above=1.0):
    steps = np.linspace(-1.25, 1.25, 9)
    a = np.tile(steps, (9, 1))
    loss = np.stack([np.exp(a * (1 + n)) for n in range(count)]).astype(np.float32)
    margin = np.stack([0.5 * above - a for _ in range(count)]).astype(np.float32)
    indices = np.arange(count) + 40
    return LossSurface(
        steps=steps, loss=loss, margin=margin, labels=np.zeros(count, int), indices=indices, length=np.ones(count)
    )


def test_loss_surface_shows_the_loss_where_the_attack_began_and_ended(tmp_path, drawn):
    loss_surface_plot(plane(4), tmp_path / "p.png", class_names=["cat"])
    *panels, bar = drawn[0].axes
    assert len(panels) == 3
    assert panels[0].get_title(loc="left") == "cat (sample 40)"
    # the grid point nearest to 1 is 0.9375
    assert panels[1].get_title(loc="right") == f"1.00 → {np.exp(2 * 0.9375):.2f}"
    assert "cross-entropy" in bar.get_ylabel()


def test_loss_surfaces_without_border_or_with_infinite_loss_are_drawn(tmp_path, drawn):
    surface = plane(1, above=100.0)
    surface.loss[0, 0, 0] = np.inf
    loss_surface_plot(surface, tmp_path / "p.png")
    flat = plane(1)
    flat.loss[:] = 0.0
    loss_surface_plot(flat, tmp_path / "q.png")
    assert size(tmp_path / "q.png")[1] > 400
    with pytest.raises(ValueError, match="at least one sample"):
        loss_surface_plot(plane(2), tmp_path / "none.png", most=0)


def corrupted(clean, **shares):
    def figures(values):
        return {str(level): {"accuracy": value} for level, value in enumerate(values, start=1)}

    found = {
        name: {"family": "noise" if "noise" in name else "digital", "accuracy": float(np.mean(values)), "severities": figures(values)}
        for name, values in shares.items()
    }  # fmt: skip
    return {"n": 50, "clean": {"accuracy": clean}, "mca": 0.5, "corruptions": found}


def test_corruption_bars_show_means_and_severities(tmp_path, drawn):
    first = corrupted(0.9, shot_noise=[0.8, 0.6], jpeg=[0.7, 0.5])
    second = corrupted(0.8, jpeg=[0.4, 0.2])
    corruption_bars([{"name": "teacher", "result": first}, {"name": "student", "result": second}], tmp_path / "c.png")
    axis = drawn[0].axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["shot noise", "JPEG"]
    widths = [bar.get_width() for bar in axis.patches if bar.get_width() > 0]
    assert widths == pytest.approx([0.7, 0.6, 0.3])
    dots = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    assert dots == [0.8, 0.6, 0.7, 0.5, 0.4, 0.2]
    assert texts(axis) == ["teacher: clean 90.0, mCA 50.0 %", "student: clean 80.0, mCA 50.0 %"]
    for models in ([], [{"name": "m", "result": {**first, "n": 0}}], [{"name": "m", "result": corrupted(0.9)}]):
        with pytest.raises(ValueError, match="need a model"):
            corruption_bars(models, tmp_path / "none.png")


def test_the_same_numbers_give_the_same_bytes(tmp_path, exact):
    for name in ("a.png", "b.png"):
        security_plot([{"name": "m", "curve": exact}], tmp_path / name, eps=8 / 255)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
