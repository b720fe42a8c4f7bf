"""Side effects that only show later: random generators, teachers, autocast's cache, graphs and DDP."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from kdrobust.attacks import GOALS, GradientAttack, NoAttack, Threat
from kdrobust.attacks.contract import attack_mode
from kdrobust.attacks.undisturbed import own_random_numbers
from kdrobust.errors import AttackError

INPUTS = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4)
CPU = torch.device("cpu")


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(64, 5)
        return nn.Sequential(*layers)


def make(**options):
    return GradientAttack(threat=Threat(norm="linf", eps=0.1), **{"steps": 3, "step_size": 0.05, **options})


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("restarts", [1, 2])
def test_dropout_draws_from_the_attacks_own_numbers(mode, restarts):
    before = torch.get_rng_state()
    attack = make(model_mode=mode, start="uniform", restarts=restarts)
    first = attack(network(), INPUTS, LABELS)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(attack(network(), INPUTS, LABELS), first)


def test_own_numbers_follow_the_global_state_but_do_not_repeat_what_comes_next():
    def drawn(seed):
        with own_random_numbers(CPU, seed):
            return torch.rand(8)

    first = drawn(0)
    assert torch.equal(first, drawn(0))
    assert not torch.equal(first, drawn(1))
    outside = torch.rand(8)
    assert not torch.equal(first, outside)
    assert not torch.equal(first, drawn(0)), "the next batch must not meet the same dropout masks"


def test_random_state_is_put_back_after_an_exception():
    def fail(x):
        torch.rand(3)
        raise RuntimeError("boom")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="boom"):
        make()(fail, INPUTS, LABELS)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.is_inference_mode_enabled()


def test_buffers_are_the_same_objects_even_when_shared():
    model = network().train()
    model.add_module("again", nn.BatchNorm2d(4))
    model.again.register_buffer("running_mean", model[1].running_mean)
    before = {name: (buffer, buffer.clone(), buffer._version) for name, buffer in model.named_buffers()}
    with attack_mode(model, "train"):
        assert model.again.running_mean is model[1].running_mean
        model[1](torch.rand(4, 4, 2, 2))
        assert not torch.equal(model[1].running_mean, before["1.running_mean"][1])
    for name, buffer in model.named_buffers():
        kept, values, version = before[name]
        assert buffer is kept
        assert torch.equal(buffer, values)
        assert buffer._version == version


@pytest.mark.parametrize("goal", ["kl_to_teacher", "kl_to_live_teacher"])
def test_a_teacher_in_train_mode_answers_in_eval_and_stays_as_it_was(goal):
    teacher = network(1).train()
    buffers = {name: buffer.clone() for name, buffer in teacher.named_buffers()}
    found = make(goal=goal)(network(), INPUTS, LABELS, teacher=teacher)
    assert teacher.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in teacher.named_buffers())
    assert torch.equal(found, make(goal=goal)(network(), INPUTS, LABELS, teacher=teacher.eval()))


def test_teacher_logits_made_under_inference_mode_may_enter_the_graph():
    teacher, model = network(1).eval(), network()
    with torch.inference_mode():
        logits = teacher(INPUTS)
        inside = make(goal="kl_to_teacher")(model, INPUTS.clone(), LABELS.clone(), teacher_logits=logits)
    for known in (logits, lambda: logits):
        found = make(goal="kl_to_teacher")(network(), INPUTS, LABELS, teacher_logits=known)
        assert torch.equal(found, inside)
    assert not found.is_inference()


def test_a_model_can_be_its_own_teacher():
    model = network().train()
    found = make(goal="kl_to_live_teacher", start="normal", model_mode="train")(model, INPUTS, LABELS, teacher=model)
    assert model.training
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("goal", ["cross_entropy", "kl_to_clean"])
def test_training_in_the_same_autocast_region_still_gets_its_gradients(goal):
    """Autocast caches cast weights: a cast made for the attack must not be the one the training step differentiates."""
    model = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adversarial = make(goal=goal, start="normal", keep="best")(model, INPUTS, LABELS)
        loss = F.cross_entropy(model(adversarial).float(), LABELS)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert float(model[0].weight.grad.abs().max()) > 0


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_not_even_backward_inside_a_goal_reaches_a_parameter(mode):
    model = network()

    def careless(target):
        def climb(adversarial, logits):
            value = F.cross_entropy(logits, target.labels, reduction="none")
            if logits.requires_grad:
                value.sum().backward(retain_graph=True)
            return value

        return climb

    make(goal=careless, model_mode=mode)(model, INPUTS, LABELS)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_graph_begun_before_the_attack_is_still_good_after():
    def gradients(attacked):
        model = network().eval()
        loss = F.cross_entropy(model(INPUTS), LABELS)
        if attacked:
            make(model_mode="train")(model, INPUTS, LABELS)
        loss.backward()
        return [parameter.grad for parameter in model.parameters()]

    assert all(torch.equal(one, two) for one, two in zip(gradients(False), gradients(True), strict=True))


@pytest.mark.ddp
def test_ddp_gradients_do_not_notice_an_attack_on_the_bare_module(tmp_path):
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:

        def gradients(attacked):
            model = network().eval()
            wrapped = DistributedDataParallel(model)
            for _ in range(2):
                if attacked:
                    make()(model, INPUTS, LABELS)
                F.cross_entropy(wrapped(INPUTS), LABELS).backward()
            return [parameter.grad for parameter in model.parameters()]

        plain, attacked = gradients(False), gradients(True)
        assert all(torch.equal(one, two) for one, two in zip(plain, attacked, strict=True))
    finally:
        distributed.destroy_process_group()


class NoSynchronisation(TorchDispatchMode):
    """Fails where a tensor's value is read by the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default), func
        assert func is not torch.ops.aten.nonzero.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("goal", GOALS)
def test_the_loop_reads_no_value_on_the_host(norm, goal):
    attack = GradientAttack(
        threat=Threat(norm=norm, eps=0.1), goal=goal, steps=3, step_size=0.05, start="uniform", momentum=1, restarts=2
    )
    with NoSynchronisation():
        attack.run(network(), INPUTS, LABELS, teacher=network(1), validate=False)
    with pytest.raises(AssertionError), NoSynchronisation():
        attack.run(network(), INPUTS, LABELS, teacher=network(1), validate=True)


def test_channels_last_stays_channels_last():
    inputs = torch.rand(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5)).to(memory_format=torch.channels_last)
    for start in ("none", "uniform", "normal"):
        found = make(start=start)(model, inputs, LABELS[:2])
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, make(start=start)(model, inputs.contiguous(), LABELS[:2]))


@pytest.mark.parametrize("cut", [lambda x: x.detach(), lambda x: torch.from_numpy(x.detach().numpy().round(1))])
def test_a_model_without_a_graph_is_named(cut):
    model = network()
    with pytest.raises(AttackError, match="no gradient"):
        make()(lambda x: model(cut(x)), INPUTS, LABELS)
    with pytest.raises(AttackError, match="no gradient"):
        make()(lambda x: torch.zeros(len(x), 5, requires_grad=True) + 1.0, INPUTS, LABELS)


def test_no_attack_reports_like_an_attack():
    model = network().train()
    before = model[1].running_mean.clone()
    with torch.inference_mode():
        result = NoAttack().run(model, INPUTS.clone(), LABELS, keys=None, seed=0)
    assert torch.equal(result.adversarial, INPUTS)
    assert torch.equal(result.fooled, model.eval()(INPUTS).argmax(1) != LABELS)
    assert torch.equal(result.goal_start, result.goal_end)
    assert torch.equal(model[1].running_mean, before)
