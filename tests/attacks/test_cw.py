"""Carlini-Wagner ℓ2: distances against other libraries', pixels at the ends of the box, the search for c."""

import pytest
import torch
from torch import nn

from kdrobust.attacks import CarliniWagner, Threat
from kdrobust.attacks.goals import margin
from kdrobust.errors import UsageError
from tests.attacks.zoo import MODEL, X, Y, tensor

THREAT = Threat(norm="l2", eps=0.5)


def test_within_two_percent_of_the_best_reference_and_pixels_at_the_ends_of_the_box_move():
    result = CarliniWagner(threat=THREAT, steps=900, rounds=5, first_c=1.0).run(MODEL, X, Y)
    assert bool(result.fooled.all())
    assert torch.equal(MODEL(result.adversarial).argmax(1) != Y, result.fooled)
    assert bool((result.extra["distance"] <= 1.02 * tensor("minnorm/l2/cw_advlib/dist")).all())
    ends = (X == 0) | (X == 1)
    assert int(((result.adversarial - X).abs() > 1e-3)[ends].sum()) >= 10


def test_c_is_each_samples_own():
    """A model whose logits are a thousand times smaller for one sample needs a c that much larger there alone."""
    layer = nn.Linear(6, 2).double()
    inputs = 0.4 + 0.2 * torch.rand(4, 6, generator=torch.Generator().manual_seed(1)).double()
    labels = layer(inputs).argmax(1)
    scale = torch.tensor([1.0, 1e-3, 1.0, 1.0]).double().unsqueeze(1)

    def weak(x):
        return layer(x) * (scale if len(x) == 4 else 1.0)

    options = {"threat": THREAT, "steps": 60, "learning_rate": 0.05, "first_c": 1.0}
    found = CarliniWagner(rounds=7, **options).run(weak, inputs, labels)
    plain = CarliniWagner(rounds=7, **options).run(layer, inputs, labels)
    others = [0, 2, 3]
    torch.testing.assert_close(found.extra["distance"][others], plain.extra["distance"][others])
    assert bool(found.fooled.all())
    once = CarliniWagner(rounds=1, **options).run(weak, inputs, labels)
    assert not bool(once.fooled[1])


def test_confidence_goes_beyond_the_boundary():
    options = {"threat": THREAT, "steps": 60, "rounds": 3, "learning_rate": 0.05, "first_c": 10.0}
    near = CarliniWagner(**options).run(MODEL, X, Y)
    torch.testing.assert_close(margin(MODEL(near.adversarial), Y), near.goal_end)
    # with κ the hinge goes on pulling behind the boundary, so c need not be as large
    pulled = CarliniWagner(confidence=1.0, **options).run(MODEL, X, Y)
    assert bool((pulled.fooled >= near.fooled).all())
    assert not torch.equal(pulled.adversarial, near.adversarial)


def test_linf_is_refused():
    with pytest.raises(UsageError, match=r"threat\.norm=linf.*FMN"):
        CarliniWagner(threat=Threat(norm="linf", eps=0.1))


@pytest.mark.parametrize(
    ("key", "value"), [("steps", 0), ("rounds", 0), ("learning_rate", 0), ("first_c", 0), ("confidence", -1)]
)
def test_bad_settings(key, value):
    with pytest.raises(UsageError, match=rf"attack\.{key}"):
        CarliniWagner(threat=THREAT, **{key: value})
