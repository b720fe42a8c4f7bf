"""Where the official code breaks or shakes: what the vector file records of it, and what ours does there."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from kdrobust.losses.correlation import dist
from kdrobust.losses.decoupled import dkd
from kdrobust.losses.features import attention_transfer
from kdrobust.losses.knowledge import logit_mse, soft_target
from kdrobust.losses.relations import pkt, relational, similarity_preserving
from kdrobust.losses.tempered import dynamic_temperature, logit_standardization, ttm, wttm
from kdrobust.losses.terms import LOSS_MODULES
from tests.losses.test_every_loss import LOSSES, learning, made, parameters, tensors

FILE = json.loads((Path(__file__).parent / "vectors" / "knowledge-losses-full.json").read_text())
LOGITS = {name: torch.tensor(FILE["inputs"]["logits_a"][name], dtype=torch.float64) for name in ("student", "teacher")}
TRUTH = torch.tensor(FILE["inputs"]["logits_a"]["labels"])
VECTORS = {name: torch.tensor(FILE["inputs"]["vectors"][name], dtype=torch.float64) for name in ("student", "teacher")}
MAPS = {name: torch.tensor(FILE["inputs"]["maps_same"][name], dtype=torch.float64) for name in ("student", "teacher")}

#: the file's name of a loss: ours, as the official code was called
OFFICIAL = {
    "soft_target T=1": lambda s, t, y: soft_target(s, t).mean(),
    "dkd T=1": lambda s, t, y: dkd(s, t, y, temperature=1.0).mean(),
    "dkd T=4": lambda s, t, y: dkd(s, t, y, temperature=4.0).mean(),
    "dist": lambda s, t, y: dist(s, t),
    "dist torchdistill": lambda s, t, y: dist(s, t),
    "logit_standardization T=2": lambda s, t, y: logit_standardization(s, t).mean(),
    "dynamic_temperature": lambda s, t, y: dynamic_temperature(s, t, alpha=1.0, beta=0.0).mean(),
    "ttm .1": lambda s, t, y: ttm(s, t).mean(),
    "wttm .1": lambda s, t, y: wttm(s, t).mean(),
    "pkt on logits": lambda s, t, y: pkt(s, t),
    "rkd": lambda s, t, y: relational(s, t),
    "sp": lambda s, t, y: similarity_preserving(s, t),
    "pkt": lambda s, t, y: pkt(s, t),
    "at": lambda s, t, y: attention_transfer(s, t).mean(),
}
#: cases in which ours is defined otherwise on purpose: (loss, situation)
OTHERWISE = {
    ("dynamic_temperature", "both shifted by -20 (negative maxima)"),
    ("dynamic_temperature", "student maxima = -1, teacher maxima > 0"),
    # a batch of one has no relation between samples: the official code says 1 for it
    ("dist", "batch of one"),
    ("dist torchdistill", "batch of one"),
    # coincident samples are 1e-6 apart officially, and count as a pair in the mean distance
    ("rkd", "two equal samples in the student"),
    ("rkd", "student all zeros"),
}
CASES = [case for case in FILE["edge_cases"] if "dtype" in case]
#: numbers are stored as text, for the sake of nan and inf
BROKEN = [case for case in CASES if not (case["grad_finite"] and math.isfinite(float(case["loss"])))]


def situation(case):
    name, _, what = case["case"].partition(", ")
    given = {"at": MAPS, "sp": VECTORS, "rkd": VECTORS, "pkt": VECTORS}.get(name, LOGITS)
    student, teacher, labels = given["student"].clone(), given["teacher"].clone(), TRUTH.clone()
    if scale := re.fullmatch(r"logits x(\d+)", what):
        student, teacher = student * float(scale[1]), teacher * float(scale[1])
    elif what == "batch of one":
        student, teacher, labels = student[:1], teacher[:1], labels[:1]
    elif what == "student == teacher":
        student = teacher.clone()
    elif what == "student all zeros":
        student = torch.zeros_like(student)
    elif what == "two equal samples in the student":
        student[1] = student[0]
    elif what.startswith("both shifted"):
        student, teacher = student - 20.0, teacher - 20.0
    elif what.startswith("student maxima = -1"):
        student = student - student.amax(dim=1, keepdim=True) - 1.0
    elif what.startswith("student maxima = minus"):
        student = student - student.amax(dim=1, keepdim=True) - teacher.amax(dim=1, keepdim=True)
    else:
        raise AssertionError(f"no such situation: {what}")
    dtype = getattr(torch, case["dtype"].removeprefix("torch."))
    return name, what, student.to(dtype).requires_grad_(True), teacher.to(dtype), labels


def computed(case):
    name, what, student, teacher, labels = situation(case)
    loss = OFFICIAL[name](student, teacher, labels)
    loss.backward()
    return (name, what), loss.detach(), student.grad


def identify(case):
    return f"{case['case']}-{case['dtype'].removeprefix('torch.')}"


def test_the_file_names_what_breaks():
    assert len(CASES) == 112
    assert len(BROKEN) >= 9


@pytest.mark.parametrize("case", BROKEN, ids=identify)
def test_ours_stays_finite_where_the_official_code_does_not(case):
    _, loss, gradient = computed(case)
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) < 1e3


@pytest.mark.parametrize("case", [case for case in CASES if case not in BROKEN], ids=identify)
def test_ours_is_the_official_value_where_there_is_one(case):
    which, loss, gradient = computed(case)
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())
    if which in OTHERWISE:
        return
    # half precision is theirs: ours computes in float32, so their rounding is the difference
    rough = {"torch.float16": 3e-3, "torch.bfloat16": 3e-2, "torch.float32": 1e-4}.get(case["dtype"], 1e-6)
    assert float(loss) == pytest.approx(float(case["loss"]), rel=rough, abs=5e-6)


@pytest.mark.parametrize("which", sorted({case["case"].split(", ")[0] for case in CASES if "shifted" in case["case"]}))
def test_a_shift_of_all_logits_is_seen_by_nothing_but_what_measures_them(which):
    shifted = OFFICIAL[which](LOGITS["student"] - 20.0, LOGITS["teacher"] - 20.0, TRUTH)
    plain = OFFICIAL[which](LOGITS["student"], LOGITS["teacher"], TRUTH)
    if which in ("pkt on logits", "dynamic_temperature"):
        assert float(shifted) != pytest.approx(float(plain), rel=1e-3)
    else:
        torch.testing.assert_close(shifted, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("row", FILE["stable_values_ours"]["values"], ids=lambda row: f"{row['method']}-{row['scale']}")
def test_stable_values(row, dtype):
    options = {key: value for key, value in row.items() if key not in ("scale", "method", "loss")}
    function = next(getattr(module, row["method"]) for module in LOSS_MODULES if hasattr(module, row["method"]))
    student = (LOGITS["student"] * row["scale"]).to(dtype).requires_grad_(True)
    arguments = {"student": student, "teacher": (LOGITS["teacher"] * row["scale"]).to(dtype)}
    if row["method"] == "dkd":
        arguments["labels"] = TRUTH
    loss = function(**arguments, **options).mean()
    loss.backward()
    assert float(loss) == pytest.approx(row["loss"], rel=1e-5)
    assert bool(student.grad.isfinite().all())


@pytest.mark.parametrize("guard", ["center", "none"])
def test_a_dynamic_temperature_below_zero_is_guarded_against(guard):
    # student maxima at -1, the teacher's above 0: officially the student's distribution is turned upside down
    student = LOGITS["student"] - LOGITS["student"].amax(dim=1, keepdim=True) - 1.0
    value = dynamic_temperature(student, LOGITS["teacher"], alpha=1.0, beta=0.0, guard=guard).mean()
    assert (float(value) >= 0) == (guard == "center")
    if guard == "none":
        assert float(value) == pytest.approx(-8.380006149787953)


def test_an_infinite_temperature_is_half_the_distance_of_centred_logits():
    student, teacher = (values - values.mean(dim=1, keepdim=True) for values in LOGITS.values())
    half = 0.5 * (student - teacher).square().sum(dim=1) / student.shape[1]
    torch.testing.assert_close(half, 0.5 * logit_mse(student, teacher))
    errors = []
    for temperature in (10.0, 100.0, 1000.0):
        hot = soft_target(student, teacher, temperature=temperature)
        errors.append(float(((hot - half) / half).abs().max()))
    assert errors[2] < 1e-2
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5
    # not centred: the mean of the difference is no longer seen by softmax
    shifted = soft_target(student + 3.0, teacher, temperature=1000.0)
    torch.testing.assert_close(shifted, soft_target(student, teacher, temperature=1000.0), rtol=1e-5, atol=1e-8)
    assert float(logit_mse(student + 3.0, teacher).mean()) > float(logit_mse(student, teacher).mean()) + 5.0


def test_coincident_samples_pass_no_gradient_along_their_own_distance():
    values = VECTORS["student"].clone()
    values[1] = values[0]
    student = values.requires_grad_(True)
    loss = relational(student, VECTORS["teacher"])
    loss.backward()
    assert bool(student.grad.isfinite().all())
    assert float(student.grad.abs().max()) < 1e2
    # the twins see the same others in the same way, but the teacher tells them apart
    everywhere = torch.zeros(4, 7, dtype=torch.float64, requires_grad=True)
    relational(everywhere, VECTORS["teacher"]).backward()
    assert float(everywhere.grad.abs().max()) == 0.0


@pytest.mark.parametrize("name", ["dist", "similarity_preserving", "relational", "pkt", "class_correlation"])
def test_a_batch_of_one_has_no_relation_but_a_value(name):
    function = LOSSES[name]
    arguments = tensors(function, batch=1)
    students = learning(arguments)
    loss = function(**arguments)
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(student.grad.isfinite().all()) for student in students)
    if name in ("relational", "similarity_preserving", "pkt"):
        assert float(loss) == pytest.approx(0.0, abs=1e-12)


ON_LOGITS = [name for name, item in LOSSES.items() if {"student", "teacher"} <= set(parameters(item))]


@pytest.mark.parametrize("name", ON_LOGITS)
@pytest.mark.parametrize("factor", [1e4, 1e-6])
def test_huge_and_tiny_values_in_float32(name, factor):
    arguments = tensors(LOSSES[name], dtype=torch.float32, factor=factor)
    students = learning(arguments)
    loss = made(LOSSES[name])(**arguments)
    loss.sum().backward()
    assert bool(loss.isfinite().all())
    assert all(bool(student.grad.isfinite().all()) for student in students)


@pytest.mark.parametrize("name", ["soft_target", "dkd", "ttm", "wttm", "wsld", "hard_target", "CurriculumTemperature"])
def test_constant_logits_are_the_uniform_distribution(name):
    arguments = tensors(LOSSES[name])
    arguments["student"] = torch.full((6, 5), 7.0, dtype=torch.float64, requires_grad=True)
    loss = made(LOSSES[name])(**arguments)
    flat = made(LOSSES[name])(**{**arguments, "student": torch.zeros(6, 5, dtype=torch.float64)})
    torch.testing.assert_close(loss, flat)
    loss.sum().backward()
    # softmax's gradient has no component along the ones
    assert float(arguments["student"].grad.sum(dim=1).abs().max()) < 1e-9


def test_logit_standardization_of_constant_logits_is_tamed_on_request():
    def gradient(min_std):
        student = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
        loss = logit_standardization(student, LOGITS["teacher"], min_std=min_std).mean()
        loss.backward()
        return float(loss), float(student.grad.abs().max())

    official, tamed = gradient(0.0), gradient(1e-3)
    assert official[0] == pytest.approx(0.3866325960432408)
    assert official[1] == pytest.approx(1038997.149927102, rel=1e-6)
    assert tamed[0] == pytest.approx(official[0])
    assert tamed[1] < 1e3


def test_dist_of_constant_logits_is_tamed_on_request():
    def steepest(least):
        student = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
        dist(student, LOGITS["teacher"], min_norm=least).backward()
        return float(student.grad.abs().max())

    assert steepest(0.0) > 1e6
    assert steepest(1e-3) < 1e3


def test_probabilities_that_underflow_count_as_zero():
    student = torch.tensor([[0.0, 800.0]], requires_grad=True)
    teacher = torch.tensor([[800.0, 0.0]])
    loss = soft_target(student, teacher)
    loss.sum().backward()
    assert float(loss) == 800.0
    assert F.softmax(student, dim=1).tolist() == [[0.0, 1.0]]
    assert student.grad.tolist() == [[-1.0, 1.0]]
