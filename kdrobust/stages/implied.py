"""The teacher that a student's config implies: which one it is, and how it is trained where there is none yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdrobust.config import to_plain
from kdrobust.config.suggest import did_you_mean
from kdrobust.errors import UsageError

#: A node's value for what is found or made without being named.
AUTO = "auto"
#: The name of the teacher that most methods have.
MAIN = "teacher"
TEACHER_KEYS = (
    "trusted_modules",
    "threads",
    "data",
    "teacher",
    "threat",
    "optimizer",
    "scheduler",
    "trainer",
    "callbacks",
    "logger",
)
#: What a student may add to the callbacks, and its teacher is trained without.
_STUDENT_CALLBACKS = ("average", "weight_perturbation")
#: Of the callback that attacks, as conf/callbacks has it: all steps from the beginning.
_FULL_ATTACK = {"growth": 0.0, "first_steps": 2}
#: What the best epoch is chosen by, as conf/callbacks has it.
_MONITOR = "${if:${data.unlabelled},val/robust_agreement,val/robust_accuracy}"
TEACHER_NODE = ("checkpoint", "outputs", "training", "network", "normalize", "transform")
#: What a teacher's training may have of its own, be it another domain or modality; the rest is the student's.
_OWN_NODES = ("data", "threat")
#: The same of how it steps: what is given is laid over the student's.
OWN_STEPS = ("optimizer", "scheduler")
_TRAINING_NODE = ("name", "seed", "epochs", "method", "attack", "monitor", *_OWN_NODES, *OWN_STEPS)


def differing(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A model's node with what differs; a network that names no class changes the base's numbers."""
    network = own.get("network")
    if isinstance(network, Mapping) and "_target_" not in network:
        own = {**own, "network": {**base["network"], **network}}
    return {**base, **own}


def teacher_node(cfg: DictConfig, name: str) -> DictConfig:
    """What the config says about a teacher: `teacher`, or `teachers.NAME` on top of it.

    Raises:
        UsageError: a teacher that no key describes.
    """
    base = to_plain(cfg.teacher)
    if name == MAIN:
        return OmegaConf.create({**base, "training": "teacher_training"})
    own = (cfg.get("teachers") or {}).get(name)
    if own is None:
        raise UsageError(f"teachers.{name}: the method learns from it; set +teachers.{name}.checkpoint=... (or =auto)")
    fresh = {"checkpoint": None, "outputs": AUTO, "training": "teacher_training"}
    return OmegaConf.create(differing({**base, **fresh}, to_plain(own)))


def key_of(name: str) -> str:
    """The config key that describes a teacher."""
    return name if name == MAIN else f"teachers.{name}"


def is_implied(cfg: DictConfig, name: str = MAIN) -> bool:
    """Whether a teacher is trained where it is missing: `checkpoint=auto`, or none of a further teacher.

    Raises:
        UsageError: a teacher that no key describes.
    """
    value = teacher_node(cfg, name).checkpoint
    return name != MAIN if value is None else str(value) == AUTO


def teacher_config(cfg: DictConfig, name: str = MAIN) -> DictConfig:
    """The config of stage `teacher` that a student's config implies for a teacher (`training` holds what differs)."""
    node = teacher_node(cfg, name)
    training = cfg.get(str(node.training))
    if training is None:
        raise UsageError(f"{key_of(name)}.training={node.training}: no such node; there is teacher_training")
    merged = {key: OmegaConf.masked_copy(cfg, key)[key] for key in TEACHER_KEYS if key in cfg and key != MAIN}
    callbacks = merged["callbacks"].copy()
    for key in _STUDENT_CALLBACKS:
        callbacks.pop(key, None)
    if callbacks.get("attack"):
        # fewer attack steps save the student's time; students that differ in nothing else share a teacher
        full = {key: value for key, value in _FULL_ATTACK.items() if key in callbacks.attack}
        callbacks.attack = OmegaConf.merge(callbacks.attack, full)
    if "best" in callbacks:
        # a naturally trained teacher is not chosen by the robustness it does not have, nor a robust one by whatever
        # its student is chosen by
        callbacks.best = OmegaConf.merge(callbacks.best, {"monitor": training.get("monitor") or _MONITOR})
    for key in ("checkpoint", "outputs", "training", "precision", "shared_views_gb", "transform"):
        node.pop(key, None)
    merged |= {key: training[key].copy() for key in _OWN_NODES if training.get(key) is not None}
    merged |= {key: _laid_over(merged.get(key), training[key]) for key in OWN_STEPS if training.get(key) is not None}
    merged |= {
        "stage": "teacher",
        "teacher": node,
        "callbacks": callbacks,
        "method": training.method.copy(),
        "attack": training.attack.copy(),
        "seed": training.seed,
        "epochs": training.epochs,
        "run": {"name": training.name, "root": cfg.run.root, "folder": None},
    }
    return OmegaConf.create(merged)


def _laid_over(base: DictConfig | None, own: DictConfig) -> DictConfig:
    """A node with some keys changed; one that names its class is another node."""
    merged = own.copy() if base is None or "_target_" in own else OmegaConf.merge(base, own)
    assert isinstance(merged, DictConfig)
    return merged


def own_training(name: str, config: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """What a teacher's training has of its own, with the keys that set it, and what is the student's; one line.

    Args:
        name: of the node that describes it, e.g. `teacher_training`.
        config: the teacher's own.
        training: that node.
    """
    own = [f"{key}={config[key]} ({name}.{key})" for key in ("epochs", "seed")]
    given = [key for key in (*_OWN_NODES, *OWN_STEPS) if training.get(key) is not None]
    shared = [key for key in (*_OWN_NODES, *OWN_STEPS, "trainer") if key not in given]
    kept = f"method, attack{''.join(f', {key}' for key in given)} of {name}"
    return f"{', '.join(own)}, {kept}; {', '.join(shared)} are the student's"


def training_problems(cfg: DictConfig) -> list[str]:
    """What is wrong with the nodes that say how teachers are trained, one line each: keys nobody reads."""
    further = [node.get("training") for node in (cfg.get("teachers") or {}).values() if isinstance(node, DictConfig)]
    names = dict.fromkeys(["teacher_training", "natural_training", *map(str, filter(None, further))])
    return [
        f"{name}.{key}: nothing reads it{did_you_mean(str(key), _TRAINING_NODE)}; it takes {', '.join(_TRAINING_NODE)}"
        for name in names
        if isinstance(cfg.get(name), DictConfig)
        for key in cfg[name]
        if key not in _TRAINING_NODE
    ]
