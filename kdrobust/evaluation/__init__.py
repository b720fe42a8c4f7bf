"""Evaluation: suites of attacks, intervals, trust checks, and results as data."""

from kdrobust.evaluation.calibration import Calibration, calibration, calibrations
from kdrobust.evaluation.checks import CheckSettings, run_checks
from kdrobust.evaluation.comparison import Comparison, compare, mcnemar, paired_interval, read_samples, samples_hash
from kdrobust.evaluation.corruptions import Corrupted, corruption_result, evaluate_corruptions, merge_corrupted
from kdrobust.evaluation.cost import Cost, checkpoint_bytes, model_cost, per_mflop
from kdrobust.evaluation.curve import SecurityCurve, exact_curves, fixed_eps_curve, security_curve
from kdrobust.evaluation.figures import summary
from kdrobust.evaluation.intervals import paired_error, wilson
from kdrobust.evaluation.latency import Latency, RealTime, machine_name, measure_latency, real_time
from kdrobust.evaluation.memory import batch_within, free_bytes, power_of_two, sample_bytes
from kdrobust.evaluation.outcome import AttackOutcome, Check, Evaluation, merge
from kdrobust.evaluation.perclass import ClassAccuracies, WorstClass, per_class, w_robust
from kdrobust.evaluation.result import per_sample, to_result, validate, write_evaluation, write_samples
from kdrobust.evaluation.store import AttackStore
from kdrobust.evaluation.subset import stratified
from kdrobust.evaluation.suite import evaluate
from kdrobust.evaluation.surface import LossSurface, loss_surface

__all__ = [
    "AttackOutcome",
    "AttackStore",
    "Calibration",
    "Check",
    "CheckSettings",
    "ClassAccuracies",
    "Comparison",
    "Corrupted",
    "Cost",
    "Evaluation",
    "Latency",
    "LossSurface",
    "RealTime",
    "SecurityCurve",
    "WorstClass",
    "batch_within",
    "calibration",
    "calibrations",
    "checkpoint_bytes",
    "compare",
    "corruption_result",
    "evaluate",
    "evaluate_corruptions",
    "exact_curves",
    "fixed_eps_curve",
    "free_bytes",
    "loss_surface",
    "machine_name",
    "mcnemar",
    "measure_latency",
    "merge",
    "merge_corrupted",
    "model_cost",
    "paired_error",
    "paired_interval",
    "per_class",
    "per_mflop",
    "per_sample",
    "power_of_two",
    "read_samples",
    "real_time",
    "run_checks",
    "sample_bytes",
    "samples_hash",
    "security_curve",
    "stratified",
    "summary",
    "to_result",
    "validate",
    "w_robust",
    "wilson",
    "write_evaluation",
    "write_samples",
]
