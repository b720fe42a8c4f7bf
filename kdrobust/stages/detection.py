"""Stage `evaluate` on detectors: attacks they have not met, natural shifts, and an attack that knows them."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from kdrobust.attacks import AttackResult, JointAttack
from kdrobust.config import instantiate
from kdrobust.data.corruptions import corrupt
from kdrobust.data.corruptions.table import CORRUPTIONS, check_names
from kdrobust.detection.calibration import KINDS, read_calibration, scores_of
from kdrobust.detection.crafting import craft
from kdrobust.detection.measuring import LEAST, Group, adaptive_checks, alarm_row, group_row, overlap
from kdrobust.detection.pairs import Pairs
from kdrobust.detection.roc import auroc, auroc_difference
from kdrobust.distributed import world_size
from kdrobust.errors import UsageError
from kdrobust.evaluation import measure_latency, model_cost, stratified
from kdrobust.models import file_hash
from kdrobust.report import detection_csv, detection_markdown, detection_plot
from kdrobust.stages.measuring import attack_problems, settle_batch
from kdrobust.stages.setup import (
    choose_device,
    data_header,
    log,
    prepare_data,
    require_file,
    result_header,
    set_threads,
)
from kdrobust.stages.subject import Subject, load_subjects, own_subject
from kdrobust.tracking import write_bytes, write_json, write_result, write_text

_TARGET = "kdrobust.detection.pairs.Pairs"
#: Inputs on which the adaptive attack's own checks are made: without a bound, and with twice the steps.
_BOXED, _LONGER = 64, 256


def _is_detection(cfg: DictConfig) -> bool:
    return bool(OmegaConf.select(cfg, "data.source._target_") == _TARGET)


def misplaced(cfg: DictConfig) -> list[str]:
    """Refuses a detector where no adaptive attack would be run, and a detector's suite for classifiers; one line."""
    if cfg.evaluation.get("adaptive") is not None and not _is_detection(cfg):
        return ["evaluation=detection: measures detectors; for classifiers set evaluation=quick or standard"]
    if not _is_detection(cfg):
        return []
    return ["evaluation: a detector is not reported without an attack that knows it; set evaluation=detection"]


def problems(cfg: DictConfig) -> list[str]:
    """What is wrong with a config that measures detectors, one line each; no file is touched."""
    if not _is_detection(cfg):
        return ["evaluation=detection: measures detectors, which are trained on data=detection; set data=detection"]
    suite = cfg.evaluation
    found: list[str] = []
    rates = list(suite.fpr or [None])
    if any(isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1 for rate in rates):
        found.append(f"evaluation.fpr: expected shares between 0 and 1 such as [0.01,0.05], got {suite.fpr}")
    if suite.threshold_on not in KINDS:
        found.append(f"evaluation.threshold_on={suite.threshold_on}: expected {' or '.join(KINDS)}")
    shifts = suite.corruptions or {}
    try:
        check_names(list(shifts.get("names") or []), list(shifts.get("severities") or []), CORRUPTIONS)
    except UsageError as error:
        found.append(f"evaluation.{error}")
    found += attack_problems(cfg, ("attacks", "transfer"))
    try:
        instantiate(suite.adaptive)
    except UsageError as error:
        found.append(str(error))
    if not (suite.attacks or (suite.transfer and suite.surrogates)):
        found.append("evaluation.attacks: no held-out attack; give some, or transfer and surrogates")
    if world_size(cfg.trainer) > 1:
        found.append("trainer: a detector is measured by one process; set trainer=cpu or gpu")
    return found


@dataclass(frozen=True, kw_only=True)
class _Rung:
    """The attacks at one ε."""

    attacks: Mapping[str, Any]
    transfer: Mapping[str, Any]
    adaptive: JointAttack


def _rungs(cfg: DictConfig) -> list[_Rung]:
    rungs = []
    for node in cfg.derived.rungs:
        made = {part: instantiate(node[part]) if node[part] else {} for part in ("attacks", "transfer")}
        rungs.append(_Rung(**made, adaptive=instantiate(node.adaptive)))
    return rungs


def require_apart(cfg: DictConfig) -> None:
    """Refuse attacks that the detector has met, before anything is attacked."""
    source: Pairs = instantiate(cfg.data).source
    remedy = "train one with `kdrobust teacher`"
    keys = {"data.source.classifier": source.classifier, "data.source.surrogate": source.surrogate}
    surrogates = {f"evaluation.surrogates[{place}]": path for place, path in enumerate(cfg.evaluation.surrogates)}
    for key, path in {**keys, **surrogates}.items():
        require_file(path, key, remedy)
    problems: list[str] = []
    for rung in _rungs(cfg):
        described = {name: attack.describe() for name, attack in {**rung.attacks, **rung.transfer}.items()}
        made_on = {"data.source.classifier": source.classifier, **surrogates}
        problems += overlap(source, described, {key: file_hash(path) for key, path in made_on.items()})
    if problems:
        raise UsageError("\n".join(dict.fromkeys(problems)))


class _Adaptive:
    """The joint attack as one on the detector alone, the classifier given."""

    def __init__(self, attack: JointAttack, classifier: nn.Module) -> None:
        self.attack, self.classifier = attack, classifier

    def run(self, model: Any, inputs: Tensor, labels: Tensor, *, keys: Tensor | None, seed: int) -> AttackResult:
        return self.attack.run(self.classifier, model, inputs, labels, keys=keys, seed=seed)

    def describe(self) -> dict[str, Any]:
        return self.attack.describe()


class _Bench:
    """The inputs, the classifier, and how attacks are made on them."""

    def __init__(self, cfg: DictConfig, source: Pairs, folder: Path) -> None:
        suite = cfg.evaluation
        self.seed, self.batch_size = int(suite.seed), int(suite.batch_size)
        self.device = choose_device(cfg.trainer)
        self.folder = folder
        self.data = source.data
        self.protected = own_subject(Path(source.classifier), source.data)
        self.surrogates = [own_subject(Path(str(path)), source.data) for path in suite.surrogates]
        inputs, labels, keys = source.clean("test")
        chosen = stratified(labels, suite.num_samples, seed=self.seed)
        self.clean, labels, self.keys = inputs[chosen], labels[chosen], keys[chosen]
        right = self._answers(self.clean) == labels
        self.accuracy = float(right.float().mean())
        #: what is attacked: the samples that the classifier gets right
        self.inputs, self.labels, self.rows = self.clean[right], labels[right], self.keys[right]

    @torch.no_grad()
    def _answers(self, inputs: Tensor) -> Tensor:
        model = self.protected.model.to(self.device)
        parts = [model(part.to(self.device)).argmax(dim=1).cpu() for part in torch.split(inputs, self.batch_size)]
        return torch.cat([torch.empty(0, dtype=torch.int64), *parts])

    def group(self, name: str, attack: Any, target: Subject, *, made_on: str, first: int | None = None) -> Group:
        """The examples of an attack on a model that fool the protected classifier."""
        made = craft(
            attack,
            target.model,
            self.inputs[:first],
            self.labels[:first],
            self.rows[:first],
            name=f"{name} on {made_on}, eps {attack.describe()['threat']['eps']:g}",
            context={"model": target.origin, "protected": self.protected.origin, "data": self.data.fingerprint},
            folder=self.folder,
            seed=self.seed,
            batch_size=self.batch_size,
            device=self.device,
        )
        fooling = self._answers(made.inputs) != self.labels[:first]
        return Group(
            name=name,
            described=attack.describe(),
            made_on=made_on,
            attacked=len(fooling),
            inputs=made.inputs[fooling],
        )

    def held_out(self, rungs: Sequence[_Rung]) -> list[Group]:
        """Attacks that know nothing of any detector."""
        groups = []
        for rung in rungs:
            for name, attack in rung.attacks.items():
                groups.append(self.group(name, attack, self.protected, made_on="classifier"))
            for other in self.surrogates:
                for name, attack in rung.transfer.items():
                    groups.append(self.group(f"{name}_from_{other.name}", attack, other, made_on=other.name))
        return groups


def run(cfg: DictConfig, folder: Path, digest: str) -> dict[str, Any]:
    """Measure detectors and write `result.json`."""
    started = time.monotonic()
    rungs = _rungs(cfg)
    data = prepare_data(cfg)
    source = data.source
    assert isinstance(source, Pairs)
    subjects = load_subjects(cfg, data)
    set_threads(cfg, subjects[0].model, data.spec, int(cfg.evaluation.batch_size))
    settle_batch(cfg, [], [subject.model for subject in subjects], data)
    bench = _Bench(cfg, source, data.root / "detection")
    groups = bench.held_out(rungs)
    reports, scores = [], []
    for subject in subjects:
        log.info("detector %s", subject.name)
        found, seen = _measure(cfg, subject, bench, groups, rungs)
        cost = model_cost(subject.model.cpu(), data.spec)
        described: dict[str, Any] = {
            "parameters": cost.parameters,
            "flops": cost.flops,
            "size_bytes": cost.size_bytes,
        }
        if cfg.evaluation.latency:
            described["latency"] = [
                {**asdict(each), "samples_per_second": each.samples_per_second}
                for each in measure_latency(subject.model, data.spec)
            ]
        found["trained_on"] = source.describe()
        reports.append({"model": described, **subject.header(), "detection": found})
        scores.append(seen)
    rows = [{"name": subject.name, "results": [entry]} for subject, entry in zip(subjects, reports, strict=True)]
    files = _write(rows, scores, folder)
    result: dict[str, Any] = {
        **result_header(cfg, digest),
        "data": data_header(data),
        "threat": rungs[-1].adaptive.threat.describe(),
        **reports[0],
        "seconds": round(time.monotonic() - started, 3),
        "files": files,
    }
    if len(rows) > 1:
        result["models"] = rows
        result["comparisons"] = _compare(rows, scores, float(cfg.evaluation.confidence), bench.seed)
    write_result(folder, result)
    return result


def show(result: Mapping[str, Any]) -> None:
    """Print the table; of one detector under its checkpoint's name."""
    alone = Path(str(result["checkpoint"]["path"])).resolve().parent.name
    print(detection_markdown(result.get("models") or [{"name": alone, "results": [result]}]))


def score(result: Mapping[str, Any]) -> float | None:
    """The first detector's AUROC under the adaptive attack at the largest ε, if it has one."""
    area = result["detection"]["adaptive"][-1]["auroc"]
    return None if area is None else float(area)


def _measure(
    cfg: DictConfig, subject: Subject, bench: _Bench, groups: Sequence[Group], rungs: Sequence[_Rung]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One detector's figures, and its scores by group."""
    suite = cfg.evaluation
    confidence = float(suite.confidence)
    path = subject.origin.get("path")
    if path is None:
        raise UsageError("model: a detector's threshold is fixed beside its checkpoint; give checkpoint=.../best.ckpt")
    calibration = read_calibration(path)
    kind = str(suite.threshold_on)
    thresholds = [(float(rate), calibration.threshold(float(rate), kind)) for rate in suite.fpr]

    def scored(inputs: Tensor) -> Any:
        return scores_of(subject.model, inputs, batch_size=bench.batch_size, device=bench.device)

    def row(group: Group) -> dict[str, Any]:
        seen[f"{group.name}/{group.threat['eps']:g}"] = scored(group.inputs)
        return group_row(group, clean, seen[f"{group.name}/{group.threat['eps']:g}"], thresholds, confidence)

    clean = scored(bench.clean)
    seen: dict[str, Any] = {"clean": clean}
    held_out = [row(group) for group in groups]

    def joint(attack: JointAttack, first: int | None = None) -> Group:
        bound = _Adaptive(attack, bench.protected.model.to(bench.device))
        return bench.group("adaptive", bound, subject, made_on="classifier and detector", first=first)

    adaptive = [row(joint(rung.adaptive)) for rung in rungs]
    first, last = rungs[0].adaptive, rungs[-1].adaptive

    def small(attack: JointAttack, most: int) -> dict[str, Any]:
        group = joint(attack, min(most, len(bench.rows)))
        return group_row(group, clean, scored(group.inputs), thresholds, confidence)

    low, high = last.threat.box
    whole = (high - low) * (1.0 if last.threat.norm == "linf" else bench.inputs[0].numel() ** 0.5)
    checks = adaptive_checks(
        held_out,
        adaptive,
        rate=thresholds[-1][0],
        box=small(last.changed(eps=whole, step_size=whole / 10), _BOXED),
        longer=(small(first, _LONGER), small(first.changed(steps=2 * first.steps), _LONGER)),
    )
    for check in checks:
        if not check["passed"]:
            log.warning("%s: check %s failed: %s", subject.name, check["name"], check["text"])
    return {
        "n": len(bench.clean),
        "confidence": confidence,
        "classifier": {**bench.protected.origin, "accuracy": bench.accuracy},
        "thresholds": [
            {"fpr": rate, "threshold": threshold, "on": kind, "n": len(calibration.scores(kind))}
            for rate, threshold in thresholds
        ],
        "clean": alarm_row(clean, thresholds, confidence),
        "attacks": held_out,
        "adaptive": adaptive,
        "shifts": _shifts(cfg, bench, scored, thresholds, confidence),
        "checks": checks,
    }, seen


def _shifts(cfg: DictConfig, bench: _Bench, scored: Any, thresholds: Any, confidence: float) -> list[dict[str, Any]]:
    """What is flagged of inputs that are only noisy, blurred, or of another contrast."""
    shifts = cfg.evaluation.corruptions
    if not shifts:
        return []
    trained = cfg.data.source.get("shifts") or {}
    rows = []
    for name in shifts.get("names") or CORRUPTIONS:
        for level in shifts.get("severities") or ():
            moved = corrupt(bench.clean, str(name), int(level), keys=bench.keys, seed=bench.seed)
            rows.append(
                {
                    "shift": str(name),
                    "severity": int(level),
                    "trained": str(name) in (trained.get("names") or []),
                    "at_fpr": alarm_row(scored(moved), thresholds, confidence),
                }
            )
    return rows


def _compare(
    rows: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]], confidence: float, seed: int
) -> list[dict[str, Any]]:
    """Each detector beside the first: the AUROC it gave up on the same examples, and how much faster it answers."""
    lines = []
    first = rows[0]
    for other, seen in zip(rows[1:], scores[1:], strict=True):
        entries = [row["results"][0] for row in (first, other)]
        for entry in entries[0]["detection"]["attacks"]:
            key = f"{entry['attack']}/{entry['eps']:g}"
            if len(seen[key]) < LEAST:
                continue
            pairs = [(each["clean"], each[key]) for each in (scores[0], seen)]
            difference, low, high = auroc_difference(pairs[0], pairs[1], confidence=confidence, seed=seed)
            text = (
                f"{other['name']} beside {first['name']}, {entry['attack']}, eps {entry['eps']:g}: AUROC "
                f"{auroc(*pairs[1]):.3f} for {auroc(*pairs[0]):.3f}, difference {difference:+.3f} "
                f"[{low:+.3f}, {high:+.3f}] (n = {len(seen[key])} attacked)"
            )
            line = {"first": first["name"], "second": other["name"], "eps": entry["eps"], "column": entry["attack"]}
            lines.append({**line, "difference": difference, "interval": [low, high], "text": text})
        speeds = [_speed(entry) for entry in entries]
        if all(speeds):
            text = (
                f"{other['name']} beside {first['name']}: {speeds[1]:,.0f} images a second for {speeds[0]:,.0f} "
                f"({speeds[1] / speeds[0]:.1f} times; batch 128)"
            )
            line = {"first": first["name"], "second": other["name"], "eps": 0.0, "column": "throughput"}
            lines.append({**line, "ratio": speeds[1] / speeds[0], "text": text})
    return lines


def _speed(entry: Mapping[str, Any]) -> float:
    """Images a second at the largest batch that was timed; 0 where none was."""
    timed = entry["model"].get("latency") or [{"samples_per_second": 0.0}]
    return float(timed[-1]["samples_per_second"])


def _write(rows: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Table, plot, and every score."""
    write_text(folder / "detection.md", detection_markdown(rows) + "\n")
    write_text(folder / "detection.csv", detection_csv(rows))
    write_json(folder / "detection.json", rows)
    detection_plot(rows, folder / "detection.png")
    files = {"table": "detection.md", "csv": "detection.csv", "figures": "detection.json", "plot": "detection.png"}
    for row, seen in zip(rows, scores, strict=True):
        name = f"scores_{row['name']}.npz"
        content = io.BytesIO()
        arrays: dict[str, Any] = {key.replace("/", "_"): np.float32(each) for key, each in seen.items()}
        np.savez_compressed(content, **arrays)
        write_bytes(folder / name, content.getvalue())
        files[f"scores_{row['name']}"] = name
    return files
