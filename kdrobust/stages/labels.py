"""Training without labels (`data.unlabelled`): what would read them is refused before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdrobust.config import compose_group, conf_dir, numbers
from kdrobust.config.suggest import available
from kdrobust.losses import Objective, method_problems
from kdrobust.losses.references import INPUT_GRADIENT

_OF_LABELS = ("val/accuracy", "val/robust_accuracy", "val/transferability")


def readers(objective: Objective) -> list[str]:
    """The keys of a method's parts that read labels; parts of weight 0 read nothing."""
    return [
        bound.key
        for bound in objective.method.bound(active=True).values()
        if "labels" in bound.automatic or any(each.kind == INPUT_GRADIENT for each in bound.tensors.values())
    ]


def _free(method: Mapping[str, Any]) -> bool:
    """Whether a method learns from frozen teachers alone."""
    if method_problems(method):
        return False
    objective = Objective(method)
    return not readers(objective) and bool(objective.teachers) and not objective.partners


def free_methods() -> list[str]:
    """The shipped methods that learn from frozen teachers and read no label."""
    names = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml") if not path.stem.startswith("_"))
    # schedules reach for these; which numbers they hold does not matter here
    outside = ("+epochs=1", "+threat.eps=0.1")
    return [name for name in names if _free(compose_group("method", name, outside))]


def _without_alpha(cfg: DictConfig) -> bool:
    """Whether α = 0 takes the labels out of this method."""
    if cfg.method.get("alpha") is None:
        return False
    changed = cfg.copy()
    OmegaConf.set_readonly(changed, False)
    changed.method.alpha = 0
    return _free(numbers(changed.method))


def monitors(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """The keys that name a metric to watch, and the metrics."""
    for name, node in (cfg.get("callbacks") or {}).items():
        if isinstance(node, DictConfig) and node.get("monitor"):
            yield f"callbacks.{name}.monitor", str(node.monitor)
    if (cfg.get("scheduler") or {}).get("monitor"):
        yield "scheduler.monitor", str(cfg.scheduler.monitor)


def label_problems(cfg: DictConfig, objective: Objective) -> list[str]:
    """What in a training stage's config reads labels although `data.unlabelled` has none, one line each."""
    if not cfg.data.get("unlabelled"):
        return []
    problems = [
        f"{key}={value}: data.unlabelled=true leaves no labels to measure it; take val/robust_agreement"
        for key, value in monitors(cfg)
        if value in _OF_LABELS
    ]
    if (cfg.get("callbacks") or {}).get("average") is not None:
        problems.append(
            "callbacks.average: chooses the averaged weights by labels, and data.unlabelled=true has none; leave it out"
        )
    found = readers(objective)
    if found:
        remedy = "set method.alpha=0" if _without_alpha(cfg) else f"take one of {available(free_methods())}"
        problems.append(f"{', '.join(found)}: reads labels, and data.unlabelled=true has none; {remedy}")
    elif not objective.teachers:
        problems.append("method: data.unlabelled=true has no labels, and this method no teacher to learn from")
    node = cfg.get("teacher_training")
    stored = cfg.teacher.get("outputs") not in (None, "auto") if node is not None else False
    implied = node is not None and str(cfg.teacher.checkpoint) == "auto" and node.get("data") is None
    if implied and objective.teachers and not stored:
        problems.append(
            "teacher.checkpoint=auto: data.unlabelled=true leaves nothing to train a teacher on; name a checkpoint, or "
            "its labelled data: data@teacher_training.data=..."
        )
    return problems
