"""Two gloo processes: what they keep is equal, what is a statistic of the batch is that of the whole batch."""

import pytest
import torch

from kdrobust.distributed import shard_frozen
from tests.processes import CASES, RELATIONS, RUNS, learning, moved, relation, train, two_processes, weighting

pytestmark = pytest.mark.ddp
LABELS = [*CASES, "adapter"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return two_processes(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def ranks(both):
    return both[0]


@pytest.fixture(scope="module")
def methods(both):
    return both[1]


def equal(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def close(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", RELATIONS)
def test_a_global_relation_is_that_of_the_whole_batch(ranks, name):
    value, gradient = relation(name)
    found = [rank["relations"][name] for rank in ranks]
    for theirs, _ in found:
        torch.testing.assert_close(theirs, value, rtol=1e-12, atol=1e-12)
    # the average over the processes, as DDP takes it, of gradients to each one's own samples
    torch.testing.assert_close(torch.cat([theirs for _, theirs in found]) / 2, gradient, rtol=1e-10, atol=1e-12)
    assert float(gradient.abs().max()) > 0


def test_a_weight_relative_to_the_batch_mean_is_relative_to_the_whole_batch_s(ranks):
    torch.testing.assert_close(torch.cat([rank["weighting"] for rank in ranks], dim=1), weighting())


@pytest.mark.parametrize("label", LABELS)
def test_unequal_shares_leave_the_same_state_on_all_processes(ranks, label):
    equal(ranks[0]["unequal"][label], ranks[1]["unequal"][label])


@pytest.mark.parametrize("label", [label for label in LABELS if label != "mtard"])
def test_two_processes_learn_what_one_with_the_whole_batch_learns(ranks, methods, label):
    close(ranks[0]["unequal"][label], train(methods[label]))


def test_a_balance_follows_the_mean_of_the_processes_losses(ranks, methods):
    # the loss of several processes is the mean of theirs: with equal shares, the whole batch's
    close(ranks[0]["equal"]["mtard"], train(methods["mtard"]))
    kept = ranks[0]["unequal"]["mtard"]
    assert bool(kept["objective.state.balance.started"])
    assert float(kept["objective.state.balance.weights"].sum()) == pytest.approx(1.0)
    assert float(kept["objective.state.balance.weights"][0]) != 0.5


@pytest.mark.parametrize(
    ("label", "key", "start"),
    [
        ("fair_ard", "state.sample_weight.weights", 1.0),
        ("fair_rslad", "state.sample_weight.weights", 1.0),
        ("absld", "state.adversarial.temperatures", 1.0),
        ("absld", "state.clean.temperatures", 1.0),
        ("triangle", "state.weighting.counts", 0.0),
        ("curriculum", "state.knowledge.raw_temperature", 1.0),
    ],
)
def test_the_state_that_is_compared_has_moved(ranks, label, key, start):
    assert bool((ranks[0]["unequal"][label][f"objective.{key}"] != start).any())


@pytest.mark.parametrize("label", RUNS)
def test_every_method_trains_on_two_processes(ranks, label):
    first, second = (rank["runs"][label] for rank in ranks)
    assert first["steps"] == second["steps"] == 3
    equal({k: v for k, v in first["weights"].items() if not k.startswith("metrics")},
          {k: v for k, v in second["weights"].items() if not k.startswith("metrics")})  # fmt: skip
    assert all(bool(value.isfinite().all()) for value in first["weights"].values() if value.is_floating_point())
    for name in ("train/loss", "val/accuracy", "val/robust_accuracy"):
        assert first["metrics"][name] == second["metrics"][name], name


@pytest.mark.parametrize("label", ["ema", "swa"])
def test_averaged_weights_are_equal_on_all_processes(ranks, label):
    first, second = (rank["runs"][label]["callbacks"]["AveragedWeights"] for rank in ranks)
    equal(first["weights"], second["weights"])
    assert first["count"] == second["count"] == (3 if label == "ema" else 1)
    assert first["best"] == second["best"]


def test_weights_are_perturbed_alike_and_as_the_whole_batch_says(ranks, methods):
    first, second = (rank["moved"] for rank in ranks)
    equal(first, second)
    close(first, moved(methods["rslad"]))
    plain = learning(methods["rslad"])[0].model.state_dict()
    assert float((first["0.weight"] - plain["0.weight"]).norm()) == pytest.approx(0.1 * float(plain["0.weight"].norm()))
    trained = [ranks[0]["runs"][label]["weights"]["model.network.head.weight"] for label in ("awp", "rslad")]
    assert not torch.equal(*trained)


def test_ranks_that_differ_are_told_at_the_start_and_at_the_end(ranks):
    for rank in ranks:
        said = rank["complaints"]
        assert "different configurations" in said["start"]
        assert "different configurations" in said["end"]
        assert "trained different weights (0.weight)" in said["weights"]
        assert said["buffers"] == said["nothing"] == ""


def test_a_teacher_in_shares_teaches_what_the_whole_one_does(ranks):
    for rank in ranks:
        whole, sharded = (rank["runs"][label] for label in ("whole", "sharded"))
        # this method's attack takes the teacher's gradients to its inputs
        equal({k: v for k, v in sharded["weights"].items() if not k.startswith("metrics")},
              {k: v for k, v in whole["weights"].items() if not k.startswith("metrics")})  # fmt: skip
        assert sharded["metrics"] == whole["metrics"]
    numbers = [[rank["runs"][label]["teacher_numbers"] for label in ("whole", "sharded")] for rank in ranks]
    assert numbers[0][0] == numbers[1][0] == numbers[0][1] + numbers[1][1]
    assert max(sharded for _, sharded in numbers) < 0.6 * numbers[0][0]


def test_only_what_is_frozen_is_sharded():
    with pytest.raises(ValueError, match="frozen"):
        shard_frozen(torch.nn.Linear(2, 2), torch.device("cpu"))
