"""Properties of every loss that a term can name, found by scanning the modules terms are looked up in."""

import inspect
from dataclasses import replace

import pytest
import torch
from torch import nn

from kdrobust.losses.lookup import public_classes, public_functions
from kdrobust.losses.references import FEATURES, INPUT_GRADIENT, LOGITS
from kdrobust.losses.terms import LOSS_MODULES, bind, kind_of

#: helpers and update rules that live beside losses and are none
NOT_LOSSES = {"match_size", "class_weights", "class_temperatures"}
#: stateful pieces that weigh, and do not lose
WEIGHTS = {"FairClassWeights"}
#: nothing of these is zero, or at its least, where student and teacher agree
NOT_AT_REST = {"ttm", "wttm", "wsld", "hard_target"}
#: they depend on the order of the batch, and say so
ORDERED = {"neighbour_congruence"}
#: shapes of one sample
SHAPES = {LOGITS: (5,), FEATURES: (6, 4, 4), INPUT_GRADIENT: (1, 4, 4)}
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def found():
    for module in LOSS_MODULES:
        yield from public_functions(module).items()
        yield from public_classes(module).items()


LOSSES = {name: item for name, item in found() if name not in NOT_LOSSES | WEIGHTS}


def parameters(item):
    called = item.forward if inspect.isclass(item) else item
    return {name: each for name, each in inspect.signature(called).parameters.items() if name != "self"}


def made(item):
    return item() if inspect.isclass(item) else item


def tensors(item, *, batch=6, dtype=torch.float64, factor=1.0, same=False, seed=0):
    """Arguments for a loss; a mirror is the same kind of tensor as what it mirrors."""
    generator = torch.Generator().manual_seed(seed)
    arguments = {}
    for name, parameter in parameters(item).items():
        if name == "labels":
            arguments[name] = LABELS[:batch]
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            values = torch.randn(6, *SHAPES[kind_of(parameter)], generator=generator, dtype=torch.float64) * 3 * factor
            arguments[name] = values[:batch].to(dtype)
    if same:
        arguments |= {
            name: arguments[name.replace("teacher", "student")].clone() for name in arguments if "teacher" in name
        }
    return arguments


def learning(arguments):
    for name, value in arguments.items():
        if name.startswith("student"):
            value.requires_grad_(True)
    return [value for name, value in arguments.items() if name.startswith("student")]


def test_the_scan_finds_what_it_should():
    assert len(LOSSES) > 25
    assert {"soft_target", "dist", "hint", "relational", "CurriculumTemperature", "ClassTemperedTarget"} <= set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_a_value_a_sample_or_one_a_batch(name):
    loss = made(LOSSES[name])(**tensors(LOSSES[name]))
    assert loss.shape in ((6,), ())
    assert bool(loss.isfinite().all())
    assert loss.mean() >= 0


@pytest.mark.parametrize("name", sorted(set(LOSSES) - ORDERED))
def test_the_order_of_the_batch_changes_nothing(name):
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    arguments = tensors(LOSSES[name])
    whole = made(LOSSES[name])(**arguments)
    moved = made(LOSSES[name])(**{key: value[order] for key, value in arguments.items()})
    torch.testing.assert_close(moved, whole[order] if whole.dim() else whole)


@pytest.mark.parametrize("name", LOSSES)
def test_a_sample_s_own_value_does_not_look_at_the_others(name):
    arguments = tensors(LOSSES[name])
    whole = made(LOSSES[name])(**arguments)
    alone = made(LOSSES[name])(**{key: value[:1] for key, value in arguments.items()})
    assert bool(alone.isfinite().all())
    if whole.dim():
        torch.testing.assert_close(alone, whole[:1])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_finite_with_finite_gradients_in_every_precision(name, dtype, factor):
    arguments = tensors(LOSSES[name], dtype=dtype, factor=factor)
    students = learning(arguments)
    loss = made(LOSSES[name])(**arguments)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert bool(loss.isfinite().all())
    assert all(bool(student.grad.isfinite().all()) for student in students)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_term_computes_in_single_precision_under_autocast(name, dtype):
    arguments = tensors(LOSSES[name], dtype=torch.float32, factor=100.0)
    students = learning(arguments)
    wiring = {key: "layer" if kind_of(each) == FEATURES else "clean" for key, each in parameters(LOSSES[name]).items()}
    wiring = {key: view for key, view in wiring.items() if key in arguments and key != "labels"}
    if any(kind_of(each) == INPUT_GRADIENT for each in parameters(LOSSES[name]).values()):
        wiring = dict.fromkeys(wiring, "clean")
    term = bind({"loss": name, **wiring}, slot="loss", modules=LOSS_MODULES, key="terms.one")
    if isinstance(term.function, nn.Module):
        term = replace(term, function=term.function.float())
    plain = term.apply(arguments, 0.0)
    expected = torch.autograd.grad(plain.sum(), students)
    with torch.autocast("cpu", dtype=dtype):
        found = term.apply(arguments, 0.0)
    gradients = torch.autograd.grad(found.sum(), students)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain)
    for one, two in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["zeros", "one sample", "twins"])
def test_degenerate_batches_stay_finite_and_tame(name, kind):
    arguments = tensors(LOSSES[name], batch=1 if kind == "one sample" else 6)
    for key, value in arguments.items():
        if key.startswith("student") and kind == "zeros":
            arguments[key] = torch.zeros_like(value)
        if key.startswith("student") and kind == "twins":
            value[1] = value[0]
    students = learning(arguments)
    options = {"min_norm": 1e-3} if name == "dist" else {"min_std": 1e-3} if name == "logit_standardization" else {}
    loss = made(LOSSES[name])(**arguments, **options)
    loss.sum().backward()
    assert bool(loss.isfinite().all())
    for student in students:
        assert student.grad is None or float(student.grad.abs().max()) < 1e4


@pytest.mark.parametrize("name", [name for name in LOSSES if "teacher" in parameters(LOSSES[name])])
def test_nothing_to_learn_where_student_and_teacher_agree(name):
    if name in NOT_AT_REST:
        return
    arguments = tensors(LOSSES[name], same=True)
    students = learning(arguments)
    loss = made(LOSSES[name])(**arguments).sum()
    # ρ's 1e-8 in the denominator leaves a little
    assert abs(float(loss.detach())) < (1e-4 if name == "dist" else 1e-10)
    loss.backward()
    assert all(float(student.grad.abs().max()) < 1e-4 for student in students)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_the_value(name):
    arguments = tensors(LOSSES[name], batch=3)
    loss = made(LOSSES[name])
    if isinstance(loss, nn.Module):
        loss = loss.double()
    names = [key for key in arguments if key.startswith("student")]
    if name in {"wsld"}:
        return  # its weight is a constant by definition

    def of(*students):
        return loss(**arguments | dict(zip(names, students, strict=True)))

    points = [arguments[key].clone().requires_grad_(True) for key in names]
    assert torch.autograd.gradcheck(of, points, fast_mode=True)


@pytest.mark.parametrize("name", LOSSES)
def test_a_term_can_name_it(name):
    spec = {"loss": name}
    for parameter, item in parameters(LOSSES[name]).items():
        if item.kind is not inspect.Parameter.KEYWORD_ONLY and parameter not in ("labels", "survived"):
            spec[parameter] = "layer" if kind_of(item) == FEATURES else "student.clean"
    bound = bind(spec, slot="loss", modules=LOSS_MODULES, key="method.terms.a")
    assert bound.name == name
    doc = inspect.getdoc(LOSSES[name])
    assert "Source:" in doc or name in ("mse", "probability_mse", "cross_entropy")
