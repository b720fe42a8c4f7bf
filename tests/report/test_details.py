"""The second table (W-Robust, worst class, calibration) and paired comparisons as text."""

import csv
import io

import pytest
from rich.console import Console

from kdrobust.evaluation import wilson
from kdrobust.evaluation.comparison import Comparison
from kdrobust.report import (
    comparison_csv,
    comparison_markdown,
    comparison_table,
    footnotes,
    paired_line,
    paired_markdown,
    read_row,
)
from kdrobust.report.details import detail_of, w_robust_of


def classes(correct):
    return {"correct": correct, "accuracy": [], "low": [], "high": [], "worst": None}


def calibrated(ece, nll):
    return {"ece": ece, "nll": nll}


@pytest.fixture
def detailed(rows):
    for row in rows:
        for seed, result in enumerate(row["results"]):
            clean, worst = calibrated(0.05, 0.3), calibrated(0.2 + 0.01 * seed, 1.5)
            result["evaluation"] |= {
                "w_robust": 0.6 + 0.01 * seed,
                "per_class": {
                    "labels": [0, 1, 4],
                    "n": [400, 400, 200],
                    "clean": classes([390, 380, 150]),
                    "attacks": {"fgsm": classes([300, 200, 100]), "pgd20": classes([300, 200, 100])},
                    "worst_case": classes([300, 100 + 10 * seed, 60]),
                },
                "calibration": {
                    "bins": 15,
                    "clean": clean,
                    "attacks": {"fgsm": None, "pgd20": worst},
                    "worst_case": worst,
                },
            }
    rows[1]["class_names"] = ["cat", "dog", "ox", "owl", "ant"]
    return rows


def test_means_over_seeds_and_the_worst_class_of_the_means(detailed):
    teacher, student = (read_row(row) for row in detailed)
    assert w_robust_of(student) == pytest.approx(0.61)
    worst = detail_of(student, "worst_case")
    assert (worst.worst_class, worst.worst_accuracy) == (1, pytest.approx(110 / 400))
    assert worst.worst_interval == pytest.approx(wilson(110, 400, 1 - 0.05 / 3))
    assert (worst.ece, worst.nll) == pytest.approx((0.21, 1.5))
    assert detail_of(student, "clean").worst_class == 4
    assert detail_of(student, "fgsm").ece is None
    assert detail_of(teacher, "worst_case").worst_accuracy == 0.25


def test_markdown_has_a_second_table(detailed):
    lines = comparison_markdown(detailed).splitlines()
    low, high = wilson(110, 400, 1 - 0.05 / 3)
    assert lines[5] == "| model | W-Robust | worst class [CI] | ECE clean | ECE attacked | NLL clean | NLL attacked |"
    assert lines[7].startswith("| teacher | 60.0 | class 1 25.0 [")
    assert lines[8] == f"| student | 61.0 | dog 27.5 [{100 * low:.1f}–{100 * high:.1f}] | 5.0 | 21.0 | 0.30 | 1.50 |"
    assert any("W-Robust: mean of clean" in line for line in footnotes(detailed))


def test_results_without_further_figures_have_no_second_table(rows, detailed):
    for row in rows:
        for result in row["results"]:
            for key in ("w_robust", "per_class", "calibration"):
                del result["evaluation"][key]
    text = comparison_markdown(rows)
    assert "W-Robust" not in text
    assert text.count("| --- |") == 1


def test_one_old_result_among_new_ones_leaves_dashes(detailed, result):
    detailed[1]["results"][1]["evaluation"]["per_class"] = None
    detailed[1]["results"][1]["evaluation"]["w_robust"] = None
    detailed.append({"name": "old", "results": [result(900, 700, 650)]})
    text = comparison_markdown(detailed)
    assert "| student | – | – | 5.0 |" in text
    assert text.count("| old |") == 1


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_both_tables_whole(detailed, width):
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(comparison_table(detailed))
    text = buffer.getvalue()
    for told in ("W-Robust", "61.0", "dog", "27.5", "21.0", "1.50", "46.4 ± 0.4"):
        assert told in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_csv_has_the_further_figures(detailed):
    read = list(csv.DictReader(io.StringIO(comparison_csv(detailed))))
    last = read[-1]
    assert last["attack"] == "worst_case"
    assert (last["worst_class"], float(last["worst_class_accuracy"])) == ("1", pytest.approx(0.275))
    assert (float(last["ece"]), float(last["nll"]), float(last["w_robust"])) == pytest.approx((0.21, 1.5, 0.61))
    assert read[-3]["attack"] == "fgsm"
    assert read[-3]["ece"] == ""


def test_no_samples_and_no_classes(result):
    bare = result(9, 5, 4, n=10)
    bare["per_class"] = {"labels": [], "n": [], "clean": classes([]), "attacks": {}, "worst_case": classes([])}
    assert detail_of(read_row({"name": "m", "results": [bare]}), "clean").worst_class is None


def paired(**changes):
    values = {
        "column": "worst_case", "n": 1000, "both": 500, "only_first": 80, "only_second": 50, "neither": 370,
        "difference": 0.03, "interval": (0.008, 0.052), "p_value": 0.0106, "confidence": 0.95,
    }  # fmt: skip
    return Comparison(**{**values, **changes})


def test_paired_comparisons_in_words():
    line = paired_line("teacher", "student", paired())
    assert line == (
        "worst case, teacher minus student: +3.0 points [+0.8 to +5.2], p = 0.011 (McNemar); "
        "only teacher right on 80, only student on 50 of 1,000."
    )
    assert "p < 0.001" in paired_line("a", "b", paired(p_value=1e-9))
    assert paired_line("a", "b", paired(difference=None)).endswith("no samples.")


def test_paired_comparisons_as_a_table():
    lines = paired_markdown("a|b", "c", [paired(column="clean"), paired(difference=None)]).splitlines()
    assert lines[0] == "| under | a\\|b minus c [95 % CI] | McNemar | only a\\|b | only c | n |"
    assert lines[2] == "| clean | +3.0 [+0.8 to +5.2] | p = 0.011 | 80 | 50 | 1,000 |"
    assert lines[3].startswith("| worst case | – |")
    assert "Newcombe" in lines[5]
    assert paired_markdown("a", "b", []) == ""
