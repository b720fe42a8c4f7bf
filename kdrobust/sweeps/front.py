"""What a search found: its trials and its front as CSV files, a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from kdrobust.report.style import BLUE, GREY, VERMILLION, figure, percent_axis
from kdrobust.report.table import print_table
from kdrobust.sweeps.progress import FRONT, TRIALS
from kdrobust.sweeps.search import Search
from kdrobust.tracking import write_text
from kdrobust.tracking.csv_file import csv_text

PICTURE = "pareto.png"
_SHOWN = 20


def short(metric: str) -> str:
    """A metric's name without its place in `result.json`."""
    return metric.rpartition(".")[2].replace("_", " ")


def feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps every constraint."""
    return all(violation <= 0.0 for violation in trial.constraints.values())


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """The trials with figures, in their order."""
    return list(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def front(search: Search, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The feasible trials that no other feasible one dominates, best first by the first metric.

    Trial a dominates b if it is nowhere worse and somewhere better. With one metric the front is the best trial, or
    several equal ones.

    Args:
        search: says which way is better.
        trials: completed ones.
    """
    signs = [1.0 if direction == "maximize" else -1.0 for direction in search.directions]
    kept = [trial for trial in trials if feasible(trial)]
    values = {trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)] for trial in kept}

    def dominated(mine: list[float]) -> bool:
        return any(other != mine and all(o >= m for o, m in zip(other, mine, strict=True)) for other in values.values())

    best = [trial for trial in kept if not dominated(values[trial.number])]
    return sorted(best, key=lambda trial: [-value for value in values[trial.number]])


def table_csv(search: Search, trials: Sequence[FrozenTrial]) -> str:
    """Trials as CSV text, one line each; figures unrounded, what is not known empty.

    Args:
        search: names parameters and metrics.
        trials: of any state.
    """
    spread = [f"{metric}_std" for metric in search.metrics] if len(search.seeds) > 1 else []
    columns = ["trial", "state", "feasible", *search.keys, *search.metrics, *spread, "parameters", "seconds"]
    table = []
    for trial in trials:
        known = trial.user_attrs
        done = trial.state is TrialState.COMPLETE
        values = list(trial.values) if done else [""] * len(search.metrics)
        deviations = known.get("std", [""] * len(spread)) if spread else []
        verdict = str(feasible(trial)).lower() if done else ""
        chosen = [trial.params.get(key, "") for key in search.keys]
        cost = [known.get(key) for key in ("parameters", "seconds")]
        where = " ".join(known.get("jobs", []))
        row = [trial.number, trial.state.name.lower(), verdict, *chosen, *values, *deviations, *cost]
        table.append([*row, where, known.get("error", "")])
    return csv_text([*columns, "jobs", "error"], table)


def write_tables(search: Search, study: optuna.Study, folder: Path) -> None:
    """Write `trials.csv` and `pareto.csv` into the search's folder."""
    trials = study.get_trials(deepcopy=False)
    write_text(folder / TRIALS, table_csv(search, trials))
    write_text(folder / FRONT, table_csv(search, front(search, completed(study))))


def print_summary(search: Search, study: optuna.Study, folder: Path) -> None:
    """Print the front of a search, or its best trials where there is one metric."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    done = completed(study)
    best = front(search, done)
    shown = best
    title = f"{search.name}: front of {len(done)} completed trials"
    if len(search.metrics) == 1:
        sign = 1.0 if search.directions[0] == "maximize" else -1.0
        shown = sorted(filter(feasible, done), key=lambda trial: -sign * trial.values[0])[:10]
        title = f"{search.name}: best of {len(done)} completed trials"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for place, header in enumerate(["trial", *map(short, search.metrics), *search.keys, "jobs"]):
        table.add_column(header, justify="right" if place else "left")
    for trial in shown[:_SHOWN]:
        deviations = trial.user_attrs.get("std")
        figures = [f"{value:.4g}" for value in trial.values]
        if deviations:
            figures = [f"{text} ± {std:.2g}" if std else text for text, std in zip(figures, deviations, strict=True)]
        cells = [str(trial.number), *figures, *(_text(trial.params[key]) for key in search.keys)]
        table.add_row(*map(Text, [*cells, " ".join(trial.user_attrs.get("jobs", []))]))
    if shown:
        print_table(table)
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    counts = {"pruned": states.count(TrialState.PRUNED), "failed": states.count(TrialState.FAIL)}
    counts["outside the constraints"] = sum(not feasible(trial) for trial in done)
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    print(f"{len(done)} trials completed{', ' + told if told else ''}; all of them: {folder / TRIALS}")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_figures(search: Search, study: optuna.Study, folder: Path) -> None:
    """Draw `pareto.png`: the first two metrics against each other, or a single one over the trials."""
    done = completed(study)
    if not done:
        return
    with figure(folder / PICTURE, width=6.0, height=4.2) as drawn:
        axis = drawn.subplots()
        axis.grid()
        if len(search.metrics) > 1:
            _draw_front(axis, search, done)
        else:
            _draw_history(axis, search, done, study)
        axis.legend()


def _as_percent(axis: Any, values: Sequence[float]) -> None:
    if all(0.0 <= value <= 1.0 for value in values):
        percent_axis(axis)


def _draw_front(axis: Any, search: Search, done: Sequence[FrozenTrial]) -> None:
    best = front(search, done)
    on_it = {trial.number for trial in best}
    others = [trial for trial in done if feasible(trial) and trial.number not in on_it]
    outside = [trial for trial in done if not feasible(trial)]
    for trials, label, style in (
        (outside, "outside the constraints", {"marker": "x", "color": GREY}),
        (others, "dominated", {"marker": "o", "color": GREY, "alpha": 0.6}),
        (best, "front", {"marker": "o", "color": VERMILLION, "zorder": 3}),
    ):
        if trials:
            axis.scatter(*zip(*(trial.values[:2] for trial in trials), strict=True), s=28, label=label, **style)
    line = sorted(trial.values[:2] for trial in best)
    if len(search.metrics) == 2 and len(line) > 1:
        axis.plot(*zip(*line, strict=True), color=VERMILLION, linewidth=1.0, zorder=2)
    for trial in best[:_SHOWN]:
        axis.annotate(str(trial.number), trial.values[:2], xytext=(4, 4), textcoords="offset points", fontsize=8)
    axis.set_title(f"{search.name}: {len(done)} trials")
    axis.set_xlabel(short(search.metrics[0]))
    axis.set_ylabel(short(search.metrics[1]))
    _as_percent(axis.xaxis, [trial.values[0] for trial in done])
    _as_percent(axis.yaxis, [trial.values[1] for trial in done])


def _draw_history(axis: Any, search: Search, done: Sequence[FrozenTrial], study: optuna.Study) -> None:
    pick = max if search.directions[0] == "maximize" else min
    kept = [trial for trial in done if feasible(trial)]
    outside = [trial for trial in done if not feasible(trial)]
    stopped = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    early = [trial for trial in stopped if trial.intermediate_values]
    if kept:
        axis.scatter([t.number for t in kept], [t.values[0] for t in kept], s=28, color=BLUE, label="completed")
        so_far = [pick(trial.values[0] for trial in kept[: place + 1]) for place in range(len(kept))]
        axis.step([trial.number for trial in kept], so_far, where="post", color=VERMILLION, label="best so far")
    if outside:
        places = [trial.number for trial in outside], [trial.values[0] for trial in outside]
        axis.scatter(*places, s=28, color=GREY, marker="x", label="outside the constraints")
    if early:
        last = [trial.intermediate_values[max(trial.intermediate_values)] for trial in early]
        axis.scatter([trial.number for trial in early], last, s=28, color=GREY, marker="v", label="pruned, its last")
    axis.set_title(f"{search.name}: {len(done)} trials")
    axis.set_xlabel("trial")
    axis.set_ylabel(short(search.metrics[0]))
    axis.xaxis.get_major_locator().set_params(integer=True)
    _as_percent(axis.yaxis, [trial.values[0] for trial in done])
