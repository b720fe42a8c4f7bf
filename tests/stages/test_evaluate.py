"""Stage `evaluate` with several models, several radii, transfer, and after a kill."""

import json

import numpy as np
import pytest

from kdrobust.attacks import GradientAttack
from tests.stages.conftest import TEACHER, TINY

QUICK = ["evaluation.num_samples=40", "evaluation.checks=false", "threads=1"]


@pytest.fixture(scope="module")
def students(tmp_path_factory, trained):
    """Two students of one teacher."""
    from tests.stages.conftest import Workplace

    place = Workplace(tmp_path_factory.mktemp("students"))
    for seed in (0, 1):
        place.run(
            "distill", *TINY, "epochs=1", "method=kd", f"seed={seed}", f"run.folder=student_{seed}",
            f"teacher.checkpoint={trained / 'best.ckpt'}",
        )  # fmt: skip
    return [place.folder / f"student_{seed}" / "best.ckpt" for seed in (0, 1)]


def read(folder):
    return json.loads((folder / "result.json").read_text())


def test_several_radii_in_one_table(workplace, trained, capsys):
    workplace.run(
        "evaluate", *QUICK, f"checkpoint={trained / 'best.ckpt'}", "threat.eps=0.1,0.02,0.05", "run.folder=run"
    )
    result = read(workplace.folder / "run")
    assert [model["results"][0]["evaluation"]["threat"]["eps"] for model in result["models"]] == [0.02, 0.05, 0.1]
    assert result["evaluation"]["threat"]["eps"] == result["threat"]["eps"] == 0.1
    robust = [model["results"][0]["evaluation"]["worst_case"]["correct"] for model in result["models"]]
    assert robust == sorted(robust, reverse=True)
    # every attack's own settings follow the radius
    assert {model["results"][0]["evaluation"]["attacks"]["fgsm"]["spec"]["step_size"] for model in result["models"]} == {
        0.02, 0.05, 0.1,
    }  # fmt: skip
    assert "ε = 0.02" in capsys.readouterr().out
    for name in ("samples.npz", "samples_0.02.npz", "comparison.md", "comparison.csv"):
        assert (workplace.folder / "run" / name).exists()
    single = "evaluate", *QUICK, f"checkpoint={trained / 'best.ckpt'}", "threat.eps=0.02", "run.folder=single"
    workplace.run(*single)
    one = read(workplace.folder / "single")["evaluation"]
    assert (
        one["attacks"]["pgd20"]["correct"]
        == result["models"][0]["results"][0]["evaluation"]["attacks"]["pgd20"]["correct"]
    )


def test_a_batch_that_memory_would_not_hold_is_made_smaller_and_no_verdict_changes(workplace, trained, monkeypatch):
    given = "evaluate", *QUICK, f"checkpoint={trained / 'best.ckpt'}", "evaluation=fast", "evaluation.num_samples=60"
    workplace.run(*given, "run.folder=much")
    monkeypatch.setattr("kdrobust.stages.measuring.free_bytes", lambda device: 2**30)
    monkeypatch.setattr("kdrobust.stages.measuring.sample_bytes", lambda model, spec: 2**24)
    workplace.run(*given, "run.folder=little")
    much, little = (read(workplace.folder / name)["evaluation"] for name in ("much", "little"))
    assert (much["batch_size"], little["batch_size"]) == (250, 32)
    assert little["attacks"]["cascade"]["spec"]["batch_size"] == 32
    assert {name: found["correct"] for name, found in little["attacks"].items()} == {
        name: found["correct"] for name, found in much["attacks"].items()
    }
    told = (workplace.folder / "little" / "run.log").read_text()
    assert "evaluation.batch_size: 32 instead of 250: an attack takes about 16.8 MB a sample, and 1.07 GB" in told


def test_a_single_evaluation_is_named_by_its_checkpoint(workplace, trained, capsys):
    workplace.run("evaluate", *QUICK, f"checkpoint={trained / 'best.ckpt'}", "evaluation.latency=false")
    folder = workplace.only("outputs/evaluate/*")
    assert folder.name.startswith(f"{trained.name}-")
    assert read(folder)["name"] == trained.name
    assert any(row.split()[:1] == [trained.name] for row in capsys.readouterr().out.splitlines())


def test_a_teacher_that_is_compared_is_a_surrogate_once(workplace, trained, students):
    workplace.run(
        "evaluate", *QUICK, f"checkpoint={students[0]},{trained / 'best.ckpt'}", "evaluation=transfer",
        "run.folder=run", "evaluation.transfer.pgd20.steps=1", "evaluation.latency=false",
    )  # fmt: skip
    attacks = [list(model["results"][0]["evaluation"]["attacks"]) for model in read(workplace.folder / "run")["models"]]
    assert f"pgd20_from_{trained.name}" in attacks[0]
    assert not [name for names in attacks for name in names if name.endswith("_from_teacher")]


def test_two_models_are_compared_and_shown_each_other_s_examples(workplace, students, capsys):
    workplace.run(
        "evaluate", *QUICK, f"checkpoint={students[0]},{students[1]}", "evaluation=transfer", "run.folder=run",
        "evaluation.transfer.pgd20.steps=2",
    )  # fmt: skip
    result = read(workplace.folder / "run")
    assert [model["name"] for model in result["models"]] == ["student_0", "student_1"]
    attacks = [list(model["results"][0]["evaluation"]["attacks"]) for model in result["models"]]
    assert "pgd20_from_student_1" in attacks[0]
    assert "mi_fgsm_from_student_0" in attacks[1]
    # the teacher both learnt from stands in their results, and is tried too
    assert all("mi_fgsm_from_teacher" in names for names in attacks)
    columns = {line["column"] for line in result["comparisons"]}
    assert {"clean", "fgsm", "pgd20", "pgd20_from_teacher"} <= columns
    assert all({"p_value", "only_first", "only_second", "interval"} <= set(line) for line in result["comparisons"])
    assert "McNemar" in capsys.readouterr().out
    samples = np.load(workplace.folder / "run" / "student_0" / "samples.npz")
    spec = result["models"][0]["results"][0]["evaluation"]["attacks"]["pgd20_from_student_1"]["spec"]
    assert spec["black_box"] is True
    assert len(spec["source"]["sha256"]) == 64
    assert samples["pgd20_from_student_1"].dtype == bool


def test_a_killed_evaluation_redoes_no_finished_attack(workplace, trained, monkeypatch):
    command = ["evaluate", *QUICK, f"checkpoint={trained / 'best.ckpt'}", "threat.eps=0.05"]
    workplace.run(*command, "run.folder=whole")
    original, calls = GradientAttack.run, []

    def dies(self, *arguments, **options):
        calls.append(self.steps)
        if self.steps == 20:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(GradientAttack, "run", dies)
    with pytest.raises(AssertionError):
        workplace.run(*command, "run.folder=killed")
    assert calls == [1, 20]
    kept = sorted(path.name.split("-")[0] for path in (workplace.folder / "killed" / "attacks").iterdir())
    assert kept == ["fgsm"]
    monkeypatch.undo()
    again = []
    monkeypatch.setattr(
        GradientAttack, "run", lambda self, *a, **o: again.append(self.steps) or original(self, *a, **o)
    )
    workplace.run(*command, "run.folder=killed")
    assert 1 not in again
    whole, killed = (read(workplace.folder / name)["evaluation"] for name in ("whole", "killed"))
    assert killed["attacks"]["pgd20"]["correct"] == whole["attacks"]["pgd20"]["correct"]
    assert killed["attacks"]["fgsm"]["correct"] == whole["attacks"]["fgsm"]["correct"]


def test_corruptions_and_costs(workplace, trained, capsys):
    workplace.run(
        "evaluate", *QUICK, f"checkpoint={trained / 'best.ckpt'}", "run.folder=run",
        "evaluation.corruptions={names: [contrast, gaussian_noise], severities: [1, 5]}",
    )  # fmt: skip
    result = read(workplace.folder / "run")
    assert set(result["corruptions"]["corruptions"]) == {"contrast", "gaussian_noise"}
    assert result["model"]["checkpoint_bytes"] == (trained / "best.ckpt").stat().st_size
    for name in ("corruptions.png", "classes.png", "calibration.png", "examples.png", "surface.png"):
        assert (workplace.folder / "run" / name).exists(), name


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["evaluation.num_samples=0"], "evaluation.num_samples: expected"),
        (["evaluation.batch_size=0"], "evaluation.batch_size: expected"),
        (["evaluation.confidence=95"], "evaluation.confidence: expected"),
        (["evaluation.latency=maybe"], "evaluation.latency: expected"),
        (["radii=[0.1,0.05]"], "radii"),
        (["radii=[0.1,0.1]"], "radii"),
        (["radii=[much]"], "radii: expected"),
        (["threat.eps=0.1,-1"], "threat.eps=-1"),
        (["checkpoint=absent.ckpt,other.ckpt"], "absent.ckpt"),
        (["evaluation.check_settings={sample: 3}"], "evaluation.check_settings.sample: no such key"),
        (["evaluation.check_settings={samples: 0}"], "evaluation.check_settings.samples: expected"),
        (["evaluation.corruptions={names: [rain]}"], "evaluation.corruptions.names: no corruption 'rain'"),
        (["evaluation.seed=-1"], "evaluation.seed: expected"),
    ],
)
def test_mistakes_get_one_line(workplace, trained, capsys, arguments, told):
    given = (
        []
        if any(argument.startswith("checkpoint=") for argument in arguments)
        else [f"checkpoint={trained / 'best.ckpt'}"]
    )
    workplace.run("evaluate", *QUICK, *given, *arguments, "run.folder=run", code=2)
    error = capsys.readouterr().err.strip()
    assert told in error
    assert "Traceback" not in error


def test_the_same_checkpoint_twice_is_a_mistake(workplace, trained, capsys):
    path = trained / "best.ckpt"
    workplace.run("evaluate", *QUICK, f"checkpoint={path},{path}", "run.folder=run", code=2)
    assert "named twice" in capsys.readouterr().err


def test_what_a_teacher_costs_beside_its_student(workplace, students, trained, capsys):
    workplace.run(
        "evaluate", *QUICK, f"checkpoint={trained / 'best.ckpt'},{students[0]}", "run.folder=run", *TEACHER[:0]
    )
    assert "robust points a MFLOP" in (workplace.folder / "run" / "costs.md").read_text()


def test_minimum_norms_of_two_models_on_one_axis(workplace, students):
    workplace.run(
        "evaluate", *QUICK, f"checkpoint={students[0]},{students[1]}", "evaluation=minimum_norm", "run.folder=run",
        "evaluation.attacks.fmn.steps=5", "evaluation.attacks.fmn.targets=0",
    )  # fmt: skip
    result = read(workplace.folder / "run")
    assert result["files"]["security"] == "security.png"
    assert (workplace.folder / "run" / "security.png").exists()
    distances = np.load(workplace.folder / "run" / "student_0" / "samples.npz")["fmn/distance"]
    curve = result["models"][0]["results"][0]["evaluation"]["curves"]["fmn"]
    assert curve["n"] == len(distances) == 40
