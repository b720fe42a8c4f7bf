"""Evaluation: suites of attacks, intervals, trust checks, and results as data."""

from kdrobust.evaluation.checks import CheckSettings, run_checks
from kdrobust.evaluation.cost import Cost, model_cost
from kdrobust.evaluation.intervals import paired_error, wilson
from kdrobust.evaluation.outcome import AttackOutcome, Check, Evaluation, merge
from kdrobust.evaluation.result import per_sample, to_result, validate, write_evaluation, write_samples
from kdrobust.evaluation.subset import stratified
from kdrobust.evaluation.suite import evaluate

__all__ = [
    "AttackOutcome",
    "Check",
    "CheckSettings",
    "Cost",
    "Evaluation",
    "evaluate",
    "merge",
    "model_cost",
    "paired_error",
    "per_sample",
    "run_checks",
    "stratified",
    "to_result",
    "validate",
    "wilson",
    "write_evaluation",
    "write_samples",
]
