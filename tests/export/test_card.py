"""MODEL_CARD.md: what stands on it, and that no text becomes markup."""

import re

import pytest

from kdrobust.export import model_card
from kdrobust.export.card import escape

EVIL = "x|y`z` <script>alert(1)</script>\n# **big** [a](http://b) \u2028 $m$ &lt; \x07"


def figure(correct, n=200):
    return {"correct": correct, "n": n, "accuracy": correct / n, "interval": [correct / n - 0.05, correct / n + 0.05]}


def result(**more):
    evaluation = {
        "n": 200, "confidence": 0.95, "threat": {"norm": "linf", "eps": 0.1}, "clean": figure(190),
        "attacks": {"pgd20": {**figure(150), "spec": {}}, "square": {**figure(148), "spec": {}}},
        "worst_case": figure(146), "unreliable": False, "reasons": [],
        "checks": [{"id": "S1", "verdict": "pass", "detail": "fine"}, {"id": "S7", "verdict": "warn", "detail": "hm|m"}],
    }  # fmt: skip
    exported = {
        "file": "model.onnx", "format": "onnx", "quantize": "none", "sha256": "a" * 64, "file_bytes": 18018,
        "shape": [1, 8, 8], "class_names": ["zero", "one"],
        "agreement": {"n": 540, "max_difference": 6.7e-6, "differing": []},
    }  # fmt: skip
    return {
        "name": "onnx_none", "versions": {"kdrobust": "0.1.0"}, "data": {"name": "digits"},
        "checkpoint": {"sha256": "b" * 64}, "evaluation": {**evaluation, **more.get("evaluation", {})},
        "export": {**exported, **more.get("export", {})}, "comparisons": more.get("comparisons", []),
    }  # fmt: skip


def test_every_figure_has_its_threat_samples_and_interval():
    card = model_card(result())
    for text in (
        "200 test samples of digits, ℓ∞, ε = 0.1, 95 % Wilson intervals",
        "clean: 95.0 % [90.0–100.0]",
        "PGD\\-20: 75.0 % [70.0–80.0]",
        "Square: 74.0 % [69.0–79.0]",
        "worst case over these: 73.0 % [68.0–78.0]",
        "Trust checks: 1 passed, none failed; warned: S7: hm\\|m",
        "1 × 8 × 8, float32 in [0, 1]",
        "2 classes: zero, one",
        "sha256 `" + "a" * 64,
        "Every predicted class is the same.",
        "no result.json lies beside the checkpoint",
    ):
        assert text in card, text


def test_training_is_told_where_it_is_known():
    training = {
        "stage": "distill", "seed": 3, "epochs": 30, "command": "kdrobust distill method=rslad",
        "data": {"name": "digits", "fingerprint": "f" * 64}, "threat": {"norm": "linf", "eps": 8 / 255},
        "weights": {"clean": {"loss": "soft_target", "weight": 1 / 6, "student": "student.clean", "teacher": "teacher.clean"}},
        "attack": {"goal": "kl_to_teacher", "steps": 10}, "teacher": {"checkpoint": "t", "sha256": "c" * 64},
    }  # fmt: skip
    card = model_card(result(), training=training)
    for text in (
        "Stage distill, seed 3, 30 epochs",
        "Loss clean: soft\\_target of student.clean, teacher.clean, weight 0.1667",
        "kl\\_to\\_teacher, 10 steps, ℓ∞, ε = 8/255",
        "Teacher: sha256 `" + "c" * 64,
        "Command: kdrobust distill method=rslad",
    ):
        assert text in card, text


def test_unreliable_figures_are_marked():
    reasons = ["S3 noise: stronger | than gradients"]
    earlier = {
        "folder": "f", "n": 50, "threat": {"norm": "l2", "eps": 0.5}, "clean": figure(45, 50), "over": ["autoattack"],
        "worst_case": figure(20, 50), "unreliable": True, "reasons": reasons,
    }  # fmt: skip
    told = {"unreliable": True, "reasons": reasons}
    card = model_card(result(evaluation=told, export={"evaluated": [earlier]}))
    assert "† Trust checks FAILED, the figures are unreliable: S3 noise: stronger \\| than gradients" in card
    assert "50 samples, ℓ2, ε = 0.5: clean 90.0 % [85.0–95.0], worst case over AutoAttack 40.0 %" in card
    assert "† unreliable: S3" in card
    assert "Trust checks: not run" in model_card(result(evaluation={"checks": []}))


def test_what_quantising_changed_is_listed():
    differing = [{"index": 17, "label": 1, "before": 1, "after": 0, "margin": 0.1}]
    agreement = {"n": 540, "max_difference": 0.1, "differing": differing}
    card = model_card(result(export={"quantize": "dynamic_int8", "agreement": agreement}))
    assert "17: 1 → 0, 1" in card
    assert "one sample at a time" in card
    assert "one sample at a time" not in model_card(result(export={"quantize": "static_int8", "agreement": agreement}))


@pytest.mark.parametrize("format", ["torchscript", "torch_export"])
def test_code_is_loaded_with_trust(format):
    card = model_card(result(export={"format": format, "file": "model.pt"}))
    assert 'kdrobust.load("model.pt", trust=True)' in card


def test_texts_stay_texts():
    line = escape(EVIL)
    assert "\n" not in line
    assert "\u2028" not in line
    assert "\x07" not in line
    # every special character is escaped
    assert not re.search(r"(?<!\\)[`<>|*\[\]#$]", line)
    assert "&lt;" not in line.replace("&amp;lt;", "")
    hostile = result(export={"class_names": [EVIL, "b"]})
    hostile["name"] = hostile["data"]["name"] = EVIL
    training = {"stage": EVIL, "seed": 0, "data": {"name": EVIL, "fingerprint": "f" * 64}, "command": EVIL,
                "weights": {EVIL: {"loss": EVIL, "weight": EVIL, "student": EVIL}}}  # fmt: skip
    card = model_card(hostile, training=training)
    assert "<script>" not in card
    assert len([text for text in card.splitlines() if text.startswith("# ")]) == 1
    assert len(card.splitlines()) == len(model_card(result(), training={**training, "stage": "x"}).splitlines())


def test_many_classes_are_counted():
    names = [f"class {number}" for number in range(100)]
    card = model_card(result(export={"class_names": names}))
    assert "… (100 in all)" in card
    assert "class 50" not in card
