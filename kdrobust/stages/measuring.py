"""Measuring one model with a suite: at one radius or several, alone or with examples from other models."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch.distributed as dist
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import Tensor, nn

from kdrobust.attacks import GradientAttack, TransferAttack
from kdrobust.config import instantiate
from kdrobust.config.kinds import THREAT
from kdrobust.data import DataModule
from kdrobust.data.corruptions.table import check_names
from kdrobust.distributed import evaluation_shard
from kdrobust.errors import UsageError
from kdrobust.evaluation import (
    AttackStore,
    CheckSettings,
    Corrupted,
    Evaluation,
    batch_within,
    compare,
    evaluate,
    evaluate_corruptions,
    free_bytes,
    merge,
    merge_corrupted,
    run_checks,
    sample_bytes,
    stratified,
)
from kdrobust.stages.comparison import paired_entry
from kdrobust.stages.setup import choose_device, log
from kdrobust.stages.subject import Subject
from kdrobust.tracking import require_held

_SECONDS = 10.0
#: Operations of a sample's forward pass below which timing it is not worth asking.
_QUICK_FLOPS = 2e7
#: Why an attack that is no gradient attack cannot be given a threat such as `snr_30db`.
_RELATIVE = "it knows no ε that is a share of each sample's own norm (threat.relative=true), as gradient attacks do"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found about one model.

    Attributes:
        subject: the model.
        evaluations: one a radius, ascending.
        corruptions: accuracy under common corruptions, None where the suite has none.
    """

    subject: Subject
    evaluations: tuple[Evaluation, ...]
    corruptions: Corrupted | None

    @property
    def evaluation(self) -> Evaluation:
        """The one at the largest radius."""
        return self.evaluations[-1]


def say_progress() -> Progress:
    """A progress callback: a line every ten seconds, with the time left of the attack at hand."""
    state: dict[str, Any] = {"name": "", "began": 0.0, "last": time.monotonic()}

    def tell(name: str, done: int, total: int) -> None:
        require_held()
        now = time.monotonic()
        if name != state["name"]:
            state.update(name=name, began=now)
        if now - state["last"] >= _SECONDS and done:
            left = (now - state["began"]) / done * (total - done)
            log.info("evaluate  %s  %d/%d samples  left %ds", name, done, total, round(left))
            state["last"] = now

    return tell


def suite_problems(cfg: DictConfig, *, whole: bool = True) -> list[str]:
    """What is wrong with a suite's settings of checks and corruptions, one line each; nothing has run then.

    Args:
        cfg: the stage's config.
        whole: whether every attack of the suite has to fit the threat; else see `without_unfit`.
    """
    problems = []
    settings = _plain(cfg.evaluation.get("check_settings")) or {}
    known = {each.name for each in fields(CheckSettings)} - {"surrogate"}
    for key, value in settings.items():
        if key not in known:
            problems.append(f"evaluation.check_settings.{key}: no such key; there are {', '.join(sorted(known))}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            problems.append(f"evaluation.check_settings.{key}: expected an integer >= 1, got {value!r}")
    corruptions = _plain(cfg.evaluation.get("corruptions")) or {}
    try:
        check_names(list(corruptions.get("names") or []), list(corruptions.get("severities") or []))
    except UsageError as error:
        problems.append(f"evaluation.{error}")
    wrong = attack_problems(cfg, ("attacks", "transfer"))
    return [*problems, *(wrong or (_relative_problems(cfg) if whole else []))]


def without_unfit(cfg: DictConfig, rungs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The suite at each radius without the attacks that a relative threat cannot be given to; see `_unfit`."""
    unfit = _unfit(cfg)
    for part, name in unfit:
        log.info("evaluation.%s.%s is left out: %s", part, name, _RELATIVE)
    return [
        {
            part: {name: node for name, node in nodes.items() if (part, str(name)) not in unfit}
            if part in ("attacks", "transfer") and nodes
            else nodes
            for part, nodes in rung.items()
        }
        for rung in rungs
    ]


def _unfit(cfg: DictConfig) -> list[tuple[str, str]]:
    """Part and name of the suite's attacks that know no ε but one for all samples, where the threat is relative."""
    if not cfg.threat.get("relative"):
        return []
    return [
        (part, str(name))
        for part in ("attacks", "transfer")
        for name, node in (cfg.evaluation.get(part) or {}).items()
        if not isinstance(instantiate(node), GradientAttack)
    ]


def attack_problems(cfg: DictConfig, parts: Sequence[str]) -> list[str]:
    """What is wrong with the settings of a suite's attacks, one line each, with their keys in the config."""
    problems = []
    for part in parts:
        for node in (cfg.evaluation.get(part) or {}).values():
            try:
                instantiate(node)
            except UsageError as error:
                problems.append(str(error))
    return problems


def _relative_problems(cfg: DictConfig) -> list[str]:
    return [
        f"evaluation.{part}.{name}: {_RELATIVE}; leave it out: ~evaluation.{part}.{name}" for part, name in _unfit(cfg)
    ]


#: The parts of a suite that follow `threat.eps`.
_AT_RADII = ("attacks", "transfer", "adaptive")


def at_radii(cfg: DictConfig) -> list[dict[str, Any]]:
    """The threat and what follows it in the suite, as plain values at each of the config's radii, smallest first.

    Args:
        cfg: composed: in its resolved form nothing follows `threat.eps` any more.

    Raises:
        UsageError: radii that are no ascending numbers.
    """
    listed = cfg.get("radii")
    radii = [cfg.threat.eps] if listed is None else list(listed)
    rungs = []
    for eps in radii:
        at = cfg.copy()
        OmegaConf.update(at, "threat.eps", eps)
        suite = {"threat": at.threat, **{part: at.evaluation.get(part) for part in _AT_RADII}}
        rungs.append({key: None if node is None else _plain(node) for key, node in suite.items()})
    sizes = [float(instantiate(OmegaConf.create(rung["threat"]), THREAT).eps) for rung in rungs]
    if sorted(set(sizes)) != sizes:
        raise UsageError(f"radii={list(radii)}: expected different radii, the smallest first")
    return rungs


def settle_batch(cfg: DictConfig, rungs: Any, models: Sequence[nn.Module], data: DataModule, world: int = 1) -> None:
    """Lower `evaluation.batch_size`, and every attack's own, to what fits into memory; verdicts do not depend on it.

    Args:
        cfg: the stage's config, changed in place.
        rungs: the suite at each radius, changed in place.
        models: all that are attacked; the one that needs most decides.
        data: what they are shown.
        world: processes that share a CPU's memory; they agree on the least that any of them finds.
    """
    asked, device = int(cfg.evaluation.batch_size), choose_device(cfg.trainer)
    needed = max(sample_bytes(model, data.spec) for model in models)
    free = free_bytes(device)
    fits = min(_gathered(batch_within(asked, needed, free, world if device.type == "cpu" else 1), world))
    if fits < asked and free is not None:
        log.info(
            "evaluation.batch_size: %d instead of %d: an attack takes about %.3g MB a sample, and %.3g GB are free",
            *(fits, asked, needed / 1e6, free / 1e9),
        )
        cfg.evaluation.batch_size = fits
        _lower(rungs, fits)


def _lower(node: Any, limit: int) -> None:
    """Replace every `batch_size` in a tree that is larger."""
    if isinstance(node, dict | DictConfig):
        for key, value in node.items():
            if key == "batch_size" and isinstance(value, int) and value > limit:
                node[key] = limit
            else:
                _lower(value, limit)
    elif isinstance(node, list | ListConfig):
        for value in node:
            _lower(value, limit)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _transfers(rung: DictConfig, sources: Sequence[Subject]) -> dict[str, TransferAttack]:
    made: Mapping[str, Any] = instantiate(rung.transfer) if rung.get("transfer") else {}
    return {
        f"{name}_from_{source.name}": TransferAttack(
            source=source.model, attack=attack, name=source.name, origin=source.origin
        )
        for source in sources
        for name, attack in made.items()
    }


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.cpu().numpy().astype("<i8").tobytes()).hexdigest()


def measure(
    cfg: DictConfig,
    subject: Subject,
    data: DataModule,
    *,
    sources: Sequence[Subject] = (),
    folder: Path,
    rank: int = 0,
    world: int = 1,
) -> Measured | None:
    """Run the suite on this process's share of the test samples; the whole comes back on rank 0, None elsewhere.

    Args:
        cfg: the stage's config.
        subject: the model.
        data: prepared.
        sources: models whose adversarial examples are shown to it where the suite asks for transfer, a teacher last; a
            trust check tries that one in any case.
        folder: finished attacks are kept in its `attacks/`.
        rank: this process.
        world: number of processes.
    """
    suite = cfg.evaluation
    test = data.split("test")
    chosen = stratified(test.labels, suite.num_samples, seed=int(suite.seed))
    mine = evaluation_shard(chosen, rank, world)
    device = choose_device(cfg.trainer)
    progress = say_progress() if rank == 0 else None
    context = {
        "model": subject.origin,
        "data": data.fingerprint,
        "indices": _digest(test.indices[mine]),
        "seed": int(suite.seed),
        "batch_size": int(suite.batch_size),
        "device": device.type,
    }
    store = AttackStore(folder / "attacks", context)

    def arguments(rows: Tensor) -> dict[str, Any]:
        return {"inputs": test.inputs[rows], "labels": test.labels[rows], "indices": test.indices[rows]}

    evaluations: list[Evaluation] = []
    for rung in cfg.derived.rungs:
        part = evaluate(
            subject.model,
            **arguments(mine),
            threat=instantiate(rung.threat),
            attacks={**instantiate(rung.attacks), **_transfers(rung, sources)},
            batch_size=int(suite.batch_size),
            seed=int(suite.seed),
            device=device,
            checks=False,
            progress=progress,
            store=store,
        )
        evaluations.append(merge(_gathered(part, world)))
    corruptions = None
    if suite.get("corruptions") and (len(data.spec.shape) == 3 or data.spec.sample_rate is not None):
        found = evaluate_corruptions(
            subject.model,
            **arguments(mine),
            **{key: value for key, value in _plain(suite.corruptions).items() if value is not None},
            batch_size=int(suite.batch_size),
            seed=int(suite.seed),
            device=device,
            progress=progress,
        )
        corruptions = merge_corrupted(_gathered(found, world))
    if rank:
        return None
    if suite.checks:
        settings = CheckSettings(**_plain(suite.check_settings or {}), surrogate=_surrogate(sources))
        evaluations = [
            each.with_checks(
                run_checks(
                    each, subject.model, **arguments(chosen), device=device, settings=settings, progress=progress
                )
            )
            for each in evaluations
        ]
    return Measured(subject=subject, evaluations=tuple(evaluations), corruptions=corruptions)


def _surrogate(sources: Sequence[Subject]) -> nn.Module | None:
    """What S2 transfers examples from, beside its own: the last source, a student's teacher where it is at hand."""
    return sources[-1].model if sources else None


def _gathered(part: Any, world: int) -> list[Any]:
    if world == 1:
        return [part]
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, part)
    return parts


def is_timed(latency: bool | str | None, flops: int) -> bool:
    """Whether forward passes are timed: `auto` where thirty of 128 samples take seconds, not minutes."""
    return latency is True or (latency == "auto" and flops < _QUICK_FLOPS)


def compare_models(measured: Sequence[Measured], confidence: float) -> list[dict[str, Any]]:
    """Every pair of models on the same samples: clean, each attack both met, and the worst case, at each radius."""
    lines = []
    for place, first in enumerate(measured):
        for second in measured[place + 1 :]:
            for one, other in zip(first.evaluations, second.evaluations, strict=True):
                shared = [name for name in one.attacks if name in other.attacks]
                # the worst case is over the same attacks only where no model met examples of its own
                both = list(one.attacks) == list(other.attacks)
                for column in ("clean", *shared, *(["worst_case"] if both and len(shared) > 1 else [])):
                    found = compare(one, other, column=column, confidence=confidence)
                    names = (first.subject.name, second.subject.name)
                    lines.append(paired_entry(names, found, float(one.threat["eps"])))
    return lines
