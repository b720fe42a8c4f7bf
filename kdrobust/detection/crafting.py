"""Attacked inputs for a detector to learn or to be measured on, made once and kept by what decides them."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdrobust.attacks import AttackResult, check_answers
from kdrobust.evaluation.store import PartialFile
from kdrobust.version import __version__

log = logging.getLogger("kdrobust")
_SECONDS = 10.0


class Attack(Protocol):
    """Anything that `kdrobust.attacks` calls an attack."""

    def run(self, model: Any, inputs: Tensor, labels: Tensor, *, keys: Tensor | None, seed: int) -> AttackResult:
        """Attack a batch."""

    def describe(self) -> dict[str, Any]:
        """Plain values."""


@dataclass(frozen=True, kw_only=True)
class Crafted:
    """What an attack made of some inputs.

    Attributes:
        inputs: x', [N, ...].
        fooled: whether the model it was made on is wrong, [N] bool.
    """

    inputs: Tensor
    fooled: Tensor


def craft(
    attack: Attack,
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    keys: Tensor,
    *,
    name: str,
    context: Mapping[str, Any],
    folder: Path,
    seed: int = 0,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
) -> Crafted:
    """Attack a model, or read what an earlier run made of the very same question.

    A killed run goes on with the next attack; a damaged file is made again.

    Args:
        attack: makes the examples.
        model: that they are made on.
        inputs: clean, [N, ...] in [0, 1].
        labels: [N] int64.
        keys: [N] int64, each sample's place in its split: the address of its random draws.
        name: for the log.
        context: what decides the outcome beside the attack: hashes of model and data, the split.
        folder: where what was made is kept.
        seed: address of the random draws.
        batch_size: inputs at once; changes no example.
        device: where to compute.

    Raises:
        AttackError: the attack made inputs that hold NaN.
    """
    question = {
        "attack": attack.describe(),
        "context": dict(context),
        "seed": seed,
        "device": torch.device(device).type,
        "kdrobust": __version__,
        "keys": hashlib.sha256(keys.numpy().tobytes()).hexdigest(),
    }
    digest = hashlib.sha256(json.dumps(question, sort_keys=True, default=str).encode()).hexdigest()
    file = PartialFile(folder / f"{digest[:16]}.npz", digest)
    if (found := file.load()) is not None and {"inputs", "fooled"} <= set(found):
        return Crafted(inputs=found["inputs"], fooled=found["fooled"].bool())
    model.to(device)
    parts: list[AttackResult] = []
    began = last = time.monotonic()
    done = 0
    for rows in torch.split(torch.arange(len(labels)), batch_size):
        chosen = [values[rows].to(device) for values in (inputs, labels, keys)]
        parts.append(attack.run(model, chosen[0], chosen[1], keys=chosen[2], seed=seed))
        check_answers(parts[-1].adversarial, attack=name)
        done += len(rows)
        if time.monotonic() - last >= _SECONDS:
            last = time.monotonic()
            left = (last - began) / done * (len(labels) - done)
            log.info("attacked inputs  %s  %d/%d  left %ds", name, done, len(labels), round(left))
    made = Crafted(
        inputs=torch.cat([part.adversarial.cpu() for part in parts]),
        fooled=torch.cat([part.fooled.cpu() for part in parts]),
    )
    file.save({"inputs": made.inputs, "fooled": made.fooled})
    return made


def kind_of(described: Mapping[str, Any]) -> str:
    """What sort of attack settings describe: its class, norm, goal, and whether it takes one step, or has momentum."""
    threat = described.get("threat") or {}
    words = [str(described.get("attack")), str(threat.get("norm"))]
    if "goal" in described:
        words.append(str(described["goal"]))
    if "steps" in described:
        words.append("one step" if described["steps"] == 1 else "many steps")
    if described.get("momentum"):
        words.append("momentum")
    return ", ".join(words)
