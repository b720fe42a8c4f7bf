"""Under DDP an attack talks to nobody: its steps are the program, and a collective in each would be its price."""

import functools

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.data import Batch
from kdrobust.losses import Objective
from kdrobust.modules import DistillationModule

METHOD = {"terms": {"adversarial": {"loss": "soft_target", "student": "adversarial", "teacher": "clean"}}}


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def collectives(run):
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    return sum(event.count for event in seen.key_averages() if event.key.startswith(("c10d::", "gloo:")))


@pytest.mark.parametrize("model_mode", ["eval", "train"])
@pytest.mark.parametrize("precision", ["exact", "bf16"])
def test_an_attack_makes_no_collective(group, model_mode, precision):
    module = DistillationModule(
        model=network(),
        objective=Objective(METHOD),
        optimizer=functools.partial(torch.optim.SGD, lr=0.1),
        teachers={"teacher": network().eval().requires_grad_(False)},
    )
    batch = Batch(inputs=torch.rand(6, 1, 8, 8), labels=torch.arange(6) % 3, indices=torch.arange(6))
    attack = GradientAttack(
        threat=Threat(norm="linf", eps=0.1), goal="kl_to_teacher", steps=4, step_size=0.05, start="normal",
        model_mode=model_mode, precision=precision,
    )  # fmt: skip
    wrapped = DistributedDataParallel(module.model)

    def crafted():
        batch.adversarial = module.craft(attack, batch, where=0)

    assert collectives(crafted) == 0
    assert float((batch.adversarial - batch.inputs).abs().max()) == pytest.approx(0.1)
    # what is counted can be counted
    assert collectives(lambda: wrapped(batch.adversarial).sum().backward()) > 0
