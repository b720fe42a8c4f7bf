"""DDN: distances against other libraries', and what its radius does."""

import pytest
import torch

from kdrobust.attacks import DDN, Threat
from kdrobust.errors import UsageError
from tests.attacks.zoo import MODEL, X, Y, tensor

THREAT = Threat(norm="l2", eps=0.5)


def test_within_a_tenth_of_the_best_reference_and_no_farther_than_other_ddns():
    result = DDN(threat=THREAT, steps=300).run(MODEL, X, Y)
    assert bool(result.fooled.all())
    assert torch.equal(MODEL(result.adversarial).argmax(1) != Y, result.fooled)
    distance = result.extra["distance"]
    assert bool((distance <= 1.1 * tensor("minnorm/l2/cw_advlib/dist")).all())
    assert bool((distance <= 1.02 * tensor("minnorm/l2/ddn_advlib/dist")).all())


def test_points_lie_on_spheres_that_shrink_after_success_and_grow_after_failure():
    seen = []

    def watched(x):
        seen.append(x.detach().clone())
        return MODEL(x)

    inside = X * 0.5 + 0.25  # far from the box: nothing is clipped
    with torch.no_grad():
        labels = MODEL(inside).argmax(1)
    DDN(threat=THREAT, steps=6, first_radius=0.1, gamma=0.2).run(watched, inside, labels, validate=False)
    path = seen[1:7]
    lengths = torch.stack([THREAT.distance(point, inside) for point in path])
    assert bool((lengths[0] == 0).all())
    torch.testing.assert_close(lengths[1], torch.full((8,), 0.1).double())
    for before, point, after in zip(lengths[1:], path[1:], lengths[2:], strict=False):
        wrong = MODEL(point).argmax(1) != labels
        torch.testing.assert_close(after, torch.where(wrong, 0.8 * before, 1.2 * before))


def test_linf_is_refused():
    with pytest.raises(UsageError, match=r"threat\.norm=linf.*FMN"):
        DDN(threat=Threat(norm="linf", eps=0.1))


@pytest.mark.parametrize(("key", "value"), [("steps", 0), ("step_size", 0), ("gamma", 1), ("first_radius", 0)])
def test_bad_settings(key, value):
    with pytest.raises(UsageError, match=rf"attack\.{key}"):
        DDN(threat=THREAT, **{key: value})
