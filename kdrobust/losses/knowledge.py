"""Knowledge losses on logits: the student against a teacher. Every function returns one value a sample, [B].

A gradient flows into whichever argument carries one: a frozen teacher's logits do not, the student's own clean logits
used as the target (TRADES) do.
"""

from __future__ import annotations

from torch import Tensor, where
from torch.nn import functional as F

from kdrobust.losses.numerics import check_temperature, kl_per_class, lift, reduce_classes


def soft_target(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    reduction: str = "classes_sum",
    factor_temperature: float = 0.0,
) -> Tensor:
    r"""Hinton's soft target in its KL form.

    $T^2 \sum_j \sigma(t/T)_j \left(\log \sigma(t/T)_j - \log \sigma(s/T)_j\right)$, zero when both agree; the factor
    $T^2$ keeps the size of the gradient when T changes.

    Args:
        student: logits s, [B, K].
        teacher: logits t of the target distribution, [B, K].
        temperature: T > 0.
        reduction: `classes_sum` is the definition; `classes_mean` (1/K of it) is what much official code computes.
        factor_temperature: the temperature whose square is the factor, where official code divides the logits by
            another one; 0: T.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: T is not positive, or an unknown reduction.

    Source: Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2.
    """
    check_temperature(temperature)
    factor = factor_temperature or temperature
    check_temperature(factor)
    summands = kl_per_class(lift(teacher) / temperature, lift(student) / temperature)
    return factor**2 * reduce_classes(summands, reduction)


def hard_target(student: Tensor, teacher: Tensor, labels: Tensor, *, wrong: str = "label") -> Tensor:
    r"""Cross-entropy against a label made by comparing the teacher's answer with the true one.

    $\mathrm{CE}(s, \arg\max_j t_j)$ where the teacher is right. Where it is wrong, `wrong` decides.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K]; on a tie the first class wins.
        labels: true classes, [B] int64.
        wrong: `label` takes the true label; `teacher` its arg-max all the same (DeiT's and big_vision's hard
            distillation); `drop` counts the sample as 0 here, so that it acts through the prediction loss only.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: an unknown policy.

    Source: Touvron et al. 2021, arXiv:2012.12877, eq. 3 (policy `teacher`); the others are this project's.
    """
    answer = teacher.argmax(dim=1)
    if wrong == "teacher":
        return F.cross_entropy(lift(student), answer, reduction="none")
    if wrong == "label":
        return F.cross_entropy(lift(student), labels, reduction="none")
    if wrong == "drop":
        loss = F.cross_entropy(lift(student), labels, reduction="none")
        return where(answer == labels, loss, loss.new_zeros(()))
    raise ValueError(f"wrong must be label, teacher or drop, got {wrong!r}")


def logit_mse(student: Tensor, teacher: Tensor, *, reduction: str = "classes_mean") -> Tensor:
    r"""Squared distance of the logits: $\frac1K \sum_j (s_j - t_j)^2$.

    The limit of `soft_target` for a large temperature and centred logits, up to a factor ½ (Hinton 2015, section 2.1).

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        reduction: `classes_mean` divides by K, `classes_sum` does not.

    Returns:
        [B], at least float32.

    Source: Ba & Caruana, NIPS 2014, arXiv:1312.6184, eq. 1.
    """
    return reduce_classes((lift(student) - lift(teacher)).square(), reduction)


def probability_mse(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, reduction: str = "classes_mean"
) -> Tensor:
    r"""Squared distance of the softened probabilities: $T^2 \frac1K \sum_j (\sigma(s/T)_j - \sigma(t/T)_j)^2$.

    Args:
        student: logits, [B, K].
        teacher: logits, [B, K].
        temperature: T > 0.
        reduction: `classes_mean` divides by K, `classes_sum` does not.

    Returns:
        [B], at least float32.

    Raises:
        ValueError: T is not positive, or an unknown reduction.
    """
    check_temperature(temperature)
    difference = (lift(student) / temperature).softmax(dim=1) - (lift(teacher) / temperature).softmax(dim=1)
    return temperature**2 * reduce_classes(difference.square(), reduction)


def difference_matching(student: Tensor, student_mirror: Tensor, teacher: Tensor, teacher_mirror: Tensor) -> Tensor:
    r"""Gradient matching without gradients: $\mathrm{KL}(\sigma(t^+ - t^-) \,\|\, \sigma(s^+ - s^-))$.

    $\pm$ are the outputs at x ± δ: for a small δ their difference is the logits' change along it.

    Args:
        student: logits at x + δ, [B, K].
        student_mirror: logits at x - δ, [B, K].
        teacher: logits at x + δ, [B, K].
        teacher_mirror: logits at x - δ, [B, K].

    Returns:
        [B], at least float32.

    Source: Lee et al. 2023, arXiv:2312.03286 (IGDM), eq. 10.
    """
    own, target = lift(student) - lift(student_mirror), lift(teacher) - lift(teacher_mirror)
    return kl_per_class(target, own).sum(dim=1)
