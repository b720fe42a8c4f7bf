"""Rows about training: the inner attack and the whole distillation step, on made-up pixels."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from typing import Any

import plain
import torch
from timing import alternate
from torch import Tensor, nn
from torch.nn import functional as F

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.attacks.kernels import climbed
from kdrobust.config import compose, numbers
from kdrobust.data.batch import Batch
from kdrobust.losses import Objective
from kdrobust.models import MLP, Classifier, ConvNet, MobileNetV2, ResNet
from kdrobust.modules import DistillationModule
from kdrobust.spec import InputSpec

EPS, SIZE = 8 / 255, 2 / 255
COLOUR = InputSpec(shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.25] * 3)
GREY = InputSpec(shape=(1, 28, 28), classes=10, mean=[0.5], std=[0.25])
DIGITS = InputSpec(shape=(1, 8, 8), classes=10, mean=[0.5], std=[0.25])
#: Row to (network, data's shape, batch size).
SHAPES: Mapping[str, tuple[Callable[[InputSpec], nn.Module], InputSpec, int]] = {
    "resnet18": (lambda spec: ResNet(spec=spec), COLOUR, 64),
    "resnet18_128": (lambda spec: ResNet(spec=spec), COLOUR, 128),
    "mobilenet_v2": (lambda spec: MobileNetV2(spec=spec), COLOUR, 64),
    "small_cnn": (lambda spec: ConvNet(spec=spec, channels=(16, 32, 64), hidden=64), GREY, 128),
    "mlp": (lambda spec: MLP(spec=spec), DIGITS, 128),
}
PRECISIONS = ("exact", "fp32", "bf16", "auto")


def _network(make: Callable[[InputSpec], nn.Module], spec: InputSpec, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(make(spec), spec=spec, normalize=True)


def _batch(spec: InputSpec, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(size, *spec.shape, generator=generator), torch.randint(0, 10, (size,), generator=generator)


def attack(shape: str, *, steps: int, repeats: int) -> dict[str, dict[str, Any]]:
    """RSLAD's inner maximisation: the plain loop, ours in each form, and the floor.

    The floor is forward and backward to the input in the form `auto` climbs, times the steps, with nothing around.
    """
    make, spec, size = SHAPES[shape]
    model, teacher = _network(make, spec).train(), _network(make, spec, seed=1).eval().requires_grad_(False)
    inputs, labels = _batch(spec, size)
    with torch.no_grad():
        logits = teacher(inputs)
    soft = logits.softmax(dim=1)

    def ours(precision: str) -> Callable[[], Tensor]:
        climbing = GradientAttack(
            threat=Threat(norm="linf", eps=EPS), goal="kl_to_teacher", steps=steps, step_size=SIZE, start="normal",
            precision=precision,
        )  # fmt: skip
        return lambda: climbing(model, inputs, labels, teacher_logits=logits, validate=False)

    def floor() -> Tensor:
        model.eval()
        form, point = climbed(model, "auto", inputs), inputs.clone().requires_grad_(True)
        for _ in range(steps):
            torch.autograd.grad(form(point).sum(), point)
        model.train()
        return inputs

    runs: dict[str, Callable[[], Tensor]] = {
        "plain RSLAD loop": lambda: plain.rslad_attack(model, soft, inputs, eps=EPS, size=SIZE, steps=steps),
        **{f"kdrobust, precision={precision}": ours(precision) for precision in PRECISIONS},
        "floor": floor,
    }
    # as inside our attack: what is compared is the attack, not the graph's bookkeeping
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    table = alternate(runs, repeats)
    model.eval()
    for row in table.values():
        with torch.no_grad():
            found = F.kl_div(F.log_softmax(model(row.pop("answer")), dim=1), soft, reduction="none").sum(dim=1).mean()
        row["reached"] = {"KL": float(found)}
    table["floor"].pop("reached")
    return table


def step(*, steps: int, repeats: int, size: int = 64) -> dict[str, dict[str, Any]]:
    """A whole RSLAD step, ResNet-18 from a live ResNet-34: teacher, attack, both student passes, update."""
    student = _network(SHAPES["resnet18"][0], COLOUR)
    teacher = _network(lambda spec: ResNet(spec=spec, blocks=(3, 4, 6, 3)), COLOUR, seed=1)
    teacher.eval().requires_grad_(False)
    inputs, labels = _batch(COLOUR, size)

    def update(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)

    def reference() -> Callable[[], float]:
        own = copy.deepcopy(student)
        rule = update(own)
        return lambda: plain.rslad_step(own, teacher, rule, inputs, eps=EPS, size=SIZE, steps=steps)

    def ours(precision: str, half: bool) -> Callable[[], float]:
        objective = Objective(numbers(compose("distill", ["method=rslad"]).method))
        objective.prepare(classes=10)
        own = copy.deepcopy(student)
        module = DistillationModule(
            model=own,
            objective=objective,
            optimizer=update,
            teachers={"teacher": teacher},
            teacher_precision=precision,
        )
        rule = update(own)
        climbing = GradientAttack(
            threat=Threat(norm="linf", eps=EPS), goal="kl_to_teacher", steps=steps, step_size=SIZE, start="normal",
            precision=precision,
        )  # fmt: skip

        def run() -> float:
            own.train()
            batch = Batch(inputs=inputs, labels=labels, indices=torch.arange(size))
            context = torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()
            with context:
                batch.adversarial = module.craft(climbing, batch, where=0)
                loss = objective(module.views(batch), 0.0).loss
            rule.zero_grad()
            loss.backward()
            rule.step()
            return float(loss.detach())

        return run

    runs = {
        "plain RSLAD step": reference(),
        "kdrobust, attack and teacher.precision=exact": ours("exact", False),
        "kdrobust, attack and teacher.precision=bf16": ours("bf16", False),
        "kdrobust, attack, teacher and trainer.precision=bf16": ours("bf16", True),
    }
    table = alternate(runs, repeats)
    for row in table.values():
        row["reached"] = {"loss": row.pop("answer")}
    return table
