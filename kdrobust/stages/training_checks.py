"""What a training's length, validations and monitored metrics must be to fit together: refused before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kdrobust.attacks import AttackCallback
from kdrobust.config import instantiate, to_plain
from kdrobust.data import DataModule
from kdrobust.distributed import world_size
from kdrobust.distributed.sampler import ShuffledBatches, UnpaddedDistributedSampler
from kdrobust.errors import UsageError
from kdrobust.losses import Objective
from kdrobust.modules import AveragedWeights, OverfittingWarning, RobustValidation
from kdrobust.stages.labels import monitors

#: What is logged beside validation: terms and weights of the training, the optimizer's learning rates.
_OTHER_METRICS = ("train/", "lr-")
#: Packages whose callbacks log nothing but what is listed here.
_KNOWN = ("kdrobust", "pytorch_lightning")
#: Forms of arithmetic that a training runs in; 16-mixed on GPUs only.
PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed")
#: What Lightning knows beside them, with the reason why it is not taken.
_REFUSED = {
    **dict.fromkeys(("16-true", "bf16-true"), "half-precision weights lose a step's update where it is small"),
    **dict.fromkeys(("transformer-engine", "transformer-engine-float16"), "has never been tried here"),
}
#: Lightning's short forms of them.
_SHORT = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def training_problems(cfg: DictConfig, objective: Objective) -> list[str]:
    """What in a training stage's config cannot end well, found without its data, one line each.

    Args:
        cfg: the stage's config.
        objective: of its method.
    """
    return [*_trainer_problems(cfg), *_attack_problems(cfg, objective), *_callback_problems(cfg, objective)]


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _trainer_problems(cfg: DictConfig) -> list[str]:
    trainer: Mapping[str, Any] = to_plain(cfg.trainer)
    problems = []

    def refuse(key: str, why: str, when: bool) -> None:
        if when:
            shown = "null" if trainer.get(key) is None else trainer[key]
            problems.append(f"trainer.{key}={shown}: {why}")

    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps", -1)
    refuse(
        "max_epochs",
        "warm-up and schedules are shares of a number of epochs; set epochs to at least 1, and +trainer.max_steps or "
        "trainer.max_time to end before them",
        not _is_whole(epochs, 1),
    )
    refuse(
        "max_epochs",
        f"is epochs, which schedules, attacks and averages share (epochs={cfg.epochs}); set epochs={epochs}",
        _is_whole(epochs, 1) and epochs != cfg.epochs,
    )
    refuse("max_steps", "expected an integer >= 1, or -1 for none", steps != -1 and not _is_whole(steps, 1))
    for key in ("min_epochs", "min_steps"):
        why = "asks for more than trainer.max_steps may allow; leave one of them out"
        refuse(key, why, trainer.get(key) is not None and steps != -1)
    for key, least in (("accumulate_grad_batches", 1), ("check_val_every_n_epoch", 1)):
        refuse(key, f"expected an integer >= {least}", key in trainer and not _is_whole(trainer[key], least))
    every = trainer.get("check_val_every_n_epoch", 1)
    why = (
        f"no epoch of epochs={epochs} would be validated, and best.ckpt is chosen by validation; take at most {epochs}"
    )
    refuse("check_val_every_n_epoch", why, _is_whole(every, 1) and _is_whole(epochs, 1) and every > epochs)
    clip = trainer.get("gradient_clip_val")
    refuse("gradient_clip_val", "expected a positive number, or null for none", clip is not None and float(clip) < 0)
    for key, remedy in (("limit_train_batches", "train"), ("limit_val_batches", "validation")):
        why = f"leaves nothing; for a short training set data.limit_{remedy}"
        refuse(key, why, trainer.get(key) is not None and float(trainer[key]) <= 0)
    precision = str(trainer.get("precision") or "32-true")
    # what is no precision at all is refused by the trainer's own types
    refuse("precision", f"{_REFUSED.get(precision)}; take one of {', '.join(PRECISIONS)}", precision in _REFUSED)
    why = "CPUs have no such arithmetic; take bf16-mixed"
    refuse("precision", why, _SHORT.get(precision, precision) == "16-mixed" and trainer.get("accelerator") == "cpu")
    refuse("fast_dev_run", "leaves no checkpoint; for a short run take debug=tiny", bool(trainer.get("fast_dev_run")))
    why = "takes the validation split away; for few samples set data.limit_train"
    refuse("overfit_batches", why, bool(trainer.get("overfit_batches")))
    key = "reload_dataloaders_every_n_epochs"
    refuse(
        key, "a run resumed within an epoch would train on its first batches again; leave it 0", bool(trainer.get(key))
    )
    why = "the data module gives every process its own samples; leave it false"
    refuse("use_distributed_sampler", why, bool(trainer.get("use_distributed_sampler")))
    return problems


def _attack_problems(cfg: DictConfig, objective: Objective) -> list[str]:
    attack = cfg.get("attack")
    if not objective.needs_attack or attack is None or str(attack.get("goal")) != "kl_to_clean":
        return []
    if attack.get("start") != "none" or not attack.get("steps"):
        return []
    return ["attack.start=none: kl_to_clean has no gradient at x itself; use attack.start=normal"]


def _callback_problems(cfg: DictConfig, objective: Objective) -> list[str]:
    nodes = {name: node for name, node in (cfg.get("callbacks") or {}).items() if node is not None}
    try:
        callbacks = [instantiate(node) for node in nodes.values()]
        scheduler = instantiate(cfg.scheduler) if cfg.get("scheduler") is not None else {}
    except (UsageError, ValueError, TypeError):
        # wrong for another reason, which the config's own check says
        return []
    problems = _plateau_problems(scheduler)
    if any(type(each).__module__.split(".")[0] not in _KNOWN for each in callbacks):
        # a callback of the user's own may attack, and may log anything
        return problems
    if objective.needs_attack and not _has(callbacks, AttackCallback):
        problems.append(
            f"callbacks.attack={_shown(nodes.get('attack'))}: nothing makes the adversarial examples that the method "
            "trains on; leave it as it is, or take method=standard (attack=none trains on clean inputs)"
        )
    measured = _measured(cfg, objective, callbacks)
    absent: dict[str, list[str]] = {}
    for key, metric in monitors(cfg):
        if metric not in measured and not metric.startswith(_OTHER_METRICS):
            absent.setdefault(metric, []).append(key)
    for metric, keys in absent.items():
        instead = "val/accuracy" if "val/accuracy" in measured else measured[0]
        change = " ".join(f"{key}={instead}" for key in keys)
        attack = "" if _has(callbacks, RobustValidation) else ", as callbacks.robust_validation is null"
        problems.append(
            f"{', '.join(keys)}: {metric} is not measured{attack}; set {change} (there are {', '.join(measured)})"
        )
    return problems


def _shown(node: Any) -> str:
    return "null" if node is None else str(node.get("_target_", node))


def _has(callbacks: list[pl.Callback], kind: type[pl.Callback]) -> bool:
    return any(isinstance(each, kind) for each in callbacks)


def _plateau_problems(scheduler: Mapping[str, Any]) -> list[str]:
    factory = scheduler.get("factory")
    if getattr(factory, "func", factory) is not ReduceLROnPlateau:
        return []
    problems = []
    if not scheduler.get("monitor"):
        problems.append("scheduler.monitor: a plateau of what? Name a metric, e.g. val/robust_accuracy")
    if scheduler.get("interval", "epoch") != "epoch":
        problems.append(f"scheduler.interval={scheduler['interval']}: a plateau is looked for after epochs; set epoch")
    return problems


def _measured(cfg: DictConfig, objective: Objective, callbacks: list[pl.Callback]) -> list[str]:
    """The validation metrics of a training, in the order of `RobustModule.measure`."""
    labelled, attacked = not cfg.data.get("unlabelled"), _has(callbacks, RobustValidation)
    compared = str(cfg.stage) != "teacher" and bool(objective.main_teacher)
    # a folder of stored outputs holds answers to clean inputs, and no teacher
    stored = objective.main_teacher not in objective.partners and cfg.get("teacher", {}).get("outputs") not in (
        None,
        "auto",
    )
    live = compared and not stored
    found = {
        "accuracy": labelled,
        "robust_accuracy": labelled and attacked,
        "agreement": compared,
        "kl_to_teacher": compared,
        "robust_agreement": compared and attacked,
        "adversarial_agreement": live and attacked,
        "adversarial_kl_to_teacher": live and attacked,
        "transferability": live and attacked and labelled,
        "robust_gap": labelled and attacked and objective.needs_attack and _has(callbacks, OverfittingWarning),
        "averaged/accuracy": _has(callbacks, AveragedWeights),
        "averaged/robust_accuracy": _has(callbacks, AveragedWeights),
    }
    return [f"val/{name}" for name, there in found.items() if there]


def check_batches(cfg: DictConfig, data: DataModule) -> None:
    """Refuse limits and intervals of the trainer that do not fit the number of batches.

    Args:
        cfg: a training stage's config that `training_problems` has passed.
        data: prepared.

    Raises:
        UsageError: no batch is left, or an interval of validations that leaves an epoch's last weights unmeasured.
    """
    trainer: Mapping[str, Any] = to_plain(cfg.trainer)
    processes = _processes(trainer)
    samples = {split: len(data.split(split)) for split in ("train", "validation")}
    if min(samples.values()) < processes:
        # the data module says it
        return
    place = {"rank": 0, "replicas": processes}
    batches = len(ShuffledBatches(size=samples["train"], batch_size=data.batch_size, seed=data.seed, **place))
    validation = UnpaddedDistributedSampler(size=samples["validation"], batch_size=data.eval_batch_size, **place)
    batches = _limited("limit_train_batches", trainer, batches)
    _limited("limit_val_batches", trainer, len(validation))
    interval = trainer.get("val_check_interval", 1.0)
    every = interval if isinstance(interval, int) else max(1, int(batches * float(interval)))
    if every < 1 or batches % every:
        fitting = " or ".join(str(number) for number in range(1, batches + 1) if batches % number == 0)
        raise UsageError(
            f"trainer.val_check_interval={interval}: the last weights of an epoch, which best.ckpt may take, "
            f"would not be measured, as it does not divide the number of batches, {batches}; take {fitting}"
        )
    most, pause = trainer.get("max_steps", -1), trainer.get("check_val_every_n_epoch", 1)
    steps = -(-batches // trainer.get("accumulate_grad_batches", 1))
    if 0 < most <= (pause - 1) * steps:
        raise UsageError(
            f"trainer.max_steps={most}: ends before epoch {pause}, the first one that trainer.check_val_every_n_epoch="
            f"{pause} validates (an epoch has {steps} steps); take at least {(pause - 1) * steps + 1}"
        )


def _processes(trainer: Mapping[str, Any]) -> int:
    here = world_size(trainer)
    return here * int(trainer.get("num_nodes") or 1) if here > 1 else here


def _limited(key: str, trainer: Mapping[str, Any], batches: int) -> int:
    limit = trainer.get(key)
    if limit is None:
        return batches
    left = min(batches, limit) if isinstance(limit, int) else int(batches * float(limit))
    if left < 1:
        size = "data.eval_batch_size" if key == "limit_val_batches" else "data.batch_size"
        raise UsageError(
            f"trainer.{key}={limit}: leaves none of an epoch's batches, whose number is {batches}; take at least "
            f"{1 / batches:.3g}, or a smaller {size}"
        )
    return left


def validated_samples(cfg: DictConfig, data: DataModule) -> int:
    """How many validation samples the figures of a training are shares of; all but for `limit_val_batches`."""
    size, processes = len(data.split("validation")), _processes(to_plain(cfg.trainer))
    count = 0
    for rank in range(processes):
        sampler = UnpaddedDistributedSampler(size=size, batch_size=data.eval_batch_size, rank=rank, replicas=processes)
        batches = _limited("limit_val_batches", to_plain(cfg.trainer), len(sampler))
        count += sum(len(rows) for rows in list(sampler)[:batches])
    return count
