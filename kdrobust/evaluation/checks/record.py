"""S14, S15, S16: the figure is the right one, and says what it was made of."""

from __future__ import annotations

import hashlib
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdrobust.evaluation.checks.probe import Finding, Probe, trust_check
from kdrobust.evaluation.intervals import wilson
from kdrobust.tracking.manifest import versions


@trust_check(
    "S14",
    "one verdict a sample",
    "The worst case counts a sample as correct only if it is correct without attack and under every attack; it comes "
    "with n and its 95 % Wilson interval. Fails where a count contradicts that; warns where an attack of another norm "
    "or of a larger ε is among those counted.",
)
def union(probe: Probe) -> Finding:
    """S14: the mean over attacks flatters; an adversary chooses the attack for each sample."""
    evaluation, threat = probe.evaluation, probe.threat
    n = len(evaluation)
    if n == 0:
        return Finding(verdict="skipped", detail="no samples")
    problems, warned = [], []
    worst = np.ones(n, dtype=np.bool_) & evaluation.clean
    for name, outcome in evaluation.attacks.items():
        if outcome.correct.shape != (n,):
            problems.append(f"{name} has verdicts on {len(outcome.correct)} of {n} samples")
            continue
        repaired = int((outcome.correct & ~evaluation.clean).sum())
        if repaired:
            problems.append(f"{name} counts {repaired} samples as correct that are wrong without attack")
        if outcome.kind != (threat.norm, threat.relative) or outcome.eps > float(threat.eps) + 1e-9:
            warned.append(f"{name} attacks under {outcome.norm}, ε = {outcome.eps:.4g}")
        worst &= outcome.correct
    correct = int(worst.sum())
    low, high = wilson(correct, n)
    accuracies = [float(outcome.correct.mean()) for outcome in evaluation.attacks.values()]
    measured: dict[str, Any] = {"n": n, "correct": correct, "interval": [low, high], "over": list(evaluation.attacks)}
    if accuracies:
        measured |= {"lowest_single": min(accuracies), "mean_over_attacks": fmean(accuracies)}
    detail = f"worst case {correct} of {n}, between {100 * low:.1f} and {100 * high:.1f} %"
    if problems:
        return Finding(verdict="fail", detail="; ".join(problems), measured=measured)
    if warned:
        return Finding(verdict="warn", detail="; ".join(warned), measured=measured)
    return Finding(verdict="pass", detail=detail, measured=measured)


def weights_sha256(model: nn.Module) -> str:
    """Hash of a model's parameters and buffers, by name: equal hashes, same model."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name}/{value.dtype}/{tuple(value.shape)}".encode())
            digest.update(_bytes(value))
    return digest.hexdigest()


def data_sha256(inputs: Tensor, labels: Tensor) -> str:
    """Hash of the evaluated inputs, as they were given, and labels."""
    digest = hashlib.sha256(f"{inputs.dtype}/{tuple(inputs.shape)}".encode())
    digest.update(_bytes(inputs))
    digest.update(_bytes(labels.long()))
    return digest.hexdigest()


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


@trust_check(
    "S15",
    "everything is disclosed",
    "Beside the figures stand each attack's name, threat, settings and seconds, the seed, batch size, device, "
    "versions, and hashes of the weights and of the data. Fails where an attack does not say its name, norm and ε; "
    "warns where it says no more than that.",
)
def disclosure(probe: Probe) -> Finding:
    """S15: a figure nobody can repeat is an opinion."""
    evaluation = probe.evaluation
    missing, thin = [], []
    for name, outcome in evaluation.attacks.items():
        absent = [key for key in ("attack", "threat") if not outcome.spec.get(key)]
        absent += [key for key in ("norm", "eps") if key not in outcome.spec.get("threat", {})]
        if absent:
            missing.append(f"{name} does not say its {', '.join(absent)}")
        elif len(outcome.spec) < 3:
            thin.append(f"{name} describes none of its settings")
    measured = {
        "weights_sha256": weights_sha256(probe.model),
        "data_sha256": data_sha256(probe.inputs, torch.from_numpy(evaluation.labels)),
        "parameters": sum(parameter.numel() for parameter in probe.model.parameters()),
        "seconds": {name: round(outcome.seconds, 3) for name, outcome in evaluation.attacks.items()},
        "seed": evaluation.seed,
        "batch_size": evaluation.batch_size,
        "device": evaluation.device,
        "versions": versions(),
    }
    if missing:
        return Finding(verdict="fail", detail="; ".join(missing), measured=measured)
    if thin:
        return Finding(verdict="warn", detail="; ".join(thin), measured=measured)
    return Finding(verdict="pass", detail="attacks, seed, versions and hashes stand in the result", measured=measured)


@trust_check(
    "S16",
    "the attacks' own warnings",
    "What an attack itself warned of while it ran: AutoAttack tells of random models, probabilities, vanished "
    "gradients, optimisation in the forward pass. Warns at the first.",
    severity="warn",
)
def own_warnings(probe: Probe) -> Finding:
    """S16: a warning in a log file is read by nobody."""
    notes = {name: list(outcome.notes) for name, outcome in probe.evaluation.attacks.items() if outcome.notes}
    told = "; ".join(f"{name}: {note}" for name, said in notes.items() for note in said)
    if notes:
        return Finding(verdict="warn", detail=told, measured={"notes": notes})
    return Finding(verdict="pass", detail="the attacks warned of nothing", measured={"notes": notes})
