"""Expectation over transformation for models with noise of their own, and restarts on what still stands."""

import pytest
import torch
from torch import nn

from kdrobust.attacks import APGD, GradientAttack, Threat
from kdrobust.attacks.goals import kl
from kdrobust.attacks.slope import look, slope
from kdrobust.attacks.undisturbed import own_random_numbers, seed_generators
from kdrobust.errors import UsageError
from kdrobust.randomness import address
from tests.attacks.zoo import EPS, MODEL, X, Y, batch, network

CPU = torch.device("cpu")


class Noisy(nn.Module):
    """Adds noise to its inputs, another one at each call."""

    def __init__(self, scale=0.05):
        super().__init__()
        self.scale, self.calls = scale, 0

    def forward(self, x):
        self.calls += 1
        return MODEL(x + self.scale * torch.randn_like(x))


def make(norm="linf", **options):
    return GradientAttack(threat=Threat(norm=norm, eps=0.05), **{"steps": 4, "step_size": 0.02, **options})


def climb(adversarial, logits):
    return nn.functional.cross_entropy(logits, Y, reduction="none")


def test_the_gradient_is_the_mean_over_the_draws():
    model = Noisy()
    with own_random_numbers(CPU, 0):
        value, logits, gradient = slope(model, climb, X, draws=3, seed=7)
        singles = []
        for draw in range(3):
            seed_generators(CPU, address(7, "draw", draw))
            singles.append(slope(model, climb, X))
        for place, found in enumerate((value, logits, gradient)):
            torch.testing.assert_close(found, torch.stack([one[place] for one in singles]).mean(0))
        seen = look(model, climb, X, draws=3, seed=7)
        torch.testing.assert_close(seen[0], value)
        torch.testing.assert_close(seen[1], logits)


def test_many_draws_agree_better():
    def between(draws):
        with own_random_numbers(CPU, 0):
            one, two = (slope(Noisy(), climb, X, draws=draws, seed=seed)[2] for seed in (1, 2))
        return float((one - two).norm())

    assert between(80) < 0.3 * between(2)


@pytest.mark.parametrize("attack", [make(eot=4), APGD(threat=Threat(norm="linf", eps=0.05), steps=4, eot=4)])
def test_draws_are_addressed(attack):
    """Nothing that was drawn before matters: not by the caller, and not by the attack itself."""
    torch.manual_seed(1)
    first = attack.run(Noisy(), X, Y, seed=3)
    torch.manual_seed(2)
    torch.rand(5)
    before = torch.get_rng_state()
    again = attack.run(Noisy(), X, Y, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    standing = ~first.fooled
    assert torch.equal(first.adversarial[standing], again.adversarial[standing])
    assert not torch.equal(attack.run(Noisy(), X, Y, seed=4).adversarial, again.adversarial)


def test_price_and_equality_for_a_model_without_noise():
    model = Noisy(0.0)
    plain = make(keep="best").run(model, X, Y, validate=False)
    assert model.calls == 5
    model.calls = 0
    mean = make(keep="best", eot=3).run(model, X, Y, validate=False)
    assert model.calls == 15
    torch.testing.assert_close(plain.adversarial, mean.adversarial)
    assert make(eot=3).describe()["eot"] == 3
    with pytest.raises(UsageError, match=r"attack\.eot"):
        make(eot=0)


def watched(model, rows):
    def forward(x):
        rows.append(len(x))
        return model(x)

    return forward


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("targeted", [False, True])
def test_restarts_run_on_what_still_stands_with_the_same_verdicts(norm, targeted):
    model, rows = network().eval(), []
    inputs, labels = batch(24, model=model)
    if targeted:
        labels = (model(inputs).argmax(1) + 1) % 5
    threat = Threat(norm=norm, eps=EPS[norm])
    options = {"threat": threat, "steps": 2, "step_size": EPS[norm] / 3, "start": "uniform", "targeted": targeted}
    attack = GradientAttack(keep="best", restarts=4, **options)
    found = attack.run(watched(model, rows), inputs, labels, validate=False)
    singles = []
    for restart in range(4):
        alone = GradientAttack(keep="best", **options)
        start = threat.random_start(inputs, "uniform", torch.arange(24), seed=_start(restart))
        singles.append(alone.run(model, inputs, labels, initial=start).fooled)
    assert torch.equal(found.fooled, torch.stack(singles).any(0))
    standing = torch.ones(24, dtype=torch.bool)
    for restart in range(4):
        assert rows[3 * restart] == int(standing.sum())
        standing &= ~singles[restart]
    assert 0 < int(standing.sum()) < 24


def _start(restart):
    return address(0, "start", restart)


def test_a_restart_on_some_samples_sees_their_own_teacher_targets_and_radius():
    """Sample by sample and all at once must agree, whatever a goal looks at."""
    model, teacher = network().eval(), network(9).eval()
    inputs, labels = batch(12, model=model)
    scale = torch.linspace(0.2, 1.0, 12).double()
    stored = teacher(inputs).detach()
    threat = Threat(norm="linf", eps=0.08)
    for goal, known in (
        ("kl_to_teacher", stored),
        ("kl_to_teacher", None),
        ("dlr_targeted", None),
        ("kl_to_clean", None),
    ):
        attack = GradientAttack(
            threat=threat, goal=goal, steps=3, step_size=0.03, start="uniform", keep="best", restarts=3
        )
        survived = torch.zeros(12)
        targets = (labels + 2) % 5
        whole = attack.run(
            model,
            inputs,
            labels,
            teacher=teacher,
            teacher_logits=known,
            targets=targets,
            scale=scale,
            survived=survived,
        )
        for row in range(12):
            rows, lived = slice(row, row + 1), torch.zeros(1)
            alone = attack.run(
                model,
                inputs[rows],
                labels[rows],
                teacher=teacher,
                teacher_logits=None if known is None else known[rows],
                targets=targets[rows],
                scale=scale[rows],
                keys=torch.tensor([row]),
                survived=lived,
            )
            torch.testing.assert_close(alone.adversarial, whole.adversarial[rows], atol=1e-9, rtol=0)
            assert float(lived) == float(survived[row])
    assert kl(stored, stored).abs().max() < 1e-12
