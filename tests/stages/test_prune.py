"""Stage `prune`, and a student that starts from its checkpoint."""

import json

import pytest
import torch

from kdrobust.models import file_hash, restore_classifier
from tests.export.models import save_checkpoint
from tests.stages.conftest import TINY
from tests.stages.test_export import digits  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, digits):  # noqa: F811
    return save_checkpoint(tmp_path_factory.mktemp("whole") / "best.ckpt", digits.spec)


def read(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_pruned_checkpoint_is_one_like_any_other(workplace, checkpoint):
    workplace.run("prune", f"checkpoint={checkpoint}", "amount=0.5", "run.folder=half")
    folder = workplace.folder / "half"
    result = read(folder)
    assert result["pruned"]["network"]["channels"] == [1, 2]  # of 3 and 4: two halves rounded
    assert result["pruned"]["from"]["sha256"] == file_hash(checkpoint)
    assert result["model"]["parameters"] < result["pruned"]["before"]["parameters"]
    model = restore_classifier(folder / "best.ckpt")
    assert sum(parameter.numel() for parameter in model.parameters()) == result["model"]["parameters"]
    workplace.run("evaluate", "checkpoint=half/best.ckpt", "evaluation.num_samples=20", "evaluation.checks=false",
                  "run.folder=tested")  # fmt: skip
    assert read(workplace.folder / "tested")["model"]["parameters"] == result["model"]["parameters"]


def test_training_goes_on_from_a_checkpoint(workplace, checkpoint):
    workplace.run("prune", f"checkpoint={checkpoint}", "amount=0.25", "run.folder=pruned")
    start = workplace.folder / "pruned" / "best.ckpt"
    limits = [word for word in TINY if not word.startswith("attack.")]
    workplace.run("distill", "method=standard", *limits, "epochs=1", "optimizer.lr=1e-12", "run.folder=still",
                  "+student.checkpoint=pruned/best.ckpt")  # fmt: skip
    before, after = restore_classifier(start), restore_classifier(workplace.folder / "still" / "best.ckpt")
    for (name, one), two in zip(before.state_dict().items(), after.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0, msg=name)
    assert (
        read(workplace.folder / "still")["model"]["parameters"]
        == read(workplace.folder / "pruned")["model"]["parameters"]
    )


@pytest.mark.parametrize(
    ("command", "told", "code"),
    [
        (["prune"], "checkpoint: not given", 2),
        (["prune", "checkpoint=absent.ckpt"], "checkpoint=absent.ckpt: no such file", 2),
        (["prune", "checkpoint=GOOD", "amount=1"], "amount: expected a share in [0, 1), got 1", 2),
        (["prune", "checkpoint=GOOD", "amount=half"], "amount: expected a share", 2),
        (
            ["distill", "method=standard", "+student.checkpoint=absent.ckpt"],
            "student.checkpoint=absent.ckpt: no such file",
            2,
        ),
    ],
)
def test_mistakes_get_one_line(workplace, checkpoint, capsys, command, told, code):
    workplace.run(*(word.replace("GOOD", str(checkpoint)) for word in command), "run.folder=run", code=code)
    error = capsys.readouterr().err.strip().splitlines()
    assert told in error[-1]
    assert not any("Traceback" in line for line in error)
