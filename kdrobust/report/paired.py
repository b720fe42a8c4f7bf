"""Paired comparisons of models as text."""

from __future__ import annotations

from collections.abc import Sequence

from kdrobust.evaluation.comparison import Comparison
from kdrobust.report.markdown import markdown_table
from kdrobust.report.rows import attack_title


def p_text(p_value: float) -> str:
    """A p-value as text: `p = 0.031`, `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def paired_line(first: str, second: str, comparison: Comparison) -> str:
    """One comparison in a sentence.

    Args:
        first: name of the first model.
        second: name of the second.
        comparison: what `kdrobust.evaluation.compare` returned.
    """
    what = f"{attack_title(comparison.column)}, {first} minus {second}"
    if comparison.difference is None:
        return f"{what}: no samples."
    low, high = (100 * end for end in comparison.interval)
    return (
        f"{what}: {100 * comparison.difference:+.1f} points [{low:+.1f} to {high:+.1f}], "
        f"{p_text(comparison.p_value)} (McNemar); only {first} right on {comparison.only_first}, "
        f"only {second} on {comparison.only_second} of {comparison.n:,}."
    )


def paired_markdown(first: str, second: str, comparisons: Sequence[Comparison]) -> str:
    """Comparisons of two models as a Markdown table with a footnote.

    Args:
        first: name of the first model.
        second: name of the second.
        comparisons: one a line, what `kdrobust.evaluation.compare` returned.
    """
    if not comparisons:
        return ""
    confidence = f"{100 * comparisons[0].confidence:g} %"
    lines = [["under", f"{first} minus {second} [{confidence} CI]", "McNemar", f"only {first}", f"only {second}", "n"]]
    for one in comparisons:
        told = "–"
        if one.difference is not None:
            told = f"{100 * one.difference:+.1f} [{100 * one.interval[0]:+.1f} to {100 * one.interval[1]:+.1f}]"
        cells = [attack_title(one.column), told, p_text(one.p_value), str(one.only_first), str(one.only_second)]
        lines.append([*cells, f"{one.n:,}"])
    note = (
        "Differences in points, on the same samples; interval: Newcombe's for paired shares; p: McNemar's exact test, "
        "two-sided, not corrected for the number of lines."
    )
    return f"{markdown_table(lines)}\n\n- {note}\n"
