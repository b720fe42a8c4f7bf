"""Feature losses: what a student's inner maps say against a teacher's. Each returns one value a sample, [B]."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor
from torch.nn import functional as F

from kdrobust.losses.numerics import check_temperature, kl_per_class, lift, safe_root

#: A tapped module's output: maps [B, C, H, W] or vectors [B, D]. In a term it is fed by a module path, not by a view.
Features: TypeAlias = Tensor
#: The gradient of a model's cross-entropy to its input, [B, *shape].
InputGradient: TypeAlias = Tensor


def _maps(student: Tensor, teacher: Tensor, *, equal: bool = False) -> tuple[Tensor, Tensor]:
    own, target = lift(student), lift(teacher)
    if own.dim() != 4 or target.dim() != 4:
        raise ValueError(f"needs maps [B, C, H, W], got {list(own.shape)} and {list(target.shape)}")
    if equal:
        _same(own, target)
    return own, target


def _same(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"needs equal shapes, got {list(student.shape[1:])} and {list(teacher.shape[1:])}")


def match_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of equal height and width: the larger one is average-pooled to the smaller one's, side by side.

    Args:
        student: [B, C, H, W].
        teacher: [B, C', H', W'].
    """
    size = (min(student.shape[-2], teacher.shape[-2]), min(student.shape[-1], teacher.shape[-1]))
    pooled = [
        values if tuple(values.shape[-2:]) == size else F.adaptive_avg_pool2d(values, size)
        for values in (student, teacher)
    ]
    return pooled[0], pooled[1]


def hint(student: Features, teacher: Features) -> Tensor:
    r"""FitNet's hint, the mean squared difference over all elements: $\mathrm{mean}_{chw}(f_s - f_t)^2$.

    Maps of different shape pass through an adapter first (`adapter: conv`: 1×1 convolution, batch norm, ReLU).

    Args:
        student: features, [B, ...].
        teacher: features of the same shape.

    Returns:
        [B], at least float32. Weights of about 100 are usual.

    Raises:
        ValueError: the shapes differ.

    Source: Romero et al., ICLR 2015, arXiv:1412.6550, eq. 3.
    """
    own, target = lift(student), lift(teacher)
    _same(own, target)
    return (own - target).square().flatten(1).mean(dim=1)


def _attention(maps: Tensor, p: float) -> Tensor:
    return F.normalize(maps.abs().pow(p).mean(dim=1).flatten(1), dim=1)


def attention_transfer(student: Features, teacher: Features, *, p: float = 2, mode: str = "code") -> Tensor:
    r"""Attention transfer: where the student looks against where the teacher looks.

    $a(f)$ is the channel mean of $|f|^p$, flattened and scaled to length 1; the larger map is average-pooled first.
    `code`: $\mathrm{mean}_{hw}(a_s - a_t)^2$, what four libraries compute (weights of about 1000 are usual); `paper`:
    $\|a_s - a_t\|_2$, without square and mean.

    Args:
        student: maps, [B, C, H, W].
        teacher: maps, [B, C', H', W']; the channels may differ.
        p: the power, positive; of |f|, also where it is odd.
        mode: `code` or `paper`.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: no maps, or an unknown mode.

    Source: Zagoruyko & Komodakis, ICLR 2017, arXiv:1612.03928, eq. 2.
    """
    own, target = match_size(*_maps(student, teacher))
    difference = _attention(own, p) - _attention(target, p)
    if mode == "code":
        return difference.square().mean(dim=1)
    if mode == "paper":
        return safe_root(difference.square().sum(dim=1))
    raise ValueError(f"mode must be code or paper, got {mode!r}")


def channel_wise(student: Features, teacher: Features, *, temperature: float = 1.0) -> Tensor:
    r"""Channel-wise distillation: $T^2\,\mathrm{mean}_c\,\mathrm{KL}$ of the channels' softmaxes over positions.

    Args:
        student: maps, [B, C, H, W].
        teacher: maps of the same shape.
        temperature: T > 0.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: the shapes differ, or T is not positive.

    Source: Shu et al., ICCV 2021, arXiv:2011.13256, eq. 4.
    """
    check_temperature(temperature)
    own, target = _maps(student, teacher, equal=True)
    batch, channels = own.shape[:2]
    rows = [values.reshape(batch * channels, -1) / temperature for values in (target, own)]
    return temperature**2 * kl_per_class(*rows).sum(dim=1).view(batch, channels).mean(dim=1)


def neuron_selectivity(student: Features, teacher: Features) -> Tensor:
    r"""Neuron selectivity transfer: maximum mean discrepancy between channels' activation patterns.

    Channels, flattened over positions and scaled to length 1, are samples of two distributions; the kernel is
    $k(u, v) = (u^\top v)^2$ and the value $\mathrm{mean}\,k(t,t') + \mathrm{mean}\,k(s,s') - 2\,\mathrm{mean}\,k(s,t)$.

    Args:
        student: maps, [B, C, H, W].
        teacher: maps, [B, C', H', W']; the larger is average-pooled first.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: no maps.

    Source: Huang & Wang 2017, arXiv:1707.01219, eq. 6.
    """
    own, target = (F.normalize(values.flatten(2), dim=2) for values in match_size(*_maps(student, teacher)))

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        return (first @ second.transpose(1, 2)).square().mean(dim=(1, 2))

    return kernel(target, target) + kernel(own, own) - 2.0 * kernel(own, target)


def hierarchical_context(student: Features, teacher: Features) -> Tensor:
    r"""Knowledge review's pyramid: mean squared differences of the maps and of their averages at 4×4, 2×2 and 1×1.

    $\left(\ell_0 + \sum_k 2^{-k}\, \ell_k\right) / \left(1 + \sum_k 2^{-k}\right)$, $\ell_k$ the mean squared
    difference at level k = 1, 2, 3 (levels not below the map's height are left out).

    Args:
        student: maps, [B, C, H, W], after fusion or adapter.
        teacher: maps of the same shape.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: the shapes differ.

    Source: Chen et al., CVPR 2021, arXiv:2104.09044, section 3.3.
    """
    own, target = _maps(student, teacher, equal=True)
    loss = (own - target).square().flatten(1).mean(dim=1)
    weight, total = 1.0, 1.0
    for level in (4, 2, 1):
        if level >= own.shape[2]:
            continue
        weight /= 2.0
        total += weight
        pooled = [F.adaptive_avg_pool2d(values, (level, level)) for values in (own, target)]
        loss = loss + weight * (pooled[0] - pooled[1]).square().flatten(1).mean(dim=1)
    return loss / total


def input_gradient(student: InputGradient, teacher: InputGradient, *, mode: str = "l2") -> Tensor:
    r"""Input-gradient alignment: the student's saliency $\nabla_x \mathrm{CE}(S(x), y)$ follows the teacher's.

    `l2`: $\|\nabla_x \mathrm{CE}_s - \nabla_x \mathrm{CE}_t\|_2$ (KDIGA's); `cosine`: one minus their cosine (the
    direction alone, as in input-gradient adversarial matching without its discriminator). It costs a backward through
    the student's backward.

    Args:
        student: gradient to the pixels, [B, *shape], with a graph.
        teacher: the same of the teacher.
        mode: `l2` or `cosine`.

    Returns:
        [B], at least float32; 0 with gradient 0 where both agree.

    Raises:
        ValueError: the shapes differ, or an unknown mode.

    Source: Shao et al. 2021, arXiv:2110.12072 (KDIGA), eq. 6; Chan et al., CVPR 2020, arXiv:1912.05185 (IGAM).
    """
    own, target = lift(student).flatten(1), lift(teacher).flatten(1)
    _same(own, target)
    if mode == "cosine":
        # an exact zero gradient (a sure model) has no direction: it counts as orthogonal
        return 1.0 - F.cosine_similarity(own, target, dim=1, eps=1e-12)
    if mode == "l2":
        return safe_root((own - target).square().sum(dim=1))
    raise ValueError(f"mode must be l2 or cosine, got {mode!r}")
