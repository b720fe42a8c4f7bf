"""Rows about memory: the peak of a whole distillation step against the floor's, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import torch
from timing import Absent

_STATUS = Path("/proc/self/status")


def _kilobytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def _peak(shape: str, kind: str, steps: int, threads: int, answer: Any) -> None:
    import plain
    import training_rows as rows

    torch.set_num_threads(threads)
    # libraries and what they load are no part of a step
    before = _kilobytes("VmRSS")
    make, spec, size = rows.SHAPES[shape]
    student, teacher = rows._network(make, spec), rows._network(make, spec, seed=1).eval().requires_grad_(False)
    inputs, labels = rows._batch(spec, size)
    if kind == "plain":
        rule = rows._update(student)

        def run() -> object:
            return plain.rslad_step(student, teacher, rule, inputs, eps=rows.EPS, size=rows.SIZE, steps=steps)
    elif kind == "floor":

        def run() -> object:
            # the two views' graphs at once, as every method with two student terms needs them
            (student.train()(inputs).sum() + student(inputs).sum()).backward()
            return None
    else:
        run = rows._our_step(student, {"teacher": teacher}, inputs, labels, precision=kind, steps=steps)
    run()
    run()
    answer.put(_kilobytes("VmHWM") - before)


def peak(shape: str, *, steps: int, threads: int) -> dict[str, dict[str, Any]]:
    """Peak resident memory of a process over two steps, without its libraries', in megabytes and over the floor's.

    The floor is a network with the graphs of both views, fp32: no teacher, attack or optimiser.
    """
    if not _STATUS.exists():
        raise Absent("peak memory is read from Linux' /proc")
    context = multiprocessing.get_context("spawn")
    table: dict[str, dict[str, Any]] = {}
    for kind in ("floor", "plain", "exact", "auto"):
        answer = context.SimpleQueue()
        child = context.Process(target=_peak, args=(shape, kind, steps, threads, answer))
        child.start()
        high = answer.get()
        child.join()
        name = {"floor": "floor", "plain": "plain RSLAD step"}.get(kind, f"kdrobust, precision={kind}")
        table[name] = {"reached": {"MB": high / 1024}}
    floor = table["floor"]["reached"]["MB"]
    for row in table.values():
        row["reached"]["of the floor"] = row["reached"]["MB"] / floor
    return table
