"""MODEL_CARD.md: what a model is, how it was made, what was measured, and what it is not good for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kdrobust.report import attack_title, cost_markdown, threat_text

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~$-])")
#: Classes named on a card before the rest is left to the metadata.
_MOST_NAMES = 20
_LOADERS = {
    "onnx": "needs `pip install onnxruntime`; the file is data",
    "torchscript": "the file is code: `trust=True` says that you know where it comes from",
    "torch_export": "the file is code: `trust=True` says that you know where it comes from",
}


def escape(value: Any) -> str:
    """A text as it is, in Markdown: one line, nothing of it taken for markup or HTML."""
    # control characters and line separators could end the line they stand in
    line = re.sub(r"[\s\x00-\x1f\x7f\u2028\u2029]+", " ", str(value)).strip()
    return _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;"))


def model_card(result: Mapping[str, Any], *, training: Mapping[str, Any] | None = None) -> str:
    """The card of an export, as Markdown.

    Args:
        result: of stage `export`, see its `result.json`.
        training: the `result.json` beside the checkpoint, with `command` and `epochs` where they are known; None where
            there is none.
    """
    told = result["export"]
    call = "predict(images)   # uint8, or floats in [0, 1]"
    if told.get("sample_rate") is not None:
        call = f"predict(signals)   # floats in {_range(told)}; wav files: kdrobust predict"
    parts = [
        f"# {escape(result['name'])}",
        "",
        f"A classifier exported by kdrobust {escape(result['versions'].get('kdrobust', '?'))} as `{told['file']}` "
        f"({told['format']}, quantisation: {told['quantize']}).",
        *_section("What it is", _what(result)),
        *_section("How it was trained", _training(result, training or {})),
        *_section("What was measured", _measured(result)),
        *(["", cost_markdown(result["models"]).rstrip()] if result.get("models") else []),
        *_section("Beside the float model", _agreement(told)),
        *_section("Limits", _limits(result)),
        "",
        "## How to load it",
        "",
        "```python",
        "import kdrobust",
        "",
        f'student = kdrobust.load("{told["file"]}"{", trust=True" if told["format"] != "onnx" else ""})',
        f"prediction = student.{call}",
        "print(prediction.names, prediction.confidence)",
        "```",
        "",
        f"{told['format']}: {_LOADERS[told['format']]}. Input `pixels`, output `logits`, any batch size.",
    ]
    return "\n".join(parts) + "\n"


def _section(title: str, lines: Iterator[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {line}" for line in lines)]


def _range(told: Mapping[str, Any]) -> str:
    low, high = told.get("value_range", (0.0, 1.0))
    return f"[{low:g}, {high:g}]"


def _what(result: Mapping[str, Any]) -> Iterator[str]:
    told = result["export"]
    names = [escape(name) for name in told["class_names"][:_MOST_NAMES]]
    more = f" … ({len(told['class_names'])} in all)" if len(told["class_names"]) > len(names) else ""
    sound = ""
    if (rate := told.get("sample_rate")) is not None:
        peak = "" if told.get("peak") is None else f", each scaled to a largest absolute value of {told['peak']:g}"
        sound = f" of sound, {rate} samples a second{peak}"
    shape = " × ".join(map(str, told["shape"]))
    yield f"Input: {shape}{sound}, float32 in {_range(told)}; normalisation is inside the model."
    yield f"Output: logits of {len(told['class_names'])} classes: {', '.join(names)}{more}"
    yield f"File: {told['file_bytes']:,} bytes, sha256 `{told['sha256']}`"
    yield f"Made from the checkpoint with sha256 `{result['checkpoint']['sha256']}`"


def _training(result: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[str]:
    if not training:
        yield "Unknown: no result.json lies beside the checkpoint."
        return
    epochs = f", {training['epochs']} epochs" if training.get("epochs") else ""
    yield f"Stage {escape(training.get('stage', '?'))}, seed {escape(training.get('seed', '?'))}{epochs}"
    if data := training.get("data"):
        yield f"Data: {escape(data['name'])}, fingerprint `{data['fingerprint'][:16]}`"
    for name, term in (training.get("weights") or {}).items():
        if isinstance(term, Mapping):
            views = ", ".join(escape(term[key]) for key in ("student", "teacher") if term.get(key))
            share = term.get("weight")
            weight = f"{share:.4g}" if isinstance(share, int | float) else escape(share)
            yield f"Loss {escape(name)}: {escape(term.get('loss', '?'))} of {views}, weight {weight}"
    if attack := training.get("attack"):
        yield f"Trained against {escape(attack.get('goal', '?'))}, {escape(attack.get('steps', '?'))} steps" + (
            f", {threat_text(training['threat'])}" if training.get("threat") else ""
        )
    if teacher := training.get("teacher"):
        # stored outputs of a teacher stand for it
        source = "teacher" if teacher.get("checkpoint") else "stored teacher outputs"
        yield f"{source.capitalize()}: sha256 `{escape(teacher.get('sha256', '?'))}`"
    if training.get("command"):
        yield f"Command: {escape(training['command'])}"


def _accuracy(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{100 * figure['accuracy']:.1f} % [{100 * low:.1f}–{100 * high:.1f}]"


def _measured(result: Mapping[str, Any]) -> Iterator[str]:
    found = result["evaluation"]
    interval = f"{100 * found['confidence']:g} % Wilson intervals"
    yield (
        f"On this file, {found['n']:,} test samples of {escape(result['data']['name'])}, "
        f"{threat_text(found['threat'])}, {interval}:"
    )
    yield f"clean: {_accuracy(found['clean'])}"
    for name, figure in found["attacks"].items():
        yield f"{escape(attack_title(name))}: {_accuracy(figure)}"
    if len(found["attacks"]) > 1:
        yield f"worst case over these: {_accuracy(found['worst_case'])}"
    yield _trust(found)
    for earlier in result["export"].get("evaluated", ()):
        mark = f" † unreliable: {escape('; '.join(earlier['reasons']))}" if earlier["unreliable"] else ""
        over = ", ".join(escape(attack_title(name)) for name in earlier["over"])
        yield (
            f"Earlier, on the checkpoint, {earlier['n']:,} samples, {threat_text(earlier['threat'])}: clean "
            f"{_accuracy(earlier['clean'])}, worst case over {over} {_accuracy(earlier['worst_case'])}{mark}"
        )
    for line in result.get("comparisons", ()):
        yield escape(line["text"])


def _trust(found: Mapping[str, Any]) -> str:
    if not found["checks"]:
        return "Trust checks: not run"
    if found["unreliable"]:
        return f"† Trust checks FAILED, the figures are unreliable: {escape('; '.join(found['reasons']))}"
    warned = [escape(f"{check['id']}: {check['detail']}") for check in found["checks"] if check["verdict"] == "warn"]
    passed = sum(check["verdict"] == "pass" for check in found["checks"])
    return f"Trust checks: {passed} passed, none failed" + (f"; warned: {'; '.join(warned)}" if warned else "")


def _agreement(told: Mapping[str, Any]) -> Iterator[str]:
    found = told["agreement"]
    yield f"Largest difference of a logit over {found['n']:,} samples: {found['max_difference']:.2g}"
    if not found["differing"]:
        yield "Every predicted class is the same."
        return
    yield f"{len(found['differing'])} predicted classes differ (index: before → after, true class):"
    for each in found["differing"]:
        yield f"{each['index']}: {each['before']} → {each['after']}, {each['label']}"


def _limits(result: Mapping[str, Any]) -> Iterator[str]:
    found = result["evaluation"]
    yield (
        f"Robustness was measured for {threat_text(found['threat'])} only; nothing is said about other norms, larger "
        "radii, patches, rotations or natural shifts."
    )
    yield "Attacks give upper bounds of the robust accuracy; a stronger attack may find less. Nothing is certified."
    yield f"It answers every input with one of its {len(result['export']['class_names'])} classes, also one of none."
    if result["export"]["quantize"] != "none":
        yield "int8 arithmetic may round otherwise on another processor or version of ONNX Runtime."
        yield "Gradients came from the float model (straight-through); every example was judged on this file."
    if result["export"]["quantize"] == "dynamic_int8":
        yield (
            "Activations are scaled by a batch's own range, so that a sample's answer depends on what stands beside "
            "it. kdrobust therefore asks it one sample at a time, and all figures here are of that."
        )
