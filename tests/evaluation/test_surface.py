"""The loss surface against the model asked point by point."""

import numpy as np
import pytest
import torch
from torch import nn

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.evaluation import loss_surface


@pytest.fixture
def setting(digits):
    model, rows = digits["models"]["cnn", 0.0], slice(0, 2)
    inputs, labels, keys = (digits[name][rows] for name in ("inputs", "labels", "indices"))
    attack = GradientAttack(threat=Threat(norm="linf", eps=0.1), steps=5, step_size=0.05)
    adversarial = attack(model, inputs.float() / 255, labels, keys=keys, seed=0)
    return {"model": model, "inputs": inputs, "labels": labels, "adversarial": adversarial, "keys": keys}


def test_the_middle_is_x_and_the_end_of_the_attack_is_its_x(setting):
    found = loss_surface(**setting, seed=0, points=9, reach=1.0)
    assert found.steps.tolist() == pytest.approx(np.linspace(-1, 1, 9))
    assert found.loss.shape == found.margin.shape == (2, 9, 9)
    model, labels = setting["model"], setting["labels"]
    x = setting["inputs"].float() / 255
    for place, points in ((4, x), (8, setting["adversarial"])):
        logits = model(points).detach()
        loss = nn.functional.cross_entropy(logits, labels, reduction="none")
        assert found.loss[:, 4, place] == pytest.approx(loss.numpy(), abs=1e-5)
        right = (logits.argmax(dim=1) == labels).tolist()
        assert (found.margin[:, 4, place] > 0).tolist() == right
    moved = (setting["adversarial"] - x).flatten(1)
    assert found.length == pytest.approx(moved.norm(dim=1).numpy(), rel=1e-6)
    # the attack climbs more along its own direction than along a random one
    assert (found.loss[:, 4, 8] > found.loss[:, 8, 4]).all()


def test_the_other_direction_is_orthogonal_as_long_and_addressed():
    seen = []

    class Watch(nn.Module):
        def forward(self, inputs):
            seen.append(inputs.clone())
            return torch.zeros(len(inputs), 3)

    x = torch.full((2, 1, 6, 6), 0.5)
    generator = torch.Generator().manual_seed(0)
    adversarial = x + 0.01 * torch.randn(x.shape, generator=generator)
    arguments = {"labels": torch.zeros(2, dtype=torch.long), "points": 3, "reach": 1.0, "batch_size": 9}
    loss_surface(Watch(), x, adversarial=adversarial, keys=torch.tensor([5, 9]), seed=0, **arguments)
    along = [(planes[5] - planes[4]).flatten() for planes in seen]
    side = [(planes[7] - planes[4]).flatten() for planes in seen]
    for a, b in zip(along, side, strict=True):
        assert float(a.norm()) == pytest.approx(float(b.norm()), rel=1e-4)
        assert abs(float(a @ b)) < 1e-4 * float(a.norm()) ** 2
    first = seen[:]
    seen.clear()
    loss_surface(
        Watch(),
        x[1:],
        adversarial=adversarial[1:],
        keys=torch.tensor([9]),
        seed=0,
        **{**arguments, "labels": torch.zeros(1, dtype=torch.long)},
    )
    assert torch.equal(seen[0], first[1])
    seen.clear()
    loss_surface(Watch(), x, adversarial=adversarial, keys=torch.tensor([5, 9]), seed=1, **arguments)
    assert not torch.allclose(seen[0][7], first[0][7])


def test_points_stay_in_the_box_and_batches_change_nothing(setting):
    reference = loss_surface(**setting, seed=0, points=5, reach=30.0)
    assert np.isfinite(reference.loss).all()
    again = loss_surface(**setting, seed=0, points=5, reach=30.0, batch_size=3)
    assert again.loss == pytest.approx(reference.loss, abs=1e-4)


def test_an_attack_that_did_nothing_no_samples_and_nonsense(setting):
    still = {**setting, "adversarial": setting["inputs"].float() / 255}
    found = loss_surface(**still, seed=0, points=3)
    assert np.ptp(found.loss, axis=(1, 2)) == pytest.approx(0.0, abs=1e-6)
    nothing = {key: value if key == "model" else value[:0] for key, value in setting.items()}
    assert loss_surface(**nothing, seed=0).loss.shape == (0, 25, 25)
    with pytest.raises(ValueError, match="at least 3 points"):
        loss_surface(**setting, seed=0, points=2)
    with pytest.raises(ValueError, match="reach"):
        loss_surface(**setting, seed=0, reach=0.0)
    with pytest.raises(ValueError, match="same shape"):
        loss_surface(**{**setting, "labels": setting["labels"][:1]}, seed=0)
