"""The vectors of the methods' own code, and that the check can fail."""

import json
from pathlib import Path

import pytest

from kdrobust.conformance import check_case, read_cases
from kdrobust.conformance.__main__ import main
from kdrobust.conformance.recipes import MethodRecipe, known_methods
from kdrobust.conformance.special import changed

VECTORS = Path(__file__).parent / "vectors"
FILES = ("adversarial-distillation.json", "knowledge-losses.json", "knowledge-losses-full.json", "new-methods.json")
CASES = [case for name in FILES for case in read_cases(VECTORS / name)]


def named(case):
    return case.name or f"{case.method}-{dict(case.hyperparameters)}"[:60]


def test_the_files_are_whole():
    assert len(CASES) == 19 + 12 + 127 + 1
    unanswered = {case.method for case in CASES} - set(known_methods())
    # these are other names of what is known: a fault's entry, a loss behind a transform
    assert all(name.endswith(("_variant", "+logit_standardization")) for name in unanswered)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_our_losses_equal_the_authors(case):
    outcome = check_case(case)
    assert outcome.passed, (outcome.problem, outcome.errors)
    assert set(case.expected) <= set(outcome.errors)
    if case.unequal:
        assert max(outcome.errors.values()) > 1e-3
        return
    gradients = {name: error for name, error in outcome.errors.items() if "loss" not in name and "total" not in name}
    assert gradients
    assert max(gradients.values()) < (1e-6 if case.method == "mart" else 1e-9)


def test_iad_2_s_self_term_off_temperature_one():
    """The official code's is at temperature 1 and keeps the factor τ²; the default is the formula, at τ."""
    (case,) = [case for case in CASES if case.method == "iad_2" and case.hyperparameters["temperature"] != 1]
    keys = {"alpha1": "method.alpha1", "alpha2": "method.alpha2", "temperature": "method.temperature"}
    wiring = ["method.terms.teacher.teacher=adversarial", "method.terms.natural.teacher=natural.adversarial"]
    plain = changed(case, hyperparameters={name: case.hyperparameters[name] for name in keys})

    def loss(*overrides):
        recipe = MethodRecipe(option="iad_2", keys=keys, fixed=(*wiring, *overrides))
        return float(recipe(plain)["loss"])

    official = float(case.expected["loss"])
    assert loss("method.self_temperature=1") == pytest.approx(official, rel=1e-12)
    assert loss() == loss("method.self_temperature=3")
    assert abs(loss() - official) > 1e-3 * official


def test_a_trajectory_is_checked_step_by_step():
    (case,) = [case for case in CASES if case.method == "mtard"]
    names = set(check_case(case).errors)
    assert {f"step {number} weight_natural" for number in range(3)} <= names
    assert {f"step {number} gradient student_clean" for number in range(3)} <= names


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("mtard", ("steps", 2, "weight_natural")),
        ("mtard", ("steps", 1, "gradients", "student_clean", 0, 1)),
        ("fair_ard_weights", ("weights", 0)),
        ("absld_temperatures", ("after", 1)),
        ("peeraid", ("extra", "loss_peer")),
        ("lbgat", ("gradients", "teacher_clean", 0, 0)),
        ("curriculum_temperature", ("grad_raw_temperature_after_reversal",)),
        ("hint", ("grad_regressor_weight", 0, 0, 0, 0)),
    ],
)
def test_a_wrong_number_in_a_special_case_fails(tmp_path, method, path):
    for file in FILES:
        content = json.loads((VECTORS / file).read_text())
        entries = content["entries"] if isinstance(content, dict) else content
        chosen = [entry for entry in entries if entry["method"] == method and path[0] in entry]
        if chosen:
            break
    place = chosen[0]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = place[path[-1]] * 1.01 + 1e-3
    changed = {**content, "entries": chosen[:1]} if isinstance(content, dict) else chosen[:1]
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    assert main([str(tmp_path / "changed.json")]) == 1


def test_equalling_a_library_s_fault_fails(tmp_path):
    content = json.loads((VECTORS / FILES[2]).read_text())
    right = next(entry for entry in content["entries"] if entry["method"] == "similarity_preserving")
    right["method"] = "similarity_preserving_variant"
    (tmp_path / "fault.json").write_text(json.dumps({**content, "entries": [right]}))
    assert main([str(tmp_path / "fault.json")]) == 1


def altered(tmp_path, change):
    entries = json.loads((VECTORS / "adversarial-distillation.json").read_text())
    entry = next(entry for entry in entries if entry["method"] == "trades")
    change(entry)
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps([entry]))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(loss=entry["loss"] * (1 + 1e-8)),
        lambda entry: entry["gradients"]["student_clean"][0].__setitem__(0, 0.5),
        lambda entry: entry["hyperparameters"].update(beta=5.9),
        lambda entry: entry["inputs"]["student_clean"][1].__setitem__(2, 0.1),
        lambda entry: entry.update(method="tradez"),
        lambda entry: entry["hyperparameters"].update(gamma=1.0),
        lambda entry: entry["inputs"].pop("student_adversarial") and entry["gradients"].pop("student_adversarial"),
    ],
)
def test_a_difference_fails(tmp_path, change, capsys):
    assert main([str(altered(tmp_path, change))]) == 1
    assert "0 of 1 cases agree" in capsys.readouterr().out


def test_other_logits_and_other_numbers_pass_too(tmp_path):
    # a fresh case computed by a plain transcription of the formula
    import torch

    generator = torch.Generator().manual_seed(11)
    clean, adversarial = (torch.randn(7, 3, generator=generator).double().requires_grad_() for _ in range(2))
    labels = torch.randint(3, (7,), generator=generator)
    p, q = clean.softmax(1), adversarial.softmax(1)
    loss = -clean.log_softmax(1)[range(7), labels].mean() + 2.5 * (p * (p.log() - q.log())).sum(1).mean()
    loss.backward()
    case = {
        "method": "trades",
        "hyperparameters": {"beta": 2.5},
        "inputs": {"student_clean": clean.tolist(), "student_adversarial": adversarial.tolist()},
        "labels": labels.tolist(),
        "loss": loss.item(),
        "gradients": {"student_clean": clean.grad.tolist(), "student_adversarial": adversarial.grad.tolist()},
    }
    path = tmp_path / "fresh.json"
    path.write_text(json.dumps([case]))
    assert main([str(path)]) == 0


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "not a JSON"),
        ("[]", "non-empty"),
        ('[{"x": 1}]', "method"),
        ('[{"method": "trades", "inputs": {"student_clean": [["a"]]}}]', "numbers"),
        ('[{"method": "trades", "inputs": {"student_clean": [[NaN]]}}]', "NaN"),
        ('[{"method": "trades", "inputs": {}, "gradients": {"student_clean": [[1]]}}]', "no input"),
    ],
)
def test_broken_files_are_one_line(tmp_path, capsys, text, word):
    path = tmp_path / "broken.json"
    path.write_text(text)
    assert main([str(path)]) == 1
    error = capsys.readouterr().err.strip()
    assert word in error
    assert "\n" not in error
    assert main([str(tmp_path / "absent.json")]) == 1


def test_machine_readable_and_only(capsys):
    file = str(VECTORS / "adversarial-distillation.json")
    assert main([file, "--only", "mart", "--json"]) == 0
    assert [row["passed"] for row in json.loads(capsys.readouterr().out)] == [True]
    assert main([file, "--only", "nothing"]) == 2
    assert main([str(VECTORS / name) for name in FILES]) == 0
    assert "159 of 159 cases agree" in capsys.readouterr().out
