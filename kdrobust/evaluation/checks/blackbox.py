"""S2: whoever looks inside the model must not do worse than whoever only asks it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn

from kdrobust.evaluation.checks.climb import climb, into, margin, rescaled_cross_entropy
from kdrobust.evaluation.checks.probe import Finding, Probe, tolerance, trust_check
from kdrobust.evaluation.checks.surrogate import linear_answers, linear_directions
from kdrobust.evaluation.intervals import wilson
from kdrobust.evaluation.outcome import AttackOutcome, Bools
from kdrobust.evaluation.predict import eval_mode, predict_all
from kdrobust.randomness import address, uniform

#: Share of the pixels a first patch covers, and the shares of all queries after which the patch halves.
FIRST_PATCH, HALVED_AT = 0.5, (0.02, 0.08, 0.2, 0.4, 0.6, 0.8)
#: Noisy copies of each sample that the linear surrogate is fitted to, and classes its examples aim at.
COPIES, AIMS = 4, 3
#: Share of the survivors that must not fall to anyone without gradients.
FALSE_SHARE = 0.25


def random_patches(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    keys: Tensor,
    *,
    norm: str,
    eps: float,
    queries: int,
    seed: int,
    batch_size: int = 128,
) -> Tensor:
    """Search without gradients: a random patch is pushed to the ball's surface and kept where the margin rises.

    Args:
        model: in eval mode.
        inputs: [B, ...] in [0, 1]; what is no image counts as one row of pixels.
        labels: [B] int64.
        keys: [B] integers; a sample's draws depend on its key and the seed alone.
        norm: `linf` or `l2`.
        eps: radius, in pixels' units.
        queries: forward passes a sample, until it is broken.
        seed: address of the draws.
        batch_size: samples at once.

    Returns:
        [B] bool, broken.

    Source: after the idea of Andriushchenko et al., Square Attack, ECCV 2020, arXiv:1912.00049.
    """
    broken = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    if not len(labels):
        return broken
    channels, height, width = inputs.shape[1:] if inputs.dim() == 4 else (1, 1, inputs[0].numel())
    clean = inputs.reshape(-1, channels, height, width)
    rows = torch.arange(len(labels), device=labels.device)
    # columns of one sign each reach far with a single query
    columns = torch.where(uniform(keys, (channels, 1, width), seed=address(seed, "columns")) < 0.5, 1.0, -1.0)
    proposal = into(clean + _reach(columns.expand_as(clean), norm, eps), clean, norm=norm, eps=eps)
    best, highest = clean, torch.full((len(labels),), -torch.inf, device=labels.device)
    for query in range(queries):
        value = margin(predict_all(model, proposal.reshape(-1, *inputs.shape[1:]), batch_size), labels[rows])
        better = value > highest
        best = torch.where(better.view(-1, 1, 1, 1), proposal, best)
        highest = torch.where(better, value, highest)
        broken[rows[value > 0]] = True
        rows, best, highest = rows[value <= 0], best[value <= 0], highest[value <= 0]
        if not len(rows):
            break
        draw = uniform(keys[rows], (2 + channels,), seed=address(seed, "patch", query))
        side = (FIRST_PATCH * 0.5 ** sum(query >= at * queries for at in HALVED_AT)) ** 0.5
        patch = _patch(draw, side, height, width)
        push = torch.where(draw[:, 2:] < 0.5, 1.0, -1.0)[:, :, None, None]
        delta = best - clean[rows]
        if norm == "linf":
            delta = torch.where(patch, eps * push, delta)
        else:
            # the patch joins the change so far, as long as that is; together they are brought back to length ε
            delta = _reach(torch.where(patch, delta + _reach(push * patch, norm, eps), delta), norm, eps)
        proposal = into(clean[rows] + delta, clean[rows], norm=norm, eps=eps)
    return broken


def _reach(delta: Tensor, norm: str, eps: float) -> Tensor:
    """A change, brought to length ε."""
    if norm == "linf":
        return eps * delta.sign()
    length: Tensor = delta.flatten(1).norm(dim=1).clamp(min=1e-12)
    return delta * (eps / length).view(-1, *[1] * (delta.dim() - 1))


def _patch(draw: Tensor, side: float, height: int, width: int) -> Tensor:
    """[B, 1, H, W] bool: a rectangle of `side` times the image's sides, placed by two uniform numbers a sample."""
    inside = []
    for place, length in enumerate((height, width)):
        extent = max(1, round(side * length))
        first = (draw[:, place] * (length - extent + 1)).long()[:, None]
        pixels = torch.arange(length, device=draw.device)
        inside.append((pixels >= first) & (pixels < first + extent))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def transferred(probe: Probe, inputs: Tensor, labels: Tensor, keys: Tensor) -> dict[str, Tensor]:
    """Who is broken by examples made on stand-ins of the model, by the stand-in's name, each [B] bool.

    Stand-ins: a copy with its logits brought to spread 1, so that no factor can saturate it; a linear map fitted to
    the model's answers, which has no gradient to hide; `settings.surrogate`, where one is given.
    """
    norm, eps, size = probe.threat.norm, probe.threat.radius, probe.batch_size
    start = probe.noisy(inputs, keys, seed=probe.seed("transfer"))
    ascend = partial(
        climb, norm=norm, eps=eps, steps=probe.settings.short_steps, step_size=eps / 4, begin=start, batch_size=size
    )
    found = {"rescaled copy": ascend(probe.model, inputs, labels, goal=rescaled_cross_entropy).broken}
    copies = torch.cat([inputs, *(probe.noisy(inputs, keys, seed=probe.seed("copy", at)) for at in range(COPIES))])
    answers = predict_all(probe.model, copies, size)
    weights = linear_answers(copies, answers)
    linear = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    for rank in range(min(AIMS, answers.shape[1] - 1)):
        way = linear_directions(weights, inputs, labels, answers[: len(labels)], rank)
        moved = into(inputs + _reach(way, norm, eps), inputs, norm=norm, eps=eps)
        linear |= predict_all(probe.model, moved, size).argmax(dim=1) != labels
    found["linear surrogate"] = linear
    if probe.settings.surrogate is not None:
        surrogate = probe.settings.surrogate
        with eval_mode(surrogate):
            moved = ascend(surrogate, inputs, labels, leave=False).points
        found["surrogate"] = predict_all(probe.model, moved, size).argmax(dim=1) != labels
    return found


@trust_check(
    "S2",
    "white-box not weaker than black-box",
    "Samples that only attacks without the model's gradients break: the suite's own ones, a random search of 200 "
    "queries, examples made on stand-ins (a copy with rescaled logits, a linear map fitted to the answers, a given "
    "surrogate). Fails where such an attack breaks more than all white-box attacks together by max(0.2 points, two "
    "standard errors of the paired difference), or more than a quarter of their survivors beyond doubt (95 % Wilson "
    "interval): that much of the figure is false. Warns where it breaks a survivor.",
    cost="up to 200 forward passes and 20 gradients a sample, until it is broken, and 8 forward passes",
)
def black_box(probe: Probe) -> Finding:
    """S2: survivors of gradients that fall without them were not robust, their gradients were useless."""
    if not probe.gradient_attacks():
        return Finding(verdict="skipped", detail="needs a gradient attack")
    clean = probe.evaluation.clean
    standing = clean.copy()
    for outcome in probe.evaluation.attacks.values():
        standing &= outcome.correct | _gradient_free(outcome)
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
        eps=probe.threat.radius,
        queries=probe.settings.queries,
        seed=probe.seed("patches"),
        batch_size=probe.batch_size,
    )
    here = standing[rows.numpy()]
    found = {
        name: _Tally.of(standing[clean], ~outcome.correct[clean])
        for name, outcome in probe.evaluation.attacks.items()
        if _gradient_free(outcome)
    }
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
        # on honest models short searches break up to a quarter of what PGD-20 on cross-entropy leaves, and far fewer
        # samples in all; where gradients are useless it is the other way round
        stronger = self.only_black - self.only_white > self.n * tolerance(self.only_black, self.only_white, self.n)
        return stronger or wilson(self.only_black, self.survivors)[0] > FALSE_SHARE


def _gradient_free(outcome: AttackOutcome) -> bool:
    return outcome.steps is None and "queries" in outcome.spec
