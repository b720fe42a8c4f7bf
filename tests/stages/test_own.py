"""What a stranger adds in a folder of their own, outside the package: a method, and a method with a new loss."""

import json
import sys

from kdrobust import cli
from tests.stages.conftest import TINY

METHOD = """# Mine: labels and teacher, half and half
defaults: [_base, _self_]
attack: {goal: kl_to_teacher, start: normal}
terms:
  labels:  {loss: cross_entropy, student: adversarial, weight: 0.5}
  teacher: {loss: soft_target, student: adversarial, teacher: clean, weight: 0.5}
"""
NEW_LOSS = """# Huber: a loss of my own
defaults: [_base, _self_]
terms:
  teacher: {loss: my_losses_of_the_test.huber, student: clean, teacher: clean, delta: 0.5}
"""
LOSS = """from torch.nn import functional as F

def huber(student, teacher, *, delta: float = 1.0):
    return F.huber_loss(student, teacher, reduction="none", delta=delta).mean(dim=1)
"""


def test_a_method_of_one_s_own_by_config_dir(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine/method").mkdir(parents=True)
    (tmp_path / "mine/method/mine.yaml").write_text(METHOD)
    (tmp_path / "mine/method/huber.yaml").write_text(NEW_LOSS)
    (tmp_path / "my_losses_of_the_test.py").write_text(LOSS)
    common = ["distill", "--config-dir", "mine", *TINY, "epochs=1", f"teacher.checkpoint={trained / 'best.ckpt'}"]
    assert cli.main([*common, "method=mine", "run.folder=one"]) == 0
    assert set(json.loads((tmp_path / "one/result.json").read_text())["weights"]) >= {"labels", "teacher"}
    capsys.readouterr()
    # a loss outside the package needs a word of trust
    assert cli.main([*common, "method=huber", "run.folder=two"]) == 2
    assert "trusted_modules=[my_losses_of_the_test]" in capsys.readouterr().err
    trusted = "trusted_modules=[my_losses_of_the_test]"
    assert cli.main([*common, "method=huber", "run.folder=two", trusted]) == 0
    weights = json.loads((tmp_path / "two/result.json").read_text())["weights"]
    assert weights["teacher"]["delta"] == 0.5


def test_the_rivals_of_dtkd_s_weighting_in_one_multirun(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rivals = ["none", "distance", "trust", "wsld", "entropy", "transferability", "triangle"]
    sweep = [f"weighting@method.weighting={','.join(rivals)}", "hydra.sweep.dir=sweep", "run.root=runs"]
    common = [*TINY, "epochs=1", f"teacher.checkpoint={trained / 'best.ckpt'}"]
    assert cli.main(["distill", "-m", *common, "method=dtkd", *sweep]) == 0
    found = {}
    for path in (tmp_path / "sweep").rglob("result.json"):
        result = json.loads(path.read_text())
        found[result["weights"]["weighting"]["function"]] = result
    assert len(found) == len(rivals)
