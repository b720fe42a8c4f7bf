"""`kdrobust STAGE resume=FOLDER`."""

import json
import os
import signal

import pytest

from kdrobust.cli import main
from kdrobust.modules import RobustModule
from tests.stages.conftest import IMPLIED, TINY, Workplace

COMMAND = ["distill", *TINY, *IMPLIED, "model@student=mlp"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two runs of one configuration: one that was stopped in its second epoch, and taken up again, and a whole one."""
    workplace = Workplace(tmp_path_factory.mktemp("resuming"))
    workplace.run(*COMMAND, "run.folder=whole")
    original = RobustModule.training_step

    def step(self, batch, batch_idx):
        if self.current_epoch == 1:  # which its teacher, of one epoch, does not reach
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RobustModule, "training_step", step)
        workplace.run(*COMMAND, "run.folder=stopped", code=143)
    return workplace


def test_it_goes_on_by_its_own_configuration_and_then_says_that_it_is_finished(place, capsys):
    place.run("distill", "resume=stopped")
    printed = capsys.readouterr().out
    assert "going on after" in printed
    rows = [(place.folder / name / "metrics.csv").read_text() for name in ("whole", "stopped")]
    assert rows[0] == rows[1]
    assert "going on after" in (place.folder / "stopped" / "run.log").read_text()
    before = (place.folder / "stopped" / "result.json").read_bytes()
    place.run("distill", "resume=stopped")
    assert "stopped: is finished, see result.json" in capsys.readouterr().out
    assert (place.folder / "stopped" / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["distill", "resume=nowhere"], "resume=nowhere: no such folder; runs of this stage lie in outputs/distill"),
        (["distill", "resume="], "resume=: no run of kdrobust"),
        (["distill", "resume=empty"], "resume=empty: no run of kdrobust: it has no readable config_resolved.yaml"),
        (["distill", "resume=broken"], "resume=broken: no run of kdrobust"),
        (["teacher", "resume=whole"], "resume=whole: a run of stage distill; use kdrobust distill resume=whole"),
        (["distill", "resume=whole", "epochs=3"], "epochs=3: resume=whole goes on by the run's own configuration"),
        (["distill", "-m", "resume=whole"], "-m: resume=whole goes on by the run's own configuration"),
        (["distill", "resume=moved"], "resume=moved: its run was made as"),
        (
            ["distill", "resume=secret"],
            "resume=secret: notes.token held a secret, which is not kept; give the run's own",
        ),
        (["distill", "resume=sweep/0"], "resume=sweep/0: a job of a sweep; use kdrobust sweep resume sweep"),
    ],
)
def test_what_cannot_be_resumed_is_refused_in_one_line(place, capsys, monkeypatch, arguments, told):
    monkeypatch.chdir(place.folder)
    for name in ("empty", "broken", "moved", "secret", "sweep/0"):
        (place.folder / name).mkdir(parents=True, exist_ok=True)
    (place.folder / "broken" / "config_resolved.yaml").write_text("stage: [")
    (place.folder / "moved" / "config_resolved.yaml").write_text(
        (place.folder / "whole/config_resolved.yaml").read_text()
    )
    (place.folder / "secret" / "config_resolved.yaml").write_text(
        "stage: distill\nrun: {folder: secret}\nnotes: {token: '***'}\n"
    )
    (place.folder / "sweep" / "sweep.json").write_text(json.dumps({}))
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(told)
