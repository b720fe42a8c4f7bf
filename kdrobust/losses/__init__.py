"""Losses: pure functions on tensors, one value a sample, and the objective that sums them."""

from kdrobust.losses.knowledge import hard_target, logit_mse, probability_mse, soft_target
from kdrobust.losses.objective import Objective, ObjectiveResult, Part, method_problems
from kdrobust.losses.prediction import boosted_cross_entropy, cross_entropy, mse
from kdrobust.losses.weighting import distance_compensated, doubt, fixed, js_distance

__all__ = [
    "Objective",
    "ObjectiveResult",
    "Part",
    "boosted_cross_entropy",
    "cross_entropy",
    "distance_compensated",
    "doubt",
    "fixed",
    "hard_target",
    "js_distance",
    "logit_mse",
    "method_problems",
    "mse",
    "probability_mse",
    "soft_target",
]
