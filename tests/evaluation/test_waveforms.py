"""Evaluating on values in [-1, 1]: the box follows the threat, ratios stand beside ε, and every check can judge."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.evaluation import CheckSettings, evaluate, loss_surface, real_time, to_result
from kdrobust.evaluation.snr import noise_summary, signal_to_noise
from kdrobust.spec import InputSpec

N, LENGTH = 60, 40
LINF = Threat(norm="linf", eps=0.05, bounds=(-1, 1))
SNR = Threat(norm="l2", eps=0.2, bounds=(-1, 1), relative=True)
SETTINGS = CheckSettings(samples=40, survivors=20, long_steps=20, noise_draws=10, queries=20, unbounded_steps=20)


class Wave(nn.Module):
    """A small network on signals, trained by nobody."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, inputs):
        return self.layers(inputs)


@pytest.fixture(scope="module")
def setting():
    inputs = (0.5 * torch.randn(N, 1, LENGTH, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    model = Wave().eval()
    return model, inputs, model(inputs).argmax(dim=1)


def attacks(threat):
    settings = {"threat": threat, "goal": "cross_entropy", "step_size": float(threat.eps) / 4}
    return {
        "fgsm": GradientAttack(**{**settings, "step_size": float(threat.eps)}, steps=1),
        "pgd": GradientAttack(**settings, steps=10, start="uniform", keep="best"),
    }


@pytest.fixture(scope="module", params=[LINF, SNR], ids=["linf", "snr"])
def evaluated(request, setting):
    model, inputs, labels = setting
    threat = request.param
    found = evaluate(
        model, inputs=inputs, labels=labels, indices=torch.arange(N), threat=threat, attacks=attacks(threat),
        batch_size=25, seed=0, settings=SETTINGS,
    )  # fmt: skip
    return threat, found, to_result(found)


def test_checks_judge_and_none_fails(evaluated):
    _, found, _ = evaluated
    checks = {check.id: check for check in found.checks}
    assert len(checks) == 19
    assert [check.id for check in found.checks if "could not be run" in check.detail] == []
    for id in ("S0", "S1", "S3", "S6", "S9", "S13", "S14", "S18"):
        assert checks[id].verdict == "pass", checks[id]
    assert checks["S3"].measured["eps"] == pytest.approx(2.0 if found.threat["norm"] == "linf" else 2 * LENGTH**0.5)
    assert not found.unreliable


def test_distances_are_in_the_threat_s_unit_and_ratios_stand_beside_them(evaluated, setting):
    threat, found, result = evaluated
    model, inputs, labels = setting
    again = attacks(threat)["fgsm"]
    moved = again.run(model, inputs, labels, keys=torch.arange(N)).adversarial
    outcome = found.attacks["fgsm"]
    assert outcome.distance == pytest.approx(threat.distance(moved, inputs).numpy(), abs=1e-6)
    assert float(outcome.outside.max()) == 0.0
    expected = signal_to_noise(moved, inputs).numpy()
    assert outcome.extra["snr_db"] == pytest.approx(expected, abs=1e-3)
    noise = result["attacks"]["fgsm"]["snr_db"]
    assert noise["mean"] == pytest.approx(expected.mean(), abs=1e-3)
    assert noise["min"] == pytest.approx(expected.min(), abs=1e-3)
    assert noise["n"] == N
    if threat.relative:
        assert noise["min"] >= 20 * np.log10(5.0) - 1e-3
        assert result["threat"]["relative"] is True


def test_what_leaves_the_box_is_seen(setting):
    model, inputs, labels = setting

    class Outside(GradientAttack):
        def run(self, *arguments, **settings):
            found = super().run(*arguments, **settings)
            return dataclasses.replace(found, adversarial=found.adversarial - 1.0)

    attack = Outside(threat=LINF, steps=1, step_size=0.05)
    found = evaluate(
        model, inputs=inputs, labels=labels, indices=torch.arange(N), threat=LINF, attacks={"bad": attack},
        batch_size=60, seed=0, settings=SETTINGS,
    )  # fmt: skip
    contract = next(check for check in found.checks if check.id == "S0")
    assert contract.verdict == "fail"
    assert "bad left [-1, 1] by" in contract.detail


def test_pixels_have_no_ratio(setting):
    model, inputs, _ = setting
    unit = Threat(norm="linf", eps=0.05)
    found = evaluate(
        model, inputs=inputs.abs(), labels=model(inputs.abs()).argmax(dim=1), indices=torch.arange(N), threat=unit,
        attacks=attacks(unit), batch_size=60, seed=0, checks=False,
    )  # fmt: skip
    assert "snr_db" not in found.attacks["pgd"].extra
    assert "snr_db" not in to_result(found)["attacks"]["pgd"]


def test_signal_to_noise():
    clean = torch.ones(3, 1, 100)
    moved = clean.clone()
    moved[0] += 0.1
    moved[1, 0, 0] += 10.0
    found = signal_to_noise(moved, clean)
    assert found[:2].tolist() == pytest.approx([20.0, 0.0], abs=1e-5)
    assert float(found[2]) == float("inf")
    columns = np.array([20.0, 0.0, np.inf, np.nan], dtype=np.float32)
    assert noise_summary(columns) == {"mean": 10.0, "median": 10.0, "min": 0.0, "n": 2}
    assert noise_summary(columns[2:]) is None


def test_the_loss_surface_is_cut_off_at_the_bounds(setting):
    model, inputs, labels = setting
    far = torch.full_like(inputs[:1], -1.0)

    class Seen(nn.Module):
        low = 0.0

        def forward(self, points):
            Seen.low = min(Seen.low, float(points.min()))
            return model(points)

    arguments = {"keys": torch.tensor([0]), "seed": 0, "points": 5}
    loss_surface(Seen(), inputs[:1], labels[:1], far, bounds=(-1.0, 1.0), **arguments)
    assert Seen.low == -1.0
    Seen.low = 0.0
    loss_surface(Seen(), inputs[:1], labels[:1], far, **arguments)
    assert Seen.low == 0.0


def test_the_real_time_factor_is_seconds_of_computing_a_second_of_sound(setting):
    spec = InputSpec(shape=(1, LENGTH), classes=3, bounds=(-1.0, 1.0), sample_rate=10)
    threads = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.wave = Wave()

        def forward(self, inputs):
            threads.append((len(inputs), torch.get_num_threads()))
            return self.wave(inputs)

    # three untimed passes, then seconds 1, 2 and 3
    ticks = itertools.chain.from_iterable((0.0, value) for value in (9.0, 9.0, 9.0, 1.0, 2.0, 3.0))
    now = itertools.accumulate(ticks)
    found = real_time(Counting(), spec, passes=3, clock=lambda: next(now))
    assert (found.seconds, found.factor, found.lower, found.upper) == (4.0, 0.5, 0.375, 0.625)
    assert set(threads) == {(1, 1)}
    with pytest.raises(ValueError, match="needs sound"):
        real_time(Wave(), InputSpec(shape=(1, LENGTH), classes=3))


def test_the_curve_and_the_moves_of_the_checks_keep_to_the_box(evaluated, setting):
    """S4 and S17 look at what the model sees: nothing outside of [-1, 1], and negative values too."""
    from kdrobust.evaluation import run_checks

    _, found, _ = evaluated
    model, inputs, labels = setting
    seen = []

    class Seen(nn.Module):
        def forward(self, points):
            seen.append((float(points.detach().min()), float(points.detach().max())))
            return model(points)

    checks = run_checks(found, Seen(), inputs=inputs, labels=labels, indices=torch.arange(N), settings=SETTINGS)
    assert min(low for low, _ in seen) == -1.0
    assert max(high for _, high in seen) == 1.0
    # no batch of attacked signals has lost its negative half
    assert max(low for low, _ in seen) < -0.3
    curve = next(check for check in checks if check.id == "S4").measured
    diameter = 2.0 if found.threat["norm"] == "linf" else 2.0 * LENGTH**0.5
    assert curve["eps"][-1] == pytest.approx(diameter)
    assert curve["norm"] == ("absolute l2" if found.threat.get("relative") else "linf")
