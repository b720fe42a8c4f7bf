"""What the records say, as rows, as a page, as a leaderboard and as a plot."""

import html
import json
import re

import pytest

from kdrobust.benchmark import leaderboard as leaderboard_module
from kdrobust.benchmark import page as page_module
from kdrobust.benchmark import plot
from kdrobust.benchmark.answers import in_short, keeping, verdict
from kdrobust.benchmark.kept import kept_folder
from kdrobust.benchmark.page import columns_of
from kdrobust.benchmark.plan import jobs_of
from kdrobust.benchmark.records import records_path, write_records
from kdrobust.benchmark.rows import read_all, rows_of
from kdrobust.benchmark.statistics import Mean
from kdrobust.benchmark.tables import agreement, interval, kept, short_difference, told_difference
from tests.benchmark.suites import record, records, suite, teacher

#: robust counts of 100 by method, a seed each: `gentle` better beyond noise, `standard` not told apart
ROBUST = {"pgd_at": (60, 62, 61), "standard": (58, 64, 62), "gentle": (70, 72, 71)}


def invented(job):
    told = {"robust": ROBUST[job.method][job.seed]}
    return told | ({"teachers": {"teacher": teacher()}} if job.method == "gentle" else {})


@pytest.fixture
def made():
    return suite()


def test_rows_are_means_compared_seed_by_seed(made):
    rows = rows_of(made, made.blocks["main"], records(made, of=invented))
    assert [(row.method, row.student) for row in rows] == [
        (method, student) for student in ("small", "mlp") for method in ("gentle", "standard", "pgd_at")
    ]
    gentle, standard, baseline = rows[:3]
    assert (gentle.robust.value, gentle.robust.n, gentle.difference.value) == pytest.approx((0.71, 3, 0.10))
    assert (baseline.difference, baseline.against, gentle.against) == (None, "", "pgd_at")
    # without spread there is no doubt; the correction keeps 0 at 0, and doubles nothing beyond the larger
    assert (gentle.difference.corrected, standard.difference.corrected > 0.5) == (0.0, True)
    assert told_difference(gentle.difference) == "**+10.0 [+10.0, +10.0], p < 0.001**"
    assert told_difference(baseline.difference) == short_difference(None) == ""
    told = verdict(made.blocks["main"], rows[:3])
    assert "Most robust: `gentle` (71.0), **+10.0 [+10.0, +10.0], p < 0.001** from `pgd_at`." in told
    assert "More robust than `pgd_at` beyond seed noise: `gentle` (+10.0); less: none; 1 of 2 cannot be told" in told
    assert told.endswith(
        " W-Robust above its: `gentle` (+5.0); below: none. No difference in clean accuracy is beyond seed noise."
    )


def test_clean_accuracy_is_compared_too(made):
    clean = {"pgd_at": (80, 82, 81), "standard": (84, 86, 85), "gentle": (79, 80, 78)}
    rows = rows_of(made, made.blocks["main"], records(made, of=lambda job: {"clean": clean[job.method][job.seed]}))
    found = {row.method: row.differences["clean"] for row in rows if row.student == "small"}
    assert found["pgd_at"] is None
    assert short_difference(found["standard"]) == "**+4.0**"
    # -1, -2 and -3: p = 0.074 of two
    assert short_difference(found["gentle"]) == "-2.0"
    assert found["gentle"].corrected == pytest.approx(0.0742, abs=1e-4)
    told = verdict(made.blocks["main"], [row for row in rows if row.student == "small"])
    # half of +4, of the same robust accuracy
    assert {row.method: row.means["w_robust"].value for row in rows}["standard"] == pytest.approx(0.725)
    assert told.endswith("W-Robust above its: `standard` (+2.0); below: none.")
    assert "(60.0). 2 of 2 cannot be told apart from `pgd_at`" in told
    assert "Clean accuracy above its: `standard` (+4.0); below: none." in told


def test_a_block_s_own_baseline_is_compared_with():
    made = suite(blocks={"main": {"question": "Who?", "baseline": "gentle", "students": ["small"]}})
    rows = rows_of(made, made.blocks["main"], records(made, of=invented))
    assert {row.method: row.against for row in rows} == {"gentle": "", "standard": "gentle", "pgd_at": "gentle"}
    assert [round(100 * row.difference.value) for row in rows if row.difference] == [-10, -10]


def test_one_seed_is_told_without_an_interval(made):
    found = [record(job, **invented(job)) for job in jobs_of(made, made.blocks["main"]) if job.seed == 0]
    rows = rows_of(made, made.blocks["main"], found)
    assert told_difference(rows[0].difference) == "+10.0 (one seed)"
    assert not rows[0].difference.beyond_noise
    assert verdict(made.blocks["main"], rows[:3]).endswith("One seed: no difference can be told from noise.")
    assert columns_of(made.blocks["main"], rows[:3], {})[1][4] == "70.0"


def test_every_question_has_its_answer_in_short(made):
    found = {"main": records(made, of=invented), "cost": [], "ladder": [], "tuned": []}
    lines = in_short(made, found).splitlines()
    assert len(lines) == 6
    assert lines[0] == "- **Who wins?**"
    assert lines[1].startswith("  - `small`: Most robust: `gentle` (71.0), **+10.0")
    assert lines[2].startswith("  - `mlp`: Most robust")
    assert lines[3] == "- **** Not yet measured."


def test_what_is_kept_of_a_teacher(made):
    # 1,000 of 10,000 parameters; 70, 72 and 71 of 100 against the teacher's 80
    lines = keeping(made, records(made, of=invented)).splitlines()
    assert lines[0].startswith("| student | of the teacher's parameters | method | kept |")
    assert lines[2:4] == [
        "| `small` | 10.0 % | `gentle` | 72.5 | 88.8 | 8.9 × |",
        "| `small` | 10.0 % | `pgd_at` (no teacher) |  | 76.2 | 7.6 × |",
    ]
    assert len(lines) == 6
    assert keeping(made, [record(job) for job in jobs_of(made, made.blocks["main"])]) == ""


def test_the_method_that_keeps_most_is_told(made):
    jobs = [job for job in jobs_of(made, made.blocks["main"]) if job.student == "small"]
    kept = {"pgd_at": 10, "standard": 60, "gentle": 50}
    found = [record(job, teachers={"robust": teacher(kept=kept[job.method])}) for job in jobs]
    assert "| `standard` | 75.0 |" in keeping(made, found)


def test_a_teacher_that_is_not_robust_has_nothing_to_keep(made):
    job = jobs_of(made, made.blocks["main"])[0]
    assert kept(record(job, teachers={"teacher": teacher(robust=3, kept=2)})) is None
    assert kept(record(job)) is agreement(record(job)) is None
    both = {"robust": teacher(robust=80, kept=40), "teacher": teacher(robust=90, kept=90)}
    assert kept(record(job, teachers=both)) == 0.5


def test_an_interval_ends_where_shares_do():
    assert interval(Mean(value=0.74, low=0.18, high=1.3, n=2)) == "74.0 [18.0, 100.0]"
    assert interval(Mean(value=0.01, low=-0.1, high=0.12, n=2)) == "1.0 [0.0, 12.0]"


def test_a_grid_is_compared_with_its_first_point(made):
    block = made.blocks["ladder"]
    found = [record(job, robust=50 + place) for place, job in enumerate(jobs_of(made, block))]
    rows = rows_of(made, block, found)
    assert [row.difference and round(row.difference.value, 2) for row in rows] == [0.03, 0.02, 0.01, None]
    assert {row.against for row in rows} == {"eps=0.1 alpha=0", ""}
    lines = columns_of(block, rows, {})
    assert lines[0][:3] == ["method", "eps", "alpha"]
    assert lines[1][:3] == ["`gentle`", "0.2", "1"]


def test_an_evaluation_of_its_own_shows_each_attack(made):
    block = made.blocks["ladder"]
    (one, *_) = jobs_of(made, block)
    attacks = {"pgd20": 44, "cascade": 41, "autoattack": 42, "mi_fgsm_from_teacher": 70}
    (heading, line) = columns_of(block, rows_of(made, block, [record(one, robust=40, attacks=attacks)]), {})
    told = dict(zip(heading, line, strict=True))
    assert heading.count("PGD-20") == 1
    assert (told["PGD-20"], told["our cascade"], told["AutoAttack"], told["robust"]) == ("44.0", "41.0", "42.0", "40.0")
    main = columns_of(made.blocks["main"], rows_of(made, made.blocks["main"], records(made, of=invented)), {})
    assert "our cascade" not in main[0]


def test_transfer_is_from_the_robust_teacher(made):
    block = made.blocks["main"]
    job = jobs_of(made, block)[0]

    def told(attacks, **teachers):
        found = record(job, attacks={"pgd20": 50, **attacks}, teachers=teachers)
        (heading, line) = columns_of(block, rows_of(made, block, [found]), {})
        return line[heading.index("transfer")] if "transfer" in heading else None

    both = {"mi_fgsm_from_robust": 71, "mi_fgsm_from_natural": 60}
    assert told(both, robust=teacher(), natural=teacher(robust=2)) == "71.0"
    assert told({"mi_fgsm_from_teacher": 72}, teacher=teacher()) == "72.0"
    assert told({"mi_fgsm_from_teacher": 30}, teacher=teacher(robust=2)) is None


def test_the_worst_class_is_named_where_seeds_agree(made):
    block, jobs = made.blocks["main"], jobs_of(made, made.blocks["main"])
    first, second = (job for job in jobs if (job.method, job.student) == ("pgd_at", "small") and job.seed < 2)

    def told(*worst):
        found = [record(job, worst_class=each) for job, each in zip((first, second), worst, strict=True)]
        (heading, line) = columns_of(block, rows_of(made, block, found), {})
        return line[heading.index("worst class")] if "worst class" in heading else None

    assert told({"label": 6, "accuracy": 0.01}, {"label": 6, "accuracy": 0.03}) == "2.0 (6)"
    assert told({"label": 6, "accuracy": 0.01}, {"label": 4, "accuracy": 0.03}) == "2.0"
    assert told(None, {"label": 4, "accuracy": 0.5}) == "50.0 (4)"
    assert told(None, None) is None


def test_remarks_name_student_and_seed_and_gather_warnings(made):
    block = made.blocks["main"]

    def found(job):
        if (job.method, job.student) != ("gentle", "small"):
            return {}
        warnings = [f"robust overfitting: fell from {60 + job.seed}.{again} %" for again in (0, 1)] if job.seed else []
        return {"warnings": warnings, "reasons": ["S1: masked"] if job.seed == 2 else []}

    assert page_module.remarks(rows_of(made, block, records(made, of=found))) == [
        "Warned of in training: robust overfitting, `gentle` (`small`, seeds 1, 2)",
        "† `gentle` (`small`, seed 2): S1: masked",
    ]


def test_notes_stand_under_what_they_are_about(measured, monkeypatch):
    noted = suite(notes=["All of it."], blocks={"main": {"question": "Who wins?", "notes": ["About\n  winning."]}})
    for module in (page_module, leaderboard_module):
        monkeypatch.setattr(module, "read_suite", lambda name: noted)
    text = page_module.benchmark_page(measured)
    assert "### What departs from the papers\n\n- All of it.\n" in text
    assert "trainings measured.\n\n- About winning.\n\n![Who wins?]" in text


def test_records_of_an_earlier_state_of_the_suite_are_not_shown(made, tmp_path):
    given = records(made, of=invented)
    stale = {**given[0], "digest": "f" * 16}
    others = {**given[1], "method": "mine", "digest": "e" * 16}
    write_records(records_path(tmp_path, made.name, "main"), made, made.blocks["main"], [stale, *given[1:], others])
    found = read_all(made, tmp_path)["main"]
    assert len(found) == len(given)
    assert {entry["digest"] for entry in found} & {"f" * 16, "e" * 16} == {"e" * 16}


def test_a_ladder_tells_how_robust_its_teachers_are(made):
    block = made.blocks["ladder"]
    jobs = jobs_of(made, block)
    strength = {job.label: 60 + 10 * place for place, job in enumerate(jobs)}
    found = [record(job, teachers={"teacher": teacher(robust=strength[job.label])}) for job in jobs]
    lines = columns_of(block, rows_of(made, block, found), {})
    assert [line[lines[0].index("teacher's robust")] for line in lines[1:]] == ["60.0", "70.0", "80.0", "90.0"]
    alike = [record(job, teachers={"teacher": teacher()}) for job in jobs]
    assert "teacher's robust" not in columns_of(block, rows_of(made, block, alike), {})[0]


def test_a_tuned_method_stands_beside_its_papers_values(made):
    block = made.blocks["tuned"]
    tuned = {"trials": 3, "robust_validation_accuracy": 0.5}
    overrides = ["method.alpha=0.123456", "method.mode=soft"]
    found = [record(job, robust=66, tuned={**tuned, "overrides": overrides}) for job in jobs_of(made, block)]
    main = {"main": records(made, of=invented)}
    (heading, line) = columns_of(block, rows_of(made, block, found), main)
    assert line[heading.index("tuned to")] == "alpha=0.123, mode=soft"
    assert (line[heading.index("robust")], line[heading.index("robust in `main`")]) == ("66.0 [66.0, 66.0]", "71.0")
    gain = line[heading.index("difference from `main`")]
    assert gain == "**-5.0 [-7.5, -2.5], p = 0.013**"
    assert verdict(block, rows_of(made, block, found), main["main"]).endswith(f" tuning changes: `gentle` {gain}.")
    own = [record(job, tuned={**tuned, "overrides": []}) for job in jobs_of(made, block)]
    (heading, line) = columns_of(block, rows_of(made, block, own), main)
    assert line[heading.index("tuned to")] == "its own"


def test_teachers_are_told_by_the_name_of_the_run_that_is_kept(made, tmp_path):
    kept_run = kept_folder(tmp_path, made.name) / "pgd_at_mlp_digits-0a1b"
    kept_run.mkdir(parents=True)
    (kept_run / "result.json").write_text(json.dumps({"checkpoint": {"sha256": "1" * 64}}))
    (kept_run / "status.json").write_text(json.dumps({"status": "completed"}))
    weak = teacher(sha256="2" * 64, robust=3, unreliable=True)
    taught = records(made, of=lambda job: {"teachers": {"robust": teacher(), "natural": weak}})
    lines = page_module.teachers(made, tmp_path, {"main": taught, "ladder": taught}).splitlines()
    assert lines[2:] == [
        "| `pgd_at_mlp_digits-0a1b` | 10,000 | 20,000 | 95.0 | 80.0 |  | ℓ∞, ε = 0.1 | 100 |",
        "| `222222222222` | 10,000 | 20,000 | 95.0 | 3.0 † |  | ℓ∞, ε = 0.1 | 100 |",
    ]
    told = [
        {**record, "teachers": {"robust": teacher(worst_class={"label": 6, "accuracy": 0.24})}} for record in taught
    ]
    lines = page_module.teachers(made, tmp_path, {"main": [taught[0], *told, taught[1]]}).splitlines()
    assert "| 80.0 | 24.0 (6) | ℓ∞, ε = 0.1 |" in lines[2]
    assert page_module.teachers(made, tmp_path, {"ladder": taught}) == ""


@pytest.fixture
def measured(made, tmp_path, monkeypatch):
    """Records in a folder, and the pages made to be about the suite of these tests."""
    for module in (page_module, leaderboard_module, plot):
        monkeypatch.setattr(module, "read_suite", lambda name: made)
    given = records(made, of=invented)
    given[2] |= {"unreliable": True, "reasons": ["S1: gradients <masked>"]}
    write_records(records_path(tmp_path, "trial", "main"), made, made.blocks["main"], given)
    return tmp_path


def test_the_page_has_every_question_and_says_what_is_missing(measured):
    text = page_module.benchmark_page(measured)
    assert "### Who wins?\n\nBlock `main`: 18 of 18 trainings measured." in text
    assert text.count(page_module._NOT_MEASURED) == 3
    assert (
        "**`small`**: 1,000 parameters, 2,000 FLOPs; ℓ∞, ε = 0.1; worst of pgd20, cascade; n = 100 test samples."
        in text
    )
    row = next(line for line in text.splitlines() if line.startswith("| `gentle`"))
    assert "71.0 [68.5, 73.5] †" in row
    assert "| 92.0 | 72.5 |" in row
    assert "† `gentle` (`small`, seed 0): S1: gradients <masked>" in text
    assert "![Who wins?](benchmark.png)" in text
    recipes = [line for line in text.splitlines() if line.startswith("| `paper/")]
    assert len(recipes) > 50
    assert all(line.endswith("|  |") and len(line.split("|")[3].strip()) > 8 for line in recipes)


def test_the_leaderboard_holds_the_same_rows_escaped(measured):
    text = leaderboard_module.leaderboard(measured)
    assert "<tr><td>1</td><td><code>gentle</code></td>" in text
    assert "† <code>gentle</code> (<code>small</code>, seed 0): S1: gradients &lt;masked&gt;" in text
    assert re.search(r"<td><strong>\+10\.0 \[.+?\], p [=<] 0\.0\d\d</strong></td>", html.unescape(text))
    assert "**" not in text
    assert "`" not in text
    assert text.count("Not yet measured") == 1
    assert "trainings measured" not in text
    assert "<script" not in text


def test_the_leaderboard_says_what_a_block_lacks(measured, made):
    write_records(records_path(measured, "trial", "main"), made, made.blocks["main"], records(made, of=invented)[:-2])
    text = leaderboard_module.leaderboard(measured)
    assert '<p class="note">16 of 18 trainings measured; not all of <code>' in text
    assert "<script" not in text


def test_the_plot_knows_what_it_was_drawn_from(measured, made):
    path = measured / "benchmark.png"
    assert plot.stale(measured, measured) == ["benchmark.png"]
    assert plot.redraw(measured, measured) == ["benchmark.png"]
    assert path.read_bytes().startswith(b"\x89PNG")
    assert plot.stale(measured, measured) == []
    ladder = made.blocks["ladder"]
    write_records(records_path(measured, "trial", "ladder"), made, ladder, records(made, "ladder"))
    assert plot.redraw(measured, measured) == ["benchmark_ladder.png"]
    given = records(made, of=lambda job: {"robust": 10})
    write_records(records_path(measured, "trial", "main"), made, made.blocks["main"], given)
    assert plot.stale(measured, measured) == ["benchmark.png"]
    records_path(measured, "trial", "main").unlink()
    assert plot.redraw(measured, measured) == ["benchmark.png"]
    assert plot.stale(measured, measured) == []
    assert not path.exists()
