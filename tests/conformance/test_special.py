"""Special cases made here: a trajectory, class rules, a learnt temperature, a hint, two learners."""

import math

import pytest
import torch

from kdrobust.conformance import special
from kdrobust.conformance.cases import Case
from kdrobust.errors import DataError
from kdrobust.losses.knowledge import soft_target

GENERATOR = torch.Generator().manual_seed(16)


def tensor(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def case(method, *, inputs=None, extra=None, **hyperparameters):
    return Case(
        method=method, source="", hyperparameters=hyperparameters, inputs=inputs or {}, labels=None, expected={},
        extra=extra or {},
    )  # fmt: skip


def test_a_field_changes_and_the_rest_stays():
    first = case("kd", alpha=0.1)
    second = special.changed(first, hyperparameters={"alpha": 0.2})
    assert (first.hyperparameters, second.hyperparameters) == ({"alpha": 0.1}, {"alpha": 0.2})
    assert second.method == "kd"


def test_class_rules_in_numbers():
    found = special.class_weight_rule(case("fair", extra={"kappa": [1.0, 2.0]}, beta=1.0, clamp=[0.1, 9.0]))
    assert found["weights"].tolist() == pytest.approx([4 / 3, 2 / 3])
    given = {"class_losses": [1.0, 2.0, 3.0], "before": [1.0, 1.0, 1.0]}
    found = special.class_temperature_rule(case("absld", extra=given, rate=0.5, min=0.6, max=1.4))
    assert found["after"].tolist() == pytest.approx([1.4, 1.0, 0.6])
    with pytest.raises(DataError, match="fair: the case has no kappa"):
        special.class_weight_rule(case("fair"))


def test_what_a_case_must_reproduce():
    found = special.expected_of(case("x", extra={"weights": [1.0], "after": [2.0], "extra": {"loss_peer": 3.0}}))
    assert {name: float(value) for name, value in found.items()} == {"weights": 1.0, "after": 2.0, "loss_peer": 3.0}
    step = dict.fromkeys(("loss_adversarial", "loss_natural", "weight_natural", "weight_adversarial", "total"), 1.0)
    found = special.expected_of(case("mtard", extra={"steps": [{**step, "gradients": {"student_clean": [[1.0]]}}]}))
    assert len(found) == 5 + 2 + 1
    assert "step 0 gradient student_clean" in found


def test_a_learnt_temperature_and_its_reversed_gradient():
    inputs = {"student": tensor(4, 3), "teacher": tensor(4, 3)}
    found = special.curriculum(case("ctkd", inputs=inputs, t_start=1.0, t_end=4.0, raw_temperature=0.0, lambda_=-1.0))
    assert found["temperature"].item() == 3.0
    assert found["loss"].item() == pytest.approx(float(soft_target(**inputs, temperature=3.0).mean()))

    def at(raw):
        return float(soft_target(**inputs, temperature=1.0 + 4.0 / (1.0 + math.exp(-raw))).mean())

    assert found["raw_temperature"].item() == pytest.approx(-(at(1e-5) - at(-1e-5)) / 2e-5, rel=1e-5)
    assert not inputs["student"].requires_grad


def test_a_hint_with_and_without_a_regressor():
    same = {"student": tensor(2, 3, 2, 2), "teacher": tensor(2, 3, 2, 2)}
    found = special.hint(case("hint", inputs=same))
    difference = same["student"] - same["teacher"]
    assert found["loss"].item() == pytest.approx(float(difference.square().mean()))
    torch.testing.assert_close(found["student"], 2 * difference / difference.numel())
    other = {"student": tensor(2, 2, 2, 2), "teacher": tensor(2, 3, 2, 2)}
    sets = {"regressor": {"weight": tensor(3, 2, 1, 1).tolist(), "bias": [0.0, 0.1, 0.2]}}
    found = special.hint(case("hint", inputs=other, extra={"sets": sets}, regressor=True))
    assert found["regressor_weight"].shape == (3, 2, 1, 1)
    with pytest.raises(DataError, match="no input set 'regressor'"):
        special.hint(case("hint", inputs=other, extra={"sets": {}}, regressor=True))


def test_two_learners_are_taken_apart():
    def whole(given):
        return {"loss": torch.tensor(sum(given.hyperparameters.values()))}

    found = special.split(whole)(case("peeraid", lambda1=1.0, lambda2=2.0, lambda3=4.0, gamma1=8.0, gamma2=16.0))
    assert {name: float(value) for name, value in found.items()} == {
        "loss": 31.0,
        "loss_student": 7.0,
        "loss_peer": 24.0,
    }


def test_a_trajectory_of_other_numbers():
    clean, adversarial, robust, natural = (tensor(4, 3) for _ in range(4))
    inputs = {
        "student_clean": clean, "student_adversarial": adversarial, "teacher_adversarial": robust,
        "teacher_natural_clean": natural,
    }  # fmt: skip
    losses = {
        "adversarial": float(soft_target(adversarial, robust, reduction="classes_mean").mean()),
        "natural": float(soft_target(clean, natural, reduction="classes_mean").mean()),
    }
    step = {
        "inputs": {name: value.tolist() for name, value in inputs.items()}, "gradients": {"student_clean": None},
        **{f"loss_{name}": value for name, value in losses.items()},
    }  # fmt: skip
    given = {"weight_learn_rate": 0.5, "initial_weight_natural": 0.2}
    found = special.mtard(case("mtard", extra={"steps": [step]}, **given))
    # both relative losses are 1 in the first step: half of the way from 0.2 to 0.5
    assert float(found["step 0 weight_natural"]) == pytest.approx(0.35)
    assert float(found["step 0 weight_adversarial"]) == pytest.approx(0.65)
    total = 0.35 * losses["natural"] + 0.65 * losses["adversarial"]
    assert float(found["step 0 total"]) == pytest.approx(total, rel=1e-6)
    own = (clean.softmax(1) - natural.softmax(1)) * 0.35 / 12
    torch.testing.assert_close(found["step 0 gradient student_clean"], own, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="no hyper-parameter 'eta'"):
        special.mtard(case("mtard", extra={"steps": [step]}, eta=1.0))
