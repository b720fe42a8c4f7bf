"""Stage `evaluate`: the only one that touches the test set. Clean, attacked, with intervals and trust checks."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kdrobust.config import instantiate
from kdrobust.data import DataModule
from kdrobust.distributed import finish_ranks, join_ranks
from kdrobust.evaluation import (
    checkpoint_bytes,
    corruption_result,
    measure_latency,
    model_cost,
    real_time,
    to_result,
    write_samples,
)
from kdrobust.report import curves_of, evaluation_figures, security_plot, threat_text
from kdrobust.stages import detection, figures
from kdrobust.stages.comparison import print_comparison, print_costs, write_comparison
from kdrobust.stages.measuring import (
    Measured,
    at_radii,
    compare_models,
    is_timed,
    measure,
    settle_batch,
    suite_problems,
)
from kdrobust.stages.run import rank_command
from kdrobust.stages.setup import (
    check_config,
    data_header,
    log,
    prepare_data,
    result_header,
    set_threads,
)
from kdrobust.stages.subject import Subject, load_subjects, require_subject, subject_problems, teacher_of
from kdrobust.tracking import is_main_process, write_json, write_result

#: What a result says of its first model.
_SHOWN = ("model", "checkpoint", "subject", "trained_for", "evaluation", "corruptions")


def _is_detection(cfg: DictConfig) -> bool:
    """With an adaptive attack in the suite the models are detectors, see `kdrobust.stages.detection`."""
    return cfg.evaluation.get("adaptive") is not None


def check(cfg: DictConfig, problems: Sequence[str]) -> None:
    """Refuse a config that cannot run."""
    found = detection.problems(cfg) if _is_detection(cfg) else [*suite_problems(cfg), *detection.misplaced(cfg)]
    check_config(cfg, [*problems, *subject_problems(cfg), *found])


def derive(cfg: DictConfig, _checked: None) -> dict[str, Any]:
    """The suite at each radius."""
    return {"rungs": at_radii(cfg)}


def require(cfg: DictConfig, _checked: None) -> None:
    """Refuse models that are not there or of data of another form, and attacks that a detector has met."""
    require_subject(cfg)
    if _is_detection(cfg):
        detection.require_apart(cfg)


def show(result: Mapping[str, Any], cfg: DictConfig) -> None:
    """Print the table, and how the models differ sample by sample."""
    if _is_detection(cfg):
        detection.show(result)
    else:
        rows = result.get("models") or [{"name": str(cfg.run.name), "results": [result]}]
        print_comparison(rows)
        if len(costs := _costs(cfg, rows)) > 1:
            print_costs(costs)
    for line in result.get("comparisons", []):
        print(line["text"])
    log.info("%s: results in %s", cfg.run.name, cfg.run.folder)


def score(result: Mapping[str, Any]) -> float | None:
    """The first model's worst-case accuracy; a detector's AUROC under the adaptive attack at the largest ε."""
    if "detection" in result:
        return detection.score(result)
    return float(result["evaluation"]["worst_case"]["accuracy"])


def _costs(cfg: DictConfig, rows: Sequence[Any]) -> Sequence[Any]:
    """Of rows that are one a model and radius, one a model."""
    radii = len(cfg.derived.rungs)
    return rows[radii - 1 :: radii]


def run(cfg: DictConfig, folder: Path, digest: str, _checked: None) -> dict[str, Any] | None:
    """Measure the models of a config on its data with the suite `cfg.evaluation` and write `result.json`.

    `evaluation` in the result is the first model's at the largest radius. With several models or radii, `models` has
    one entry for each of them and `comparisons` the models' paired differences.

    Returns:
        The result; None on every process but the first.
    """
    if _is_detection(cfg):
        return detection.run(cfg, folder, digest)
    started = time.monotonic()
    data = prepare_data(cfg)
    subjects = load_subjects(cfg, data)
    set_threads(cfg, subjects[0].model, data.spec, int(cfg.evaluation.batch_size))
    measured = _measure_all(cfg, subjects, data, folder)
    if not measured or not is_main_process():
        return None
    several = len(measured) > 1 or len(measured[0].evaluations) > 1
    reports = [_report(cfg, found, data, folder, named=len(measured) > 1) for found in measured]
    first = reports[0][-1]
    result: dict[str, Any] = {
        **result_header(cfg, digest),
        "data": data_header(data),
        "threat": first["evaluation"]["threat"],
        **{key: first[key] for key in _SHOWN if key in first},
        "seconds": round(time.monotonic() - started, 3),
        "files": {key: name for report in reports for key, name in report[-1]["files"].items()},
    }
    if several:
        result["models"] = _rows(measured, reports)
        if len(measured) > 1:
            result["files"] |= _draw_together(cfg, measured, reports, folder)
        result["comparisons"] = compare_models(measured, float(cfg.evaluation.confidence))
        costs = _costs(cfg, result["models"])
        result["files"] |= write_comparison(result["models"], folder, costs=costs)
    write_result(folder, result)
    return result


def _measure_all(cfg: DictConfig, subjects: Sequence[Subject], data: DataModule, folder: Path) -> list[Measured]:
    rank, world, processes = join_ranks(cfg.trainer, rank_command(folder), folder)
    failed = True
    try:
        found = []
        teachers = [teacher_of(subject, data) for subject in subjects]
        attacked = [each.model for each in (*subjects, *teachers) if each is not None]
        settle_batch(cfg, cfg.derived.rungs, attacked, data, world)
        for subject, teacher in zip(subjects, teachers, strict=True):
            sources = _sources(subject, subjects, teacher)
            if is_main_process() and len(subjects) > 1:
                log.info("evaluating %s", subject.name)
            place = folder if len(subjects) == 1 else folder / subject.name
            measured = measure(cfg, subject, data, sources=sources, folder=place, rank=rank, world=world)
            found += [] if measured is None else [measured]
        failed = False
    finally:
        finish_ranks(processes, error=sys.exception() if failed else None)
    return found


def _sources(subject: Subject, subjects: Sequence[Subject], teacher: Subject | None) -> list[Subject]:
    """Whose examples a model is shown: the other models' and its teacher's, which comes last and once."""
    others = [other for other in subjects if other is not subject]
    if teacher is None:
        return others
    named = [other for other in others if other.origin.get("sha256") == teacher.origin["sha256"]]
    return [other for other in others if not any(other is one for one in named)] + (named or [teacher])


def _report(cfg: DictConfig, found: Measured, data: DataModule, folder: Path, *, named: bool) -> list[dict[str, Any]]:
    """Write down and draw what was found about one model; one entry a radius."""
    suite, subject = cfg.evaluation, found.subject
    place = folder / subject.name if named else folder
    prefix = f"{subject.name}/" if named else ""
    place.mkdir(parents=True, exist_ok=True)
    model = subject.model.cpu()
    cost = model_cost(model, data.spec)
    described: dict[str, Any] = {
        "parameters": cost.parameters,
        "flops": cost.flops,
        "size_bytes": cost.size_bytes,
    }
    if "path" in subject.origin:
        described["checkpoint_bytes"] = checkpoint_bytes(subject.origin["path"])
    if is_timed(suite.get("latency"), cost.flops):
        described["latency"] = [asdict(each) for each in measure_latency(model, data.spec)]
    if data.spec.seconds is not None:
        described["real_time"] = asdict(real_time(model, data.spec))
    reports = []
    for evaluation in found.evaluations:
        entry = {"model": described, **subject.header(), "files": {}}
        entry["evaluation"] = to_result(evaluation, confidence=float(suite.confidence))
        name = "samples.npz" if evaluation is found.evaluation else f"samples_{evaluation.threat['eps']:.6g}.npz"
        write_samples(place / name, evaluation)
        entry["files"][f"{prefix}samples"] = f"{prefix}{name}"
        reports.append(entry)
    last = reports[-1]
    if found.corruptions is not None:
        last["corruptions"] = corruption_result(found.corruptions, confidence=float(suite.confidence))
    drawn = evaluation_figures(
        last["evaluation"],
        place,
        name=subject.name if named else str(cfg.run.name),
        class_names=data.spec.class_names or (),
        classes=data.spec.classes,
        corruptions=last.get("corruptions"),
    )
    attacks = instantiate(cfg.derived.rungs[-1].attacks)
    if attacks and figures.has_pictures(data.spec):
        attack = figures.drawable(attacks)
        if attack is not None:
            drawn |= figures.attacked(place, model, data, attack, int(suite.seed))
    last["files"] |= {f"{prefix}{key}": f"{prefix}{file}" for key, file in drawn.items()}
    write_json(place / "evaluation.json", last["evaluation"])
    return reports


def _draw_together(
    cfg: DictConfig, measured: Sequence[Measured], reports: Sequence[Sequence[Mapping[str, Any]]], folder: Path
) -> dict[str, str]:
    """All models' security curves on one axis, where an attack measured their samples' distances."""
    curves = []
    for found, entries in zip(measured, reports, strict=True):
        last = entries[-1]["evaluation"]
        # the checks' own curves are of few samples: they stay in each model's plot
        curves += curves_of({**last, "checks": []}, name=found.subject.name)
    if not curves:
        return {}
    threat = measured[0].evaluation.threat
    security_plot(
        curves,
        folder / "security.png",
        norm=str(threat["norm"]),
        eps=float(threat["eps"]) or None,
        confidence=float(cfg.evaluation.confidence),
        bounds=threat.get("bounds", (0.0, 1.0)),
    )
    return {"security": "security.png"}


def _rows(measured: Sequence[Measured], reports: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    rows = []
    for found, entries in zip(measured, reports, strict=True):
        for entry in entries:
            name = found.subject.name
            if len(entries) > 1:
                name += f" ({threat_text(entry['evaluation']['threat'])})"
            kept = {key: value for key, value in entry.items() if key != "files"}
            rows.append({"name": name, "results": [kept]})
    return rows
