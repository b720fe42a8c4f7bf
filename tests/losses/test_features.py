"""Feature losses against loops and numbers."""

import math

import numpy as np
import pytest
import torch

from kdrobust.losses.features import (
    attention_transfer,
    channel_wise,
    hierarchical_context,
    hint,
    input_gradient,
    match_size,
    neuron_selectivity,
)

GENERATOR = torch.Generator().manual_seed(10)
STUDENT, TEACHER = (torch.randn(3, 4, 6, 6, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
SMALL = torch.randn(3, 2, 3, 3, generator=GENERATOR, dtype=torch.float64)


def by_sample(function):
    return torch.tensor([function(s, t) for s, t in zip(STUDENT.numpy(), TEACHER.numpy(), strict=True)])


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_the_larger_map_is_averaged():
    own, target = match_size(STUDENT, SMALL)
    assert own.shape[-2:] == target.shape[-2:] == (3, 3)
    expected = STUDENT.view(3, 4, 3, 2, 3, 2).mean(dim=(3, 5))
    torch.testing.assert_close(own, expected)
    assert match_size(SMALL, STUDENT)[0] is SMALL


def test_hint_of_any_shape():
    torch.testing.assert_close(hint(STUDENT, TEACHER), by_sample(lambda s, t: ((s - t) ** 2).mean()))
    assert float(hint(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))) == 12.5


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("mode", ["code", "paper"])
def test_attention(p, mode):
    def formula(s, t):
        own, target = (unit((np.abs(x) ** p).mean(axis=0).ravel()) for x in (s, t))
        return ((own - target) ** 2).mean() if mode == "code" else np.linalg.norm(own - target)

    torch.testing.assert_close(attention_transfer(STUDENT, TEACHER, p=p, mode=mode), by_sample(formula))


def test_attention_of_unequal_sizes_and_channels():
    pooled = STUDENT.view(3, 4, 3, 2, 3, 2).mean(dim=(3, 5))
    torch.testing.assert_close(attention_transfer(STUDENT, SMALL), attention_transfer(pooled, SMALL))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_channel_wise(temperature):
    def formula(s, t):
        total = 0.0
        for mine, theirs in zip(s, t, strict=True):
            q, p = (np.exp(x.ravel() / temperature) for x in (mine, theirs))
            q, p = q / q.sum(), p / p.sum()
            total += (p * np.log(p / q)).sum()
        return temperature**2 * total / len(s)

    torch.testing.assert_close(channel_wise(STUDENT, TEACHER, temperature=temperature), by_sample(formula))


def test_neuron_selectivity():
    def formula(s, t):
        s, t = unit(s.reshape(4, -1)), unit(t.reshape(4, -1))

        def kernel(a, b):
            return np.mean([[float(u @ v) ** 2 for v in b] for u in a])

        return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)

    torch.testing.assert_close(neuron_selectivity(STUDENT, TEACHER), by_sample(formula))
    # a distribution of channels: their order says nothing
    torch.testing.assert_close(neuron_selectivity(STUDENT.flip(1), TEACHER), neuron_selectivity(STUDENT, TEACHER))


def test_hierarchical_context_has_levels_below_the_maps_height_only():
    def pooled(x, size):
        step = x.shape[-1] // size
        return x.reshape(x.shape[0], size, step, size, step).mean(axis=(2, 4))

    s, t = STUDENT[:, :, :4, :4], TEACHER[:, :, :4, :4]
    found = hierarchical_context(s, t)
    for place, (mine, theirs) in enumerate(zip(s.numpy(), t.numpy(), strict=True)):
        terms = [((mine - theirs) ** 2).mean()]
        terms += [((pooled(mine, size) - pooled(theirs, size)) ** 2).mean() for size in (2, 1)]
        # the maps themselves are 4 × 4: the first level below is 2 × 2, with weight 1/2
        assert float(found[place]) == pytest.approx((terms[0] + terms[1] / 2 + terms[2] / 4) / 1.75)
    alone = hierarchical_context(STUDENT[:, :, :1, :1], TEACHER[:, :, :1, :1])
    torch.testing.assert_close(alone, hint(STUDENT[:, :, :1, :1], TEACHER[:, :, :1, :1]))


def test_input_gradients_by_length_and_by_direction():
    own, target = torch.tensor([[[3.0, 0.0]], [[0.0, 0.0]]]), torch.tensor([[[0.0, 4.0]], [[0.0, 0.0]]])
    assert input_gradient(own, target).tolist() == [5.0, 0.0]
    assert input_gradient(own, target, mode="cosine").tolist() == [1.0, 1.0]
    assert input_gradient(own, 7 * own, mode="cosine")[0] == 0.0
    own.requires_grad_(True)
    input_gradient(own, target).sum().backward()
    assert own.grad[1].abs().sum() == 0
    assert math.isclose(float(own.grad[0].norm()), 1.0, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("function", "student", "teacher", "options", "words"),
    [
        (hint, STUDENT, SMALL, {}, "equal shapes, got"),
        (channel_wise, STUDENT, SMALL, {}, "equal shapes, got"),
        (channel_wise, STUDENT, TEACHER, {"temperature": 0.0}, "temperature"),
        (hierarchical_context, STUDENT, SMALL, {}, "equal shapes"),
        (attention_transfer, STUDENT.flatten(1), TEACHER, {}, "needs maps"),
        (attention_transfer, STUDENT, TEACHER, {"mode": "other"}, "mode must be code or paper, got 'other'"),
        (neuron_selectivity, STUDENT, TEACHER.flatten(1), {}, "needs maps"),
        (input_gradient, STUDENT, SMALL, {}, "equal shapes"),
        (input_gradient, STUDENT, TEACHER, {"mode": "other"}, "mode must be l2 or cosine"),
    ],
)
def test_refusals(function, student, teacher, options, words):
    with pytest.raises(ValueError, match=words) as error:
        function(student, teacher, **options)
    assert "\n" not in str(error.value)
