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
    names = ("timing", "plain", "libraries", "training_rows", "evaluation_rows", "run", "seeds")
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
