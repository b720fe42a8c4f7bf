"""What every stage does first: check the whole config, hold the run folder, read the data, make the model."""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kdrobust.config import config_hash, ensure, instantiate, numbers, to_plain, to_text
from kdrobust.config.build import first_line
from kdrobust.config.resolved import FILE
from kdrobust.data import DataModule
from kdrobust.distributed import world_size
from kdrobust.errors import UsageError
from kdrobust.evaluation import model_cost
from kdrobust.losses import Objective, method_problems
from kdrobust.models import Classifier, tap_shapes
from kdrobust.randomness import address
from kdrobust.spec import InputSpec
from kdrobust.stages.labels import label_problems
from kdrobust.stages.networks import checked_classifier, network_problems
from kdrobust.stages.training_checks import check_batches, training_problems
from kdrobust.tracking import build_manifest, hold, is_main_process, made_by, regular, versions, write_json, write_text
from kdrobust.tracking.secrets import place_problems, redacted, secret_keys

log = logging.getLogger("kdrobust")
_SMALL_BATCH_FLOPS = 5e8


def check_config(cfg: DictConfig, extra: Sequence[str] = ()) -> None:
    """Report everything wrong with a config at once, before data, teacher or checkpoint are touched.

    Raises:
        UsageError: one line a problem.
    """
    ensure(cfg, extra_problems=[*extra, *_secret_problems(cfg), *network_problems(cfg)])
    # ranges belong to constructors: build what is cheap to build before anything slow starts
    for key in ("threat", "attack", "optimizer", "callbacks", "data"):
        if cfg.get(key) is not None:
            instantiate(cfg[key])
    if cfg.get("optimizer") is not None:
        _try_steps(cfg)
        _try_trainer(cfg)


def _secret_problems(cfg: DictConfig) -> list[str]:
    """Secrets in names of folders, and those that other ranks never see: they read their config from the run folder."""
    run = cfg.get("run") or {}
    if places := place_problems({f"run.{key}": run.get(key) for key in ("name", "root", "folder")}):
        return places
    if world_size(cfg.get("trainer") or {}) == 1 or made_by() is not None:
        return []
    return [
        f"{key}: holds a secret, which no file of a run keeps, and the other ranks start from such a file; let what "
        "needs it read it from the environment, or set trainer=cpu or gpu (one process)"
        for key in secret_keys(to_plain(cfg))
    ]


def _try_steps(cfg: DictConfig) -> None:
    """Build optimiser and scheduler for a single weight, and take a step: torch looks at their numbers only then."""
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    try:
        optimizer = instantiate(cfg.optimizer)([weight])
        _step(optimizer, weight)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise UsageError(f"optimizer: {first_line(error)}") from None
    factory = instantiate(cfg.scheduler)["factory"] if cfg.get("scheduler") is not None else None
    if factory is None:
        return
    late = {"total_steps": 100} if "total_steps" in inspect.signature(factory).parameters else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            factory(optimizer, **late)
        _step(optimizer, weight)
    except (ValueError, TypeError, ZeroDivisionError, RuntimeError, OverflowError) as error:
        raise UsageError(f"scheduler: {first_line(error)}") from None


def _step(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> None:
    optimizer.step(lambda: 0.0)
    if not weight.isfinite().all():
        raise ValueError("the first step makes an infinite weight of a gradient of 1; lower optimizer.lr")


def _try_trainer(cfg: DictConfig) -> None:
    """Build the trainer once for nothing: which devices there are is known only to Lightning."""
    factory = instantiate(cfg.trainer)
    if not isinstance(factory.keywords.get("strategy"), str):
        # it would claim the ranks of the real one
        return
    try:
        factory(logger=False, enable_checkpointing=False)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"trainer: {first_line(error)}") from None


def check_method(
    cfg: DictConfig,
    problems: Sequence[str] = (),
    *,
    teachers: Callable[[DictConfig, Objective], Sequence[str]] | None = None,
) -> Objective:
    """Check a training stage's whole config and build its objective.

    Args:
        cfg: the stage's config with `method`.
        problems: what is known to be wrong with it already, one line each.
        teachers: what finds fault with the config's teachers, where the stage can supply any.

    Raises:
        UsageError: one line a problem.
    """
    trusted = list(cfg.get("trusted_modules") or [])
    try:
        method = numbers(cfg.method)
        found = [*problems, *method_problems(method, trusted)]
    except UsageError as error:
        method, found = {}, [*problems, str(error)]
    objective = None
    if not found:
        objective = Objective(method, trusted)
        if teachers is not None:
            found += teachers(cfg, objective)
        elif objective.teachers or objective.partners:
            found.append(
                f"method: it learns from a teacher, which `kdrobust {cfg.stage}` has none of; use kdrobust distill"
            )
        found += label_problems(cfg, objective) or training_problems(cfg, objective)
    check_config(cfg, found)
    assert objective is not None
    return objective


def prepare_objective(objective: Objective, models: Mapping[str, nn.Module], spec: InputSpec, seed: int) -> None:
    """Make what an objective needs of the data and the models: class-sized state, adapters between tapped features.

    Raises:
        UsageError: a module path that is not there, or features that a loss cannot compare; names the key.
    """
    wanted: dict[str, set[str]] = {}
    for (model, _), paths in objective.taps.items():
        wanted.setdefault(model, set()).update(paths)
    shapes = {}
    for model, tapped in wanted.items():
        for path in sorted(tapped):
            key = objective.tap_keys[model, path]
            if model not in models:
                raise UsageError(f"{key}={path}: features need a live {model}, stored outputs hold none")
            try:
                shapes[model, path] = tap_shapes(models[model], [path], spec)[path]
            except UsageError as error:
                raise UsageError(f"{key}: ({model}) {error}") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(seed, "objective"))
        try:
            objective.prepare(classes=spec.classes, shapes=shapes)
        except ValueError as error:
            raise UsageError(str(error)) from None


@contextmanager
def open_run(cfg: DictConfig, folder: Path) -> Iterator[str]:
    """Hold the run folder and write down what runs in it; yields the config's hash.

    Raises:
        RunFolderError: see `kdrobust.tracking.hold`.
    """
    digest = config_hash(cfg)
    with hold(folder, config_hash=digest) if is_main_process() else nullcontext():
        if is_main_process():
            write_text(folder / FILE, to_text(redacted(OmegaConf.to_container(cfg))))
            manifest = build_manifest(stage=cfg.stage, seed=int(cfg.seed), config_hash=digest)
            write_json(folder / "manifest.json", manifest)
        yield digest


def prepare_data(cfg: DictConfig) -> DataModule:
    """Read and check the data set.

    Raises:
        DataError: it is missing, or not what it should be.
        UsageError: a threat model whose box is not the range of the data's values, or whose ε reaches across it.
    """
    data: DataModule = instantiate(cfg.data)
    data.prepare()
    if cfg.get("callbacks") is not None:
        check_batches(cfg, data)
    if cfg.get("threat") is not None:
        threat, bounds = instantiate(cfg.threat), data.spec.bounds
        box = threat.box
        if box != bounds:
            raise UsageError(
                f"threat.bounds={list(box)}: values of data={data.name} lie in {list(bounds)}; choose a threat made "
                f"for them, or set +threat.bounds=[{bounds[0]:g},{bounds[1]:g}]"
            )
        for eps in cfg.get("radii") or [threat.eps]:
            replace(threat, eps=eps).check_reach(data.spec.shape)
    return data


def new_classifier(node: DictConfig, spec: InputSpec, seed: int) -> Classifier:
    """A freshly initialised classifier from a model config; raises as `checked_classifier`."""
    return checked_classifier(node, spec, seed)


def set_threads(cfg: DictConfig, model: nn.Module, spec: InputSpec, batch_size: int) -> None:
    """Give this process `threads` CPU threads; `auto` decides by the work in a batch.

    A step of a small model is a few milliseconds: handing it to a second thread costs more than it brings, and where
    the cores are shared with other processes (sweeps, CI) the threads wait for each other most of the time.
    """
    if cfg.threads != "auto":
        torch.set_num_threads(int(cfg.threads))
    elif model_cost(model, spec).flops * batch_size < _SMALL_BATCH_FLOPS:
        torch.set_num_threads(1)


def model_config(node: DictConfig) -> dict[str, Any]:
    """What a checkpoint has to remember of a model config to rebuild the model."""
    plain = to_plain(node)
    return {"network": plain["network"], "normalize": bool(plain["normalize"])}


def result_header(cfg: DictConfig, digest: str) -> dict[str, Any]:
    """The part of `result.json` that all stages share."""
    return {
        "schema": 1,
        "stage": str(cfg.stage),
        "name": str(cfg.run.name),
        "seed": int(cfg.seed),
        "config_hash": digest,
        "versions": versions(),
    }


def data_header(data: DataModule) -> dict[str, Any]:
    """What `result.json` says about the data."""
    return {"name": data.name, "fingerprint": data.fingerprint, "class_names": list(data.spec.class_names)}


def require_file(value: Any, key: str, remedy: str) -> Path:
    """A path from the config that must exist.

    Raises:
        UsageError: it is not given or does not exist; names the key and the remedy.
    """
    if value in (None, "", "???"):
        raise UsageError(f"{key}: not given; {remedy}")
    path = Path(str(value)).expanduser()
    if not path.exists():
        raise UsageError(f"{key}={value}: no such file; {remedy}")
    if not regular(path):
        raise UsageError(f"{key}={value}: is a pipe or a device, not a file; {remedy}")
    return path


def choose_device(trainer: Mapping[str, Any]) -> torch.device:
    """The device a stage without Lightning's trainer computes on."""
    if trainer.get("accelerator") in ("gpu", "cuda"):
        if not torch.cuda.is_available():
            raise UsageError("trainer.accelerator=gpu: this machine has no CUDA device; use trainer=cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
