"""Detectors of attacks as a table and a picture: the attack that knows the detector stands beside those that do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdrobust.report.markdown import markdown_table
from kdrobust.report.style import BLUE, CYCLE, GREY, VERMILLION, figure, percent_axis
from kdrobust.tracking.csv_file import csv_text

if TYPE_CHECKING:
    from pathlib import Path


def _found(row: Mapping[str, Any]) -> Mapping[str, Any]:
    detection: Mapping[str, Any] = row["results"][0]["detection"]
    return detection


def _all(detection: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*detection["attacks"], *detection["adaptive"]]


def _area(row: Mapping[str, Any], key: str) -> str:
    if row[key] is None:
        return "–"
    low, high = row[f"{key}_interval"]
    return f"{row[key]:.3f} [{low:.3f}–{high:.3f}]"


def _share(found: Mapping[str, Any]) -> str:
    if found["share"] is None:
        return "–"
    low, high = found["interval"]
    return f"{100 * found['share']:.1f} [{100 * low:.1f}–{100 * high:.1f}]"


def detection_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures of some detectors as Markdown: attacks, natural shifts, checks of the adaptive attack.

    Args:
        rows: each `name` and `results` with one entry, whose `detection` is that of a result.
    """
    blocks = []
    for row in rows:
        found = _found(row)
        rates = list(found["clean"])
        levels = f"{100 * found['confidence']:g} %"
        head = ["attack", "ε", "made on", "fool the classifier", f"AUROC [{levels}]", "average precision"]
        head += [f"found at {100 * float(rate):g} % FPR" for rate in rates]
        head += [f"unnoticed, {100 * float(rates[-1]):g} % FPR"]
        told = [head]
        for each in _all(found):
            name = each["attack"]
            cells = [
                f"**{name}**" if name == "adaptive" else name,
                f"{each['norm']} {each['eps']:g}",
                each["made_on"],
                f"{each['fooling']} of {each['attacked']}",
                _area(each, "auroc"),
                _area(each, "average_precision"),
                *(_share(each["at_fpr"][rate]["detected"]) for rate in rates),
                _share(each["at_fpr"][rates[-1]]["unnoticed"]),
            ]
            told.append(cells)
        lines = [f"### {row['name']}", "", markdown_table(told, words=3)]
        clean = "; ".join(f"{_share(found['clean'][rate])} % at {100 * float(rate):g} % FPR" for rate in rates)
        first = found["thresholds"][0]
        sizes = f"{first['n']} {first['on']} validation images"
        lines += ["", f"Thresholds of {sizes}. Clean test images flagged (n = {found['n']}): {clean}."]
        if found["shifts"]:
            told = [["natural shift", "severity", *(f"flagged at {100 * float(r):g} % FPR" for r in rates)]]
            for shift in found["shifts"]:
                name = f"{shift['shift']} (in training)" if shift["trained"] else shift["shift"]
                told.append([name, str(shift["severity"]), *(_share(shift["at_fpr"][rate]) for rate in rates)])
            lines += ["", markdown_table(told)]
        lines += ["", "Checks of the adaptive attack:"]
        lines += [
            f"- {each['name']} {'passed' if each['passed'] else 'FAILED'}: {each['text']}" for each in found["checks"]
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def detection_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each detector, attack and ε; shares and areas in [0, 1], empty where there are too few examples.

    Args: as of `detection_markdown`.
    """
    rates = list(_found(rows[0])["clean"])
    columns = ["detector", "attack", "norm", "eps", "made_on", "attacked", "fooling"]
    for key in ("auroc", "average_precision"):
        columns += [key, f"{key}_low", f"{key}_high"]
    for rate in rates:
        for what in ("detected", "unnoticed"):
            columns += [f"{what}_at_{rate}", f"{what}_at_{rate}_low", f"{what}_at_{rate}_high"]
    table = []
    for row in rows:
        for each in _all(_found(row)):
            cells = [row["name"], *(each[key] for key in ("attack", "norm", "eps", "made_on", "attacked", "fooling"))]
            for key in ("auroc", "average_precision"):
                cells += [each[key], *(each[f"{key}_interval"] or (None, None))]
            for rate in rates:
                for what in ("detected", "unnoticed"):
                    found = each["at_fpr"][rate][what]
                    cells += [found["share"], *found["interval"]]
            table.append(cells)
    return csv_text(columns, table)


def detection_plot(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw AUROC over ε for each attack, the adaptive one in red, and below what is flagged of natural shifts.

    Args:
        rows: as of `detection_markdown`; a row of panels each.
        path: of the PNG.

    Raises:
        RunFolderError: the PNG cannot be written.
    """
    with figure(path, width=10.4, height=0.5 + 3.7 * len(rows)) as drawn:
        axes = drawn.subplots(len(rows), 2, squeeze=False, width_ratios=(1.25, 1.0))
        for (left, right), row in zip(axes, rows, strict=True):
            found = _found(row)
            _areas(left, found)
            left.set_title(row["name"])
            left.set_xlabel(f"ε ({found['adaptive'][0]['norm']})")
            left.set_ylabel("AUROC")
            _alarms(right, found)
            percent_axis(right.xaxis)


def _areas(axis: Any, found: Mapping[str, Any]) -> None:
    names = list(dict.fromkeys(row["attack"] for row in _all(found)))
    calm = [colour for colour in CYCLE if colour != VERMILLION]
    for place, name in enumerate(names):
        shown = [row for row in _all(found) if row["attack"] == name and row["auroc"] is not None]
        if not shown:
            continue
        known = name == "adaptive"
        middle = [row["auroc"] for row in shown]
        low = [row["auroc"] - row["auroc_interval"][0] for row in shown]
        high = [row["auroc_interval"][1] - row["auroc"] for row in shown]
        axis.errorbar(
            [row["eps"] for row in shown], middle, yerr=[low, high], marker="s" if known else "o", capsize=2,
            color=VERMILLION if known else calm[place % len(calm)], linewidth=2.8 if known else 1.4,
            label="adaptive: knows the detector" if known else name.replace("_", " "), zorder=4 if known else 3,
        )  # fmt: skip
    axis.axhline(0.5, color=GREY, linestyle="--", linewidth=1.0)
    axis.annotate(
        "knows nothing",
        (0.99, 0.5),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
        color=GREY,
    )
    axis.set_ylim(-0.03, 1.03)
    axis.grid(axis="y")
    axis.legend(loc="best", fontsize=8)


def _alarms(axis: Any, found: Mapping[str, Any]) -> None:
    rate = list(found["clean"])[-1]
    names = list(dict.fromkeys(row["shift"] for row in found["shifts"]))
    for place, name in enumerate(["clean", *names]):
        rows = [row for row in found["shifts"] if row["shift"] == name]
        shares = [row["at_fpr"][rate]["share"] for row in rows] or [found["clean"][rate]["share"]]
        trained = any(row["trained"] for row in rows)
        axis.barh(place, sum(shares) / len(shares), color=BLUE, alpha=0.3 if trained else 0.7)
        axis.plot(shares, [place] * len(shares), "o", color="#333333", markersize=3.5)
    axis.axvline(float(rate), color=GREY, linestyle="--", linewidth=1.0)
    axis.set_yticks(range(len(names) + 1), ["clean", *(name.replace("_", " ") for name in names)])
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.grid(axis="x")
    axis.set_xlabel("flagged, no attack (dots: severities; pale: shift met in training)", fontsize=8.5)
    axis.set_title(f"false alarms, threshold at {100 * float(rate):g} % FPR")
