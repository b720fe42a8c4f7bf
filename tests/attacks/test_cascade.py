"""The cascade: the official verdicts, who broke what, and that neither order nor batch size matters."""

import json

import pytest
import torch

from kdrobust.attacks import APGD, FMN, AttackResult, Cascade, GradientAttack, Square, Threat
from kdrobust.errors import UsageError
from kdrobust.evaluation.suite import evaluate
from kdrobust.randomness import address
from tests.attacks.zoo import ARRAYS, EPS, MODEL, X, Y, batch, network, tensor

RADII = sorted(key.split("/")[1] for key in ARRAYS.files if key.endswith("/robust_all"))


def standard(threat, queries=40, batch_size=250, steps=50):
    """Built like AutoAttack."""
    attacks = {
        "apgd_ce": APGD(threat=threat, steps=steps),
        "apgd_t": APGD(threat=threat, goal="dlr_targeted", steps=steps),
        "fmn": FMN(threat=threat, targets=9, stop_at_eps=True, steps=2 * steps),
        "square": Square(threat=threat, queries=queries),
    }
    return Cascade(threat=threat, attacks=attacks, batch_size=batch_size)


class Fixed:
    """An attack that breaks the samples it is told to, and remembers whom it was shown."""

    def __init__(self, breaks, threat=None, nearest=None):
        self.breaks, self.shown, self.threat, self.nearest = set(breaks), [], threat, nearest

    def run(self, model, inputs, labels, *, keys, seed, validate):
        self.shown.append(keys.tolist())
        fooled = torch.tensor([key in self.breaks for key in keys.tolist()])
        found = inputs if self.nearest is None else inputs + self.nearest
        value = torch.zeros(len(inputs))
        return AttackResult(adversarial=found, goal_start=value, goal_end=value, fooled=fooled, notes=("told so",))

    def describe(self):
        described = {} if self.threat is None else {"threat": self.threat.describe()}
        return described | ({"minimum_norm": True} if self.nearest is not None else {})


@pytest.mark.parametrize("radius", RADII)
def test_equals_the_official_verdicts(radius):
    threat = Threat(norm=radius.split("_")[0].lower(), eps=float(tensor(f"autoattack/{radius}/eps")))
    result = standard(threat, batch_size=3).run(MODEL, X, Y)
    assert torch.equal(~result.fooled, tensor(f"autoattack/{radius}/robust_all"))
    assert torch.equal(MODEL(result.adversarial).argmax(1) != Y, result.fooled)
    assert float(threat.distance(result.adversarial, X).max()) <= threat.radius + 1e-12
    by = result.extra["broken_by"]
    assert by[[3, 6]].tolist() == [-1, -1], "wrong without attack: broken by none of them"
    assert torch.equal(by >= 0, result.fooled & (MODEL(X).argmax(1) == Y))


@pytest.mark.parametrize("norm", EPS)
def test_neither_batch_size_nor_order_of_samples_or_attacks_changes_a_verdict(norm):
    model = network().eval()
    inputs, labels = batch(14, model=model)
    threat = Threat(norm=norm, eps=EPS[norm])
    keys = torch.arange(14) * 7 + 3
    whole = standard(threat, 10, steps=6).run(model, inputs, labels, keys=keys)
    assert 4 < int(whole.fooled.sum()) < 14
    order = torch.randperm(14, generator=torch.Generator().manual_seed(0))
    for size in (1, 7):
        some = standard(threat, 10, size, steps=6).run(model, inputs[order], labels[order], keys=keys[order])
        assert torch.equal(some.fooled, whole.fooled[order])
        assert torch.equal(some.extra["broken_by"], whole.extra["broken_by"][order])
        torch.testing.assert_close(some.adversarial, whole.adversarial[order], atol=1e-9, rtol=0)
    backwards = dict(reversed(standard(threat, 10, steps=6).attacks.items()))
    assert torch.equal(
        Cascade(threat=threat, attacks=backwards).run(model, inputs, labels, keys=keys).fooled, whole.fooled
    )


def test_is_the_union_of_what_its_attacks_break():
    model = network().eval()
    inputs, labels = batch(20, model=model)
    threat = Threat(norm="linf", eps=EPS["linf"])
    attacks = {
        "weak": GradientAttack(threat=threat, steps=1, step_size=0.01),
        "square": Square(threat=threat, queries=20),
        "apgd": APGD(threat=threat, steps=4),
    }
    union = torch.zeros(20, dtype=torch.bool)
    for name, attack in attacks.items():
        union |= attack.run(model, inputs, labels, seed=address(5, f"cascade/{name}")).fooled
    found = Cascade(threat=threat, attacks=attacks, batch_size=6).run(model, inputs, labels, seed=5)
    assert torch.equal(found.fooled, union)


def test_each_attack_meets_only_what_stands_of_the_whole_set():
    model = network().eval()
    inputs, labels = batch(12, model=model)  # 3, 7 and 11 are wrong without attack
    threat = Threat(norm="linf", eps=0.1)
    attacks = {"first": Fixed({0, 1, 5}), "second": Fixed({0, 2}), "third": Fixed({4, 6})}
    found = Cascade(threat=threat, attacks=attacks, batch_size=4).run(model, inputs, labels)
    assert attacks["first"].shown == [[0, 1, 2, 4], [5, 6, 8, 9], [10]]
    assert attacks["second"].shown == [[2, 4, 6, 8], [9, 10]]
    assert attacks["third"].shown == [[4, 6, 8, 9], [10]]
    assert found.extra["broken_by"].tolist() == [0, 0, 1, -1, 2, 0, 2, -1, -1, -1, -1, -1]
    assert found.notes == ("told so",)
    everything = Cascade(threat=threat, attacks={"all": Fixed(range(12)), "none": Fixed(())})
    everything.run(model, inputs, labels)
    assert everything.attacks["none"].shown == [], "nothing is left to attack"


def test_a_minimum_norm_answer_counts_within_eps_alone():
    model = network().eval()
    inputs, labels = batch(4, model=model)
    inputs = inputs * 0.5 + 0.2
    with torch.no_grad():
        labels = model(inputs).argmax(1)
    threat = Threat(norm="linf", eps=0.1)
    for nearest, broken in ((0.05, True), (0.2, False)):
        found = Cascade(threat=threat, attacks={"near": Fixed(range(4), nearest=nearest)}).run(model, inputs, labels)
        assert found.fooled.tolist() == [broken] * 4
        assert float(threat.distance(found.adversarial, inputs).max()) == pytest.approx(nearest if broken else 0.0)


def test_a_suite_gives_it_all_samples_at_once_and_keeps_who_broke_what():
    model = network(dtype=torch.float32).eval()
    inputs, labels = batch(20, model=model, dtype=torch.float32)
    threat = Threat(norm="linf", eps=EPS["linf"])
    attacks = {
        "cascade": standard(threat, 10, steps=10),
        "apgd": APGD(threat=threat, steps=50),
        "near": FMN(threat=threat, steps=20),
    }
    options = {"labels": labels, "indices": torch.arange(20), "threat": threat, "attacks": attacks}
    found = evaluate(model, inputs=inputs, batch_size=6, seed=1, checks=False, **options)
    outcome = found.attacks["cascade"]
    assert "broken_by" in outcome.extra
    broken = found.clean & ~outcome.correct
    assert (outcome.extra["broken_by"][broken] >= 0).all()
    assert (outcome.extra["broken_by"][found.clean & outcome.correct] == -1).all()
    assert not outcome.disputed.any()
    assert outcome.correct.sum() <= found.attacks["apgd"].correct.sum()
    assert found.attacks["near"].minimum_norm
    again = evaluate(model, inputs=inputs, batch_size=20, seed=1, checks=False, **options)
    for name in attacks:
        assert (again.attacks[name].correct == found.attacks[name].correct).all()


def test_described_with_its_attacks_in_order():
    described = json.loads(json.dumps(standard(Threat(norm="l2", eps=0.5)).describe()))
    assert list(described["attacks"]) == ["apgd_ce", "apgd_t", "fmn", "square"]
    assert described["attacks"]["fmn"]["minimum_norm"]
    assert "minimum_norm" not in described


@pytest.mark.parametrize(
    ("attacks", "words"),
    [
        ({}, "at least one attack"),
        ({"x": 3}, r"attacks\.x: int is no attack"),
        ({"x": APGD(threat=Threat(norm="linf", eps=0.2))}, r"attacks\.x\.threat"),
        ({"x": APGD(threat=Threat(norm="l2", eps=0.1))}, r"attacks\.x\.threat"),
    ],
)
def test_bad_settings(attacks, words):
    with pytest.raises(UsageError, match=words) as caught:
        Cascade(threat=Threat(norm="linf", eps=0.1), attacks=attacks)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"attack\.batch_size"):
        Cascade(threat=Threat(norm="linf", eps=0.1), attacks={"x": Fixed(())}, batch_size=0)


class Kept:
    """A `Partial` in memory that may be cut off after some saves, as a kill would."""

    def __init__(self, saves=None):
        self.saved, self.left = None, saves

    def load(self):
        return self.saved

    def save(self, values):
        self.saved = {name: value.clone() for name, value in values.items()}
        if self.left is not None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2, 3])
def test_one_that_was_killed_goes_on_with_the_next_attack(after):
    threat = Threat(norm="linf", eps=0.02)
    whole = standard(threat, batch_size=3).run(MODEL, X, Y)
    kept = Kept(saves=after)
    with pytest.raises(KeyboardInterrupt):
        standard(threat, batch_size=3).run(MODEL, X, Y, partial=kept)
    kept.left = None
    resumed = standard(threat, batch_size=3)
    finished = list(resumed.attacks.values())[:after]
    for attack in finished:
        attack.run = None  # calling it again would fail
    found = resumed.run(MODEL, X, Y, partial=kept)
    for name in ("adversarial", "fooled", "goal_end"):
        assert torch.equal(getattr(found, name), getattr(whole, name)), name
    assert torch.equal(found.extra["broken_by"], whole.extra["broken_by"])


def test_notes_of_attacks_before_the_kill_are_kept():
    threat = Threat(norm="linf", eps=0.02)

    def cascade():
        return Cascade(threat=threat, attacks={"one": Fixed([0]), "two": Fixed([1])})

    kept = Kept(saves=1)
    with pytest.raises(KeyboardInterrupt):
        cascade().run(MODEL, X, Y, partial=kept)
    kept.left = None
    assert cascade().run(MODEL, X, Y, partial=kept).notes == ("told so",)
