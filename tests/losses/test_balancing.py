"""MTARD's balance against a loop in plain numbers."""

import pytest
import torch

from kdrobust.losses.balancing import RelativeLossBalance

STEPS = [(2.0, 1.0), (1.5, 0.9), (1.2, 1.1), (0.4, 0.9)]


def feed(balance, steps=STEPS, **options):
    found = []
    for natural, adversarial in steps:
        values = {"natural": torch.tensor(natural), "adversarial": torch.tensor(adversarial)}
        found.append({name: float(weight) for name, weight in balance(values, **options).items()})
    return found


def by_hand(beta, rate, start, steps=STEPS):
    weights, found = list(start), []
    for losses in steps:
        relative = [(loss / first) ** beta for loss, first in zip(losses, steps[0], strict=True)]
        weights = [w - rate * (w - r / sum(relative)) for w, r in zip(weights, relative, strict=True)]
        found.append(list(weights))
    return found


@pytest.mark.parametrize(
    ("beta", "rate", "start"), [(1.0, 0.025, (0.5, 0.5)), (2.0, 0.3, (0.2, 0.8)), (0.0, 1.0, (0.9, 0.1))]
)
def test_the_rule(beta, rate, start):
    balance = RelativeLossBalance(terms=["natural", "adversarial"], beta=beta, start=start)
    found = feed(balance, rate=rate)
    for ours, theirs in zip(found, by_hand(beta, rate, start), strict=True):
        assert list(ours.values()) == pytest.approx(theirs, rel=1e-6)
        assert sum(ours.values()) == pytest.approx(1.0)


def test_two_steps_in_numbers():
    # L falls to a half and to a quarter: r = (1/2, 1/4), shares 2/3 and 1/3, a tenth of the way there
    balance = RelativeLossBalance(terms=["natural", "adversarial"])
    _, second = feed(balance, [(4.0, 8.0), (2.0, 2.0)], rate=0.1)
    assert second["natural"] == pytest.approx(0.5 + 0.1 * (2 / 3 - 0.5))
    assert second["adversarial"] == pytest.approx(0.5 - 0.1 * (0.5 - 1 / 3))


def test_the_term_that_falls_less_gains():
    balance = RelativeLossBalance(terms=["natural", "adversarial"])
    feed(balance, [(1.0, 1.0)])
    for _ in range(20):
        last = feed(balance, [(1.0, 0.1)])[0]
    assert last["natural"] > 0.6 > 0.4 > last["adversarial"] > 0


def test_three_terms_and_nothing_moves_outside_of_training():
    balance = RelativeLossBalance(terms=["a", "b", "c"])
    values = {name: torch.tensor(2.0) for name in "abc"}
    assert [float(weight) for weight in balance(values).values()] == pytest.approx([1 / 3] * 3)
    balance.eval()
    before = balance.weights.clone()
    balance({name: torch.tensor(float(place)) for place, name in enumerate("abc")})
    assert torch.equal(balance.weights, before)
    assert balance.first.tolist() == [2.0] * 3


def test_a_first_loss_of_zero_does_not_divide_by_zero():
    found = feed(RelativeLossBalance(terms=["natural", "adversarial"]), [(0.0, 1.0), (0.0, 0.5), (0.1, 0.5)])
    assert all(0 <= weight <= 1 for weights in found for weight in weights.values())


def test_it_goes_on_where_it_was():
    whole, first = (RelativeLossBalance(terms=["natural", "adversarial"]) for _ in range(2))
    expected = feed(whole)[-1]
    feed(first, STEPS[:2])
    second = RelativeLossBalance(terms=["natural", "adversarial"])
    second.load_state_dict(first.state_dict())
    assert feed(second, STEPS[2:])[-1] == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"terms": ["a"]}, "at least two"),
        ({"terms": ["a", "a"]}, "different"),
        ({"terms": ["a", "b"], "start": [0.5, 0.6]}, "sum 1"),
        ({"terms": ["a", "b"], "start": [1.0]}, "2 terms"),
        ({"terms": ["a", "b"], "start": [1.5, -0.5]}, "start"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(ValueError, match=words):
        RelativeLossBalance(**options)
