"""A stage that takes no time: it holds its folder, leaves a result, and does what `ACT` says."""

import shutil
import sys
import types
from pathlib import Path

import pytest

from kdrobust.config import config_hash
from kdrobust.tracking import hold, write_json


class Place:
    """A folder with the tests' own config, and what the stage was called with."""

    def __init__(self, folder):
        self.folder, self.sweep, self.ran, self.act = folder, folder / "outputs/sweeps/fixed", [], lambda cfg: None

    def run_stage(self, cfg, folder, *, sweep=None):
        from hydra.core.hydra_config import HydraConfig

        node = HydraConfig.get()
        assert sweep == Path(node.sweep.dir).name
        with hold(folder, config_hash=config_hash(cfg)):
            self.ran.append(int(node.job.num))
            self.act(cfg)
            robust = round(cfg.seed / 10 + float(cfg.epochs) / 100, 4)
            write_json(folder / "result.json", {"validation": {"accuracy": 0.9, "robust_accuracy": robust}})
        return robust


@pytest.fixture
def place(tmp_path, monkeypatch):
    shutil.copytree(Path(__file__).parents[1] / "config" / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    stand_in = Place(tmp_path)
    module = types.ModuleType("kdrobust.stages")
    module.run_stage = stand_in.run_stage
    monkeypatch.setitem(sys.modules, "kdrobust.stages", module)
    return stand_in
