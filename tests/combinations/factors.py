"""What runs differ in: the options of conf/, found by scanning, and the ways of running that no group holds."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from collections.abc import Mapping, Sequence

from kdrobust.stages.training_checks import PRECISIONS
from tests.combinations.covering import Factor, Option
from tests.combinations.networks import network
from tests.combinations.scanning import attacks, needs, numbers, options, read

#: Steps of every attack on the way: a tiny run is about paths.
STEPS = 2
#: Where `materials.make` puts made-up data, relative to the folder in which commands are typed.
MATERIALS = "materials"
_SPEECH = f"data.source.path={MATERIALS}/words"
_SHORT = "data.source.seconds=0.25"
_FETCHED = "would be fetched from the network"
#: What makes an option of conf/data usable here; an option that is not named takes no more than its name.
_DATA: dict[str, Sequence[str]] = {
    "npz": (f"data.source.path={MATERIALS}/three.npz",),
    "image_folder": (f"data.source.path={MATERIALS}/images",),
    "fsdd": (_SPEECH, _SHORT),
    "spoken_words": (_SPEECH, _SHORT, "data.source.test_speakers=[lucas,theo]"),
    "espeak_digits": (
        *("data.source.recordings.voices=[m1,f1]", "data.source.recordings.accents=[en-us]"),
        *("data.source.test_speakers=[f1]", _SHORT),
    ),
}
_DATA_LEFT_OUT = {
    **dict.fromkeys(("cifar10", "cifar100", "fashion_mnist", "mnist", "svhn", "speech_commands"), _FETCHED),
    "detection": "is made of two trained classifiers; tests/detection runs it",
}


#: Of these every option occurs, and their kinds are paired: what differs within a kind are numbers and shapes.
_COARSE = ("student", "threat", "attack", "weighting", "evaluation")


def _factor(name: str, found: Sequence[Option], left_out: Mapping[str, str] | None = None) -> Factor:
    return Factor(name=name, options=tuple(found), left_out=left_out or {}, coarse=name in _COARSE)


def _method() -> Factor:
    found = []
    for name in options("method"):
        node = read("method", name)
        facts = {
            "needs": needs("method", name),
            "attacks": attacks(name),
            "goal": node["attack"]["goal"],
            "weighting": "weighting" in node.get("slots", []),
        }
        wanted = facts["needs"]
        kind = "alone" if not wanted else "several" if len(wanted) > 1 else next(iter(wanted.values()))
        found.append(Option(name=name, kind=kind, lines=(f"method={name}",), facts=facts))
    return _factor("method", found)


def _data() -> Factor:
    left_out = dict(_DATA_LEFT_OUT)
    if shutil.which("espeak-ng") is None:
        left_out["espeak_digits"] = "needs the program espeak-ng"
    found = []
    for name in options("data"):
        if name in left_out:
            continue
        sound = read("data", name)["source"]["_target_"].endswith("SpokenWords")
        kind = "sound" if sound else "image"
        lines = (f"data={name}", *_DATA.get(name, ()))
        found.append(Option(name=name, kind=kind, lines=lines, facts={"takes": kind}))
    return _factor("data", found, left_out)


def _student() -> Factor:
    found, left_out = [], {}
    for name in options("model"):
        net = network(name)
        if net is None:
            left_out[name] = "holds another trained model; tests/detection runs it"
            continue
        if name == "timm" and importlib.util.find_spec("timm") is None:
            left_out[name] = "timm is not installed"
            continue
        kind = "sound" if net.takes == {"sound"} else "batch norm" if net.normalised else "plain"
        lines = (f"model@student={name}", *net.typed("student"))
        found.append(
            Option(name=name, kind=kind, lines=lines, facts={"takes": net.takes, "maps": net.maps, "net": net})
        )
    return _factor("student", found, left_out)


def _threat() -> Factor:
    found = []
    for name in options("threat"):
        node = read("threat", name)
        sound = node.get("bounds") == [-1, 1]
        relative = bool(node.get("relative"))
        kind = "relative" if relative else str(node["norm"])
        facts = {"takes": "sound" if sound else "image", "norm": node["norm"], "relative": relative}
        found.append(Option(name=name, kind=kind, lines=(f"threat={name}",), facts=facts))
    return _factor("threat", found)


def _attack() -> Factor:
    found = []
    for name in options("attack"):
        node = read("attack", name)
        kind = name if name in ("none", "method") else "gradient"
        small = [f"attack.{key}={STEPS}" for key, value in numbers(node) if key == "steps" and value > STEPS]
        small += [f"attack.{key}=2" for key, value in numbers(node) if key == "restarts"]
        if name == "method":
            small = [f"attack.steps={STEPS}"]
        facts = {"start": node.get("start"), "goal": node.get("goal")}
        found.append(Option(name=name, kind=kind, lines=(f"attack={name}", *small), facts=facts))
    return _factor("attack", found)


def _scheduler() -> Factor:
    found = []
    for name in options("scheduler"):
        node = read("scheduler", name)
        kind = "monitored" if node.get("monitor") else f"by {node['interval']}"
        found.append(Option(name=name, kind=kind, lines=(f"scheduler={name}",)))
    return _factor("scheduler", found)


def _trainer() -> Factor:
    found, left_out = [], {}
    for name in options("trainer"):
        node = read("trainer", name)
        if node["accelerator"] == "gpu":
            left_out[name] = "needs a GPU"
            continue
        facts = {"processes": node["devices"]}
        found.append(Option(name=name, kind=f"{node['devices']} processes", lines=(f"trainer={name}",), facts=facts))
        if node["devices"] > 1:
            lines = (f"trainer={name}", "+trainer.strategy.shard_teachers=true")
            found.append(Option(name=f"{name}, sharded", kind=found[-1].kind, lines=lines, facts=facts))
    return _factor("trainer", found, left_out)


def _logger() -> Factor:
    found, left_out = [], {}
    for name in options("logger"):
        if name != "csv" and importlib.util.find_spec(name) is None:
            left_out[name] = f"{name} is not installed"
        else:
            found.append(Option(name=name, lines=(f"logger={name}",)))
    return _factor("logger", found, left_out)


def _wrap() -> Factor:
    found = [Option(name="none")]
    for name in options("wrap"):
        node = read("wrap", name)
        facts = {"live": "live" in needs("wrap", name).values(), "terms": "terms" in node}
        kind = "terms" if "terms" in node else "weights"
        found.append(Option(name=name, kind=kind, lines=(f"+wrap={name}",), facts=facts))
    return _factor("wrap", found)


def _features() -> Factor:
    found = [Option(name="none")]
    for name in options("features"):
        node = read("features", name)["features"]
        # only an adapter, or a loss of maps, looks at height and width
        flat = name in ("pkt", "relational", "similarity_preserving")
        kind = "relations" if flat else "maps"
        facts = {"maps": not flat, "adapter": "adapter" in node}
        found.append(Option(name=name, kind=kind, lines=(f"+features={name}",), facts=facts))
    return _factor("features", found)


def _group(group: str, prefix: str = "") -> Factor:
    return _factor(group, [Option(name=name, lines=(f"{prefix}{group}={name}",)) for name in options(group)])


def _optional(group: str) -> Factor:
    found = [Option(name=name, kind="some", lines=(f"+{group}={name}",)) for name in options(group)]
    return _factor(group, [Option(name="none"), *found])


def _weighting() -> Factor:
    line = "weighting@method.weighting={}"
    found = [Option(name=name, kind="some", lines=(line.format(name),)) for name in options("weighting")]
    return _factor("weighting", [Option(name="no slot"), *found])


def _evaluation() -> Factor:
    found = []
    for name in options("evaluation"):
        if name == "detection":
            continue
        text = str([read("evaluation", name).get(key) for key in ("attacks", "transfer")])
        minimum = any(each in text for each in ("FMN", "DDN", "CarliniWagner"))
        facts = {
            "library": "external" in text,
            "l2": any(each in text for each in ("DDN", "CarliniWagner")),
            "absolute": minimum or any(each in text for each in ("external", "Square", "Cascade")),
        }
        kind = "library" if facts["library"] else "minimum norm" if minimum else "gradient"
        found.append(Option(name=name, kind=kind, lines=(f"evaluation={name}",), facts=facts))
    left_out = {"detection": "measures detectors; tests/detection runs it"}
    return _factor("evaluation", found, left_out)


def _precision() -> Factor:
    found = [Option(name=name, lines=(f"trainer.precision={name}",)) for name in PRECISIONS if name != "16-mixed"]
    return _factor("precision", found, {"16-mixed": "needs a GPU"})


def _callbacks() -> Factor:
    found = [Option(name=name, lines=(f"callbacks={name}",)) for name in options("callbacks")]
    within = ("callbacks.last.every_n_steps=2",)
    return _factor("callbacks", [*found, Option(name="every_n_steps", lines=within)])


@functools.cache
def factors() -> tuple[Factor, ...]:
    """Every factor, in the order in which combinations list them."""
    crop = "data.augmentation={_target_:kdrobust.data.Augmentation,crop_padding:1}"
    return (
        _method(),
        _data(),
        _factor("labels", [Option(name="all"), Option(name="none", lines=("data.unlabelled=true",))]),
        _factor(
            "reading",
            [
                Option(name="memory"),
                Option(name="workers", lines=("data.loader=workers", "data.num_workers=2")),
                Option(name="augmented", lines=(crop,)),
            ],
        ),
        _student(),
        _threat(),
        _attack(),
        _group("optimizer"),
        _scheduler(),
        _trainer(),
        _factor(
            "steps",
            [
                Option(name="plain"),
                Option(name="clipped", lines=("trainer.gradient_clip_val=1.0",)),
                Option(name="accumulated", lines=("trainer.accumulate_grad_batches=2",)),
            ],
        ),
        _precision(),
        _callbacks(),
        _logger(),
        _wrap(),
        _features(),
        _optional("average"),
        _weighting(),
        _factor("teacher", [Option(name=name) for name in ("auto", "checkpoint", "stored", "asked anew")]),
        _evaluation(),
    )
