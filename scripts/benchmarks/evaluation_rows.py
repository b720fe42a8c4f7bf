"""Rows about measuring a robust model: PGD-20 against the libraries, and what fast kernels cost in accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plain
import torch
from libraries import LIBRARIES
from timing import alternate
from torch import Tensor, nn

from kdrobust.attacks import GradientAttack, Threat

STEPS = 20


def _forms(threat: Threat) -> dict[str, GradientAttack]:
    common: dict[str, Any] = {"threat": threat, "steps": STEPS, "step_size": threat.radius / 4, "start": "uniform"}
    return {
        "kdrobust, exact": GradientAttack(**common),
        "kdrobust, fp32": GradientAttack(**common, precision="fp32"),
        "kdrobust, exact, keep=fooling": GradientAttack(**common, keep="fooling"),
        "kdrobust, fp32, keep=fooling": GradientAttack(**common, precision="fp32", keep="fooling"),
        "kdrobust, bf16, keep=fooling": GradientAttack(**common, precision="bf16", keep="fooling"),
        "kdrobust, bf16, keep=fooling, exact_steps=2": GradientAttack(
            **common, precision="bf16", keep="fooling", exact_steps=2
        ),
    }


@torch.no_grad()
def _right(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    return torch.cat([model(piece) for piece in inputs.split(1000)]).argmax(dim=1) == labels


def _over(attack: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, labels: Tensor, size: int) -> Tensor:
    pieces = zip(inputs.split(size), labels.split(size), strict=True)
    return torch.cat([attack(*piece) for piece in pieces])


def pgd(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, threat: Threat, batch: int, repeats: int
) -> dict[str, dict[str, Any]]:
    """PGD-20 on cross-entropy over a test set; the libraries attack every sample, ours those that are right."""
    settings = {"eps": threat.radius, "size": threat.radius / 4, "steps": STEPS}

    def theirs(function: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: _over(lambda x, y: function(model, x, y, **settings), inputs, labels, batch)

    def ours(attack: GradientAttack) -> Callable[[], Tensor]:
        def run() -> Tensor:
            right = _right(model, inputs, labels)
            found = inputs.clone()
            found[right] = _over(lambda x, y: attack(model, x, y, validate=False), inputs[right], labels[right], batch)
            return found

        return run

    runs = {
        **{name: theirs(function) for name, function in LIBRARIES.items()},
        "plain PGD loop": theirs(plain.pgd),
        **{name: ours(attack) for name, attack in _forms(threat).items()},
    }
    table = alternate(runs, repeats)
    for row in table.values():
        if "answer" in row:
            row["reached"] = {"robust": int(_right(model, row.pop("answer"), labels).sum()), "of": len(labels)}
    return table


def strength(model: nn.Module, inputs: Tensor, labels: Tensor, *, threat: Threat, batch: int) -> dict[str, Any]:
    """Robust accuracy in points under PGD-20 in each form, from the same starts, over all samples."""
    keys = torch.arange(len(labels))
    right = _right(model, inputs, labels)
    table: dict[str, Any] = {}
    for name, attack in _forms(threat).items():
        stands = right.clone()
        for rows in keys[right].split(batch):
            found = attack.run(model, inputs[rows], labels[rows], keys=keys[rows], validate=False)
            stands[rows] = ~found.fooled
        table[name] = {"reached": {"robust": 100.0 * float(stands.float().mean()), "of": len(labels)}}
    return table
