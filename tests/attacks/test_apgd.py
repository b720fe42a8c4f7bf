"""APGD: the authors' arrays, and that letting samples go changes no verdict."""

import pytest
import torch

from kdrobust.attacks import APGD, GradientAttack, Square, Threat
from kdrobust.attacks.ascent import _checkpoints
from kdrobust.attacks.goals import GOALS, NEED_TARGETS, dlr_targeted, likeliest_others, margin, margin_targeted
from kdrobust.errors import UsageError
from tests.attacks.zoo import EPS, MODEL, X, Y, batch, network, tensor

TAGS = {"linf_e8": 8 / 255, "linf_e100m": 0.1, "l2_e500m": 0.5, "l2_e1500m": 1.5}
GOAL = {"ce": "cross_entropy", "dlr": "dlr", "t_dlr": "dlr_targeted"}


def make(norm="linf", **options):
    return APGD(threat=Threat(norm=norm, eps=EPS[norm]), **options)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("goal", GOAL)
def test_equals_the_official_arrays(goal, tag):
    attack = APGD(
        threat=Threat(norm=tag.split("_")[0], eps=TAGS[tag]), goal=GOAL[goal], steps=50, rho=0.75, compact=False
    )
    targets = tensor("y_target") if goal == "t_dlr" else None
    ours = attack.climb(MODEL, X, Y, initial=tensor(f"start/apgd_{tag}"), targets=targets)
    official = {
        name: tensor(f"apgd_{goal}/{tag}/official_{name}")
        for name in ("x_best_loss", "x_best_adv", "still_correct", "best_loss")
    }
    torch.testing.assert_close(ours.best, official["x_best_loss"], atol=1e-9, rtol=0)
    torch.testing.assert_close(ours.fooling, official["x_best_adv"], atol=1e-9, rtol=0)
    torch.testing.assert_close(ours.best_value, official["best_loss"], atol=1e-9, rtol=0)
    assert torch.equal(~ours.fooled, official["still_correct"])


def test_compaction_gives_the_same_paths_to_those_that_stay():
    for tag in ("linf_e8", "l2_e500m"):
        options = {"threat": Threat(norm=tag.split("_")[0], eps=TAGS[tag]), "steps": 50}
        start = tensor(f"start/apgd_{tag}")
        whole = APGD(compact=False, **options).climb(MODEL, X, Y, initial=start)
        some = APGD(compact=True, **options).climb(MODEL, X, Y, initial=start)
        assert torch.equal(some.fooled, whole.fooled)
        stays = ~whole.fooled
        torch.testing.assert_close(some.best[stays], whole.best[stays], atol=1e-12, rtol=0)
        assert torch.equal(MODEL(some.fooling).argmax(1) != Y, some.fooled)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("goal", ["cross_entropy", "dlr", "margin", "dlr_targeted", "margin_targeted"])
def test_compaction_changes_no_verdict_and_saves_work(norm, goal):
    model, rows = network().eval(), []

    def counted(x):
        rows.append(len(x))
        return model(x)

    inputs, labels = batch(24, model=model)
    options = {"goal": goal, "steps": 8, "restarts": 2, "targets": 3}
    whole = make(norm, compact=False, **options).run(counted, inputs, labels)
    spent = sum(rows)
    rows.clear()
    some = make(norm, **options).run(counted, inputs, labels)
    assert torch.equal(whole.fooled, some.fooled)
    assert sum(rows) < 0.8 * spent
    assert torch.equal(model(some.adversarial).argmax(1) != labels, some.fooled)
    standing = ~some.fooled
    torch.testing.assert_close(some.adversarial[standing], whole.adversarial[standing], atol=1e-9, rtol=0)


def test_samples_wrong_without_attack_cost_one_look():
    model, calls = network().eval(), []

    def counted(x):
        calls.append(len(x))
        return model(x)

    inputs, labels = batch(8, model=model)
    wrong = (labels + 1 + (labels == model(inputs).argmax(1)).long()) % 5
    wrong = torch.where(wrong == model(inputs).argmax(1), (wrong + 1) % 5, wrong)
    result = make().run(counted, inputs, wrong)
    assert bool(result.fooled.all())
    assert calls == [8]


@pytest.mark.parametrize(("steps", "expected"), [(100, [22, 41, 57, 70, 80, 87, 93, 99]), (50, [11, 21, 30, 38, 45])])
def test_checkpoints_of_the_paper(steps, expected):
    found = sorted(_checkpoints(steps))
    assert found[: len(expected)] == expected
    assert sorted(_checkpoints(1)) == [1]


def test_finds_more_than_a_fixed_step_of_the_first_length():
    threat = Threat(norm="linf", eps="8/255")
    fixed = GradientAttack(threat=threat, goal="margin", steps=50, step_size="16/255", keep="best").run(MODEL, X, Y)
    own = APGD(threat=threat, goal="margin", steps=50, start="none", compact=False).climb(MODEL, X, Y, initial=X)
    assert bool((own.best_value >= fixed.goal_end - 1e-12).all())


def test_targets_are_the_likeliest_other_classes():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    labels = torch.tensor([0, 2])
    assert likeliest_others(logits, labels, 2).tolist() == [[2, 1], [3, 1]]
    assert likeliest_others(logits, labels, 9).shape == (2, 3)
    seen = []
    model = network().eval()

    def goal(target):
        seen.append(target.targets)
        return GOALS["margin"](target)

    make(goal=goal, steps=1).run(model, *batch(4, model=model))
    assert seen == [None, None], "a goal of one's own is not aimed"


@pytest.mark.parametrize("goal", NEED_TARGETS)
def test_targeted_goals_break_at_least_what_their_likeliest_class_breaks(goal):
    model = network().eval()
    inputs, labels = batch(24, model=model)
    one = make(goal=goal, steps=8, targets=1).run(model, inputs, labels)
    all_classes = make(goal=goal, steps=8, targets=4).run(model, inputs, labels)
    assert bool((all_classes.fooled >= one.fooled).all())
    assert int(one.fooled.sum()) > 6


def test_margin_targeted_is_the_margin_of_the_wanted_class():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
    labels, targets = torch.arange(6) % 5, (torch.arange(6) + 2) % 5
    assert torch.equal(margin_targeted(logits, labels, targets), logits[range(6), targets] - logits[range(6), labels])
    every = torch.stack([margin_targeted(logits, labels, (labels + k) % 5) for k in range(1, 5)])
    assert torch.equal(every.amax(0), margin(logits, labels))
    assert torch.equal(dlr_targeted(logits, labels, targets).sign(), margin_targeted(logits, labels, targets).sign())


@pytest.mark.parametrize(("goal", "classes", "climbed"), [("dlr_targeted", 3, "margin_targeted"), ("dlr", 2, "margin")])
def test_too_few_classes_for_a_ratio_climb_its_margin(goal, classes, climbed):
    model = network(classes=classes).eval()
    inputs = torch.rand(24, 1, 6, 6).double()
    labels = model(inputs).argmax(1)
    found = make(goal=goal, steps=5).run(model, inputs, labels)
    assert found.notes == (f"{goal} is not defined for {classes} classes: climbed {climbed}",)
    wanted = make(goal=climbed, steps=5).run(model, inputs, labels)
    assert torch.equal(found.adversarial, wanted.adversarial)
    assert make(goal=climbed, steps=1).run(model, inputs, labels).notes == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 0),
        ("rho", 1.5),
        ("rho", -1),
        ("restarts", 0),
        ("targets", 0),
        ("start", "gauss"),
        ("goal", "dlrr"),
        ("eot", 0),
    ],
)
def test_bad_settings(key, value):
    with pytest.raises(UsageError, match=rf"attack\.{key}") as caught:
        make(**{key: value})
    assert "\n" not in str(caught.value)


def test_describe_names_the_targets_of_targeted_goals_alone():
    assert "targets" not in make().describe()
    assert make(goal="dlr_targeted", targets=4).describe()["targets"] == 4


@pytest.mark.parametrize(
    ("broken", "gradient", "scale_free", "black_box"),
    [("plain", 0.125, 0.125, 0.125), ("scaled", 0.75, 0.125, 0.125), ("rounded", 0.625, 0.625, 0.125)],
)
def test_known_maskings_show_as_in_the_official_attacks(broken, gradient, scale_free, black_box):
    """Accuracies of the fixtures in vectors/attacks.md: what cross-entropy misses, DLR or a black box finds."""
    models = {
        "plain": lambda x: MODEL(x.double()).float(),
        "scaled": lambda x: 1e3 * MODEL(x.double()).float(),
        "rounded": lambda x: MODEL((x.double() * 8).round() / 8).float() + 0 * x.sum(),
    }
    threat, x = Threat(norm="linf", eps=0.05), X.float()

    def accuracy(attack):
        return float((~attack.run(models[broken], x, Y).fooled).float().mean())

    # with saturated or missing gradients it is a few random starts that decide
    assert accuracy(APGD(threat=threat)) == pytest.approx(gradient, abs=0.0 if broken == "plain" else 0.25)
    assert accuracy(APGD(threat=threat, goal="dlr")) == pytest.approx(
        scale_free, abs=0.25 if broken == "rounded" else 0
    )
    assert accuracy(Square(threat=threat, queries=1000)) == black_box
    if broken != "plain":
        assert accuracy(APGD(threat=threat)) > black_box


@pytest.mark.parametrize("kind", ["apgd", "square"])
def test_the_exact_model_has_the_last_word(kind, monkeypatch):
    """A form of the model that never answers wrong, but climbs as the model does: what it missed is found at the end."""
    threat = Threat(norm="linf", eps=EPS["linf"])
    options = {"threat": threat, "goal": "margin", "precision": "fp32"}
    attack = APGD(steps=20, **options) if kind == "apgd" else Square(queries=30, **options)
    exact = attack.run(MODEL, X, Y)
    assert exact.fooled[MODEL(X).argmax(1) == Y].any()

    class Sure:
        """Adds to the true class: the margin's gradient, and the order of its values, stay."""

        def __call__(self, inputs):
            rows = torch.cdist(inputs.flatten(1), X.flatten(1)).argmin(dim=1)
            return MODEL(inputs) + 1e3 * torch.nn.functional.one_hot(Y[rows], MODEL(X).shape[1])

    monkeypatch.setattr("kdrobust.attacks.samples.climbed", lambda *_: Sure())
    found = attack.run(MODEL, X, Y)
    assert torch.equal(MODEL(found.adversarial).argmax(1) != Y, found.fooled)
    assert torch.equal(found.fooled, exact.fooled)
