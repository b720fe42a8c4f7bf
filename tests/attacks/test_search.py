"""What the loop keeps: best iterates, restarts, NaN, wanted classes, an ε of each sample's own; and at which price."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdrobust.attacks import AttackResult, GradientAttack, Target, Threat
from kdrobust.attacks.goals import GOALS, dlr_targeted, kl, kl_to_teacher, margin
from kdrobust.attacks.result import better_of, higher
from kdrobust.errors import AttackError, UsageError

NAN = float("nan")


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 5)).double()


def batch(count=6, seed=1):
    source = torch.Generator().manual_seed(seed)
    inputs = torch.rand(count, 1, 4, 4, generator=source, dtype=torch.float64)
    return inputs, torch.randint(0, 5, (count,), generator=source)


def make(norm="linf", eps=0.1, **options):
    return GradientAttack(threat=Threat(norm=norm, eps=eps), **{"steps": 4, "step_size": 0.06, **options})


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.forwards, self.graphs = network(), 0, 0

    def forward(self, x):
        self.forwards += 1
        self.graphs += x.requires_grad
        return self.net(x)


@pytest.mark.parametrize(
    ("options", "call", "forwards"),
    [
        ({}, "__call__", 4),
        ({"start": "normal", "momentum": 1.0}, "__call__", 4),
        ({"goal": "kl_to_clean", "start": "normal"}, "__call__", 5),
        ({"keep": "best", "start": "uniform"}, "__call__", 5),
        ({}, "run", 5),
        ({"keep": "best"}, "run", 5),
        ({"start": "normal"}, "run", 6),
        ({"start": "uniform", "restarts": 3}, "run", 15),
    ],
)
def test_price(options, call, forwards):
    model = Counted()
    getattr(make(**options), call)(model, *batch(), validate=False)
    assert model.forwards == forwards
    assert model.graphs == 4 * options.get("restarts", 1)


@settings(max_examples=25, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    start=st.sampled_from(["none", "uniform", "uniform_unclipped", "normal"]),
    goal=st.sampled_from(["cross_entropy", "margin", "dlr", "kl_to_teacher", "kl_to_live_teacher"]),
    step_size=st.floats(0.01, 3),
    targeted=st.booleans(),
    seed=st.integers(0, 100),
)
def test_best_is_the_highest_point_of_the_path(norm, start, goal, step_size, targeted, seed):
    inputs, labels = batch(4, seed)
    options = {"goal": goal, "start": start, "step_size": step_size, "targeted": targeted}
    arguments = {"teacher": network(9), "seed": seed}
    best = make(norm, keep="best", **options).run(network(), inputs, labels, **arguments)
    assert bool((best.goal_end >= best.goal_start).all())
    for steps in range(5):
        path = make(norm, steps=steps, **options).run(network(), inputs, labels, **arguments)
        assert bool((best.goal_end >= path.goal_end - 1e-9).all())
        torch.testing.assert_close(path.goal_start, best.goal_start)


def test_run_and_call_agree_on_the_answer():
    inputs, labels = batch()
    for options in ({}, {"keep": "best"}, {"restarts": 3}, {"momentum": 0.5}, {"steps": 0}, {"targeted": True}):
        attack = make(start="uniform", **options)
        assert torch.equal(attack(network(), inputs, labels), attack.run(network(), inputs, labels).adversarial)


def test_initial_begins_the_first_restart_only():
    inputs, labels = batch()
    attack = make(start="uniform", steps=0, restarts=1)
    far = inputs + 5.0
    found = attack(network(), inputs, labels, initial=far)
    torch.testing.assert_close(found, (inputs + 0.1).clamp(max=1.0))
    assert torch.equal(far, inputs + 5.0)
    two = make(start="uniform", steps=0, restarts=2)(network(), inputs, labels, initial=inputs)
    assert not torch.equal(two, inputs), "the second restart draws its own start"


@pytest.mark.parametrize("dimension", [2, 16, 300])
def test_the_l2_start_is_uniform_in_the_ball(dimension):
    """Share of the radius to the power d is uniform; a radius drawn uniformly would crowd the centre."""
    centre = torch.full((4000, dimension), 0.5, dtype=torch.float64)
    threat = Threat(norm="l2", eps=0.4)
    start = threat.random_start(centre, "uniform_unclipped", torch.arange(4000), seed=0)
    volume = (threat.distance(start, centre) / 0.4) ** dimension
    quantiles = volume.quantile(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64))
    assert quantiles.tolist() == pytest.approx([0.1, 0.25, 0.5, 0.75, 0.9], abs=0.03)
    assert float((start - centre).mean(dim=0).abs().max()) < 0.03


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("start", ["none", "uniform", "normal"])
def test_each_sample_may_have_its_own_radius(norm, start):
    inputs, labels = batch(5)
    share = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    attack = make(norm, eps=0.4, start=start)
    whole = attack(network(), inputs, labels, scale=share)
    for row in range(5):
        rows = slice(row, row + 1)
        alone = attack(network(), inputs[rows], labels[rows], keys=torch.tensor([row]), scale=float(share[row]))
        torch.testing.assert_close(whole[rows], alone, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="scale"):
        attack(network(), inputs, labels, scale=1.5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_nan_gradients_stop_their_sample_alone(norm, momentum):
    inputs, labels = batch(3)
    model = network()

    def broken(x):
        # finite logits, NaN gradient: the root's slope at zero, times zero
        sick = model(x[1:2]) + torch.sqrt(x[1:2].flatten(1)[:, :1] * 0.0)
        return torch.cat([model(x[:1]), sick, model(x[2:])])

    result = make(norm, momentum=momentum).run(broken, inputs, labels)
    assert bool(result.adversarial.isfinite().all())
    assert torch.equal(make(norm, momentum=momentum)(broken, inputs, labels), result.adversarial)
    healthy = make(norm, momentum=momentum)(model, inputs, labels)
    torch.testing.assert_close(result.adversarial[::2], healthy[::2])
    assert float((result.adversarial - inputs)[1].flatten()[1:].abs().min()) > 0, "its other pixels move on"


def test_momentum_survives_a_zero_gradient():
    """A sample that sits on a plateau for one step goes on climbing afterwards (torchattacks' stops for ever)."""
    inputs, labels = batch(2)
    model, calls = network(), []

    def flat_at_first(x):
        calls.append(1)
        return model(x) * (0.0 if len(calls) == 1 else 1.0)

    found = make(momentum=1.0)(flat_at_first, inputs, labels, validate=False)
    assert bool(((found - inputs).flatten(1).abs().amax(1) > 0).all())


def test_nan_loses_every_comparison():
    value, than = torch.tensor([1.0, NAN, 1.0, NAN, 2.0]), torch.tensor([0.0, 0.0, NAN, NAN, 2.0])
    assert higher(value, than).tolist() == [True, False, True, False, False]


def result(fooled, goal):
    goal = torch.tensor(goal)
    return AttackResult(
        adversarial=goal[:, None].clone(), goal_start=goal - 1, goal_end=goal, fooled=torch.tensor(fooled)
    )


def test_better_prefers_fooled_then_high():
    first = result([True, False, False, True, False], [0.0, 9.0, 1.0, 1.0, NAN])
    second = result([False, True, False, True, False], [9.0, 0.0, 2.0, 0.5, 0.0])
    found = better_of(first, second)
    assert found.goal_end.tolist() == [0.0, 0.0, 2.0, 1.0, 0.0]
    assert found.adversarial[:, 0].tolist() == found.goal_end.tolist()
    assert found.fooled.tolist() == [True, True, False, True, False]
    assert found.goal_start.tolist() == [-1.0, -1.0, 1.0, 0.0, -1.0]


def test_targeted_reaches_the_wanted_class():
    inputs, _ = batch(8)
    wanted = network()(inputs).topk(2).indices[:, 1]
    attack = make(eps=1.0, steps=60, step_size=0.05, goal="margin", targeted=True, start="uniform", restarts=5)
    found = attack.run(network(), inputs, wanted)
    assert int(found.fooled.sum()) >= 6
    assert torch.equal(network()(found.adversarial).argmax(1) == wanted, found.fooled)
    torch.testing.assert_close(found.goal_end, -margin(network()(found.adversarial), wanted))


def test_targeted_dlr_equals_a_loop_and_climbs_to_the_target():
    inputs, labels = batch(8)
    model = network()
    targets = (labels + 2) % 5
    logits = model(inputs).detach()
    loop = []
    for row, y, t in zip(logits.tolist(), labels.tolist(), targets.tolist(), strict=True):
        ordered = sorted(row, reverse=True)
        loop.append(-(row[y] - row[t]) / (ordered[0] - (ordered[2] + ordered[3]) / 2 + 1e-12))
    torch.testing.assert_close(dlr_targeted(logits, labels, targets), torch.tensor(loop, dtype=torch.float64))
    attack = make(goal="dlr_targeted", keep="best")
    found = attack.run(model, inputs, labels, targets=targets.int())
    assert bool((found.goal_end > found.goal_start).all())
    second = logits.scatter(1, labels[:, None], float("-inf")).argmax(1)
    assert torch.equal(attack(model, inputs, labels), attack(model, inputs, labels, targets=second)), (
        "without targets: the likeliest other class"
    )
    with pytest.raises(UsageError, match="at least 4"):
        dlr_targeted(logits[:, :3], labels % 3, targets % 3)


def test_temperature_belongs_to_the_goal():
    first, second = torch.randn(4, 5).double(), torch.randn(4, 5).double()
    torch.testing.assert_close(kl(first, second, 4.0), kl(first / 4, second / 4))
    inputs, labels = batch()
    goal = functools.partial(kl_to_teacher, temperature=4.0)
    warm = make(goal=goal)
    assert warm.describe()["goal"] == "kl_to_teacher(temperature=4.0)"
    plain = make(goal="kl_to_teacher").run(network(), inputs, labels, teacher=network(9))
    assert float((warm.run(network(), inputs, labels, teacher=network(9)).goal_end - plain.goal_end).abs().min()) > 0
    with pytest.raises(ValueError, match="temperature"):
        make(goal=functools.partial(kl_to_teacher, temperature=0))(network(), inputs, labels, teacher=network(9))


def test_trades_from_the_clean_input_is_refused_because_it_would_follow_rounding_errors():
    inputs, labels = batch()
    with pytest.raises(UsageError, match=r"attack\.start=normal"):
        make(goal="kl_to_clean")(network(), inputs, labels)
    point = inputs.clone().requires_grad_(True)
    climb = GOALS["kl_to_clean"](Target(model=network(), inputs=inputs, labels=labels))
    (gradient,) = torch.autograd.grad(climb(point, network()(point)).sum(), point)
    assert float(gradient.abs().max()) < 1e-15
    assert not torch.equal(make(goal="kl_to_clean", start="normal")(network(), inputs, labels), inputs)
    make(goal="kl_to_clean")(network(), inputs, labels, initial=inputs + 0.001)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keys": torch.arange(3)}, "keys have shape"),
        ({"targets": torch.arange(3)}, "targets have shape"),
        ({"targets": torch.zeros(6)}, "class numbers"),
        ({"initial": torch.zeros(6, 4, 4)}, "initial have shape"),
        ({"labels": torch.zeros(6, dtype=torch.bool)}, "class numbers"),
        ({"inputs": torch.zeros(6, 1, 4, 4, dtype=torch.uint8)}, "divide by 255"),
    ],
)
def test_shapes_are_checked_even_without_validation(change, words):
    inputs, labels = batch()
    arguments = {"inputs": inputs, "labels": labels, **change}
    with pytest.raises(AttackError, match=words) as caught:
        make()(network(), arguments.pop("inputs"), arguments.pop("labels"), validate=False, **arguments)
    assert "\n" not in str(caught.value)


def test_int32_labels_and_empty_batches_are_fine():
    inputs, labels = batch()
    assert torch.equal(make()(network(), inputs, labels.int()), make()(network(), inputs, labels))
    for norm in ("linf", "l2"):
        empty = make(norm, start="uniform", restarts=2).run(network(), inputs[:0], labels[:0])
        assert empty.adversarial.shape == (0, 1, 4, 4)
        assert empty.fooled.shape == (0,)


@pytest.mark.parametrize(
    ("key", "value"),
    [("steps", 2.5), ("steps", True), ("steps", "10"), ("restarts", 1.0), ("momentum", NAN), ("step_size", "1/0")],
)
def test_settings_of_the_wrong_kind(key, value):
    with pytest.raises(UsageError, match=rf"attack\.{key}"):
        make(**{key: value})


def test_goals_of_the_wrong_kind():
    with pytest.raises(UsageError, match=r"attack\.goal"):
        make(goal=3)


@pytest.mark.parametrize("bounds", [(0,), (0, 1, 2), ("a", 1), None, (0, NAN)])
def test_bounds_of_the_wrong_kind(bounds):
    with pytest.raises(UsageError, match=r"threat\.bounds"):
        Threat(norm="linf", eps=0.1, bounds=bounds)


def test_softmax_in_half_precision_is_still_found():
    inputs, labels = batch()
    with pytest.raises(AttackError, match="softmax"):
        make()(lambda x: network()(x).softmax(1).bfloat16(), inputs, labels)
