"""Properties of every method that conf/method holds."""

import copy

import pytest
import torch

from kdrobust.config import compose, conf_dir, numbers
from kdrobust.data import Batch
from kdrobust.headers import read_header
from kdrobust.losses import Objective
from kdrobust.stages.teachers import asked_teachers, needs_live_teacher
from tests.methods import METHODS, attack_of, attacked, batch, config, learner, loss_of, network

#: losses whose least value is not where student and teacher agree
NOT_AT_REST = {"ttm", "wttm", "wsld", "hard_target"}
WRAPS = ["igdm", "fair", "input_gradient"]


def ready(name, **changes):
    module, attack = learner(name, **changes)
    return module, attacked(module, attack, batch())


def test_the_scan_finds_the_field():
    assert set(METHODS) >= {
        "standard", "pgd_at", "fgsm_rs", "trades", "mart", "kd", "ard", "rslad", "iad", "iad_2", "adaad", "adaiad",
        "mtard", "fair_ard", "fair_rslad", "absld", "igdm", "saad", "peeraid", "lbgat", "dtkd", "dynamic_temperature",
    }  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_finite_loss_and_a_gradient_for_every_parameter_that_learns(name):
    module, given = ready(name)
    result = loss_of(module, given)
    assert bool(result.loss.isfinite())
    result.loss.backward()
    learning = [*module.model.named_parameters(), *module.partners.named_parameters()]
    for parameter_name, parameter in learning:
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.isfinite().all()), parameter_name
    assert all(float(p.grad.abs().max()) > 0 for n, p in learning if n.endswith("6.weight"))
    for teacher in module.teachers.values():
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert not any(key.startswith("teacher") for key in module.state_dict())


@pytest.mark.parametrize("name", METHODS)
def test_finite_in_bf16_autocast(name):
    module, attack = learner(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = loss_of(module, attacked(module, attack, batch()))
    assert result.loss.dtype == torch.float32
    result.loss.backward()
    assert bool(result.loss.isfinite())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in module.model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_the_batch_changes_nothing(name):
    module, given = ready(name)
    module.eval()  # batch norm in train mode sums in another order
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(1))
    moved = Batch(inputs=given.inputs[order], labels=given.labels[order], indices=given.indices[order])
    if given.adversarial is not None:
        moved.adversarial = given.adversarial[order]
    if given.survived is not None:
        moved.survived = given.survived[order]
    torch.testing.assert_close(loss_of(module, moved).loss, loss_of(module, given).loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_knowledge_is_at_rest_where_student_and_teacher_agree(name):
    twin = network(7)
    module, _ = learner(name, student=twin)
    for place in module.teachers:
        module.teachers[place] = copy.deepcopy(twin).eval().requires_grad_(False)
    for place in module.partners:
        module.partners[place] = copy.deepcopy(twin)
    module.eval()
    given = batch()
    # no perturbation: every model gives the same answer on every view
    given.adversarial, given.survived = given.inputs.clone(), torch.ones(len(given))
    module.objective.eval()
    compared = 0
    for term in module.objective.terms.values():
        if "teacher" not in term.loss.tensors or term.loss.name in NOT_AT_REST or "label" in term.loss.name:
            continue
        value = term.loss(module.views(given), 0.0)
        assert float(value.detach().abs().max()) < 1e-6
        gradients = torch.autograd.grad(value.sum(), list(twin.parameters()), allow_unused=True)
        assert all(gradient is None or float(gradient.abs().max()) < 1e-4 for gradient in gradients)
        compared += 1
    assert compared or not (module.objective.teachers or module.partners)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_lowers_the_loss_on_its_batch(name):
    module, given = ready(name)
    module.objective.eval()
    parameters = [*module.model.parameters(), *module.partners.parameters()]
    before = loss_of(module, given).loss
    gradients = torch.autograd.grad(before, parameters)
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients))
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 1e-2 * gradient / norm
    assert float(loss_of(module, given).loss) < float(before)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_reads_only_what_its_terms_name(name):
    module, given = ready(name)
    counted = dict.fromkeys(module.teachers, 0)
    for key, teacher in module.teachers.items():
        teacher.register_forward_hook(lambda *_, key=key: counted.__setitem__(key, counted[key] + 1))
    given.outputs.clear()
    loss_of(module, given)
    for key in module.teachers:
        asked = {reference.view for reference in module.objective.references if reference.model == key}
        assert counted[key] == len(asked)


@pytest.mark.parametrize("name", ["rslad", "ard", "adaad", "dtkd", "mtard", "peeraid"])
@pytest.mark.parametrize("wrap", WRAPS)
def test_wraps_compose_with_methods(name, wrap):
    if wrap != "fair" and name in ("mtard", "peeraid"):
        overrides = [f"+wrap={wrap}"]
        term = {"igdm": "gradient", "input_gradient": "input_gradient"}[wrap]
        model = "robust" if name == "mtard" else "peer"
        named = ["teacher", "teacher_mirror"] if wrap == "igdm" else ["teacher"]
        views = {"teacher": "adversarial" if wrap == "igdm" else "clean", "teacher_mirror": "mirror"}
        overrides += [f"method.terms.{term}.{key}={model}.{views[key]}" for key in named]
    else:
        overrides = [f"+wrap={wrap}"]
    if name == "dtkd" and wrap != "fair":
        overrides.append(f"+method.terms.{'gradient' if wrap == 'igdm' else wrap}.role=knowledge")
    module, given = ready(name, overrides=overrides)
    plain = loss_of(*ready(name)).loss
    result = loss_of(module, given)
    result.loss.backward()
    assert bool(result.loss.isfinite())
    if wrap != "fair":  # all classes weigh 1 in the first epoch
        assert float(result.loss.detach()) != float(plain.detach())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_dtkd_without_distances_is_plain_distillation_exactly(alpha):
    def loss(name, *overrides):
        module, given = ready(name, overrides=[f"method.alpha={alpha}", *overrides])
        given.adversarial = given.inputs.clone()
        return loss_of(module, given).loss

    ours = loss("dtkd", "method.weighting.gamma=0", "method.weighting.beta=0")
    assert float(ours) == float(loss("kd")) or float(ours) == pytest.approx(float(loss("kd")), rel=1e-6)


def test_every_knowledge_loss_takes_the_place_of_soft_target():
    cold = {"ttm", "wttm", "logit_l2", "hard_target", "CurriculumTemperature"}
    for loss in ("dkd", "dist", "ttm", "wttm", "wsld", "logit_standardization", "dynamic_temperature", "logit_l2",
                 "class_correlation", "batch_correlation", "hard_target", "CurriculumTemperature"):  # fmt: skip
        method = numbers(compose("distill", ["method=kd", f"method.knowledge={loss}"]).method)
        if loss in cold:
            # a key that nothing reads is refused
            with pytest.raises(ValueError, match=r"method\.temperature"):
                Objective(method)
            method.pop("temperature")
        assert Objective(method).terms["knowledge"].loss.name == loss


@pytest.mark.parametrize("name", METHODS)
def test_the_header_s_cost_is_what_a_step_does(name):
    """Counted: forward passes of the student that keep a graph, and all of the teachers' and partners'."""
    header = read_header(conf_dir() / "method" / f"{name}.yaml")
    module, _ = learner(name)
    # the attack as it is by default, with all its steps
    steps = int(numbers(config(name).method)["attack"]["steps"])
    attack = attack_of(config(name), steps=steps)
    counted = {"student": 0, "others": 0}

    def count(who):
        def hook(*_):
            counted[who] += who == "others" or torch.is_grad_enabled()

        return hook

    module.model.register_forward_hook(count("student"))
    for other in (*module.teachers.values(), *module.partners.values()):
        other.register_forward_hook(count("others"))
    loss_of(module, attacked(module, attack, batch()))
    assert counted["student"] == header.student_passes
    assert counted["others"] == header.teacher_passes


@pytest.mark.parametrize("name", METHODS)
def test_the_header_says_what_the_method_needs(name):
    header = read_header(conf_dir() / "method" / f"{name}.yaml")
    cfg = config(name)
    objective = Objective(numbers(cfg.method))
    asked = asked_teachers(cfg, objective)
    for teacher in asked:
        kind = "live" if needs_live_teacher(cfg, objective, teacher) else "clean"
        said = teacher if teacher == "teacher" else f"teachers.{teacher}"
        assert f"{said} ({kind})" in header["Needs"]
    for partner in objective.partners:
        assert f"{partner} (trained along)" in header["Needs"]
    assert asked or objective.partners or header["Needs"] == "nothing"
    assert header["Formula"]
    assert header["Source"]
    assert f"method={name}" in header["Command"] or "experiment=" in header["Command"]
