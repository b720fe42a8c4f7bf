"""Natural shifts of recordings against their definitions, and the promises every one of them makes."""

import numpy as np
import pytest
import torch

from kdrobust.data import corruptions
from kdrobust.data.corruptions import SEVERITIES, SIGNAL_CORRUPTIONS, corrupt, corruptions_for
from kdrobust.errors import UsageError
from kdrobust.evaluation import corruption_result, evaluate_corruptions

EVERY = sorted(SIGNAL_CORRUPTIONS)


def recordings(count=5, length=2000):
    """A tone in the middle of silence."""
    signals = torch.zeros(count, 1, length)
    time = torch.arange(length // 2) / 8000
    for row in range(count):
        signals[row, 0, length // 4 : length // 4 + length // 2] = 0.9 * torch.sin(
            2 * torch.pi * 200 * (row + 1) * time
        )
    return signals


@pytest.mark.parametrize("name", EVERY)
def test_ranges_severities_and_addresses(name):
    inputs, keys = recordings(), torch.tensor([9, 4, 4, 1, 0])
    before, moved = inputs.clone(), []
    for severity in SEVERITIES:
        out = corrupt(inputs, name, severity, keys=keys, seed=1)
        assert out.shape == inputs.shape
        assert float(out.abs().max()) <= 1.0
        moved.append(float((out - inputs).square().mean()))
    assert torch.equal(inputs, before)
    assert moved[0] > 1e-6
    # a longer shift may bring a periodic tone back; echoes have the same energy at each severity, and last longer
    assert name in ("time_shift", "reverberation") or moved == sorted(moved)
    whole = corrupt(inputs, name, 3, keys=keys, seed=2)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.allclose(corrupt(inputs[order], name, 3, keys=keys[order], seed=2), whole[order], atol=1e-6)
    assert torch.equal(corrupt(inputs, name, 3, keys=keys, seed=3), whole) is not SIGNAL_CORRUPTIONS[name].draws


def test_white_noise_has_the_ratio_it_says():
    inputs = 0.1 * recordings()
    noise = corruptions.white_noise(inputs, torch.arange(5), decibels=18.0, seed=0) - inputs
    ratio = 20 * torch.log10(inputs.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1))
    assert ratio.tolist() == pytest.approx([18.0] * 5, abs=0.4)


def test_a_shift_moves_the_word_either_way_and_silence_follows():
    inputs = recordings(40)
    out = corruptions.time_shift(inputs, torch.arange(40), share=0.1, seed=0)
    later = [torch.equal(out[row, 0, 200:], inputs[row, 0, :-200]) for row in range(40)]
    earlier = [torch.equal(out[row, 0, :-200], inputs[row, 0, 200:]) for row in range(40)]
    assert [one != other for one, other in zip(later, earlier, strict=True)] == [True] * 40
    assert 8 < sum(later) < 32
    assert float(corruptions.time_shift(torch.ones(1, 1, 100), torch.tensor([0]), share=0.3, seed=0).sum()) == 70.0


def test_level_changes_are_what_they_say():
    inputs = recordings(2)
    assert torch.equal(corruptions.volume(inputs, factor=0.25), inputs * 0.25)
    assert torch.equal(corruptions.dc_offset(inputs, shift=0.05), (inputs + 0.05).clamp(-1, 1))


def test_a_click_in_a_room_dies_away_by_60_decibels_over_the_decay():
    click = torch.zeros(30, 1, 4000)
    click[:, 0, 0] = 0.5
    heard = corruptions.reverberation(click, torch.arange(30), decay=0.5, seed=0)[:, 0]
    assert float(heard.abs().max()) == 0.5
    assert heard[:, 0].tolist() == pytest.approx([0.5] * 30)
    # echoes carry as much energy as the click itself
    assert float((heard[:, 1:].square().sum(dim=1) / heard[:, 0].square()).mean()) == pytest.approx(1.0, abs=0.01)
    level = 10 * torch.log10(heard.square().mean(dim=0))
    slope = np.polyfit(np.arange(1, 1800), level[1:1800].numpy(), 1)[0]
    assert slope * 2000 == pytest.approx(-60.0, rel=0.05)


def test_images_and_recordings_have_corruptions_of_their_own():
    assert corruptions_for((1, 8000)) is SIGNAL_CORRUPTIONS
    assert corruptions_for((3, 8, 8)) is corruptions.CORRUPTIONS
    keys = torch.arange(5)
    with pytest.raises(ValueError, match="fog: need images"):
        corrupt(recordings(), "fog", 1, keys=keys, seed=0)
    with pytest.raises(ValueError, match="volume: need recordings"):
        corrupt(torch.rand(5, 1, 8, 8), "volume", 1, keys=keys, seed=0)
    with pytest.raises(UsageError, match="no corruption 'fog'; there are volume"):
        evaluate_corruptions(torch.nn.Flatten(), recordings(), keys, keys, names=["fog"])
    with pytest.raises(ValueError, match=r"images .* or recordings"):
        corrupt(torch.rand(5, 8), "volume", 1, keys=keys, seed=0)


def test_a_model_is_measured_on_them():
    inputs = recordings(6)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2000, 3))
    labels = model(inputs).argmax(dim=1)
    found = evaluate_corruptions(model, inputs, labels, torch.arange(6), seed=4)
    assert list(found.correct) == list(SIGNAL_CORRUPTIONS)
    # a linear model's answer to a quieter signal differs by its bias alone; counts are those of a plain loop
    answers = model(corrupt(inputs, "white_noise", 5, keys=torch.arange(6), seed=4)).argmax(dim=1)
    assert found.correct["white_noise"][5] == int((answers == labels).sum())
    assert corruption_result(found)["corruptions"]["reverberation"]["family"] == "room"
