"""Stage `export`: a checkpoint as a file that runs without this package, and that file measured again."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from kdrobust.data import DataModule
from kdrobust.errors import CheckpointError
from kdrobust.evaluation import measure_latency, model_cost, stratified, to_result, write_samples
from kdrobust.export import (
    SUFFIXES,
    TOLERANCE,
    Agreement,
    Exported,
    StraightThrough,
    agreement,
    model_card,
    quantize_onnx,
    stamp,
    write_model,
)
from kdrobust.models import check_network, file_hash, read_checkpoint
from kdrobust.serving import Metadata, open_runtime
from kdrobust.stages.comparison import print_comparison, print_costs, write_comparison
from kdrobust.stages.measuring import (
    Measured,
    at_radii,
    compare_models,
    is_timed,
    measure,
    suite_problems,
    without_unfit,
)
from kdrobust.stages.provenance import evaluations_of, teacher_path, training_of
from kdrobust.stages.setup import check_config, log, prepare_data, require_file, result_header, set_threads
from kdrobust.stages.subject import Subject, checkpoints, own_subject
from kdrobust.tracking import write_json, write_result, write_text

_BATCHES = (1, 128)
#: What the model beside the exported one is called: found as its teacher, or named by `compare`.
_BESIDE = ("teacher", "compared")
#: Packages whose versions decide what an exported file holds and answers.
_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript")


def export_problems(cfg: DictConfig) -> list[str]:
    """What is wrong with a config of this stage, one line each; no file is touched."""
    problems = suite_problems(cfg, whole=False)
    if len(checkpoints(cfg)) > 1:
        problems.append("checkpoint: one at a time; with -m, checkpoint=a.ckpt,b.ckpt exports each")
    if cfg.quantize != "none" and cfg.format != "onnx":
        problems.append(
            f"quantize={cfg.quantize}: only format=onnx is quantised, by ONNX Runtime; PyTorch has moved its own "
            "quantisation out to torchao. Set format=onnx, or quantize=none"
        )
    return problems


def check(cfg: DictConfig, problems: Sequence[str]) -> None:
    """Refuse a config that cannot run."""
    check_config(cfg, [*problems, *export_problems(cfg)])


def derive(cfg: DictConfig, _checked: None) -> dict[str, Any]:
    """The suite at its one radius."""
    return {"rungs": without_unfit(cfg, at_radii(cfg))}


def require(cfg: DictConfig, _checked: None) -> None:
    """Refuse checkpoints that are not there or cannot be read."""
    path = _checkpoint(cfg)
    check_network(read_checkpoint(path), path)
    _beside(cfg, path)


def _checkpoint(cfg: DictConfig) -> Path:
    return require_file(cfg.checkpoint, "checkpoint", "train a model with `kdrobust teacher` or `kdrobust distill`")


def run(cfg: DictConfig, folder: Path, digest: str, _checked: None) -> dict[str, Any]:
    """Export, check, measure and describe `cfg.checkpoint`."""
    started = time.monotonic()
    path = _checkpoint(cfg)
    beside = _beside(cfg, path)
    data = prepare_data(cfg)
    student = replace(own_subject(path, data), name="checkpoint")
    set_threads(cfg, student.model, data.spec, int(cfg.evaluation.batch_size))
    metadata = _metadata(cfg, student, data)
    file = folder / f"model{SUFFIXES[cfg.format]}"
    _write(cfg, student, data, metadata, file)
    found = _compare_answers(cfg, student, data, file)
    subjects = [student, _exported(student, file, cfg)]
    if beside is not None:
        name = _BESIDE[0] if cfg.compare == "auto" else _BESIDE[1]
        subjects.insert(0, replace(own_subject(beside, data), name=name))
    # the twin's examples are shown to the checkpoint, too: worst cases over other attacks could not be compared
    measured = [
        _measure(cfg, subject, data, twin=None if subject.name in _BESIDE else student, folder=folder)
        for subject in subjects
    ]
    rows = _rows(cfg, measured, data, file)
    evaluation = rows[-1]["results"][0]["evaluation"]
    stamp(file, replace(metadata, robustness=_robustness(evaluation)))
    rows[-1]["results"][0]["model"]["file_bytes"] = file.stat().st_size
    result: dict[str, Any] = {
        **result_header(cfg, digest),
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "threat": evaluation["threat"],
        "checkpoint": student.origin,
        "evaluation": evaluation,
        "export": _told(cfg, metadata, file, found, student),
        "models": rows,
        "comparisons": compare_models(measured[-2:], float(cfg.evaluation.confidence)),
        "files": {"model": file.name, "card": "MODEL_CARD.md", "samples": "samples.npz"},
        "seconds": round(time.monotonic() - started, 3),
    }
    result["files"] |= write_comparison(rows, folder, costs=rows)
    write_samples(folder / "samples.npz", measured[-1].evaluation)
    write_json(folder / "evaluation.json", evaluation)
    write_text(folder / "MODEL_CARD.md", model_card(result, training=training_of(path)))
    write_result(folder, result)
    return result


def score(result: Mapping[str, Any]) -> float:
    """The exported model's worst-case accuracy."""
    return float(result["evaluation"]["worst_case"]["accuracy"])


def _beside(cfg: DictConfig, path: Path) -> Path | None:
    """The checkpoint that stands beside the exported one in the table."""
    if cfg.compare == "auto":
        return teacher_path(path)
    if cfg.compare is None:
        return None
    beside = require_file(cfg.compare, "compare", "name a checkpoint, or set compare=null")
    check_network(read_checkpoint(beside), beside)
    return beside


def _metadata(cfg: DictConfig, student: Subject, data: DataModule) -> Metadata:
    threat = read_checkpoint(student.origin["path"])["kdrobust"].get("threat") or {}
    return Metadata(
        shape=data.spec.shape,
        class_names=data.spec.class_names,
        value_range=data.spec.bounds,
        sample_rate=data.spec.sample_rate,
        peak=data.spec.peak,
        threat=threat,
        quantize=str(cfg.quantize),
        checkpoint=student.origin["sha256"],
    )


def _write(cfg: DictConfig, student: Subject, data: DataModule, metadata: Metadata, file: Path) -> None:
    if cfg.quantize == "none":
        write_model(student.model, metadata, file, format=str(cfg.format))
        return
    train = data.split("train")
    chosen = stratified(train.labels, int(cfg.calibration), seed=int(cfg.seed))
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / file.name
        write_model(student.model, metadata, whole, format=str(cfg.format))
        quantize_onnx(whole, file, kind=str(cfg.quantize), calibration=train.pixels(chosen))


def _compare_answers(cfg: DictConfig, student: Subject, data: DataModule, file: Path) -> Agreement:
    test = data.split("test")
    rows = stratified(test.labels, int(cfg.agreement), seed=int(cfg.evaluation.seed))
    found = agreement(
        student.model,
        Exported(open_runtime(file, trust=True)),
        inputs=test.raw(rows),
        labels=test.labels[rows],
        indices=test.indices[rows],
        batch_size=int(cfg.evaluation.batch_size),
    )
    if cfg.quantize == "none" and not found.within_tolerance:
        raise CheckpointError(
            f"format={cfg.format}: the file's logits differ from the checkpoint's by up to {found.max_difference:.2g} "
            f"(allowed: {TOLERANCE:g}); do not use it, and try another format"
        )
    return found


def _exported(student: Subject, file: Path, cfg: DictConfig) -> Subject:
    runtime = open_runtime(file, trust=True, threads=torch.get_num_threads())
    name = "exported" if cfg.quantize == "none" else f"exported {cfg.quantize.replace('_', ' ')}"
    origin = {"path": str(file), "sha256": file_hash(file)}
    return Subject(model=StraightThrough(Exported(runtime), student.model), name=name, origin=origin)


def _measure(cfg: DictConfig, subject: Subject, data: DataModule, *, twin: Subject | None, folder: Path) -> Measured:
    log.info("measuring %s", subject.name)
    sources = [] if twin is None else [replace(twin, name="twin")]
    found = measure(cfg, subject, data, sources=sources, folder=folder / "measured" / subject.name.replace(" ", "_"))
    assert found is not None
    return found


def _rows(cfg: DictConfig, measured: list[Measured], data: DataModule, file: Path) -> list[dict[str, Any]]:
    """One row a model: figures, and costs in the exported file's own format and runtime."""
    rows = []
    for found in measured:
        subject = found.subject
        last = found is measured[-1]
        float_model = subject.model.twin if isinstance(subject.model, StraightThrough) else subject.model
        cost = model_cost(float_model.cpu(), data.spec)
        described: dict[str, Any] = {"parameters": cost.parameters, "flops": cost.flops}
        with tempfile.TemporaryDirectory() as scratch:
            own = file
            if not last:
                # the same format and runtime for all: else the table would compare runtimes
                own = Path(scratch) / file.name
                plain = Metadata(shape=data.spec.shape, class_names=data.spec.class_names)
                write_model(float_model, plain, own, format=str(cfg.format))
            described["file_bytes"] = own.stat().st_size
            if is_timed(cfg.evaluation.get("latency"), cost.flops):
                module = Exported(open_runtime(own, trust=True, threads=torch.get_num_threads()))
                described["latency"] = [asdict(each) for each in measure_latency(module, data.spec, batches=_BATCHES)]
        evaluation = to_result(found.evaluation, confidence=float(cfg.evaluation.confidence))
        entry = {"model": described, **subject.header(), "evaluation": evaluation}
        rows.append({"name": subject.name, "results": [entry]})
    return rows


def _robustness(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the file itself tells of its evaluation."""
    attacks = {
        name: {key: figure[key] for key in ("accuracy", "interval")} for name, figure in evaluation["attacks"].items()
    }
    kept = ("threat", "n", "confidence", "clean", "worst_case", "unreliable", "reasons")
    return {**{key: evaluation[key] for key in kept}, "attacks": attacks, "checked": bool(evaluation["checks"])}


def _told(cfg: DictConfig, metadata: Metadata, file: Path, found: Agreement, student: Subject) -> dict[str, Any]:
    root = Path(str(cfg.run.root)) if cfg.evaluated == "auto" else cfg.evaluated
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = packages.version(name)
        except packages.PackageNotFoundError:
            continue
    return {
        "file": file.name,
        "format": str(cfg.format),
        "quantize": str(cfg.quantize),
        "sha256": file_hash(file),
        "file_bytes": file.stat().st_size,
        "shape": list(metadata.shape),
        "value_range": list(metadata.value_range),
        **({"sample_rate": metadata.sample_rate, "peak": metadata.peak} if metadata.recordings else {}),
        "class_names": list(metadata.class_names),
        **({"calibration": int(cfg.calibration)} if cfg.quantize == "static_int8" else {}),
        "versions": installed,
        "evaluated": [] if root is None else evaluations_of(student.origin["sha256"], Path(root)),
        "agreement": {
            **asdict(found),
            "differing": [asdict(each) for each in found.differing],
            "within_tolerance": found.within_tolerance,
        },
    }


def show(result: Mapping[str, Any], cfg: DictConfig) -> None:
    """Print the tables, and how far the file's answers are from the checkpoint's."""
    print_comparison(result["models"])
    print_costs(result["models"])
    found = result["export"]["agreement"]
    differing = len(found["differing"])
    print(
        f"{result['export']['file']}: logits within {found['max_difference']:.2g} of the checkpoint's, "
        f"{found['n'] - differing} of {found['n']} predictions the same"
    )
    for line in result["comparisons"]:
        print(line["text"])
    log.info("%s: %s and MODEL_CARD.md in %s", result["name"], result["export"]["file"], cfg.run.folder)
