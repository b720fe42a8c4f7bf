"""Attacks: a threat model climbing a goal; for training one gradient loop, for evaluation what finds more."""

from kdrobust.attacks.apgd import APGD
from kdrobust.attacks.callback import AttackCallback
from kdrobust.attacks.cascade import Cascade
from kdrobust.attacks.contract import check_answers, check_inputs, check_logits
from kdrobust.attacks.cw import CarliniWagner
from kdrobust.attacks.ddn import DDN
from kdrobust.attacks.fmn import FMN
from kdrobust.attacks.goals import GOALS, Target
from kdrobust.attacks.gradient import GradientAttack
from kdrobust.attacks.joint import JointAttack
from kdrobust.attacks.none import NoAttack
from kdrobust.attacks.result import AttackResult
from kdrobust.attacks.square import Square
from kdrobust.attacks.threat import Threat
from kdrobust.attacks.transfer import TransferAttack

__all__ = [
    "APGD",
    "DDN",
    "FMN",
    "GOALS",
    "AttackCallback",
    "AttackResult",
    "CarliniWagner",
    "Cascade",
    "GradientAttack",
    "JointAttack",
    "NoAttack",
    "Square",
    "Target",
    "Threat",
    "TransferAttack",
    "check_answers",
    "check_inputs",
    "check_logits",
]
