import pytest
import torch

from kdrobust import randomness
from kdrobust.randomness import address, generator, normal, uniform


def test_a_block_depends_on_its_key_alone():
    keys = torch.arange(100)
    whole = uniform(keys, (3, 4), seed=7)
    some = torch.tensor([42, 3, 99])
    assert torch.equal(uniform(some, (3, 4), seed=7), whole[some])
    assert not torch.equal(uniform(keys, (3, 4), seed=8), whole)


def test_moments_and_independence():
    draw = uniform(torch.arange(500), (200,), seed=1, dtype=torch.float64)
    assert float(draw.min()) >= 0.0
    assert float(draw.max()) < 1.0
    assert abs(float(draw.mean()) - 0.5) < 0.005
    assert abs(float(draw.var()) - 1 / 12) < 0.001
    correlation = torch.corrcoef(draw[:60]).fill_diagonal_(0.0)
    assert float(correlation.abs().max()) < 0.35
    bell = normal(torch.arange(500), (200,), seed=1, dtype=torch.float64)
    assert abs(float(bell.mean())) < 0.01
    assert abs(float(bell.std()) - 1.0) < 0.01
    assert abs(float((bell**4).mean()) - 3.0) < 0.1
    assert bool(bell.isfinite().all())


def test_addresses_do_not_collide_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    seen = {address(s, p, e, t) for s in range(5) for p in ("a", "b") for e in range(10) for t in range(10)}
    assert len(seen) == 5 * 2 * 10 * 10
    assert address(1, "a", 23) != address(1, "a", 2, 3)
    first = torch.randperm(10, generator=generator(0, "shuffle", 3))
    assert torch.equal(first, torch.randperm(10, generator=generator(0, "shuffle", 3)))
    uniform(torch.arange(3), (2,), seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_draws_of_every_type_stay_below_one_and_their_normals_finite(dtype):
    draw = uniform(torch.arange(2000), (50,), seed=0, dtype=dtype)
    assert draw.dtype == dtype
    assert 0.0 <= float(draw.min()) <= float(draw.max()) < 1.0
    assert abs(float(draw.double().mean()) - 0.5) < 0.003
    bell = normal(torch.arange(2000), (50,), seed=0, dtype=dtype)
    assert bell.dtype == dtype
    assert bool(bell.isfinite().all())
    assert abs(float(bell.double().std()) - 1.0) < 0.01


def test_the_pieces_of_a_large_draw_do_not_show(monkeypatch):
    keys = torch.tensor([5, -7, 2**62, 0, 11])
    whole = [draw(keys, (3, 2), seed=9) for draw in (uniform, normal)]
    monkeypatch.setattr(randomness, "_CACHED", 13)
    assert all(
        torch.equal(kept, draw(keys, (3, 2), seed=9)) for kept, draw in zip(whole, (uniform, normal), strict=True)
    )
    assert uniform(keys[:0], (3, 2), seed=9).shape == (0, 3, 2)


def test_draws_stay_what_they_were():
    """Results of earlier versions can be had again only if every address keeps its number."""
    keys = torch.tensor([0, 1, -3])
    assert torch.equal(
        uniform(keys, (2,), seed=4),
        torch.tensor(
            [
                [0.06858551502227783, 0.7803019285202026],
                [0.6263197660446167, 0.6066957116127014],
                [0.7418155670166016, 0.12047380208969116],
            ]
        ),
    )
    assert torch.allclose(
        normal(keys, (2,), seed=4),
        torch.tensor(
            [
                [-0.03936905413866043, 2.224977731704712],
                [1.4653747081756592, -0.3346930742263794],
                [0.004054225981235504, 0.08359219133853912],
            ]
        ),
        rtol=1e-6,
    )
