"""The square attack: its shapes, its schedule, and what a black box can and cannot hide."""

import math

import pytest
import torch

from kdrobust.attacks import Square, Threat
from kdrobust.attacks.squares import bump, draws_of_queries, next_l2, next_linf, start_l2, start_linf
from kdrobust.attacks.threat import l2_norm
from kdrobust.errors import AttackError, UsageError
from tests.attacks.zoo import EPS, MODEL, X, Y, batch, network, tensor

KEYS = torch.arange(50)
GREY = torch.full((50, 3, 12, 10), 0.5, dtype=torch.float64)
LINF, L2 = Threat(norm="linf", eps=0.1), Threat(norm="l2", eps=0.7)


def make(norm="linf", **options):
    return Square(threat=Threat(norm=norm, eps=EPS[norm]), **{"queries": 30, **options})


def draws(threat, inputs, seed):
    return draws_of_queries(threat, inputs, KEYS, seeds=[seed])[0]


def test_the_start_is_stripes():
    noise = start_linf(LINF, GREY, KEYS, seed=0) - GREY
    torch.testing.assert_close(noise.abs(), torch.full_like(noise, 0.1))
    assert torch.equal(noise, noise[:, :, :1].expand_as(noise))
    assert 0.4 < float((noise > 0).double().mean()) < 0.6
    assert len(torch.unique(noise.flatten(1), dim=0)) == 50


@pytest.mark.parametrize(("share", "side"), [(0.8, 10), (0.3, 6), (0.05, 2), (1e-6, 1)])
def test_a_change_is_one_square_of_plus_or_minus_eps(share, side):
    changed = next_linf(LINF, GREY, GREY, draws(LINF, GREY, 1), share=share) != GREY
    assert torch.equal(changed.flatten(2).sum(2), torch.full((50, 3), side * side))
    for sample in changed[:, 0]:
        rows, columns = sample.any(1).nonzero().flatten(), sample.any(0).nonzero().flatten()
        assert len(rows) == len(columns) == side
        assert int(rows[-1] - rows[0]) == int(columns[-1] - columns[0]) == side - 1
    if side < 10:
        places = torch.stack([sample.nonzero()[0] for sample in changed[:, 0]])
        assert int(places.amin()) == 0
        assert places.amax(0).tolist() == [12 - side, 10 - side], "every place is reached, the last one too"


@pytest.mark.parametrize("shape", [(1, 3, 12, 10), (1, 1, 3, 3), (1, 2, 1, 7), (1, 1, 28, 28)])
def test_l2_spends_all_of_the_radius(shape):
    inputs = torch.full(shape, 0.5, dtype=torch.float64).expand(50, *shape[1:]).clone()
    threat = Threat(norm="l2", eps=0.3)
    point = start_l2(threat, inputs, KEYS, seed=0)
    torch.testing.assert_close(threat.distance(point, inputs), torch.full((50,), 0.3).double())
    for query in range(5):
        after = next_l2(threat, point, inputs, draws(threat, inputs, query), share=0.2)
        torch.testing.assert_close(threat.distance(after, inputs), torch.full((50,), 0.3).double())
        assert not torch.equal(after, point)
        point = after


def test_l2_moves_length_from_one_square_into_another_and_leaves_the_rest():
    point = start_l2(L2, GREY, KEYS, seed=0)
    after = next_l2(L2, point, GREY, draws(L2, GREY, 3), share=0.1)
    changed = (after - point).abs() > 1e-12
    side = 3
    assert int(changed[:, 0].flatten(1).sum(1).max()) <= 2 * side * side
    emptied = (after - GREY).abs() < 1e-12
    assert bool((emptied & changed).flatten(1).any(1).float().mean() > 0.9)


def slow_bump(side):
    """The paper's double sum, entry by entry."""

    def pyramid(height, width):
        n = max(height, width) // 2
        rows = []
        for r in range(height):
            row = []
            for c in range(width):
                m = n - max(abs(r - height // 2), abs(c - width // 2))
                row.append(sum(1 / (n + 1 - k) ** 2 for k in range(m + 1)))
            rows.append(row)
        length = math.sqrt(sum(value**2 for row in rows for value in row))
        return [[value / length for value in row] for row in rows]

    whole = pyramid(side // 2, side) + [[-value for value in row] for row in pyramid(side - side // 2, side)]
    length = math.sqrt(sum(value**2 for row in whole for value in row))
    return torch.tensor(whole, dtype=torch.float64) / length


@pytest.mark.parametrize("side", [2, 3, 5, 8, 11])
def test_the_bump_equals_a_loop(side):
    torch.testing.assert_close(bump((side, side), GREY), slow_bump(side))
    assert float(l2_norm(bump((side, side), GREY)[None])) == pytest.approx(1.0)


def test_the_schedule_of_the_paper():
    attack = make(queries=10_000)
    halved = [query for query in range(2, 10_000) if attack.share(query) < attack.share(query - 1)]
    assert halved == [11, 51, 201, 1001, 2001, 4001, 6001, 8001]
    assert attack.share(1) == 0.8
    assert next(query for query in range(2, 5000) if make(queries=5000).share(query) < 0.8) == 6


@pytest.mark.parametrize("key", ["Linf_0.010000", "Linf_0.050000", "L2_0.500000"])
def test_breaks_what_the_official_square_breaks(key):
    threat = Threat(norm=key.split("_")[0].lower(), eps=float(tensor(f"autoattack/{key}/eps")))
    result = Square(threat=threat, queries=1200).run(MODEL, X, Y)
    standing = ~result.fooled
    assert bool((standing <= tensor(f"autoattack/{key}/robust_square")).all())
    assert bool((standing >= tensor(f"autoattack/{key}/robust_all")).all())


@pytest.mark.parametrize("norm", EPS)
def test_compaction_changes_no_verdict_and_saves_queries(norm):
    model, rows = network().eval(), []

    def counted(x):
        rows.append(len(x))
        return model(x)

    inputs, labels = batch(24, model=model)
    some = make(norm, restarts=2).run(counted, inputs, labels)
    spent = sum(rows) - 24
    rows.clear()
    whole = make(norm, restarts=2, compact=False).run(counted, inputs, labels)
    assert torch.equal(whole.fooled, some.fooled)
    assert torch.equal(whole.extra["queries"], some.extra["queries"])
    assert int(some.extra["queries"].sum()) == spent < sum(rows) - 24
    assert some.extra["queries"][3::4].tolist() == [0] * 6, "wrong without attack: not asked about"
    assert set(some.extra["queries"][~some.fooled].tolist()) == {60}
    assert torch.equal(model(whole.adversarial).argmax(1) != labels, whole.fooled)


def test_needs_no_gradient():
    model = network().eval()
    inputs, labels = batch(model=model)

    def hidden(x):
        assert not torch.is_grad_enabled()
        return model(x.detach())

    assert torch.equal(make().run(hidden, inputs, labels).fooled, make().run(model, inputs, labels).fooled)


def test_more_queries_never_lose():
    model = network().eval()
    inputs, labels = batch(24, model=model)
    fooled = [int(make(queries=queries).run(model, inputs, labels).fooled.sum()) for queries in (1, 10, 100)]
    assert fooled[0] <= fooled[2]
    assert fooled[2] > 6


def test_a_signal_s_squares_are_runs_of_samples():
    signal = torch.zeros(50, 2, 1, 40, dtype=torch.float64)
    threat = Threat(norm="linf", eps=0.1, bounds=(-1, 1))
    start = start_linf(threat, signal, KEYS, seed=0)
    torch.testing.assert_close(start.abs(), torch.full_like(start, 0.1))
    assert len(torch.unique(start.flatten(1), dim=0)) == 50
    changed = next_linf(threat, signal, signal, draws(threat, signal, 1), share=0.3) != 0
    assert torch.equal(changed.sum(3).flatten(1), torch.full((50, 2), 12))
    for sample in changed[:, 0, 0]:
        places = sample.nonzero().flatten()
        assert int(places[-1] - places[0]) == 11


@pytest.mark.parametrize("norm", EPS)
def test_signals_fall_like_images(norm):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(40, 3)).eval()
    signal = 0.2 * torch.randn(30, 1, 40).clamp(-1, 1)
    labels = model(signal).argmax(1)
    threat = Threat(norm=norm, eps={"linf": 0.2, "l2": 1.0}[norm], bounds=(-1, 1))
    found = Square(threat=threat, queries=60).run(model, signal, labels)
    assert found.adversarial.shape == signal.shape
    assert float(threat.distance(found.adversarial, signal).max()) <= threat.radius + 1e-6
    assert torch.equal(model(found.adversarial).argmax(1) != labels, found.fooled)
    assert int(found.fooled.sum()) > 10


def test_neither_images_nor_signals():
    with pytest.raises(AttackError, match=r"evaluation.attacks: .*signals \[B, C, T\].*~evaluation.attacks.square"):
        make().run(torch.nn.Linear(4, 3), torch.rand(2, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("key", "value"), [("queries", 0), ("p_init", 0), ("p_init", 1.1), ("restarts", 0), ("goal", "x")]
)
def test_bad_settings(key, value):
    with pytest.raises(UsageError, match=rf"attack\.{key}"):
        make(**{key: value})
