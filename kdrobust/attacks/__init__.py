"""Attacks: a threat model climbing a goal, in one gradient loop."""

from kdrobust.attacks.callback import AttackCallback
from kdrobust.attacks.gradient import AttackResult, GradientAttack, NoAttack
from kdrobust.attacks.goals import GOALS, Target
from kdrobust.attacks.threat import Threat

__all__ = ["GOALS", "AttackCallback", "AttackResult", "GradientAttack", "NoAttack", "Target", "Threat"]
