"""From a name to a function: ours, or a trusted package's."""

import inspect

import pytest
import torch

from kdrobust.losses import balancing, classwise, knowledge, weighting
from kdrobust.losses.lookup import (
    check_arguments,
    find_callable,
    public_classes,
    public_functions,
    read_number,
    unknown,
)


def test_nearest_names_or_all_of_them():
    assert unknown("loss", "soft_tagret", ["soft_target", "dkd"]) == "no loss 'soft_tagret'; did you mean soft_target?"
    assert unknown("loss", "zzz", ["soft_target", "dkd"]) == "no loss 'zzz'; known: soft_target, dkd"


def test_only_what_a_module_itself_defines_is_public():
    assert set(public_functions(knowledge)) == {
        "soft_target", "hard_target", "logit_mse", "probability_mse", "difference_matching",
    }  # fmt: skip
    assert "check_temperature" not in public_functions(knowledge)
    assert set(public_classes(classwise)) == {"FairClassWeights", "ClassTemperedTarget"}
    assert set(public_classes(balancing)) == {"RelativeLossBalance"}
    assert public_classes(weighting) == {}


def test_a_trusted_package_and_one_that_is_not():
    assert (
        find_callable("torch.nn.functional.mse_loss", (knowledge,), "loss", ["torch"]) is torch.nn.functional.mse_loss
    )
    assert find_callable("dkd", (knowledge, __import__("kdrobust.losses.decoupled", fromlist=["dkd"])), "loss", [])
    for name, trusted, words in (
        ("torch.nn.functional.mse_loss", [], r"trusted_modules=\[torch\]"),
        ("torch.nn.functional.nothing", ["torch"], "cannot be imported"),
        ("torch.nowhere.mse_loss", ["torch"], "cannot be imported"),
        ("torch.pi", ["torch"], "is not a function"),
        ("soft_tagret", ["torch"], "did you mean soft_target"),
        (None, [], "no loss None"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            find_callable(name, (knowledge,), "loss", trusted)
        assert "\n" not in str(error.value)


def test_arguments_nobody_takes_and_missing_ones():
    def weigh(student, *, alpha, beta=1.0):
        return student

    parameters = inspect.signature(weigh).parameters
    check_arguments(weigh, {"student": 1, "alpha": 2}, parameters, "method.weighting")
    with pytest.raises(ValueError, match=r"method\.weighting\.alhpa: no parameter 'alhpa'; did you mean alpha"):
        check_arguments(weigh, {"alhpa": 1}, parameters, "method.weighting")
    with pytest.raises(ValueError, match=r"method\.weighting: weigh needs student, alpha"):
        check_arguments(weigh, {"beta": 1}, parameters, "method.weighting")


def test_numbers_and_schedules():
    assert read_number(3, "key") == 3.0
    ramp = read_number({"schedule": "linear", "start": 0, "end": 2, "until": 4}, "key")
    assert [ramp(epoch) for epoch in (0.0, 1.0, 9.0)] == [0.0, 0.5, 2.0]
    for value, words in (
        (True, "key: expected a number"),
        ("3", "key: expected a number"),
        ({"start": 1}, "key: expected a number"),
        ({"schedule": "liner", "start": 0}, r"key\.schedule: no schedule 'liner'; did you mean linear"),
        ({"schedule": "linear", "start": 0, "end": 1}, "key: linear needs until"),
        ({"schedule": "linear", "start": 0, "end": 1, "untl": 3}, r"key\.untl"),
        ({"schedule": "linear", "start": 0, "end": 1, "until": 0}, "key: until"),
        ({"schedule": "warmup", "end": 1, "epochs": "ten"}, "key: "),
    ):
        with pytest.raises(ValueError, match=words):
            read_number(value, "key")
