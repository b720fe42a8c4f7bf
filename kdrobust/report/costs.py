"""What a defence costs: teacher and student side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdrobust.evaluation.cost import per_mflop
from kdrobust.report.markdown import markdown_table
from kdrobust.report.rows import read_row
from kdrobust.report.table import human

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, kw_only=True)
class _Priced:
    name: str
    reasons: bool
    cost: Mapping[str, Any]
    latency: Sequence[Mapping[str, Any]]
    clean: float
    robust: float


def _read(rows: Sequence[Mapping[str, Any]]) -> list[_Priced]:
    priced = []
    for row in rows:
        read = read_row(row)
        model = {**row["results"][0].get("model", {}), **row.get("model", {})}
        model |= {key: value for key in ("parameters", "flops") if (value := getattr(read, key)) is not None}
        last = "worst_case" if "worst_case" in read.figures else list(read.figures)[-1]
        priced.append(
            _Priced(
                name=read.name,
                reasons=bool(read.reasons),
                cost=model,
                latency=model.get("latency", ()),
                clean=read.figures["clean"].mean,
                robust=read.figures[last].mean,
            )
        )
    return priced


def seconds_text(seconds: float) -> str:
    """A time with a unit and three digits: 0.41 ms, 12.3 ms, 1.20 s."""
    if seconds >= 1.0:
        return f"{seconds:.2f} s"
    if seconds >= 1e-3:
        return f"{1e3 * seconds:.3g} ms"
    return f"{1e6 * seconds:.3g} µs"


def size_text(size: float | None) -> str:
    """A size in bytes as text, in powers of 1000: 53.5 kB."""
    return "–" if size is None else f"{human(size)}B" if size >= 1e3 else f"{size:g} B"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} ×" if ratio >= 100 else f"{ratio:.3g} ×"


def _lines(priced: Sequence[_Priced]) -> list[list[str]]:
    """One line a quantity: its name, each model's value, first / last (of accuracies: first - last, in points)."""

    def line(title: str, values: Sequence[float | None], texts: Sequence[str]) -> list[str]:
        first, last = values[0], values[-1]
        times = _times(first / last) if first and last else "–"
        return [title, *texts, *([times] if len(values) > 1 else [])]

    def of_cost(title: str, key: str, text: Any) -> list[str]:
        values = [one.cost.get(key) for one in priced]
        return line(title, values, [text(value) for value in values])

    lines = [
        of_cost("parameters", "parameters", human),
        of_cost("FLOPs a sample", "flops", human),
    ]
    if any("size_bytes" in one.cost for one in priced):
        lines.append(of_cost("in memory", "size_bytes", size_text))
    if any("file_bytes" in one.cost for one in priced):
        lines.append(of_cost("exported file", "file_bytes", size_text))
    if any("checkpoint_bytes" in one.cost for one in priced):
        lines.append(of_cost("checkpoint on disk", "checkpoint_bytes", size_text))
    for batch in dict.fromkeys(int(entry["batch"]) for one in priced for entry in one.latency):
        found = [next((entry for entry in one.latency if entry["batch"] == batch), None) for one in priced]
        texts = [
            "–"
            if entry is None
            else f"{seconds_text(entry['median'])} [{seconds_text(entry['lower'])}–{seconds_text(entry['upper'])}]"
            for entry in found
        ]
        lines.append(
            line(
                f"latency, batch {batch}", [None if entry is None else float(entry["median"]) for entry in found], texts
            )
        )
    for title, values in (
        ("clean accuracy, %", [one.clean for one in priced]),
        ("robust accuracy, %", [one.robust for one in priced]),
    ):
        apart = [f"{100 * (values[0] - values[-1]):+.1f}"] if len(values) > 1 else []
        lines.append([title, *(f"{100 * value:.1f}" for value in values), *apart])
    yields = [per_mflop(one.robust, int(one.cost.get("flops") or 0)) for one in priced]
    lines.append(line("robust points a MFLOP", yields, ["–" if value is None else f"{value:.3g}" for value in yields]))
    return lines


def _headers(priced: Sequence[_Priced]) -> list[str]:
    names = [f"{one.name} †" if one.reasons else one.name for one in priced]
    return ["", *names, *([f"{priced[0].name} / {priced[-1].name}"] if len(priced) > 1 else [])]


def cost_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How the costs were measured: on what machine, with how many threads and passes."""
    priced = _read(rows)
    notes = ["FLOPs: of one forward pass, a multiply-add counts as 2. Robust: worst case over the attacks."]
    if len(priced) > 1:
        notes.append("Last column: the ratio; of accuracies the difference in points.")
    timed = [entry for one in priced for entry in one.latency]
    ways = dict.fromkeys((entry["machine"], entry["device"], entry["threads"], entry["passes"]) for entry in timed)
    for machine, device, threads, passes in ways:
        told = f"{threads} {'thread' if threads == 1 else 'threads'}, {passes} timed passes after warm-up"
        notes.append(f"Latency: median [quartiles] on {machine} ({device}), {told}.")
    if len({way[:3] for way in ways}) > 1:
        notes.append("Latencies of different machines or threads cannot be compared.")
    if any(one.reasons for one in priced):
        notes.append("†: failed a trust check; its robust accuracy is not to be trusted.")
    return notes


def cost_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Costs side by side as Markdown: one line a quantity, one column a model, the first as a multiple of the last.

    Of accuracies the last column is the difference in points.

    Args:
        rows: as in `kdrobust.report.read_row`, teacher first. Costs are read from the first result's `model` (or the
            row's): `parameters`, `flops`, `size_bytes`, `checkpoint_bytes`, `file_bytes`, and `latency`, a list of
            `kdrobust.evaluation.Latency` as dicts. What is missing is a dash.
    """
    priced = _read(rows)
    if not priced:
        return ""
    notes = "\n".join(f"- {note}" for note in cost_notes(rows))
    return f"{markdown_table([_headers(priced), *_lines(priced)])}\n\n{notes}\n"


def cost_table(rows: Sequence[Mapping[str, Any]], *, title: str = "Cost of the defence") -> Group:
    """Costs side by side for a terminal; hand it to `kdrobust.report.print_table`.

    Args:
        rows: as in `cost_markdown`.
        title: above the table.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    priced = _read(rows)
    if not priced:
        return Group()
    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for place, header in enumerate(_headers(priced)):
        table.add_column(Text(header), justify="right" if place else "left")
    for line in _lines(priced):
        table.add_row(*(Text(cell.replace(" [", "\n[")) for cell in line))
    return Group(table, *(Text(note, style="dim") for note in cost_notes(rows)))
