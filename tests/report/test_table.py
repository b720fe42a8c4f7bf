"""The comparison as text: every number recomputed, the footnotes complete, narrow terminals readable."""

import csv
import io
import statistics

import pytest
from rich.console import Console

from kdrobust.evaluation import wilson
from kdrobust.report import (
    comparison_csv,
    comparison_markdown,
    comparison_table,
    footnotes,
    human,
    print_table,
    read_row,
    threat_text,
)
from kdrobust.report.rows import attack_text, number_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (650, "650"),
        (999, "999"),
        (1000, "1.0 k"),
        (151_200, "151.2 k"),
        (999_949, "999.9 k"),
        (999_950, "1.0 M"),
        (3_400_000, "3.4 M"),
        (46.16e6, "46.2 M"),
        (1.11e9, "1.1 G"),
        (2.5e12, "2.5 T"),
        (None, "–"),
    ],
)
def test_counts_are_written_for_people(count, text):
    assert human(count) == text


def test_one_seed_is_taken_as_it_is_and_several_are_averaged(rows):
    teacher, student = (read_row(row) for row in rows)
    assert (teacher.seeds, teacher.parameters, teacher.flops) == (1, 3_400_000, 2e9)
    assert teacher.figures["pgd20"].mean == 0.65
    assert teacher.figures["pgd20"].std is None
    assert teacher.figures["pgd20"].interval == wilson(650, 1000)
    assert student.seeds == 3
    assert student.figures["clean"].mean == pytest.approx(0.71)
    assert student.figures["clean"].std == pytest.approx(statistics.stdev([0.70, 0.71, 0.72]))
    assert student.figures["pgd20"].interval == wilson(464, 1000)
    assert student.figures["worst_case"].values == (0.46, 0.464, 0.468)


def test_bare_evaluations_and_costs_of_the_row_itself_work_too(result):
    row = read_row({"name": "m", "parameters": 5, "results": [result(9, 5, 4, n=10)]})
    assert (row.parameters, row.flops, row.n) == (5, None, 10)


def test_results_that_cannot_be_averaged_are_refused(result):
    with pytest.raises(ValueError, match="m: its results are of different"):
        read_row({"name": "m", "results": [result(9, 5, 4, n=10), result(9, 5, 4, n=20)]})
    with pytest.raises(ValueError, match="m: its results are of different"):
        read_row({"name": "m", "results": [result(9, 5, 4), result(9, 5, 4, margin50x5=3)]})
    with pytest.raises(ValueError, match="at least one result"):
        read_row({"name": "m", "results": []})


def test_markdown_is_a_table_with_footnotes(rows):
    lines = comparison_markdown(rows).splitlines()
    assert lines[0] == "| model | parameters | FLOPs | clean | FGSM | PGD-20 [95 % CI] | n |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert lines[2] == "| teacher | 3.4 M | 2.0 G | 90.0 | 70.0 | 65.0 [62.0–67.9] | 1,000 |"
    assert lines[3] == ("| student | 13.4 k | 151.2 k | 71.0 ± 1.0 | 48.5 ± 0.5 | 46.4 ± 0.4 [43.3–49.5] | 1,000 |")
    assert {line.count("|") for line in lines[:4]} == {8}
    assert all(line.startswith("- ") for line in lines[5:])


def test_footnotes_say_what_ran(rows):
    text = "\n".join(footnotes(rows))
    assert "Threat: ℓ∞, ε = 0.1." in text
    assert "FGSM: 1 step of 0.1 on cross-entropy, no random start" in text
    assert "PGD-20: 20 steps of 0.025 on cross-entropy, uniform start" in text
    assert "standard deviation over 3 seeds" in text
    assert "Trust checks: passed for every model." in text
    assert "±" not in "\n".join(footnotes(rows[:1]))


def test_the_worst_case_is_shown_where_no_attack_tells_it(result):
    hard, easy = ({"name": name, "results": [result(900, 640, 650)]} for name in "ab")
    easy["results"] = [result(900, 700, 650)]
    assert "worst case" not in comparison_markdown([easy])
    heading, _, *lines = comparison_markdown([easy, hard]).splitlines()[:4]
    assert "| PGD-20 | worst case [95 % CI] |" in heading
    assert "| 65.0 | 65.0 [62.0–67.9] |" in lines[0]
    assert "| 65.0 | 64.0 [61.0–66.9] |" in lines[1]


def test_a_model_trained_against_another_threat_is_told_so(result):
    def row(name, **trained_for):
        evaluated = result(900, 700, 650)
        return {
            "name": name,
            "results": [
                {
                    "evaluation": evaluated,
                    "checkpoint": {"path": "best.ckpt", "sha256": name[0]},
                    **({"trained_for": trained_for} if trained_for else {}),
                }
            ],
        }

    small, same, unknown = row("a", norm="linf", eps=8 / 255), row("b", norm="linf", eps=0.1), row("c")
    told = "a was trained against another threat: ℓ∞, ε = 8/255."
    assert [line for line in footnotes([small, same, unknown]) if "another threat" in line] == [told]
    # at two radii, one of which is its own
    others = [row("a (ℓ∞, ε = 0.1)", norm="linf", eps=0.2), row("a (ℓ∞, ε = 0.2)", norm="linf", eps=0.2)]
    assert "another threat" in "\n".join(footnotes(others[:1]))
    assert "a was trained against another threat: ℓ∞, ε = 0.2." in footnotes(others)
    others[1]["results"][0]["evaluation"] = result(900, 600, 500, eps=0.2)
    assert "another threat" not in "\n".join(footnotes(others))
    # two models whose names differ only in what stands in brackets
    others = [row("a (long)", norm="linf", eps=0.2), row("b (long)", norm="linf", eps=0.1)]
    assert "a (long) was trained against another threat: ℓ∞, ε = 0.2." in footnotes(others)


def test_unreliable_figures_are_marked_with_the_reason(result, rows):
    bad = result(900, 700, 650, checks=[("S6", "fail", "no gradient on 62.5 %"), ("S5", "warn", "1 of 128")])
    doubtful = result(900, 700, 650, checks=[("S5", "warn", "1 of 128")])
    unchecked = {**result(900, 700, 650), "checks": []}
    entries = [("masked", bad), ("doubtful", doubtful), ("fast", unchecked)]
    several = [*rows, *({"name": name, "results": [entry]} for name, entry in entries)]
    text = comparison_markdown(several)
    assert "| masked † |" in text
    assert "| doubtful |" in text
    assert "† masked: unreliable: S6 a check: no gradient on 62.5 %" in text
    verdict = next(line for line in footnotes(several) if line.startswith("Trust"))
    assert verdict == (
        "Trust checks: failed for masked (†); not run for fast; "
        "passed with warnings for doubtful (S5); passed for the others."
    )


def test_csv_holds_every_figure_unrounded(rows):
    read = list(csv.DictReader(io.StringIO(comparison_csv(rows))))
    assert [(row["model"], row["attack"]) for row in read] == [
        (model, attack) for model in ("teacher", "student") for attack in ("clean", "fgsm", "pgd20", "worst_case")
    ]
    last = read[-1]
    assert float(last["accuracy"]) == pytest.approx(0.464)
    assert float(last["std"]) == pytest.approx(0.004)
    assert (float(last["low"]), float(last["high"])) == pytest.approx(wilson(464, 1000))
    assert (last["n"], last["seeds"], last["unreliable"], last["parameters"]) == ("1000", "3", "false", "13370")
    assert read[0]["std"] == ""


def test_the_strong_suites_attacks_and_worst_case_get_columns(result):
    rows = [{"name": "m", "results": [result(900, 700, 650, pgd50x5=640, margin50x5=630)]}]
    head = comparison_markdown(rows).splitlines()[0]
    assert head.endswith("| PGD-20 | PGD-50×5 | margin PGD-50×5 | worst case [95 % CI] | n |")
    assert "63.0 [60.0–65.9]" in comparison_markdown(rows)


def test_models_of_different_suites_leave_dashes(result, rows):
    odd = {"name": "odd", "results": [result(900, 700, 650, pgd50x5=600)]}
    text = comparison_markdown([rows[0], odd])
    assert "| teacher | 3.4 M | 2.0 G | 90.0 | 70.0 | 65.0 | – |" in text


def printed(table, width):
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(table)
    return buffer.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_number_is_cut_in_a_terminal(rows, width):
    rows[1]["name"] = "student distilled (RSLAD)"
    text = printed(comparison_table(rows, title="Comparison"), width)
    for cell in ("3.4 M", "13.4 k", "71.0 ± 1.0", "48.5 ± 0.5", "46.4 ± 0.4", "[43.3–49.5]", "1,000", "[95 % CI]"):
        assert cell in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_the_headline_stays_whole_where_there_are_many_columns(result, width):
    def met(own, other):
        met_from = {f"{attack}_from_{other}_digits-6eade511": 480 for attack in ("a", "b", "c")}
        return {"name": f"{own}_wide_cnn_digits-6eade511 (ℓ∞, ε = 0.1)", "results": [result(812, 600, 503, **met_from)]}

    text = printed(comparison_table([met("rslad", "pgd_at"), met("pgd_at", "rslad")]), width)
    headline = [row for row in text.splitlines() if "1,000" in row]
    assert len(headline) == 2
    assert all("81.2" in row and "48.0" in row for row in headline)
    for word in (
        "clean",
        "worst case",
        "[95 % CI]",
        "a from pgd_at_digits-6eade511",
        "c from rslad_digits-6eade511",
        "FGSM",
    ):
        assert word in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_the_footnote_tells_every_radius(result):
    rows = [{"name": f"{eps}", "results": [result(812, 600, 503, eps=eps)]} for eps in (0.04, 0.08, 0.16)]
    told = " ".join(footnotes(rows))
    assert "PGD-20: 20 steps of 0.01, 0.02 and 0.04 on cross-entropy, uniform start" in told
    assert "FGSM: 1 step of 0.04, 0.08 and 0.16 on cross-entropy" in told


def test_a_pipe_gets_plain_wide_text(rows, capsys):
    print_table(comparison_table(rows))
    buffer = io.StringIO()
    print_table(comparison_table(rows), file=buffer)
    text = capsys.readouterr().out
    assert text == buffer.getvalue()
    assert "\x1b" not in text
    assert any("student" in line and "46.4 ± 0.4 [43.3–49.5]" in line for line in text.splitlines())
    assert "Threat: ℓ∞, ε = 0.1." in text


def test_no_rows_are_no_table():
    assert comparison_markdown([]) == ""
    assert footnotes([]) == []
    assert printed(comparison_table([]), 80).strip() == ""


def test_names_do_not_break_the_table(result):
    row = {"name": "a|b [red]", "results": [result(9, 5, 4, n=10)]}
    assert "| a\\|b [red] |" in comparison_markdown([row])
    assert "a|b [red]" in printed(comparison_table([row]), 100)


def test_radii_are_written_as_this_field_writes_them():
    radii = (8 / 255, 0.1, 0.2, 0.5, 0.031, 0.0)
    assert [number_text(value) for value in radii] == ["8/255", "0.1", "0.2", "0.5", "0.031", "0"]
    assert threat_text({"norm": "l2", "eps": 0.5}) == "ℓ2, ε = 0.5"
    spec = {"steps": 50, "step_size": 2 / 255, "goal": "margin", "start": "uniform", "restarts": 5}
    assert attack_text("margin50x5", spec) == "margin PGD-50×5: 50 steps of 2/255 on margin, uniform start, 5 restarts"
    assert attack_text("mine", {"attack": "Mine"}) == "mine: Mine"
    official = {"attack": "AutoAttack", "library": "pyautoattack 0.2.0", "version": "standard", "batch_size": 250}
    assert attack_text("autoattack", official) == "AutoAttack: pyautoattack 0.2.0, version standard, batches of 250"
    transfer = {"attack": "TransferAttack", "source": {"name": "a"}, "made_by": {**spec, "restarts": 1}}
    told = "margin from a: made on a alone (50 steps of 2/255 on margin, uniform start)"
    assert attack_text("margin_from_a", transfer) == told
