"""Array files: everything in ours is reproduced, another file works too, and the check can fail."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kdrobust.attacks import APGD, FMN, GradientAttack, Threat
from kdrobust.conformance.__main__ import main
from kdrobust.conformance.array_recipes import GIVEN, check_arrays
from kdrobust.conformance.arrays import ArrayFile, compare, read_arrays
from kdrobust.errors import DataError

FILE = Path(__file__).parents[1] / "attacks" / "vectors" / "attacks.npz"
ARRAYS = dict(np.load(FILE))
#: Minutes' worth of search, checked by name in tests/attacks.
SLOW = ("autoattack", "minnorm")
QUICK = sorted({key.split("/")[0] for key in ARRAYS} - {*SLOW, *GIVEN})


def written(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def test_every_deterministic_array_is_reproduced():
    outcomes = check_arrays(read_arrays(FILE), only=QUICK)
    wanted = [key for key in ARRAYS if key.split("/")[0] in QUICK]
    assert [outcome.key for outcome in outcomes] == wanted
    assert len(wanted) == 127
    for outcome in outcomes:
        assert outcome.passed, outcome
        if outcome.rule == "equal":
            narrow = ARRAYS[outcome.key].dtype == np.float32
            assert outcome.tolerance == (1e-9 if not narrow else 1e-5 if "l2" in outcome.key else 1e-6)
    differ = {outcome.key.split("/")[-1] for outcome in outcomes if outcome.rule == "differ"}
    assert differ == {"foolbox_sign_momentum", "art_clip_then_project_f32"}


def test_verdicts_and_distances(monkeypatch):
    some = {key: values for key, values in ARRAYS.items() if key.split("/")[0] not in (*SLOW, *QUICK)}
    some |= {key: ARRAYS[key] for key in ARRAYS if key.startswith(("autoattack/Linf_0.05", "minnorm/linf"))}
    file = ArrayFile(
        name="some",
        arrays={key: torch.from_numpy(np.asarray(values)) for key, values in some.items()},
        inputs=torch.from_numpy(ARRAYS["x"]),
        labels=torch.from_numpy(ARRAYS["y"]),
    )
    outcomes = {outcome.key: outcome for outcome in check_arrays(file, queries=30)}
    assert set(outcomes) == {"autoattack/Linf_0.050000/robust_all"} | {
        f"minnorm/linf/{who}/dist" for who in ("fmn_advlib", "fmn_foolbox", "fab_t_official_eps1", "cw_advlib")
    }
    assert all(outcome.passed for outcome in outcomes.values()), outcomes
    file.arrays["autoattack/Linf_0.050000/robust_all"] = torch.ones(8, dtype=torch.bool)
    (wrong,) = check_arrays(file, only=["autoattack"], queries=30)
    assert not wrong.passed
    near = torch.tensor([1.0, 2.0, 0.0])
    for ours, passed in (([1.01, 1.0, 0.0], True), ([1.03, 1.0, 0.0], False), ([1.0, 2.0, 1e-9], False)):
        assert compare("minnorm/l2/a/dist", torch.tensor(ours), near, "no_farther", 0.0).passed == passed
    found_none = torch.tensor([float("inf"), 2.0, 0.0])
    assert compare("a", near, found_none, "no_farther", 0.0).passed
    assert not compare("a", found_none, near, "no_farther", 0.0).passed


def other_file():
    """Another model of another shape, other samples, other radii; arrays by plain loops."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.rand(*shape, generator=generator).double()

    arrays = {
        "model/conv_w": draw(3, 2, 3, 3) - 0.5,
        "model/conv_b": draw(3) - 0.5,
        "model/fc_w": draw(6, 27) - 0.5,
        "model/fc_b": draw(6) - 0.5,
        "x": draw(5, 2, 7, 7),
        "y": torch.tensor([0, 1, 2, 3, 4]),
        "y_target": torch.tensor([1, 2, 3, 4, 5]),
        "start/uniform_pm1": 2 * draw(5, 2, 7, 7) - 1,
        "start/apgd_linf_e20m": draw(5, 2, 7, 7),
    }
    file = ArrayFile(name="other", arrays=arrays, inputs=arrays["x"], labels=arrays["y"])
    x, y, model = file.inputs, file.labels, file.model()
    arrays["logits"] = model(x)
    point = x.clone()
    for _ in range(10):
        leaf = point.clone().requires_grad_(True)
        torch.nn.functional.cross_entropy(model(leaf), y).backward()
        point = (point + 4 / 255 / 4 * leaf.grad.sign()).clamp(x - 4 / 255, x + 4 / 255).clamp(0, 1)
    arrays["pgd_linf_ce/e4/loop"] = point
    climbed = APGD(threat=Threat(norm="linf", eps=0.02), goal="dlr", steps=50, compact=False).climb(
        model, x, y, initial=arrays["start/apgd_linf_e20m"]
    )
    arrays["apgd_dlr/linf_e20m/official_best_loss"] = climbed.best_value
    momentum = GradientAttack(threat=Threat(norm="linf", eps=0.03), momentum=0.7, steps=10, step_size=0.0075)
    arrays["mifgsm_linf/e30m_mu0.7/loop"] = momentum(model, x, y)
    found = FMN(threat=Threat(norm="linf", eps=1.0)).run(model, x, y)
    arrays["minnorm/linf/ours/dist"] = found.extra["distance"]
    arrays["autoattack/Linf_0.010000/eps"] = torch.tensor(0.01)
    arrays["autoattack/Linf_0.010000/robust_all"] = found.extra["distance"] > 0.01
    return {key: values.detach().numpy() for key, values in arrays.items()}


def test_another_file_works_and_a_changed_number_is_found(tmp_path, capsys):
    arrays = other_file()
    assert main([written(tmp_path / "other.npz", arrays)]) == 0
    assert "6 of 6 arrays agree" in capsys.readouterr().out
    quick = "logits,pgd_linf_ce,apgd_dlr,mifgsm_linf"
    for key in (
        "logits",
        "pgd_linf_ce/e4/loop",
        "apgd_dlr/linf_e20m/official_best_loss",
        "mifgsm_linf/e30m_mu0.7/loop",
    ):
        changed = arrays[key].copy()
        changed.flat[3] += 1e-8
        path = written(tmp_path / "changed.npz", {**arrays, key: changed})
        assert main([path, "--only", quick, "--json"]) == 1
        rows = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in rows if not row["passed"]] == [key]
    fault = {**arrays, "mifgsm_linf/e30m_mu0.7/x_sign_momentum": arrays["mifgsm_linf/e30m_mu0.7/loop"]}
    assert main([written(tmp_path / "fault.npz", fault), "--only", "mifgsm_linf"]) == 1
    assert "EQUALS A FAULT" in capsys.readouterr().out


def test_what_nothing_computes_fails_with_a_reason(tmp_path, capsys):
    arrays = other_file()
    shape = arrays["logits"][:, :2]
    strange = {
        "pgx/e8/me": shape,
        "pgd_linf_ce/large/me": shape,
        "ce_per_sample/x": shape,
        "apgd_ce/linf_e20m/x": shape,
    }
    arrays = {key: arrays[key] for key in arrays if key.split("/")[0] in GIVEN} | strange
    arrays |= {"rslad_kl_linf/e8/me": arrays["x"], "fgsm_linf/e8/me": shape}
    assert main([written(tmp_path / "strange.npz", arrays), "--json"]) == 1
    problems = {row["name"]: row["problem"] for row in json.loads(capsys.readouterr().out)}
    assert "nothing here computes" in problems["pgx/e8/me"]
    assert "e100m" in problems["pgd_linf_ce/large/me"]
    assert "start/normal_noise" in problems["rslad_kl_linf/e8/me"] or "teacher" in problems["rslad_kl_linf/e8/me"]
    assert "ours is (5, 2, 7, 7)" in problems["fgsm_linf/e8/me"]
    assert all(problems.values())


def test_broken_files_are_one_line(tmp_path, capsys):
    (tmp_path / "text.npz").write_text("no archive")
    written(tmp_path / "empty.npz", {"a": np.zeros(2)})
    for name, words in (("text.npz", "not a readable"), ("empty.npz", "no array x"), ("absent.npz", "no such file")):
        assert main([str(tmp_path / name)]) == 1
        error = capsys.readouterr().err.strip()
        assert words in error
        assert "\n" not in error
    with pytest.raises(DataError, match="no such file"):
        read_arrays(tmp_path / "absent.npz")


def test_both_kinds_of_files_in_one_call(capsys):
    cases = str(Path(__file__).parent / "vectors" / "adversarial-distillation.json")
    assert main([str(FILE), cases, "--only", "mart,fgsm_linf"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 cases agree" in shown
    assert "6 of 6 arrays agree" in shown
    assert main([str(FILE), "--only", "nothing"]) == 2
