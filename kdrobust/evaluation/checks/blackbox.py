"""S2: whoever looks inside the model must not do worse than whoever only asks it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from kdrobust.evaluation.checks.climb import climb, into, rescaled_cross_entropy
from kdrobust.evaluation.checks.patches import random_patches, reach
from kdrobust.evaluation.checks.probe import Finding, Probe, trust_check
from kdrobust.evaluation.checks.surrogate import linear_answers, linear_directions
from kdrobust.evaluation.intervals import paired_error, wilson
from kdrobust.evaluation.outcome import Bools
from kdrobust.evaluation.predict import eval_mode, predict_all

#: Noisy copies of each sample that the linear surrogate is fitted to, and classes its examples aim at.
COPIES, AIMS = 4, 3
#: By so many points, beyond doubt, nobody without gradients may be the stronger one.
STRONGER = 0.05
#: Share of the survivors that must not fall to anyone without gradients.
FALSE_SHARE = 0.25


def transferred(probe: Probe, inputs: Tensor, labels: Tensor, keys: Tensor) -> dict[str, Tensor]:
    """Who is broken by examples made on stand-ins of the model, by the stand-in's name, each [B] bool.

    Stand-ins: a copy with its logits brought to spread 1, so that no factor can saturate it; a linear map fitted to
    the model's answers, which has no gradient to hide; `settings.surrogate`, where one is given.
    """
    norm, eps, box, size = probe.threat.norm, probe.radii(inputs), probe.threat.box, probe.batch_size
    start = probe.noisy(inputs, keys, seed=probe.seed("transfer"))
    ascend = partial(
        climb, norm=norm, eps=eps, box=box, steps=probe.settings.short_steps, stride=0.25, begin=start, batch_size=size
    )
    found = {"rescaled copy": ascend(probe.model, inputs, labels, goal=rescaled_cross_entropy).broken}
    copies = torch.cat([inputs, *(probe.noisy(inputs, keys, seed=probe.seed("copy", at)) for at in range(COPIES))])
    answers = predict_all(probe.model, copies, size)
    weights = linear_answers(copies, answers)
    linear = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    for rank in range(min(AIMS, answers.shape[1] - 1)):
        way = linear_directions(weights, inputs, labels, answers[: len(labels)], rank)
        moved = into(inputs + reach(way, norm, eps), inputs, norm=norm, eps=eps, box=box)
        linear |= predict_all(probe.model, moved, size).argmax(dim=1) != labels
    found["linear surrogate"] = linear
    if probe.settings.surrogate is not None:
        surrogate = probe.settings.surrogate.to(probe.device)
        with eval_mode(surrogate):
            moved = ascend(surrogate, inputs, labels, leave=False).points
        found["surrogate"] = predict_all(probe.model, moved, size).argmax(dim=1) != labels
    return found


@trust_check(
    "S2",
    "white-box not weaker than black-box",
    "Samples that only attacks without the model's gradients break: the suite's own ones, a random search of 150 "
    "queries, examples made on stand-ins (a copy with rescaled logits, a linear map fitted to the answers, a given "
    "surrogate). Fails where such an attack breaks more samples than all white-box attacks together, by 5 points and "
    "two standard errors of the paired difference, or more than a quarter of their survivors beyond doubt (95 % Wilson "
    "interval). Warns where it breaks a survivor.",
    cost="up to 150 forward passes and 20 gradients a sample, until it is broken, and 8 forward passes",
)
def black_box(probe: Probe) -> Finding:
    """S2: survivors of gradients that fall without them were not robust, their gradients were useless."""
    clean, standing, own = probe.evaluation.clean, probe.withstood(), probe.black_box()
    if len(own) == len(probe.comparable()):
        return Finding(verdict="skipped", detail="needs a gradient attack")
    rows = probe.pick(clean, most=probe.settings.searched)
    if not len(rows):
        return Finding(verdict="skipped", detail="nobody is right without an attack")
    inputs, labels, keys = probe.batch(rows)
    searched = random_patches(
        probe.model,
        inputs,
        labels,
        keys,
        norm=probe.threat.norm,
        eps=probe.radii(inputs),
        box=probe.threat.box,
        queries=probe.settings.queries,
        seed=probe.seed("patches"),
        batch_size=probe.batch_size,
    )
    here = standing[rows.numpy()]
    found = {name: _Tally.of(standing[clean], ~outcome.correct[clean]) for name, outcome in own.items()}
    for name, broken in {"random search": searched, **transferred(probe, inputs, labels, keys)}.items():
        found[name] = _Tally.of(here, broken.cpu().numpy())
    measured = {
        "samples": len(rows),
        "queries": probe.settings.queries,
        "by": {name: asdict(tally) for name, tally in found.items()},
    }
    told = {name: f"{name} broke {tally.only_black} of {tally.survivors} survivors" for name, tally in found.items()}
    failed = [told[name] for name, tally in found.items() if tally.masked]
    if failed:
        return Finding(verdict="fail", detail="; ".join(failed) + " of the white-box attacks", measured=measured)
    warned = [told[name] for name, tally in found.items() if tally.only_black]
    if warned:
        return Finding(verdict="warn", detail="; ".join(warned) + " of the white-box attacks", measured=measured)
    return Finding(verdict="pass", detail=f"none of {int(here.sum())} survivors fell", measured=measured)


@dataclass(frozen=True, kw_only=True)
class _Tally:
    """One gradient-free attack against all white-box attacks together, on n samples that are right without attack."""

    n: int
    survivors: int
    only_black: int
    only_white: int

    @classmethod
    def of(cls, standing: Bools, broken: Bools) -> _Tally:
        return cls(
            n=len(standing),
            survivors=int(standing.sum()),
            only_black=int((standing & broken).sum()),
            only_white=int((~standing & ~broken).sum()),
        )

    @property
    def masked(self) -> bool:
        # on honest students PGD-20 on cross-entropy alone leaves up to 8 points of the samples, or 30 % of its
        # survivors, to such a search: weak attacks, and a warning. Useless gradients leave most of them
        doubt = 2.0 * paired_error(self.only_black, self.only_white, self.n)
        stronger = (self.only_black - self.only_white) / max(1, self.n) > STRONGER + doubt
        return stronger or wilson(self.only_black, self.survivors)[0] > FALSE_SHARE
