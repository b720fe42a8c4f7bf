"""From a combination to what is typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.combinations.covering import Option
from tests.combinations.factors import STEPS
from tests.combinations.networks import network
from tests.combinations.scanning import numbers, read

RUNS = "runs"
_TEACHER = {"image": "wide_cnn", "sound": "spectrogram_cnn"}
_SAMPLES = 8
#: The most of what an attack of an evaluation does, by the last part of its key.
_MOST = {"steps": 5, "queries": 20, "restarts": 2, "rounds": 1}
_SMALL = (
    *("epochs=3", "data.limit_train=96", "data.limit_validation=40", "data.batch_size=16"),
    *("teacher_training.epochs=1", "natural_training.epochs=1", f"teacher_training.attack.steps={STEPS}"),
    *(f"callbacks.robust_validation.attack.steps={STEPS}", f"run.root={RUNS}"),
)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """A run that others begin from: made once, where its file is missing.

    Attributes:
        file: what it leaves.
        arguments: its command.
    """

    file: str
    arguments: tuple[str, ...]


def _teacher_lines(kind: str) -> list[str]:
    name = _TEACHER[kind]
    net = network(name)
    assert net is not None
    return [f"model@teacher={name}", *net.typed("teacher")]


def _place(stage: str, chosen: Mapping[str, Option]) -> str:
    suffix = "" if chosen["labels"].name == "all" or stage == "teacher" else "-unlabelled"
    return f"{RUNS}/{stage}/given-{chosen['data'].name}{suffix}"


def _asked(chosen: Mapping[str, Option]) -> dict[str, str]:
    """The frozen teachers of a run by their node, each with what it is asked: `live` or `clean`."""
    needs = chosen["method"].facts["needs"]
    asked = {name: kind for name, kind in needs.items() if kind != "trained along"}
    if "teacher" not in needs:
        # a wrap or a feature term brings it in; elsewhere nothing asks it
        asked["teacher"] = "live"
    return {"teacher" if name == "teacher" else f"teachers.{name}": kind for name, kind in asked.items()}


def _given(chosen: Mapping[str, Option]) -> list[str]:
    way, checkpoint = chosen["teacher"].name, f"{_place('teacher', chosen)}/best.ckpt"
    lines = []
    for node, asked in _asked(chosen).items():
        stored = way == "stored" and asked == "clean"
        # of further teachers conf/teachers names the checkpoint alone
        new = "" if node == "teacher" else "+"
        if stored:
            lines.append(f"{new}{node}.outputs={_place('outputs', chosen)}")
        elif way == "asked anew":
            lines.append(f"{new}{node}.outputs=null")
        # without labels there is nothing to train one on, which is asked before it is known whether one is wanted
        if (
            way == "checkpoint"
            or (way == "stored" and not stored)
            or (way != "auto" and chosen["labels"].name == "none")
        ):
            lines.append(f"{node}.checkpoint={checkpoint}")
    return lines


def _features(chosen: Mapping[str, Option]) -> list[str]:
    if chosen["features"].name == "none":
        return []
    student, teacher = chosen["student"].facts["net"], network(_TEACHER[chosen["data"].facts["takes"]])
    assert teacher is not None
    part = "maps" if chosen["features"].facts["maps"] else "layer"
    return [f"features.student={getattr(student, part)}", f"features.teacher={getattr(teacher, part)}"]


#: Factors that a training's command line says as they are; the others depend on one another.
_PLAIN = (
    *("method", "weighting", "data", "labels", "reading", "student", "threat", "attack", "optimizer", "scheduler"),
    *("trainer", "steps", "precision", "callbacks", "logger", "wrap", "features", "average"),
)


def training(chosen: Mapping[str, Option], folder: str) -> list[str]:
    """The arguments of a combination's training.

    Args:
        chosen: factor to option.
        folder: the run folder.
    """
    lines = [line for name in _PLAIN for line in chosen[name].lines]
    kind = chosen["data"].facts["takes"]
    return [
        "distill",
        *lines,
        *_features(chosen),
        *_teacher_lines(kind),
        *_given(chosen),
        *_SMALL,
        f"run.folder={folder}",
    ]


def preparations(chosen: Mapping[str, Option]) -> Iterator[Preparation]:
    """The runs that a combination begins from, in order."""
    lines = _given(chosen)
    kind = chosen["data"].facts["takes"]
    # what a threat's box must fit
    threat = ["threat=waveform_linf_0.002"] if kind == "sound" else []
    own = [*chosen["data"].lines, *(line for line in _SMALL if line.startswith(("data.", "run.")))]
    teacher, outputs = _place("teacher", chosen), _place("outputs", chosen)
    if any(teacher in line for line in lines) or any(outputs in line for line in lines):
        train = [*own, *threat, *_teacher_lines(kind), "epochs=1", f"attack.steps={STEPS}", f"run.folder={teacher}"]
        yield Preparation(file=f"{teacher}/best.ckpt", arguments=("teacher", *train))
    if any(outputs in line for line in lines):
        store = [*own, *chosen["labels"].lines, f"teacher.checkpoint={teacher}/best.ckpt", f"run.folder={outputs}"]
        yield Preparation(file=f"{outputs}/outputs.json", arguments=("outputs", *store))


def evaluation(chosen: Mapping[str, Option], checkpoint: str, folder: str) -> list[str]:
    """The arguments of the evaluation of a checkpoint of a combination's training."""
    suite = chosen["evaluation"].name
    small = [
        f"evaluation.{key}={_MOST[key.rpartition('.')[2]]}"
        for key, value in numbers(read("evaluation", suite))
        if value > _MOST.get(key.rpartition(".")[2], value)
    ]
    own = [*chosen["data"].lines, *chosen["threat"].lines, *chosen["evaluation"].lines, chosen["trainer"].lines[0]]
    few = [f"evaluation.num_samples={_SAMPLES}", "evaluation.check_settings={samples:4}", "evaluation.latency=false"]
    return ["evaluate", f"checkpoint={checkpoint}", *own, *few, *small, f"run.root={RUNS}", f"run.folder={folder}"]
