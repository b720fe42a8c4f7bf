"""Balls, boxes and starts."""

import pytest
import torch

from kdrobust.attacks import APGD, GradientAttack, Threat
from kdrobust.cli import main
from kdrobust.config import compose
from kdrobust.errors import UsageError
from kdrobust.shorthand import spell_out
from kdrobust.stages.setup import prepare_data

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


REACHES = [
    ({"norm": "linf", "eps": 1}, None, "threat.eps=1: the box [0, 1] is 1 across in linf"),
    ({"norm": "l2", "eps": 4}, "did you mean 4/255?", "threat.eps=4: the box [0, 1] of 16 values is 4 across in l2"),
    ({"norm": "l2", "eps": 128}, "did you mean 128/255?", "threat.eps=128: the box [0, 1] of 16 values is 4 across"),
    ({"norm": "l2", "eps": 300}, None, "threat.eps=300"),
    ({"norm": "l2", "eps": 8, "bounds": (-1, 1)}, "did you mean 8/255?", "the box [-1, 1] of 16 values is 8 across"),
    ({"norm": "l2", "eps": 30, "bounds": (-1, 1), "relative": True}, "for 30 dB: threat.eps=0.03162", "threat.eps=30"),
    ({"norm": "l2", "eps": 2, "bounds": (-1, 1), "relative": True}, None, "threat.eps=2"),
]


@pytest.mark.parametrize(("settings", "hint", "words"), REACHES)
def test_an_epsilon_that_reaches_everything_is_refused(settings, hint, words):
    threat = Threat(**settings)
    with pytest.raises(UsageError, match="within reach") as caught:
        threat.check_reach((1, 4, 4))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(hint or "within reach")
    if threat.eps == 128:
        for attack in (GradientAttack(threat=threat, steps=1), APGD(threat=threat, steps=1)):
            with pytest.raises(UsageError, match="within reach"):
                attack.run(lambda x: x.flatten(1), X[:2], torch.tensor([0, 1]))


def test_an_epsilon_below_the_diameter_passes():
    for settings, _, _ in REACHES:
        Threat(**{**settings, "eps": 0.9}).check_reach((1, 4, 4))
    Threat(norm="l2", eps=3.99).check_reach((1, 4, 4))
    Threat(norm="l2", eps=4.0).check_reach((1, 4, 4), whole=True)


def test_the_command_line_refuses_a_pixel_count_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "threat=l2_0.5", "threat.eps=128"]) == 2
    said = capsys.readouterr().err
    assert "threat.eps=128: the box [0, 1] of 64 values is 8 across in l2" in said
    assert "did you mean 128/255?" in said


@pytest.mark.parametrize("typed", ["threat.eps=0.1,128", "radii=[0.1,128]"])
def test_several_radii_are_compared_with_the_data_before_the_first_is_measured(typed):
    with pytest.raises(UsageError, match="did you mean 128/255"):
        prepare_data(compose("evaluate", spell_out("evaluate", ["checkpoint=any.ckpt", "threat=l2_0.5", typed])))


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
