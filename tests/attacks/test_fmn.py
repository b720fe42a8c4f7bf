"""FMN: distances against other libraries' and against what is known exactly."""

import pytest
import torch
from torch import nn

from kdrobust.attacks import FMN, Threat
from kdrobust.errors import UsageError
from tests.attacks.zoo import EPS, MODEL, X, Y, batch, network, tensor


def make(norm, eps=0.1, **options):
    return FMN(threat=Threat(norm=norm, eps=eps), **options)


def reference(norm):
    keys = {"linf": ("fmn_advlib", "fmn_foolbox"), "l2": ("cw_advlib", "cw_foolbox")}[norm]
    return torch.stack([tensor(f"minnorm/{norm}/{key}/dist") for key in keys]).amin(0)


@pytest.mark.parametrize("norm", EPS)
def test_within_two_percent_of_the_best_reference(norm):
    result = make(norm).run(MODEL, X, Y)
    assert bool(result.fooled.all())
    assert torch.equal(MODEL(result.adversarial).argmax(1) != Y, result.fooled)
    assert bool((result.extra["distance"] <= 1.02 * reference(norm)).all())
    torch.testing.assert_close(Threat(norm=norm, eps=1).distance(result.adversarial, X), result.extra["distance"])


@pytest.mark.parametrize("norm", EPS)
def test_a_linear_model_is_crossed_at_its_distance(norm):
    """Where a goal is linear the first estimate is exact, and stays on the near side for ever if never exceeded."""
    source = torch.Generator().manual_seed(0)
    layer = nn.Linear(30, 2).double()
    inputs = 0.5 + 0.1 * torch.rand(20, 30, generator=source).double()
    labels = layer(inputs).argmax(1)
    gap = (layer(inputs)[:, 0] - layer(inputs)[:, 1]).abs().detach()
    difference = (layer.weight[0] - layer.weight[1]).detach()
    exact = gap / (difference.abs().sum() if norm == "linf" else difference.norm())
    found = make(norm).run(layer, inputs, labels)
    assert bool(found.fooled.all())
    ratio = found.extra["distance"] / exact
    assert float(ratio.min()) >= 1.0 - 1e-9
    assert float(ratio.max()) < 1.01


@pytest.mark.parametrize("norm", EPS)
def test_classes_and_restarts_only_bring_it_nearer(norm):
    model = network().eval()
    inputs, labels = batch(12, model=model)
    plain = make(norm, steps=20).run(model, inputs, labels).extra["distance"].nan_to_num(nan=9.0)
    for options in ({"targets": 3}, {"restarts": 3}):
        more = make(norm, steps=20, **options).run(model, inputs, labels).extra["distance"].nan_to_num(nan=9.0)
        assert bool((more <= plain).all())
    assert bool((more < plain).any())
    aimed = make("l2", targets=4).run(MODEL, X, Y).extra["distance"]
    assert float(aimed[5]) < 0.9 * float(reference("l2")[5]), "the nearest boundary of sample 5 is another class's"


@pytest.mark.parametrize("norm", EPS)
def test_stopping_at_eps_changes_no_verdict_there(norm):
    model, rows = network().eval(), []

    def counted(x):
        rows.append(len(x))
        return model(x)

    inputs, labels = batch(24, model=model)
    options = {"eps": EPS[norm], "targets": 2, "restarts": 2, "steps": 15}
    whole = make(norm, **options).run(counted, inputs, labels)
    spent = sum(rows)
    rows.clear()
    some = make(norm, stop_at_eps=True, **options).run(counted, inputs, labels)
    within = [result.extra["distance"] <= EPS[norm] for result in (whole, some)]
    assert torch.equal(*within)
    assert 0 < int(within[0].sum()) < 24
    assert sum(rows) < 0.8 * spent


def test_nothing_found_is_the_clean_input_not_fooled():
    constant = nn.Linear(4, 3).double()
    nn.init.zeros_(constant.weight)
    inputs = torch.rand(5, 4).double()
    labels = constant(inputs).argmax(1)
    for norm in EPS:
        result = make(norm).run(constant, inputs, labels)
        assert not bool(result.fooled.any())
        assert torch.equal(result.adversarial, inputs)
        assert bool(result.extra["distance"].isnan().all())


def test_wrong_without_attack_is_at_distance_zero():
    result = make("linf", steps=5).run(MODEL, X, Y)
    assert result.extra["distance"][[3, 6]].tolist() == [0.0, 0.0]
    assert torch.equal(result.adversarial[[3, 6]], X[[3, 6]])


@pytest.mark.parametrize(
    ("key", "value"), [("steps", 0), ("step_size", 0), ("gamma", 1), ("gamma_end", 0), ("targets", -1), ("restarts", 0)]
)
def test_bad_settings(key, value):
    with pytest.raises(UsageError, match=rf"attack\.{key}"):
        make("l2", **{key: value})
