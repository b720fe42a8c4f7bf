"""Trust checks: what must hold before a robust accuracy may be believed."""

from kdrobust.evaluation.checks import (
    blackbox,
    contract,
    curve,
    determinism,
    effort,
    forward,
    gradients,
    record,
    replay,
    strength,
)
from kdrobust.evaluation.checks.probe import REGISTRY, Finding, Probe, TrustCheck, tolerance, trust_check
from kdrobust.evaluation.checks.run import run_checks
from kdrobust.evaluation.checks.settings import CheckSettings

__all__ = [
    "REGISTRY",
    "CheckSettings",
    "Finding",
    "Probe",
    "TrustCheck",
    "blackbox",
    "contract",
    "curve",
    "determinism",
    "effort",
    "forward",
    "gradients",
    "record",
    "replay",
    "run_checks",
    "strength",
    "tolerance",
    "trust_check",
]
