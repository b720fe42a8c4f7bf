"""Attacked inputs are made once, and made again where anything that decides them is another."""

import torch

from kdrobust.attacks import JointAttack, Threat
from kdrobust.detection.crafting import craft, kind_of
from kdrobust.models import restore_classifier
from tests import detectors


class Counting:
    """An attack that counts how often it is run."""

    def __init__(self, **more):
        self.inner = detectors.attack(**more)
        self.runs = 0

    def run(self, model, inputs, labels, *, keys, seed):
        self.runs += 1
        return self.inner.run(model, inputs, labels, keys=keys, seed=seed)

    def describe(self):
        return self.inner.describe()


def made(place, folder, attack, *, seed=0, batch_size=500, rows=30, **context):
    model = restore_classifier(place / "classifier" / "best.ckpt").eval()
    split = detectors.digits().split("test")
    chosen = torch.arange(rows)
    return craft(
        attack,
        model,
        split.pixels(chosen),
        split.labels[chosen],
        split.indices[chosen],
        name="pgd",
        context={"model": "a", **context},
        folder=folder,
        seed=seed,
        batch_size=batch_size,
    )


def test_it_is_made_once_and_read_after(place, tmp_path):
    attack = Counting(start="uniform")
    first = made(place, tmp_path, attack)
    again = made(place, tmp_path, attack, batch_size=7)
    assert attack.runs == 1
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.fooled, again.fooled)
    assert again.fooled.dtype == torch.bool
    assert 0 < int(first.fooled.sum()) <= 30


def test_the_batch_size_changes_nothing(place, tmp_path):
    one = made(place, tmp_path / "a", Counting(start="uniform"))
    other = made(place, tmp_path / "b", Counting(start="uniform"), batch_size=7)
    assert torch.allclose(one.inputs, other.inputs, atol=1e-6)


def test_another_question_is_another_file(place, tmp_path):
    made(place, tmp_path, Counting())
    for more in ({"seed": 1}, {"split": "train"}, {"rows": 20}):
        attack = Counting()
        made(place, tmp_path, attack, **more)
        assert attack.runs == 1, more
    attack = Counting(eps=0.1)
    made(place, tmp_path, attack)
    assert attack.runs == 1
    assert len(list(tmp_path.glob("*.npz"))) == 5


def test_a_damaged_file_is_made_again(place, tmp_path):
    first = made(place, tmp_path, Counting())
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    attack = Counting()
    assert torch.equal(made(place, tmp_path, attack).inputs, first.inputs)
    assert attack.runs == 1


def test_kinds():
    kinds = {
        kind_of(detectors.attack(steps=1).describe()),
        kind_of(detectors.attack(steps=5).describe()),
        kind_of(detectors.attack(steps=5, goal="margin").describe()),
        kind_of(detectors.attack(steps=5, momentum=1.0).describe()),
        kind_of(JointAttack(threat=Threat(norm="linf", eps=0.1)).describe()),
        kind_of(JointAttack(threat=Threat(norm="l2", eps=0.1)).describe()),
    }
    assert len(kinds) == 6
    # ε, the number of steps and starts are no kinds of attack
    assert kind_of(detectors.attack(eps=0.1, steps=9, start="uniform").describe()) in kinds
