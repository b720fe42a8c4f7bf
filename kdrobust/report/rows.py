"""The rows of a comparison: one model, its cost, and one evaluation result a seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdrobust.evaluation.intervals import wilson

_NAMES = {
    "clean": "clean",
    "fgsm": "FGSM",
    "pgd20": "PGD-20",
    "pgd50": "PGD-50",
    "pgd50x5": "PGD-50×5",
    "margin50x5": "margin PGD-50×5",
    "pgd100x5": "PGD-100×5",
    "margin100x5": "margin PGD-100×5",
    "autoattack": "AutoAttack",
    "cascade": "our cascade",
    "square": "Square",
    "fmn": "FMN",
    "mi_fgsm": "MI-FGSM",
    "worst_case": "worst case",
}
_NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One accuracy of one model; shares in [0, 1].

    Attributes:
        mean: mean over the seeds.
        std: sample standard deviation over the seeds; None with one seed.
        interval: Wilson interval of the mean over the samples: what drawing other test samples would change.
        values: each seed's accuracy.
    """

    mean: float
    std: float | None
    interval: tuple[float, float]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model in a comparison.

    Attributes:
        name: what it is called.
        parameters: how many, None where unknown.
        flops: of one sample's forward pass, None where unknown.
        n: samples each seed was evaluated on.
        seeds: number of results.
        figures: by attack, `clean` first, `worst_case` last where more than one attack ran.
        reasons: why its figures are unreliable; empty if they are not.
        warnings: what trust checks warned about.
        checked: whether trust checks were run.
        setting: the first result: threat, attacks, confidence.
        results: every seed's result.
        class_names: names by label, empty where the row gives none.
    """

    name: str
    parameters: int | None
    flops: int | None
    n: int
    seeds: int
    figures: dict[str, Figure]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    checked: bool
    setting: Mapping[str, Any]
    results: tuple[Mapping[str, Any], ...] = ()
    class_names: tuple[str, ...] = ()


def read_row(row: Mapping[str, Any]) -> Row:
    """Sum up one model's results.

    Args:
        row: `name`, and `results`, one dict a seed: the `result.json` of stage `evaluate`, or the part of it that
            `kdrobust.evaluation.to_result` gives. `parameters` and `flops` win over those of the results' `model`;
            `class_names` name the classes.

    Raises:
        ValueError: no result, or results of different attacks or sample counts.
    """
    name, given = str(row["name"]), list(row["results"])
    if not given:
        raise ValueError(f"{name}: a row needs at least one result")
    results = [result.get("evaluation", result) for result in given]
    first, cost = results[0], given[0].get("model", {})
    names = list(first["attacks"])
    if any(list(result["attacks"]) != names or result["n"] != first["n"] for result in results):
        raise ValueError(f"{name}: its results are of different attacks or sample counts and cannot be averaged")
    keys = ["clean", *names, *(["worst_case"] if len(names) > 1 else [])]
    checks = [check for result in results for check in result["checks"]]
    warned = [f"{check['id']} {check['name']}: {check['detail']}" for check in checks if check["verdict"] == "warn"]
    return Row(
        name=name,
        parameters=row.get("parameters", cost.get("parameters")),
        flops=row.get("flops", cost.get("flops")),
        n=int(first["n"]),
        seeds=len(results),
        figures={key: _figure([_of(result, key) for result in results], float(first["confidence"])) for key in keys},
        reasons=tuple(dict.fromkeys(reason for result in results for reason in result["reasons"])),
        warnings=tuple(dict.fromkeys(warned)),
        checked=all(result["checks"] for result in results),
        setting=first,
        results=tuple(results),
        class_names=tuple(row.get("class_names", ())),
    )


def _of(result: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result[key] if key in ("clean", "worst_case") else result["attacks"][key]
    return found


def _figure(figures: Sequence[Mapping[str, Any]], confidence: float) -> Figure:
    values = tuple(float(figure["correct"]) / max(1, int(figure["n"])) for figure in figures)
    correct = round(statistics.fmean(int(figure["correct"]) for figure in figures))
    return Figure(
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        interval=wilson(correct, int(figures[0]["n"]), confidence),
        values=values,
    )


def attack_title(key: str) -> str:
    """How an attack is called in tables and plots."""
    attack, by_transfer, source = key.partition("_from_")
    return f"{_NAMES.get(attack, attack)} from {source}" if by_transfer else _NAMES.get(key, key)


def number_text(value: float) -> str:
    """A radius or step as text; whole multiples of 1/255 as such, but where two decimals say it."""
    levels = value * 255
    if abs(value - round(value, 2)) > 1e-9 and abs(levels - round(levels)) < 1e-6 and round(levels) < 255:
        return f"{round(levels)}/255"
    return f"{value:.4g}"


def threat_text(threat: Mapping[str, Any]) -> str:
    """A threat model as text, e.g. `ℓ∞, ε = 8/255`, or `SNR ≥ 30 dB` of a relative one."""
    if threat.get("relative") and float(threat["eps"]) > 0:
        return f"SNR ≥ {-20.0 * math.log10(float(threat['eps'])):.3g} dB"
    return f"{_NORMS.get(threat['norm'], threat['norm'])}, ε = {number_text(float(threat['eps']))}"


def attack_texts(key: str, specs: Sequence[Mapping[str, Any]]) -> str:
    """As `attack_text`, of one attack at several radii: its step sizes, the first to the last, in one text.

    Args:
        key: of the attack.
        specs: its settings, at least one.
    """
    texts = {attack_text(key, spec): str(number_text(float(_step(spec)))) for spec in specs if _step(spec) is not None}
    plain = dict.fromkeys(attack_text(key, spec) for spec in specs)
    forms = dict.fromkeys(text.replace(f" of {size} on ", " of {} on ") for text, size in texts.items())
    if len(plain) == 1 or len(texts) != len(plain) or len(forms) != 1:
        return "; ".join(plain)
    *others, last = texts.values()
    return next(iter(forms)).replace("{}", f"{', '.join(others)} and {last}")


def _step(spec: Mapping[str, Any]) -> Any:
    return spec.get("made_by", spec).get("step_size")


def attack_text(key: str, spec: Mapping[str, Any]) -> str:
    """An attack's settings as text, e.g. `PGD-20: 20 steps of 0.025 on cross-entropy, uniform start`."""
    name = str(spec.get("attack", "other"))
    if "made_by" in spec:
        made_by = attack_text("as", spec["made_by"]).removeprefix("as: ")
        return f"{attack_title(key)}: made on {spec['source']['name']} alone ({made_by})"
    if "library" in spec:
        parts = [str(spec["library"]), *(f"{each} {spec[each]}" for each in ("version", "name") if each in spec)]
        return f"{attack_title(key)}: {', '.join([*parts, 'batches of ' + str(spec.get('batch_size', '?'))])}"
    if "attacks" in spec:
        return f"{attack_title(key)}: {', '.join(spec['attacks'])}, each on what the ones before left standing"
    if "steps" not in spec:
        queries = f", {int(spec['queries'])} queries" if "queries" in spec else ""
        return f"{attack_title(key)}: {name}{queries}"
    steps = int(spec["steps"])
    text = f"{attack_title(key)}: {steps} {'step' if steps == 1 else 'steps'}"
    if spec.get("minimum_norm"):
        return f"{text} of {name} towards the nearest adversarial example"
    text += f" of {number_text(float(spec['step_size']))}" if "step_size" in spec else f" of {name}"
    text += f" on {str(spec.get('goal', 'cross_entropy')).replace('_', '-')}"
    start = str(spec.get("start", "none"))
    text += ", no random start" if start == "none" else f", {start.replace('_', ' ')} start"
    restarts = int(spec.get("restarts", 1))
    return text + (f", {restarts} restarts" if restarts > 1 else "")
