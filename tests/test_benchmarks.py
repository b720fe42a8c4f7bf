"""The benchmark script: turns, ratios, and that its plain loops are the attacks ours are compared with."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdrobust.attacks import GradientAttack, Threat

SCRIPTS = Path(__file__).parents[1] / "scripts" / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = [path.stem for path in SCRIPTS.glob("*.py")]
    yield
    for name in names:
        sys.modules.pop(name, None)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double().eval()


def test_runs_take_turns_and_ratios_are_of_medians(scripts, monkeypatch):
    import timing

    seconds = {"base": 4.0, "fast": 1.0}
    clock, order = [0.0], []

    def run(name):
        clock[0] += seconds[name] * (10.0 if len(order) == 2 else 1.0)
        order.append(name)
        return name

    def missing():
        raise timing.Absent("not installed")

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(timing.time, "process_time", lambda: 2.0 * clock[0])
    table = timing.alternate({"base": lambda: run("base"), "gone": missing, "fast": lambda: run("fast")}, repeats=3)
    assert order == ["base", "fast"] * 4
    assert table["gone"] == {"absent": "not installed"}
    # the disturbed third call is no median
    assert table["base"]["seconds"] == [40.0, 4.0, 4.0]
    assert table["fast"]["speed"] == table["fast"]["processor_speed"] == 4.0
    assert table["base"]["speed"] == 1.0
    assert table["fast"]["answer"] == "fast"


def test_plain_rslad_is_the_attack_ours_is_compared_with(scripts):
    import plain

    student, inputs = network(), torch.rand(6, 1, 4, 4, dtype=torch.float64)
    logits = torch.randn(6, 4, dtype=torch.float64)
    torch.manual_seed(3)
    theirs = plain.rslad_attack(student.train(), logits.softmax(dim=1), inputs, eps=0.1, size=0.03, steps=5)
    assert student.training
    torch.manual_seed(3)
    start = inputs + 0.001 * torch.randn_like(inputs)
    attack = GradientAttack(threat=Threat(norm="linf", eps=0.1), goal="kl_to_teacher", steps=5, step_size=0.03)
    ours = attack(student, inputs, torch.zeros(6, dtype=torch.long), teacher_logits=logits, initial=start)
    torch.testing.assert_close(theirs, ours)
    assert float((ours - inputs).abs().max()) == pytest.approx(0.1)


def test_plain_pgd_is_ours(scripts):
    import plain

    model, inputs, labels = network(), torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 4
    torch.manual_seed(3)
    theirs = plain.pgd(model, inputs, labels, eps=0.1, size=0.03, steps=5)
    torch.manual_seed(3)
    start = (inputs + torch.empty_like(inputs).uniform_(-0.1, 0.1)).clamp(0, 1)
    ours = GradientAttack(threat=Threat(norm="linf", eps=0.1), steps=5, step_size=0.03)(
        model, inputs, labels, initial=start
    )
    torch.testing.assert_close(theirs, ours)


def test_plain_step_trains(scripts):
    import plain

    student, teacher, inputs = network(), network(), torch.rand(6, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        student[1].weight.mul_(-1)
    rule = torch.optim.SGD(student.parameters(), lr=0.5)
    losses = [plain.rslad_step(student, teacher, rule, inputs, eps=0.05, size=0.02, steps=2) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert (
        float(F.kl_div(student(inputs).log_softmax(1), teacher(inputs).softmax(1), reduction="batchmean")) < losses[0]
    )


def test_rows_are_kept_and_not_run_again(scripts, tmp_path, capsys):
    import run

    file = tmp_path / "deep" / "b.json"
    arguments = [
        "--rows",
        "attack_mlp",
        "pgd20",
        "--repeats",
        "1",
        "--steps",
        "1",
        "--threads",
        "1",
        "--json",
        str(file),
    ]
    assert run.main(arguments) == 0
    report = json.loads(file.read_text())
    row = report["rows"]["attack_mlp"]
    assert row["plain RSLAD loop"]["speed"] == 1.0
    assert row["kdrobust, precision=auto"]["reached"]["KL"] > 0
    assert "needs a trained model" in capsys.readouterr().out
    row["floor"]["speed"] = 1234.5
    file.write_text(json.dumps(report))
    assert run.main(arguments) == 0
    assert "1234.50" in capsys.readouterr().out


def test_unknown_row(scripts, capsys):
    import run

    with pytest.raises(SystemExit) as stop:
        run.main(["--rows", "attack_vit"])
    assert stop.value.code == 2
    assert "attack_resnet18" in capsys.readouterr().err


def test_times_taken_elsewhere_are_compared_alike(scripts):
    import timing

    table = timing.compared({"base": [(4.0, 2.0), (6.0, 2.0), (40.0, 2.0)], "fast": [(2.0, 0.0)]})
    assert table["fast"]["speed"] == 3.0
    assert table["base"]["processor_speed"] == 1.0


def test_a_straight_line_is_told_from_a_bent_one(scripts):
    import training_rows

    def bent(*seconds):
        table = {str(place): {"seconds": [value], "answer": None} for place, value in enumerate(seconds)}
        found = training_rows._straight((1, 2, 3, 4), table)
        return max(abs(row["reached"]["of the line"] - 1) for row in found.values())

    assert bent(3.0, 5.0, 7.0, 9.0) < 1e-9
    assert bent(1.0, 4.0, 9.0, 16.0) > 0.1


def test_several_teachers_have_a_term_each(scripts):
    import training_rows as rows

    spec = rows.DIGITS
    student = rows._network(rows.SHAPES["mlp"][0], spec)
    inputs, labels = rows._batch(spec, 8)
    asked = []

    class Teacher(nn.Module):
        def forward(self, inputs):
            asked.append(self)
            return torch.zeros(len(inputs), 10)

    teachers = {name: Teacher().eval() for name in ("teacher", "teacher2", "teacher3")}
    step = rows._our_step(student, teachers, inputs, labels, precision="exact", steps=1)
    assert step() > 0
    assert {id(teacher) for teacher in asked} == {id(teacher) for teacher in teachers.values()}


def test_stored_answers_ask_no_teacher(scripts):
    import training_rows as rows

    class Broken(nn.Module):
        def forward(self, inputs):
            raise AssertionError("asked")

    student = rows._network(rows.SHAPES["mlp"][0], rows.DIGITS)
    inputs, labels = rows._batch(rows.DIGITS, 8)
    outputs = {"teacher.clean": torch.zeros(8, 10)}
    options = {"precision": "exact", "steps": 1}
    assert rows._our_step(student, {"teacher": Broken()}, inputs, labels, outputs=outputs, **options)() > 0
    with pytest.raises(AssertionError, match="asked"):
        rows._our_step(student, {"teacher": Broken()}, inputs, labels, **options)()


def test_lightning_and_the_bare_loop_take_the_same_steps(scripts, monkeypatch):
    import framework_rows

    monkeypatch.setattr(framework_rows, "SETTINGS", {"mlp": (["model@student=mlp", "data=digits"], None, 1)})
    table = framework_rows.overhead("mlp", repeats=1)
    assert list(table) == ["bare loop", "kdrobust under Lightning"]
    assert all(len(row["seconds"]) == 1 and row["seconds"][0] > 0 for row in table.values())


def test_pipelines_give_as_many_images(scripts):
    import framework_rows

    table = framework_rows.pipeline(repeats=1, count=100, size=30)
    theirs, ours = (row["reached"]["images"] for row in table.values())
    # ours leaves an incomplete last batch out
    assert ours == theirs - theirs % 30 == 90


REPORT = {
    "machine": {"torch": "2", "threads": 2},
    "settings": {"pgd20_wide_cnn": ["data=fashion_mnist"]},
    "rows": {
        "framework_mlp": {
            "bare loop": {"seconds": [1.0, 1.0, 9.0], "speed": 1.0},
            "kdrobust under Lightning": {"seconds": [1.1], "speed": 0.9},
        },
        "pgd20_wide_cnn": {
            "torchattacks": {"seconds": [6.0], "speed": 1.0, "reached": {"robust": 3}},
            "Foolbox": {"absent": "not installed"},
            "ART": {"seconds": [4.0], "speed": 1.5},
            "kdrobust, bf16, keep=fooling, exact_steps=2": {"seconds": [2.0], "speed": 3.0},
        },
    },
}


def test_targets_say_what_is_met_and_what_was_not_measured(scripts):
    import page

    told = {wanted.split(" (")[0]: verdict for wanted, *verdict in page.targets(REPORT)}
    assert told["Lightning, callbacks and logging over a bare loop, digits MLP"] == ["+10.0%", "yes"]
    # the fastest of the libraries counts, and one that is absent does not
    assert told["PGD-20 on a robust CNN over the fastest library"] == ["2.00 ×", "**no**"]
    assert told["sweep of 12 on two processes over 12 commands"] == ["not measured", ""]


def test_the_page_shows_every_row(scripts):
    import page

    text = page.page(REPORT, "# Title\n\n{tables}\n")
    assert text.startswith("# Title\n\n## Targets\n")
    assert "| torchattacks | 6000.0 | 1.00 | robust 3 |" in text
    assert "| Foolbox |  |  | not run: not installed |" in text
    assert "`data=fashion_mnist`" in text


def test_the_page_in_docs_is_what_was_measured(scripts, capsys):
    import page

    assert page.main(["--check"]) == 0, capsys.readouterr().err


def test_seeds_are_rows_of_one(scripts, tmp_path, capsys):
    import seeds

    models = [{"name": name, "results": [name]} for name in ("teacher", "kd_s0", "kd_s1", "ard_s0", "kd_s12")]
    assert seeds.grouped(models) == [
        {"name": "teacher", "results": ["teacher"]},
        {"name": "kd", "results": ["kd_s0", "kd_s1", "kd_s12"]},
        {"name": "ard", "results": ["ard_s0"]},
    ]
    assert seeds.main([str(tmp_path)]) == 1
    assert "no result.json of an evaluation of several models" in capsys.readouterr().err
