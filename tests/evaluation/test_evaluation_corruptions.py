"""Accuracy under corruptions against a loop, whatever the batch size, the order or the number of processes."""

import pytest
import torch

from kdrobust.data.corruptions import CORRUPTIONS, corrupt
from kdrobust.errors import UsageError
from kdrobust.evaluation import corruption_result, evaluate_corruptions, merge_corrupted, wilson

NAMES = ["gaussian_noise", "contrast"]


@pytest.fixture(scope="module")
def setting(digits):
    return digits["models"]["cnn", 0.1], digits["inputs"][:80], digits["labels"][:80], digits["indices"][:80]


def test_counts_are_those_of_a_loop(setting):
    model, inputs, labels, indices = setting
    found = evaluate_corruptions(*setting, names=NAMES, severities=[1, 5], seed=3)
    images = inputs.float() / 255
    for name in NAMES:
        for level in (1, 5):
            answers = model(corrupt(images, name, level, keys=indices, seed=3)).argmax(dim=1)
            assert found.correct[name][level] == int((answers == labels).sum())
    assert found.clean == int((model(images).argmax(dim=1) == labels).sum())
    counts = [count for levels in found.correct.values() for count in levels.values()]
    assert found.accuracy() == pytest.approx(sum(counts) / len(counts) / 80)
    assert found.accuracy("contrast") == pytest.approx(sum(found.correct["contrast"].values()) / 2 / 80)
    assert found.accuracy() < found.clean / 80


def test_batch_size_order_and_processes_change_nothing(setting):
    model, *data = setting
    whole = evaluate_corruptions(*setting, names=NAMES, seed=3)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    assert evaluate_corruptions(model, *(side[order] for side in data), names=NAMES, seed=3, batch_size=7) == whole
    parts = [evaluate_corruptions(model, *(side[rank::3] for side in data), names=NAMES, seed=3) for rank in range(3)]
    assert merge_corrupted(parts) == whole
    other = evaluate_corruptions(*setting, names=NAMES[:1], seed=3)
    with pytest.raises(ValueError, match="different kinds"):
        merge_corrupted([whole, other])
    with pytest.raises(ValueError, match="nothing to merge"):
        merge_corrupted([])


def test_result_is_plain_values_with_intervals(setting):
    found = evaluate_corruptions(*setting, names=NAMES, severities=(2,), seed=0)
    result = corruption_result(found, confidence=0.9)
    assert result["mca"] == found.accuracy()
    assert list(result["corruptions"]) == NAMES
    figure = result["corruptions"]["contrast"]["severities"]["2"]
    assert figure["accuracy"] == found.correct["contrast"][2] / 80
    assert figure["interval"] == list(wilson(found.correct["contrast"][2], 80, 0.9))
    assert result["corruptions"]["contrast"]["family"] == "digital"


def test_all_of_them_by_default_with_progress_and_modes_restored(setting):
    model, *data = setting
    told = []
    model.train()
    try:
        found = evaluate_corruptions(
            model, *(side[:10] for side in data), batch_size=5, progress=lambda *what: told.append(what)
        )
        assert model.training
    finally:
        model.eval()
    assert list(found.correct) == list(CORRUPTIONS)
    assert told[-1] == ("corruptions", 110, 110)


def test_no_samples_and_nonsense(setting):
    model, inputs, labels, indices = setting
    nothing = evaluate_corruptions(model, inputs[:0], labels[:0], indices[:0], names=NAMES)
    assert (nothing.n, nothing.accuracy()) == (0, None)
    assert corruption_result(nothing)["corruptions"]["contrast"]["severities"]["1"]["accuracy"] is None
    with pytest.raises(UsageError, match=r"no corruption 'rain'"):
        evaluate_corruptions(*setting, names=["rain"])
    with pytest.raises(UsageError, match="severities"):
        evaluate_corruptions(*setting, severities=[0])
    with pytest.raises(ValueError, match="as many inputs"):
        evaluate_corruptions(model, inputs, labels[:3], indices)
    with pytest.raises(ValueError, match="need images"):
        evaluate_corruptions(model, inputs.flatten(1), labels, indices)
