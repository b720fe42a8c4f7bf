"""What a detector is worth: held-out attacks, natural shifts, an adaptive attack, and checks of that attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kdrobust.detection.crafting import kind_of
from kdrobust.detection.pairs import Pairs
from kdrobust.detection.roc import (
    Scores,
    auroc,
    auroc_interval,
    average_precision,
    precision_interval,
    share,
)

#: Of fewer attacked inputs no area is given: its interval would span most of [0, 1].
LEAST = 20


@dataclass(frozen=True, kw_only=True)
class Group:
    """The examples of one attack at one ε.

    Attributes:
        name: of the attack.
        described: its settings.
        made_on: name of the model that the examples are made on.
        attacked: how many inputs were attacked: those that the protected classifier gets right.
        inputs: the examples that fool the protected classifier, [n, ...].
    """

    name: str
    described: Mapping[str, Any]
    made_on: str
    attacked: int
    inputs: Tensor

    @property
    def threat(self) -> Mapping[str, Any]:
        """Norm, ε and box."""
        threat: Mapping[str, Any] = self.described["threat"]
        return threat


def overlap(source: Pairs, attacks: Mapping[str, Mapping[str, Any]], made_on: Mapping[str, str]) -> list[str]:
    """Where the test's attacks are not apart from the training's, one line each.

    Args:
        source: what the detector is trained on.
        attacks: settings of the test's attacks, by name.
        made_on: hashes of the models these are made on, by the name of the key that says so.
    """
    trained = source.describe()
    kinds = {kind_of(described): name for name, described in trained["attacks"].items()}
    radii = {(each["threat"]["norm"], round(float(each["threat"]["eps"]), 9)) for each in trained["attacks"].values()}
    problems = []
    for name, described in attacks.items():
        threat = described["threat"]
        if (twin := kinds.get(kind_of(described))) is not None:
            problems.append(
                f"evaluation: attack {name} is of the kind of the training's {twin} ({kind_of(described)}); "
                "a detector is tested on attacks it has not met"
            )
        if (threat["norm"], round(float(threat["eps"]), 9)) in radii:
            problems.append(f"threat.eps={threat['eps']:g}: attack {name} has an ε of the training; choose another")
    for key, digest in made_on.items():
        if digest == trained["surrogate"]["sha256"]:
            problems.append(f"{key}: is the training's surrogate; make the test's attacks on another model")
    # the same ε is told once, not once an attack
    return list(dict.fromkeys(problems))


def group_row(
    group: Group, clean: Scores, attacked: Scores, thresholds: Sequence[tuple[float, float]], confidence: float
) -> dict[str, Any]:
    """The figures of one attack at one ε, as plain values.

    Args:
        group: the attack.
        clean: scores of the clean test inputs.
        attacked: scores of the examples that fool the classifier.
        thresholds: (false-positive rate, threshold) pairs, fixed on validation inputs.
        confidence: of the intervals.
    """
    row: dict[str, Any] = {
        "attack": group.name,
        "eps": float(group.threat["eps"]),
        "norm": str(group.threat["norm"]),
        "made_on": group.made_on,
        "settings": dict(group.described),
        "attacked": group.attacked,
        "fooling": len(attacked),
    }
    if len(attacked) >= LEAST and len(clean) >= LEAST:
        area, precision = auroc(clean, attacked), average_precision(clean, attacked)
        row["auroc"] = area
        row["auroc_interval"] = list(auroc_interval(area, len(clean), len(attacked), confidence))
        row["average_precision"] = precision
        row["average_precision_interval"] = list(precision_interval(precision, len(attacked), confidence))
    else:
        row |= dict.fromkeys(("auroc", "auroc_interval", "average_precision", "average_precision_interval"))
    row["at_fpr"] = {
        f"{rate:g}": {
            "detected": share(int((attacked > threshold).sum()), len(attacked), confidence),
            "unnoticed": share(int((attacked <= threshold).sum()), group.attacked, confidence),
        }
        for rate, threshold in thresholds
    }
    return row


def alarm_row(scores: Scores, thresholds: Sequence[tuple[float, float]], confidence: float) -> dict[str, Any]:
    """How many inputs that nobody attacked are flagged, by false-positive rate, as plain values."""
    return {
        f"{rate:g}": share(int((scores > threshold).sum()), len(scores), confidence) for rate, threshold in thresholds
    }


def unnoticed(row: Mapping[str, Any], rate: float) -> int:
    """How many of the attacked inputs fool the classifier and are not flagged."""
    return int(row["at_fpr"][f"{rate:g}"]["unnoticed"]["count"])


def adaptive_checks(
    held_out: Sequence[Mapping[str, Any]],
    adaptive: Sequence[Mapping[str, Any]],
    *,
    rate: float,
    box: Mapping[str, Any],
    longer: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Is the adaptive attack strong enough to be believed? A check that fails says: the figures are too good.

    Args:
        held_out: rows of attacks that know nothing of the detector.
        adaptive: rows of the adaptive attack, ε rising.
        rate: the false-positive rate whose threshold is looked at.
        box: row of the adaptive attack with the whole box as its ball, on few inputs.
        longer: rows of the adaptive attack at the smallest ε, which is the hardest, on a few hundred inputs, as it is
            and with twice the steps.
    """
    counts = {row["eps"]: unnoticed(row, rate) for row in adaptive}
    weaker = [
        f"{row['attack']} at ε {row['eps']:g}: {unnoticed(row, rate)} to {counts[row['eps']]}"
        for row in held_out
        if row["eps"] in counts and row["norm"] == adaptive[0]["norm"] and unnoticed(row, rate) > counts[row["eps"]]
    ]
    rising = list(counts.values())
    reached, tried = unnoticed(box, rate), int(box["attacked"])
    once, twice = (unnoticed(row, rate) for row in longer)
    few = int(longer[0]["attacked"])
    return [
        _check(
            "D1",
            not weaker,
            "no attack that knows nothing of the detector goes unnoticed more often" + _because(weaker),
        ),
        _check("D2", rising == sorted(rising), f"a larger ε goes unnoticed no less often: {rising}"),
        _check("D3", reached >= 0.95 * tried, f"without a bound {reached} of {tried} go unnoticed, 95 % expected"),
        _check(
            "D4",
            twice - once <= 0.05 * few,
            f"twice the steps at ε {longer[0]['eps']:g}: {twice} of {few} unnoticed instead of {once}",
        ),
    ]


def _because(reasons: Sequence[str]) -> str:
    return f" (not so: {'; '.join(reasons)})" if reasons else ""


def _check(name: str, passed: bool, text: str) -> dict[str, Any]:
    return {"name": name, "passed": bool(passed), "text": text}
