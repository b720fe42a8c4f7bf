"""The two looks at a goal's gradient: with what the goal is worth, and without."""

import pytest
import torch
from torch import nn

from kdrobust.attacks.goals import KLToFixed, Target, find_goal
from kdrobust.attacks.slope import slope, uphill
from kdrobust.errors import AttackError


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)).requires_grad_(False)


def task():
    generator = torch.Generator().manual_seed(2)
    inputs = torch.rand(7, 1, 4, 4, generator=generator)
    return inputs, inputs + 0.1 * torch.randn(7, 1, 4, 4, generator=generator), torch.arange(7) % 5


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    "goal", ["cross_entropy", "margin", "dlr_targeted", "kl_to_teacher", "kl_to_live_teacher", "kl_to_clean"]
)
def test_both_have_the_same_bits(goal, sign):
    inputs, point, labels = task()
    target = Target(model=network(), inputs=inputs, labels=labels, teacher=network(1))
    climb = find_goal(goal)(target)
    value, logits, gradient = slope(target.model, climb, point, sign=sign)
    assert all(map(torch.equal, uphill(target.model, climb, point, sign=sign), (logits, gradient)))
    pixels = point.clone().requires_grad_(True)
    expected = sign * climb(pixels, target.model(pixels))
    assert torch.equal(value, expected.detach())
    assert torch.equal(gradient, torch.autograd.grad(expected.sum(), pixels)[0])
    assert float(gradient.abs().amin()) > 0 or goal in ("margin", "dlr_targeted")


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fixed_target_of_another_precision(temperature, dtype):
    inputs, point, _ = task()
    model = network()
    climb = KLToFixed(network(1).double()(inputs.double()).to(dtype), temperature)
    _, _, gradient = slope(model, climb, point)
    assert torch.equal(uphill(model, climb, point)[1], gradient)


def test_a_nan_is_read_as_zero_by_the_one_and_left_by_the_other():
    inputs, point, _ = task()
    model, climb = network(), KLToFixed(network(1)(inputs))

    def broken(points):
        return model(points) + torch.sqrt(points.flatten(1)[:, :1] * 0.0)

    first = (slice(None), 0, 0, 0)
    assert bool((slope(broken, climb, point)[2][first] == 0).all())
    left = uphill(broken, climb, point)[1]
    assert bool(left[first].isnan().all())
    assert bool((left.sign()[first] == 0).all()), "this is what an attack by signs relies on"


@pytest.mark.parametrize("look", [slope, uphill])
@pytest.mark.parametrize(
    "model", [lambda points: network()(points.detach()), lambda points: torch.ones(7, 5).requires_grad_()]
)
def test_outputs_without_gradient_are_refused(look, model):
    inputs, point, _ = task()
    with pytest.raises(AttackError, match="no gradient"):
        look(model, KLToFixed(network(1)(inputs)), point)
