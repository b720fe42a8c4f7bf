"""What a researcher would run instead: RSLAD and PGD as their papers' loops, in plain PyTorch, fp32, channels first."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def rslad_attack(student: nn.Module, soft: Tensor, inputs: Tensor, *, eps: float, size: float, steps: int) -> Tensor:
    """Climb KL(T(x) ‖ S(x')) from x + 0.001·N(0, 1); the student in eval mode meanwhile.

    Args:
        student: inputs to logits; its parameters' gradients are dirtied, as in the official loop.
        soft: the teacher's probabilities on x, [B, K].
        inputs: x, [B, C, H, W].
        eps: ε.
        size: step size.
        steps: number of steps.
    """
    training = student.training
    student.eval()
    point = inputs.detach() + 0.001 * torch.randn_like(inputs)
    for _ in range(steps):
        point.requires_grad_(True)
        loss = F.kl_div(F.log_softmax(student(point), dim=1), soft, reduction="none").sum()
        (gradient,) = torch.autograd.grad(loss, point)
        point = point.detach() + size * gradient.detach().sign()
        point = torch.min(torch.max(point, inputs - eps), inputs + eps).clamp(0.0, 1.0)
    student.train(training)
    return point.detach()


def rslad_step(
    student: nn.Module,
    teacher: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    *,
    eps: float,
    size: float,
    steps: int,
    alpha: float = 1 / 6,
) -> float:
    """One training step: teacher, attack, (1-α)·KL on x' + α·KL on x, backward, update."""
    student.train()
    with torch.no_grad():
        soft = teacher(inputs).softmax(dim=1)
    attacked = rslad_attack(student, soft, inputs, eps=eps, size=size, steps=steps)
    optimizer.zero_grad()
    terms = [
        F.kl_div(F.log_softmax(student(view), dim=1), soft, reduction="none").sum(dim=1).mean()
        for view in (attacked, inputs)
    ]
    loss = (1 - alpha) * terms[0] + alpha * terms[1]
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def pgd(model: nn.Module, inputs: Tensor, labels: Tensor, *, eps: float, size: float, steps: int) -> Tensor:
    """PGD on cross-entropy from a uniform start, the last iterate."""
    point = (inputs + torch.empty_like(inputs).uniform_(-eps, eps)).clamp(0.0, 1.0)
    for _ in range(steps):
        point.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(point), labels), point)
        point = point.detach() + size * gradient.sign()
        point = torch.min(torch.max(point, inputs - eps), inputs + eps).clamp(0.0, 1.0)
    return point.detach()
