"""S13: successes that were met on the way and not returned."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.errors import KdrobustError
from kdrobust.evaluation.checks.probe import Finding, Probe, points, tolerance, trust_check
from kdrobust.evaluation.outcome import AttackOutcome, attack_seed
from kdrobust.evaluation.predict import connected

#: Rounding a projection may leave.
SLACK = 1e-6


def rebuilt(outcome: AttackOutcome) -> GradientAttack | None:
    """The attack its own description describes; None where that is not enough to build it or to watch it."""
    spec = {key: value for key, value in outcome.spec.items() if key not in ("attack", "threat")}
    if outcome.spec.get("attack") != GradientAttack.__name__ or spec.get("model_mode", "eval") != "eval":
        return None
    try:
        return GradientAttack(threat=Threat(**outcome.spec["threat"]), **spec)
    except (KdrobustError, TypeError):
        return None


def watch(probe: Probe, name: str, attack: GradientAttack, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Run an attack again exactly as the suite did, and look at every point where it asks the model.

    Returns:
        [B] bool, whether any such point inside ball and box was answered wrongly, and [B] bool, whether the attack
        says it succeeded.

    Raises:
        KdrobustError: the attack cannot be run, it needs a teacher for example.
    """
    inputs, labels, keys = probe.batch(rows)
    model = connected(probe.model, inputs)
    low, high = attack.threat.box
    met = torch.zeros(len(rows), dtype=torch.bool, device=labels.device)

    def watched(points: Tensor) -> Tensor:
        logits: Tensor = model(points)
        # a restart may be asked for some samples only: who they are is not known here
        if len(points) != len(inputs):
            return logits
        with torch.no_grad():
            away = attack.threat.distance(points, inputs) <= float(attack.threat.eps) + SLACK
            inside = ((points >= low - SLACK) & (points <= high + SLACK)).flatten(1).all(dim=1)
            met.logical_or_(away & inside & (logits.argmax(dim=1) != labels))
        return logits

    seed = attack_seed(probe.evaluation.seed, name)
    fooled = attack.run(watched, inputs, labels, keys=keys, seed=seed).fooled
    return met, fooled


@trust_check(
    "S13",
    "silent success",
    "A second look at every x' agrees with the attack about who was broken; and up to 16 survivors of each iterative "
    "attack, attacked again exactly as before under observation, meet no adversarial example on their way. Fails where "
    "either goes wrong on more than the tolerance; samples in dispute count as broken.",
    cost="each iterative attack again, on up to 16 survivors",
)
def silent_success(probe: Probe) -> Finding:
    """S13: successes that were seen on the way but not returned, or returned but not seen."""
    clean = probe.evaluation.clean
    n = int(clean.sum())
    if not probe.evaluation.attacks or n == 0:
        return Finding(verdict="skipped", detail="nothing was attacked")
    counts = {name: int(outcome.disputed[clean].sum()) for name, outcome in probe.evaluation.attacks.items()}
    failed, warned = [], []
    for name, count in counts.items():
        told = f"{name} and a second look disagree on {count} of {n} samples ({points(count / n)})"
        if count > n * tolerance(count, 0, n):
            failed.append(told)
        elif count:
            warned.append(told)
    replayed: dict[str, dict[str, int]] = {}
    for name, outcome in probe.evaluation.attacks.items():
        found = _replay(probe, name, outcome)
        if found is None:
            continue
        replayed[name] = found
        few = found["replayed"]
        for key, what in (
            ("passed_by", "passed an adversarial example by"),
            ("not_repeated", "were broken when attacked again"),
        ):
            count = found[key]
            if count > few * tolerance(count, 0, few):
                failed.append(f"{name}: {count} of {few} survivors {what}")
            elif count:
                warned.append(f"{name}: {count} of {few} survivors {what}")
    measured: dict[str, Any] = {"disputed": counts, "replayed": replayed}
    if failed:
        return Finding(verdict="fail", detail="; ".join(failed), measured=measured)
    if warned:
        return Finding(verdict="warn", detail="; ".join(warned), measured=measured)
    return Finding(verdict="pass", detail="every success was returned", measured=measured)


def _replay(probe: Probe, name: str, outcome: AttackOutcome) -> dict[str, int] | None:
    attack = rebuilt(outcome)
    survivors = np.flatnonzero(outcome.correct)
    if attack is None or attack.steps < 2 or not len(survivors):
        return None
    rows = probe.pick(outcome.correct, most=probe.settings.replayed)
    try:
        met, fooled = watch(probe, name, attack, rows)
    except KdrobustError:
        return None
    return {
        "replayed": len(rows),
        "passed_by": int((met & ~fooled).sum()),
        "not_repeated": int(fooled.sum()),
    }
