"""What does not go together, each with the reason: what the program refuses before training, or what would test nothing."""

from __future__ import annotations

import functools

from tests.combinations.covering import Option, Rule


@functools.cache
def _label_free() -> frozenset[str]:
    from kdrobust.stages.labels import free_methods

    return frozenset(free_methods())


def _others_live(method: Option) -> bool:
    return "clean" not in method.facts["needs"].values()


def _asks_live(method: Option, more: Option) -> bool:
    """Whether a wrap or feature term asks the one teacher, which stored outputs stand for, about more than logits."""
    return method.facts["needs"].get("teacher") == "clean" and (more.name != "none")


RULES = (
    Rule(
        why="the network is made for another kind of input",
        factors=("student", "data"),
        forbids=lambda student, data: data.facts["takes"] not in student.facts["takes"],
        refused="data",
    ),
    Rule(
        why="the threat's bounds are not the range of the data's values",
        factors=("threat", "data"),
        forbids=lambda threat, data: threat.facts["takes"] != data.facts["takes"],
        refused="data",
    ),
    Rule(
        why="the method reads labels, and data.unlabelled=true has none",
        factors=("method", "labels"),
        forbids=lambda method, labels: labels.name == "none" and method.name not in _label_free(),
    ),
    Rule(
        why="the wrap reads labels, and data.unlabelled=true has none",
        factors=("wrap", "labels"),
        forbids=lambda wrap, labels: labels.name == "none" and wrap.name in ("fair", "input_gradient"),
    ),
    Rule(
        why="averaged weights are chosen by labels, and data.unlabelled=true has none",
        factors=("average", "labels"),
        forbids=lambda average, labels: labels.name == "none" and average.name != "none",
    ),
    Rule(
        why="data.unlabelled=true leaves nothing to train a teacher on: one is given",
        factors=("teacher", "labels"),
        forbids=lambda teacher, labels: labels.name == "none" and teacher.name == "auto",
    ),
    Rule(
        why="crops are made of images",
        factors=("reading", "data"),
        forbids=lambda reading, data: reading.name == "augmented" and data.facts["takes"] == "sound",
        refused="data",
    ),
    Rule(
        why="the goal kl_to_clean has no gradient where an attack without a random start begins",
        factors=("method", "attack"),
        forbids=lambda method, attack: (
            method.facts["goal"] == "kl_to_clean" and attack.facts["start"] == "none" and _of_method(attack)
        ),
    ),
    Rule(
        why="only a method with the slot has a weighting to choose",
        factors=("method", "weighting"),
        forbids=lambda method, weighting: not method.facts["weighting"] and weighting.name != "no slot",
    ),
    Rule(
        why="a method with the slot always has some weighting",
        factors=("method", "weighting"),
        forbids=lambda method, weighting: method.facts["weighting"] and weighting.name == "no slot",
        refused="",
    ),
    Rule(
        why="no teacher of the method is asked for clean logits alone, which are all that can be stored",
        factors=("method", "teacher"),
        forbids=lambda method, teacher: teacher.name == "stored" and _others_live(method),
        refused="",
    ),
    Rule(
        why="features need a live teacher, stored outputs hold none",
        factors=("method", "teacher", "features"),
        forbids=lambda method, teacher, features: teacher.name == "stored" and _asks_live(method, features),
        refused="data",
    ),
    Rule(
        why="the wrap asks the teacher about more than stored outputs hold",
        factors=("method", "teacher", "wrap"),
        forbids=lambda method, teacher, wrap: (
            teacher.name == "stored" and wrap.facts.get("live", False) and _asks_live(method, wrap)
        ),
        refused="data",
    ),
    Rule(
        why="outputs are stored of images that are not augmented",
        factors=("teacher", "reading"),
        forbids=lambda teacher, reading: teacher.name == "stored" and reading.name == "augmented",
        refused="data",
    ),
    Rule(
        why="the suite holds an attack for ℓ2 threats alone",
        factors=("evaluation", "threat"),
        forbids=lambda evaluation, threat: evaluation.facts["l2"] and threat.kind != "l2",
        refused="evaluation",
    ),
    Rule(
        why="the official AutoAttack needs pixels in [0, 1]",
        factors=("evaluation", "threat"),
        forbids=lambda evaluation, threat: evaluation.facts["library"] and threat.facts["takes"] == "sound",
        refused="evaluation",
    ),
    Rule(
        why="gradient attacks alone know an ε that is a share of each sample's own norm",
        factors=("evaluation", "threat"),
        forbids=lambda evaluation, threat: evaluation.facts["absolute"] and threat.facts["relative"],
        refused="evaluation",
    ),
    Rule(
        why="the student has no module with maps of height and width",
        factors=("student", "features"),
        forbids=lambda student, features: features.facts.get("maps", False) and not student.facts["maps"],
        refused="",
    ),
)


def _of_method(attack: Option) -> bool:
    """Whether an attack climbs the method's own goal."""
    goal = str(attack.facts["goal"])
    return "method.attack.goal" in goal
