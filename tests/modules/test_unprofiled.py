"""The profiler that does nothing, and that a wish for another one is heard."""

import pytest
from pytorch_lightning.profilers import PassThroughProfiler, SimpleProfiler

from kdrobust.config import compose
from kdrobust.modules import Unprofiled
from kdrobust.stages.training import build_trainer


def test_its_context_may_be_entered_within_itself():
    profiler = Unprofiled()
    with profiler.profile("outer"), profiler.profile("inner"):
        pass
    # what goes wrong inside is not held back
    with pytest.raises(ZeroDivisionError), profiler.profile("broken"):
        raise ZeroDivisionError
    assert isinstance(profiler, PassThroughProfiler)
    assert profiler.summary() == ""


@pytest.mark.parametrize(("override", "kind"), [(None, Unprofiled), ("+trainer.profiler=simple", SimpleProfiler)])
def test_a_trainer_has_it_unless_another_is_asked_for(override, kind, tmp_path):
    cfg = compose("distill", [f"run.folder={tmp_path}", *([override] if override else [])])
    assert type(build_trainer(cfg, tmp_path, "0" * 64).profiler) is kind
