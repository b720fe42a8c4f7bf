"""`kdrobust frontier FOLDER ...`: clean and robust accuracy as models get smaller. Refusals load no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from kdrobust.config.suggest import did_you_mean
from kdrobust.errors import DataError, UsageError
from kdrobust.htmlreport import pareto_front
from kdrobust.sweeps.record import read_json
from kdrobust.tracking.csv_file import csv_records

CSV, PLOT = "frontier.csv", "frontier.png"
_AXES = {"parameters": "parameters", "flops": "FLOPs of one sample (multiply-add: 2)"}
_HELP = """kdrobust frontier FOLDER [FOLDER ...] [x=parameters|flops] [out=FOLDER]

  Clean and robust accuracy of every run below the folders against its size: frontier.png and frontier.csv in the first
  folder (or out=). Each folder is a line of its own. Evaluations (test samples) are preferred; where a folder has none,
  its trainings' validation figures are taken. All folders must be of one kind.

Example: width scaling against pruning
  kdrobust distill -m student.network.width=0.25,0.5,1,2 hydra.sweep.dir=outputs/sweeps/width
  kdrobust frontier outputs/sweeps/width outputs/sweeps/pruned"""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model of a frontier.

    Attributes:
        series: the folder it was found below.
        run: its run folder, below that one.
        parameters: how many.
        flops: of one sample's forward pass.
        split: `test` or `validation`.
        n: samples.
        clean: share right without attack.
        robust: share right under every attack of its run.
        low: lower end of the robust share's Wilson interval, 95 %.
        high: upper end.
        norm: of the threat model.
        eps: of the threat model.
        unreliable: whether a trust check failed.
        undominated: no model here is smaller and more robust.
    """

    series: str
    run: str
    parameters: int
    flops: int
    split: str
    n: int
    clean: float
    robust: float
    low: float
    high: float
    norm: str
    eps: float
    unreliable: bool = False
    undominated: bool = field(default=False)


@dataclass(kw_only=True)
class _Wish:
    folders: list[Path]
    x: str = "parameters"
    out: Path | None = None


def main(arguments: Sequence[str] = ()) -> int:
    """Collect, write and draw.

    Args:
        arguments: see `kdrobust frontier --help`.

    Returns:
        0.

    Raises:
        UsageError: another argument, or no folder.
        DataError: no result in a folder, or results that cannot be compared.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_HELP)
        return 0
    wish = _parse(arguments)
    points = collect(wish.folders, x=wish.x)
    place = wish.out or wish.folders[0]
    from kdrobust.tracking import write_text

    write_text(place / CSV, as_csv(points))
    draw(points, place / PLOT, x=wish.x)
    for point in points:
        mark = " †" if point.unreliable else ""
        print(
            f"{point.series}/{point.run}  {point.parameters:,} parameters  {point.flops:,} FLOPs  clean "
            f"{point.clean:.1%}  robust {point.robust:.1%} [{point.low:.1%}, {point.high:.1%}]{mark}"
            f"  {point.n:,} {point.split} samples"
        )
    if points[0].split == "validation":
        print(
            "validation figures: of the attack and the samples that chose each run's best epoch; evaluate, and compare"
        )
    print(f"{len(points)} model{'s' * (len(points) != 1)}: {place / PLOT}, {place / CSV}")
    return 0


def collect(folders: Sequence[Path], *, x: str = "parameters") -> list[Point]:
    """The models below some folders, smallest first.

    Args:
        folders: sweeps, or any folders with runs below.
        x: `parameters` or `flops`: by which models dominate each other.

    Raises:
        DataError: a folder without results, or results on different splits or under different threat models.
    """
    points: list[Point] = []
    for folder in folders:
        found = list(_below(folder))
        tested = [point for point in found if point.split == "test"]
        if not found:
            raise DataError(f"frontier {folder}: no finished training or evaluation below it")
        points += tested or found
    for name in ("split", "norm", "eps"):
        values = sorted({str(getattr(point, name)) for point in points})
        if len(values) > 1:
            raise DataError(
                f"frontier: these runs differ in {name} ({', '.join(values)}) and make no common picture; name folders "
                "of one kind, evaluate what was only trained"
            )
    points.sort(key=lambda point: (getattr(point, x), point.robust))
    # a front wants more of both: less size is more of its negative
    best = pareto_front([(-getattr(point, x), point.robust) for point in points])
    return [Point(**{**asdict(point), "undominated": front}) for point, front in zip(points, best, strict=True)]


def as_csv(points: Sequence[Point]) -> str:
    """A line a model, unrounded."""
    return csv_records([entry.name for entry in fields(Point)], map(asdict, points))


def draw(points: Sequence[Point], path: Path, *, x: str = "parameters") -> None:
    """Accuracy against size on a logarithmic axis; filled: robust, with intervals; hollow: clean.

    Args:
        points: see `collect`.
        path: of the PNG.
        x: `parameters` or `flops`.

    Raises:
        RunFolderError: the PNG cannot be written.
    """
    from kdrobust.report.rows import threat_text
    from kdrobust.report.style import CYCLE, figure, percent_axis

    with figure(path, width=6.4, height=4.2) as drawn:
        axis = drawn.subplots()
        axis.grid(axis="y")
        for place, name in enumerate(sorted({point.series for point in points})):
            mine = [point for point in points if point.series == name]
            colour = CYCLE[place % len(CYCLE)]
            sizes = [getattr(point, x) for point in mine]
            robust = [point.robust for point in mine]
            bars = [
                [point.robust - point.low for point in mine],
                [point.high - point.robust for point in mine],
            ]
            label = f"{name} †" if any(point.unreliable for point in mine) else name
            axis.errorbar(sizes, robust, yerr=bars, color=colour, marker="o", markersize=5, elinewidth=1, label=label)
            axis.plot(sizes, [point.clean for point in mine], color=colour, marker="o", markersize=5, linestyle=":",
                      markerfacecolor="white", linewidth=1.2)  # fmt: skip
        axis.set_xscale("log")
        axis.set_ylim(0, 1)
        percent_axis(axis.yaxis)
        axis.set_xlabel(_AXES[x])
        axis.set_ylabel(f"{points[0].split} samples right")
        axis.legend(loc="lower right")
        drawn.suptitle("Accuracy against size", x=0.01, ha="left", fontweight="bold", fontsize=11)
        counts = " or ".join(f"{n:,}" for n in sorted({point.n for point in points}))
        threat = threat_text({"norm": points[0].norm, "eps": points[0].eps})
        note = f"filled: robust ({threat}), bars: 95 % Wilson intervals; hollow: clean; n = {counts}"
        drawn.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color="#444444")


def _below(folder: Path) -> Iterator[Point]:
    for path in sorted(folder.rglob("result.json")):
        result = read_json(path)
        if (result.get("files") or {}).get("detector"):
            # no classifier; and a detector has no figure without an attack that knows it
            continue
        run = path.parent.relative_to(folder).as_posix()
        rows = result.get("models") if result.get("stage") == "evaluate" else None
        entries = [(f"{run}: {row['name']}", row["results"][0]) for row in rows] if rows else [(run, result)]
        for name, entry in entries:
            point = _point(folder.name, name, {**entry, "threat": entry.get("threat") or result.get("threat")})
            if point is not None:
                yield point


def _point(series: str, run: str, entry: dict[str, Any]) -> Point | None:
    """A model's size and figures, where its result has both."""
    from kdrobust.evaluation.intervals import wilson

    model, validation, tested = (entry.get(key) or {} for key in ("model", "validation", "evaluation"))
    if tested.get("n"):
        split, n, threat = "test", int(tested["n"]), tested["threat"]
        clean, robust = tested["clean"]["accuracy"], tested["worst_case"]["accuracy"]
    elif validation.get("robust_accuracy") is not None and validation.get("accuracy") is not None:
        split, n, threat = "validation", int(validation["samples"]), entry["threat"]
        clean, robust = validation["accuracy"], validation["robust_accuracy"]
    else:
        return None
    if not model.get("parameters") or not threat:
        return None
    low, high = wilson(round(robust * n), n)
    return Point(
        series=series,
        run=run,
        parameters=int(model["parameters"]),
        flops=int(model["flops"]),
        split=split,
        n=n,
        clean=float(clean),
        robust=float(robust),
        low=low,
        high=high,
        norm=str(threat["norm"]),
        eps=float(threat["eps"]),
        unreliable=bool(tested.get("unreliable")),
    )


def _parse(arguments: Sequence[str]) -> _Wish:
    wish, known = _Wish(folders=[]), ("x", "out")
    for word in arguments:
        key, equals, value = word.partition("=")
        if word.startswith("-"):
            raise UsageError(f"frontier {word}: no such flag; write key=value, see `kdrobust frontier --help`")
        if not equals:
            wish.folders.append(Path(word))
        elif key not in known:
            close = did_you_mean(key, known) or f"; there are {', '.join(known)}"
            raise UsageError(f"frontier {key}=: no such key{close}")
        elif key == "out" and value:
            wish.out = Path(value)
        elif key == "x" and value in _AXES:
            wish.x = value
        else:
            raise UsageError(f"frontier {word}: expected {'a folder' if key == 'out' else ' or '.join(_AXES)}")
    if not wish.folders:
        raise UsageError("frontier: which folder? e.g. kdrobust frontier outputs/sweeps/NAME")
    for folder in wish.folders:
        if not folder.is_dir():
            raise UsageError(f"frontier {folder}: no such folder; sweeps land in outputs/sweeps")
    return wish
