"""When robust overfitting is named, and when it is not."""

from types import SimpleNamespace

import pytest
import torch

from kdrobust.modules import OverfittingWarning


def tell(callback, rows, samples=400, first=0):
    logged = []
    module = SimpleNamespace(log=lambda name, value, **_: logged.append((name, value)))
    for epoch, (training, validation) in enumerate(rows, start=first):
        metrics = {"train/robust_accuracy": torch.tensor(training), "val/robust_accuracy": torch.tensor(validation)}
        split = SimpleNamespace(labels=range(samples))
        trainer = SimpleNamespace(
            callback_metrics=metrics, current_epoch=epoch, datamodule=SimpleNamespace(split=lambda name, s=split: s)
        )
        callback.on_train_epoch_end(trainer, module)
    return logged


#: best at the second epoch; two standard errors of 0.5 over 400 samples are 0.05
FALLS = [(0.4, 0.4), (0.5, 0.5), (0.6, 0.44), (0.7, 0.43), (0.8, 0.42)]


def test_it_speaks_once_with_both_figures():
    callback = OverfittingWarning(patience=3)
    logged = tell(callback, FALLS)
    assert [value for _, value in logged] == pytest.approx([0.0, 0.0, 0.16, 0.27, 0.38], abs=1e-6)
    assert {name for name, _ in logged} == {"val/robust_gap"}
    (message,) = callback.messages
    assert "from 50.0% (epoch 2) to 42.0%" in message
    assert "from 50.0% to 80.0%" in message
    assert "+wrap=awp" in message
    tell(callback, [(0.9, 0.4)] * 3, first=5)
    assert len(callback.messages) == 1


@pytest.mark.parametrize(
    "rows",
    [
        FALLS[:4],  # not for long enough
        [*FALLS[:3], (0.7, 0.49), *FALLS[3:]],  # a look back within the margin begins the count anew
        [(a, max(b, 0.46)) for a, b in FALLS],  # within two standard errors
        [(0.4, 0.4), (0.5, 0.5), (0.4, 0.44), (0.4, 0.43), (0.4, 0.42)],  # training fell too: not overfitting
    ],
)
def test_it_is_silent(rows):
    callback = OverfittingWarning(patience=3)
    tell(callback, rows)
    assert callback.messages == []


def test_catastrophic_overfitting_is_named_at_once_and_only_once():
    callback = OverfittingWarning(patience=3)
    tell(callback, [(0.4, 0.4), (0.5, 0.5), (0.9, 0.05)])
    (message,) = callback.messages
    assert message.startswith("catastrophic overfitting: validation robust accuracy fell from 50.0% (epoch 2) to 5.0%")
    assert "still reports 90.0%" in message
    assert "attack=pgd" in message
    resumed = OverfittingWarning(patience=3)
    resumed.load_state_dict(callback.state_dict())
    tell(resumed, [(0.95, 0.0)] * 4, first=3)
    assert resumed.messages == [message]


@pytest.mark.parametrize("rows", [[(0.5, 0.5), (0.9, 0.13)], [(0.5, 0.5), (0.1, 0.05)]])
def test_a_fall_to_more_than_a_quarter_or_with_the_training_is_not_catastrophic(rows):
    callback = OverfittingWarning(patience=3)
    tell(callback, rows)
    assert callback.messages == []


def test_fewer_samples_mean_a_wider_margin():
    callback = OverfittingWarning(patience=3)
    tell(callback, FALLS, samples=40)
    assert callback.messages == []


def test_taken_up_again_it_goes_on_counting():
    first = OverfittingWarning(patience=3)
    tell(first, FALLS[:4])
    second = OverfittingWarning(patience=3)
    second.load_state_dict(first.state_dict())
    tell(second, FALLS[4:], first=4)
    assert len(second.messages) == 1
    assert second.state_dict()["below"] == 3


def test_without_an_attack_in_training_there_is_no_gap():
    callback = OverfittingWarning()
    trainer = SimpleNamespace(callback_metrics={"val/robust_accuracy": torch.tensor(0.5)})
    callback.on_train_epoch_end(trainer, SimpleNamespace())
    assert callback.state_dict()["best"][0] == -1.0
    with pytest.raises(ValueError, match="patience: must be at least 1, got 0"):
        OverfittingWarning(patience=0)
