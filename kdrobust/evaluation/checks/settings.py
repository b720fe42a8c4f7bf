"""How much the trust checks may look at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """How much the trust checks may look at; their cost grows with these, not with the evaluation.

    Attributes:
        samples: at most so many samples a check.
        survivors: at most so many survivors in checks that repeat attacks on them (S7, S8), and so many samples where
            attacks are compared (S4, S10).
        searched: at most so many samples attacked without gradients (S2).
        noise_draws: draws of random noise a sample (S5).
        queries: queries of the gradient-free search (S2).
        unbounded_steps: steps of the unbounded attack (S3).
        curve_steps: steps at each ε of the curve (S4).
        short_steps: steps of a usual attack (S2, S7, S8, S10).
        long_steps: steps of the attack that should change nothing (S7).
        restarts: random starts in all, the evaluation's own included (S8).
        replayed: survivors whose attack is run again under observation, an attack (S13).
        forwards: repeated forward passes (S11).
        alone: samples that are also predicted one by one (S11).
        surrogate: another model, inputs in [0, 1] to logits, to transfer examples from (S2); the teacher, say.
    """

    samples: int = 128
    survivors: int = 32
    searched: int = 64
    noise_draws: int = 100
    queries: int = 150
    unbounded_steps: int = 100
    curve_steps: int = 10
    short_steps: int = 20
    long_steps: int = 100
    restarts: int = 5
    replayed: int = 16
    forwards: int = 5
    alone: int = 16
    surrogate: nn.Module | None = None
