"""Balls, boxes and starts."""

import pytest
import torch

from kdrobust.attacks import Threat
from kdrobust.errors import UsageError

X = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
KEYS = torch.arange(200)


@pytest.mark.parametrize(
    ("norm", "eps", "words"),
    [
        ("linf", -1, "not negative"),
        ("linf", "abc", "8/255"),
        ("linf", 8, "did you mean 8/255"),
        ("linf", float("nan"), "finite"),
        ("l1", 0.1, "linf, l2"),
    ],
)
def test_bad_values(norm, eps, words):
    with pytest.raises(UsageError, match=words):
        Threat(norm=norm, eps=eps)


def test_bad_bounds():
    with pytest.raises(UsageError, match="bounds"):
        Threat(norm="l2", eps=1, bounds=(1, 0))


def test_fractions_and_large_l2():
    assert Threat(norm="linf", eps="8/255").radius == pytest.approx(8 / 255)
    assert Threat(norm="l2", eps=8).radius == 8.0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection(norm):
    threat = Threat(norm=norm, eps=0.3)
    far = threat.project(X + torch.randn_like(X), X, 0.3)
    assert float(threat.distance(far, X).max()) <= 0.3 + 1e-12
    assert float(far.min()) >= 0
    assert float(far.max()) <= 1
    torch.testing.assert_close(threat.project(far, X, 0.3), far)
    assert torch.equal(threat.project(X, X, 0.0), X)


def test_steps():
    gradient = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]])
    assert Threat(norm="linf", eps=0.1).step(gradient, 0.5).tolist() == [[0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(
        Threat(norm="l2", eps=0.1).step(gradient, 0.5), torch.tensor([[0.3, -0.4, 0.0], [0.0, 0.0, 0.0]])
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts(norm):
    threat = Threat(norm=norm, eps=0.4)
    starts = {
        kind: threat.random_start(X, kind, KEYS, seed=1) for kind in ("none", "uniform", "uniform_unclipped", "normal")
    }
    assert torch.equal(starts["none"], X)
    assert torch.equal(starts["uniform"], starts["uniform_unclipped"].clamp(0, 1))
    assert float(threat.distance(starts["uniform_unclipped"], X).max()) <= 0.4
    assert float(threat.distance(starts["uniform_unclipped"], X).max()) > 0.35
    assert float((starts["normal"] - X).std()) == pytest.approx(0.001, rel=0.1)
    if norm == "linf":
        assert float((starts["uniform_unclipped"] - X).abs().mean()) == pytest.approx(0.2, rel=0.05)


def test_start_depends_on_key_and_seed_alone():
    threat, order = Threat(norm="l2", eps=0.4), torch.tensor([7, 3])
    whole = threat.random_start(X, "uniform", KEYS, seed=1)
    assert torch.equal(whole[order], threat.random_start(X[order], "uniform", order, seed=1))
    assert not torch.equal(whole, threat.random_start(X, "uniform", KEYS, seed=2))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scaled", [False, True])
def test_ascending_has_the_bits_of_step_and_projection(norm, scaled):
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(50, 1, 4, 4, generator=generator)
    threat, size, radius = Threat(norm=norm, eps=0.1), 0.03, 0.1
    if scaled:
        factor = torch.rand(50, 1, 1, 1, generator=generator)
        size, radius = size * factor, radius * factor
    point = ours = x + 0.2 * torch.randn(x.shape, generator=generator)
    for _ in range(3):
        gradient = torch.randn(x.shape, generator=generator)
        gradient[0, 0, 0] = 0.0
        kept = gradient.clone(), ours.clone()
        point = threat.project(point + threat.step(gradient, size), x, radius)
        moved = threat.ascend(ours, gradient, x, size, radius)
        assert torch.equal(moved, point)
        assert torch.equal(gradient, kept[0])
        assert torch.equal(ours, kept[1])
        ours = moved
