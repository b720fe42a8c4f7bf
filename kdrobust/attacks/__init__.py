"""Attacks: a threat model climbing a goal, in one gradient loop."""

from kdrobust.attacks.callback import AttackCallback
from kdrobust.attacks.contract import check_inputs, check_logits
from kdrobust.attacks.goals import GOALS, Target
from kdrobust.attacks.gradient import GradientAttack, NoAttack
from kdrobust.attacks.result import AttackResult
from kdrobust.attacks.threat import Threat
from kdrobust.attacks.transfer import TransferAttack

__all__ = [
    "GOALS",
    "AttackCallback",
    "AttackResult",
    "GradientAttack",
    "NoAttack",
    "Target",
    "Threat",
    "TransferAttack",
    "check_inputs",
    "check_logits",
]
