"""Rows about training: the inner attack and the whole distillation step, on made-up pixels."""

from __future__ import annotations

import contextlib
import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
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
#: Shapes that are compiled, too: it takes half a minute.
COMPILED = ("resnet18",)
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

    def ours(precision: str, compile: bool = False) -> Callable[[], Tensor]:
        climbing = GradientAttack(
            threat=Threat(norm="linf", eps=EPS), goal="kl_to_teacher", steps=steps, step_size=SIZE, start="normal",
            precision=precision, compile=compile,
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
        **({"kdrobust, precision=bf16, compile=true": ours("bf16", compile=True)} if shape in COMPILED else {}),
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


#: Row of a whole step to (student, batch size); the teacher is a ResNet-34.
STUDENTS: Mapping[str, tuple[Callable[[InputSpec], nn.Module], int]] = {
    "resnet18": (SHAPES["resnet18"][0], 64),
    "small_resnet": (lambda spec: ResNet(spec=spec, width=0.25), 128),
}


def _update(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)


def _our_step(
    student: nn.Module,
    teachers: Mapping[str, nn.Module],
    inputs: Tensor,
    labels: Tensor,
    *,
    precision: str,
    steps: int,
    answers: str | None = None,
    half: bool = False,
    outputs: Mapping[str, Tensor] | None = None,
) -> Callable[[], float]:
    method = numbers(compose("distill", ["method=rslad"]).method)
    for name in list(teachers)[1:]:
        # a method of several teachers: another soft target each
        method["terms"][name] = {**method["terms"]["clean"], "teacher": f"{name}.clean"}
    objective = Objective(method)
    objective.prepare(classes=10)
    own = copy.deepcopy(student)
    module = DistillationModule(
        model=own, objective=objective, optimizer=_update, teachers=teachers, teacher_precision=answers or precision
    )
    rule = _update(own)
    climbing = GradientAttack(
        threat=Threat(norm="linf", eps=EPS), goal="kl_to_teacher", steps=steps, step_size=SIZE, start="normal",
        precision=precision,
    )  # fmt: skip

    def run() -> float:
        own.train()
        batch = Batch(inputs=inputs, labels=labels, indices=torch.arange(len(inputs)), outputs=dict(outputs or {}))
        context = torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()
        with context:
            batch.adversarial = module.craft(climbing, batch, where=0)
            loss = objective(module.views(batch), 0.0).loss
        rule.zero_grad()
        loss.backward()
        rule.step()
        return float(loss.detach())

    return run


def step(shape: str, *, steps: int, repeats: int) -> dict[str, dict[str, Any]]:
    """A whole RSLAD step of a student of ResNet-34: teacher, attack, both student passes, update.

    The floor is the same number of passes in the fastest form (the student's backward in autocast), with no loss,
    projection, update or teacher's answer to wait for but one forward.
    """
    make, size = STUDENTS[shape]
    student = _network(make, COLOUR)
    teacher = _network(lambda spec: ResNet(spec=spec, blocks=(3, 4, 6, 3)), COLOUR, seed=1)
    teacher.eval().requires_grad_(False)
    inputs, labels = _batch(COLOUR, size)
    with torch.no_grad():
        stored = {"teacher.clean": teacher(inputs)}
    base, floored = copy.deepcopy(student), copy.deepcopy(student)
    rule = _update(base)

    def ours(precision: str, **more: Any) -> Callable[[], float]:
        return _our_step(student, {"teacher": teacher}, inputs, labels, precision=precision, steps=steps, **more)

    def floor() -> float:
        floored.eval()
        with torch.no_grad():
            climbed(teacher, "auto", inputs)(inputs)
        form, point = climbed(floored, "auto", inputs), inputs.clone().requires_grad_(True)
        for _ in range(steps):
            torch.autograd.grad(form(point).sum(), point)
        floored.train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = (floored(inputs).sum() + floored(inputs).sum()).float()
        loss.backward()
        floored.zero_grad()
        return float("nan")

    runs: dict[str, Callable[[], float]] = {
        "plain RSLAD step": lambda: plain.rslad_step(base, teacher, rule, inputs, eps=EPS, size=SIZE, steps=steps),
        "kdrobust, all exact": ours("exact"),
        "kdrobust as it comes (attack auto, teacher exact)": ours("auto", answers="exact"),
        "kdrobust, trainer=bf16-mixed, teacher.precision=bf16": ours("bf16", half=True),
        "the same, teacher's answers stored": ours("bf16", half=True, outputs=stored),
        "floor, live teacher": floor,
    }
    table = alternate(runs, repeats)
    for row in table.values():
        row["reached"] = {"loss": row.pop("answer")}
    table["floor, live teacher"].pop("reached")
    return table


def _straight(sizes: Sequence[int], table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How far each median is from the straight line through them all, as a ratio."""
    taken = torch.tensor([statistics.median(row["seconds"]) for row in table.values()], dtype=torch.float64)
    design = torch.stack([torch.ones(len(sizes)), torch.tensor(sizes)], dim=1).double()
    line = design @ torch.linalg.lstsq(design, taken[:, None]).solution
    for row, seconds, expected in zip(table.values(), taken, line[:, 0], strict=True):
        row.pop("answer")
        row["reached"] = {"of the line": float(seconds / expected)}
    return table


def scaling(axis: str, *, repeats: int) -> dict[str, dict[str, Any]]:
    """A small CNN's RSLAD step against the batch size, the attack's steps, or the number of teachers."""
    sizes = {"batch": (32, 64, 128, 256), "steps": (5, 10, 20, 40), "teachers": (1, 2, 3, 4)}[axis]
    make, spec, size = SHAPES["small_cnn"]
    student = _network(make, spec)
    runs = {}
    for value in sizes:
        inputs, labels = _batch(spec, value if axis == "batch" else size)
        count = value if axis == "teachers" else 1
        names = ["teacher", *(f"teacher{number}" for number in range(2, count + 1))]
        teachers = {
            name: _network(make, spec, seed=at + 1).eval().requires_grad_(False) for at, name in enumerate(names)
        }
        steps = value if axis == "steps" else 10
        runs[f"{axis} {value}"] = _our_step(student, teachers, inputs, labels, precision="auto", steps=steps)
    return _straight(sizes, alternate(runs, repeats))
