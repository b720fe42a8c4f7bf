"""Stage `evaluate`: the only one that touches the test set. Clean, attacked, with intervals and trust checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import DictConfig

from kdrobust.attacks import GradientAttack
from kdrobust.config import instantiate
from kdrobust.data import DataModule
from kdrobust.distributed import evaluation_shard, finish_ranks, join_ranks
from kdrobust.evaluation import (
    Evaluation,
    evaluate,
    merge,
    model_cost,
    run_checks,
    stratified,
    to_result,
    write_samples,
)
from kdrobust.models import Classifier
from kdrobust.stages import figures
from kdrobust.stages.comparison import print_comparison
from kdrobust.stages.run import rank_command
from kdrobust.stages.setup import (
    check_config,
    choose_device,
    is_main_process,
    log,
    open_run,
    prepare_data,
    result_header,
    set_threads,
)
from kdrobust.stages.subject import load_subject, require_subject, subject_problems
from kdrobust.tracking import write_result

_SECONDS = 10.0


def say_progress() -> Callable[[str, int, int], None]:
    """A progress callback: a line every ten seconds, with the time left of the attack at hand."""
    state: dict[str, Any] = {"name": "", "began": 0.0, "last": time.monotonic()}

    def tell(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if name != state["name"]:
            state.update(name=name, began=now)
        if now - state["last"] >= _SECONDS and done:
            left = (now - state["began"]) / done * (total - done)
            log.info("evaluate  %s  %d/%d samples  left %ds", name, done, total, round(left))
            state["last"] = now

    return tell


def measure(cfg: DictConfig, model: Classifier, data: DataModule, rank: int, world: int) -> Evaluation | None:
    """Run the suite on this process's share of the test samples; the whole evaluation comes back on rank 0."""
    suite = cfg.evaluation
    test = data.split("test")
    chosen = stratified(test.labels, suite.num_samples, seed=int(suite.seed))
    mine = evaluation_shard(chosen, rank, world)
    attacks: Mapping[str, GradientAttack] = instantiate(suite.attacks)
    threat, device = instantiate(cfg.threat), choose_device(cfg.trainer)
    progress = say_progress() if rank == 0 else None

    def arguments(rows: torch.Tensor) -> dict[str, Any]:
        return {"inputs": test.inputs[rows], "labels": test.labels[rows], "indices": test.indices[rows]}

    part = evaluate(
        model,
        **arguments(mine),
        threat=threat,
        attacks=attacks,
        batch_size=int(suite.batch_size),
        seed=int(suite.seed),
        device=device,
        checks=False,
        progress=progress,
    )
    if world > 1:
        parts: list[Any] = [None] * world
        dist.all_gather_object(parts, part)
        if rank:
            return None
        part = merge(parts)
    if not suite.checks:
        return part
    return part.with_checks(run_checks(part, model, **arguments(chosen), device=device, progress=progress))


def run(cfg: DictConfig, folder: Path) -> float | None:
    """Measure a checkpoint and print the table; returns the worst-case accuracy."""
    result = measure_and_write(cfg, folder)
    if result is None:
        return None
    print_comparison([{"name": str(cfg.run.name), "results": [result]}])
    log.info("%s: results in %s", cfg.run.name, folder)
    return float(result["evaluation"]["worst_case"]["accuracy"])


def measure_and_write(cfg: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Measure `cfg.checkpoint` or `cfg.model` on `cfg.data` with the suite `cfg.evaluation` and write `result.json`.

    Returns:
        The result; None on every process but the first.
    """
    check_config(cfg, subject_problems(cfg))
    require_subject(cfg)
    started = time.monotonic()
    with open_run(cfg, folder) as digest:
        data = prepare_data(cfg)
        subject = load_subject(cfg, data)
        model = subject.model
        set_threads(cfg, model, data.spec, int(cfg.evaluation.batch_size))
        rank, world, processes = join_ranks(cfg.trainer, rank_command(str(cfg.stage), folder))
        failed = True
        try:
            evaluation = measure(cfg, model, data, rank, world)
            failed = False
        finally:
            finish_ranks(processes, failed=failed)
        if evaluation is None or not is_main_process():
            return None
        write_samples(folder / "samples.npz", evaluation)
        cost = model_cost(model.cpu(), data.spec)
        files = {"samples": "samples.npz"}
        attacks = instantiate(cfg.evaluation.attacks)
        if attacks and len(data.spec.shape) == 3:
            files["examples"] = figures.examples(
                folder, model, data, "test", list(attacks.values())[-1], int(cfg.evaluation.seed)
            )
        result = {
            **result_header(cfg, digest),
            "data": {"name": data.name, "fingerprint": data.fingerprint},
            "model": {"parameters": cost.parameters, "flops": cost.flops, "size_bytes": cost.size_bytes},
            "threat": instantiate(cfg.threat).describe(),
            **subject.header(),
            "evaluation": to_result(evaluation, confidence=float(cfg.evaluation.confidence)),
            "seconds": round(time.monotonic() - started, 3),
            "files": files,
        }
        write_result(folder, result)
    return result
