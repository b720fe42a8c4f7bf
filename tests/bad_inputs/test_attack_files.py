"""Files and overrides made to run code: every one is refused in a line, and the canary stays unborn."""

import os
import pickle
import re

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from kdrobust.cli import main
from kdrobust.config.kinds import KINDS
from kdrobust.errors import UsageError
from kdrobust.models import restore_classifier
from tests.bad_inputs.cases import TINY
from tests.bad_inputs.materials import checkpoint

CANARY = "owned"


class Code:
    def __reduce__(self):
        return os.mkdir, (CANARY,)


TOUCH = {"_target_": "os.mkdir", "path": CANARY}
EVAL = {"_target_": "builtins.eval", "_args_": [f"__import__('os').mkdir('{CANARY}')"]}
EVIL = pickle.dumps(Code())
POPEN = {"_target_": "subprocess.Popen", "args": ["mkdir", CANARY]}

UNPICKLE = {"_target_": "torch.utils.data.datapipes.utils.decoder.basichandlers", "extension": "pickle", "data": EVIL}
GENERATE = {"_target_": "torch.utils.data.datapipes.gen_pyi.gen_from_template", "dir": ".", "template_name": "evil.pkl",
            "output_name": CANARY, "replacements": []}  # fmt: skip
#: Where a config of a distillation takes components, and where it takes values.
PLACES = (
    ["optimizer.betas", "optimizer.lr", "scheduler.factory", "logger.own", "callbacks.own", "callbacks.best",
     "trainer.plugins", "data.source", "student.network", "threat", "attack"],
    ["optimizer", "trainer.strategy", "data.augmentation"],
)  # fmt: skip
#: What runs, writes, fetches or unpickles, out of the packages that components come from.
WORKERS = {
    "unpickles": UNPICKLE,
    "writes": GENERATE,
    "opens a model": {"_target_": "kdrobust.serving.open_runtime", "path": "evil.pkl", "trust": True},
    **{
        path: {"_target_": path}
        for path in (
            "kdrobust.serving.command.main", "kdrobust.benchmark.main", "kdrobust.resuming.resume", "kdrobust.frontier.main",
            "torchvision.datasets.LSUN", "torchvision.datasets.MNIST", "kdrobust.data.fsdd.fetch",
            "kdrobust.export.write.write_model", "kdrobust.distributed.strategy.start_ranks",
        )
    },
}  # fmt: skip

#: What a YAML file that somebody was talked into using says at its top, as an experiment.
EXPERIMENTS = {
    "a target": {"optimizer": TOUCH},
    "eval": {"optimizer": EVAL},
    "Popen": {"scheduler": {"factory": POPEN}},
    "nested": {"callbacks": {"attack": {"attack": {"threat": TOUCH}}}},
    "in a list": {"data": {"augmentation": [TOUCH]}},
    "partial": {"optimizer": {**TOUCH, "_partial_": True}},
    "positional": {"optimizer": {"_target_": "os.mkdir", "_args_": [CANARY]}},
    "of an argument": {"optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": TOUCH}},
    "interpolated": {"optimizer": {"_target_": "${run.name}", "path": CANARY}, "run": {"name": "os.mkdir"}},
    "an interpolated node": {"logger": {"own": "${seed_node}"}, "seed_node": TOUCH},
    "through torch": {"optimizer": {"_target_": "torch.nn.modules.module.torch.hub.load", "repo_or_dir": "."}},
    "torch.load": {"optimizer": {"_target_": "torch.load", "f": "evil.pkl", "weights_only": False}},
    "torch.hub": {"optimizer": {"_target_": "torch.hub.load", "repo_or_dir": ".", "source": "local", "model": "x"}},
    "through torchvision": {"optimizer": {"_target_": "torchvision.datasets.utils.os.mkdir", "path": CANARY}},
    "through kdrobust": {"optimizer": {"_target_": "kdrobust.tracking.atomic.os.mkdir", "path": CANARY}},
    "kdrobust's own writer": {"logger": {"own": {"_target_": "kdrobust.tracking.write_text", "path": CANARY, "text": ""}}},
    "trusted standard library": {"trusted_modules": ["os"], "optimizer": TOUCH},
    "trusted builtins": {"trusted_modules": ["builtins"], "optimizer": EVAL},
    "Hydra's launcher": {"hydra": {"launcher": {"_target_": "os.mkdir"}}},
    "Hydra's sweeper": {"hydra": {"sweeper": {"_target_": "os.mkdir"}}},
    "Hydra's callbacks": {"hydra": {"callbacks": {"own": TOUCH}}},
    "interpolated callbacks": {"hydra": {"callbacks": {"own": "${seed_node}"}}, "seed_node": TOUCH},
    "a logging factory": {"hydra": {"job_logging": {"formatters": {"own": {"()": "os.mkdir", "path": CANARY}}}}},
    "a logging handler": {"hydra": {"job_logging": {"handlers": {"own": {"class": "os.mkdir", "path": CANARY}}}}},
    "Hydra's own logging": {"hydra": {"hydra_logging": {"filters": {"own": {"()": "os.mkdir", "path": CANARY}}}}},
    "a logging stream": {"hydra": {"job_logging": {"handlers": {"console": {"stream": "ext://os.environ"}}}}},
    "the loader's environment": {"hydra": {"job": {"env_set": {"LD_PRELOAD": "./evil.so"}}}},
    "Python's environment": {"hydra": {"job": {"env_set": {"PYTHONPATH": "."}}}},
}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "search").mkdir(parents=True)
    (tmp_path / "evil.pkl").write_bytes(EVIL)
    return tmp_path


def refused(place, capsys, *typed, code=2):
    assert main(list(typed)) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert not (place / CANARY).exists()
    assert not (place / "outputs").exists()
    return error


@pytest.mark.parametrize("mode", [[], ["-m", "seed=1,2"], ["--cfg", "job"]], ids=["run", "sweep", "show"])
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if "hydra" in EXPERIMENTS[name]])
def test_hydra_s_node_runs_nothing(place, capsys, name, mode):
    text = "# @package _global_\n" + yaml.safe_dump(EXPERIMENTS[name])
    (place / "conf" / "experiment" / "evil.yaml").write_text(text)
    error = refused(place, capsys, "distill", *TINY, "experiment=evil", *mode)
    assert error.startswith(("hydra.", "2 problems"))
    assert "not allowed" in error or "export it yourself" in error


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if "hydra" not in EXPERIMENTS[name]])
def test_a_config_runs_nothing(place, capsys, name):
    text = "# @package _global_\n" + yaml.safe_dump(EXPERIMENTS[name])
    (place / "conf" / "experiment" / "evil.yaml").write_text(text)
    error = refused(place, capsys, "distill", *TINY, "experiment=evil")
    assert re.search(r"not allowed|takes no 'augmentation'|takes a logger|a value is taken here", error)


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("places", PLACES, ids=len)
def test_no_slot_takes_what_is_no_component(place, capsys, worker, places):
    cfg = OmegaConf.create()
    for key in places:
        OmegaConf.update(cfg, key, WORKERS[worker], force_add=True)
    text = "# @package _global_\n" + yaml.safe_dump(OmegaConf.to_container(cfg))
    (place / "conf" / "experiment" / "evil.yaml").write_text(text)
    error = refused(place, capsys, "distill", *TINY, "experiment=evil")
    for key in places:
        assert re.search(
            rf"^ *{re.escape(key)}[^ ]*: .*(not allowed|this key takes|a value is taken here)", error, re.M
        )


@pytest.mark.parametrize(
    "typed",
    [
        "optimizer._target_=os.system",
        "+hydra.callbacks.own={_target_:os.mkdir,path:owned}",
        "hydra.launcher._target_=os.mkdir",
        "+hydra.job_logging.filters.own={'()':os.mkdir,path:owned}",
        "+hydra.job.env_set.PYTHONSTARTUP=evil.py",
    ],
)
def test_an_override_runs_nothing(place, capsys, typed):
    refused(place, capsys, "distill", *TINY, typed)


@pytest.mark.parametrize(
    "space",
    [
        {"hydra.callbacks.own": {"type": "choice", "values": ["{_target_: os.mkdir, path: owned}"]}},
        {"+hydra/job_logging": {"type": "choice", "values": ["evil"]}},
    ],
)
def test_a_search_runs_nothing(place, capsys, space):
    (place / "conf" / "search" / "evil.yaml").write_text(
        yaml.safe_dump({"defaults": ["_base", "_self_"], "space": space})
    )
    error = refused(place, capsys, "distill", "-m", *TINY, "search=evil")
    assert "Hydra's own settings are not searched" in error


def test_a_search_over_targets_runs_nothing(place, capsys):
    space = {"optimizer._target_": {"type": "choice", "values": ["os.mkdir"]}, "+optimizer.path": {"type": "choice", "values": [CANARY]}}  # fmt: skip
    (place / "conf" / "search" / "evil.yaml").write_text(
        yaml.safe_dump({"defaults": ["_base", "_self_"], "space": space, "n_trials": 1})
    )
    main(["distill", "-m", *TINY, "search=evil"])
    assert not (place / CANARY).exists()


@pytest.mark.parametrize("name", ["evil.pkl", "evil.ckpt", "evil.pt"])
@pytest.mark.parametrize(
    "typed",
    [["distill", *TINY, "teacher.checkpoint={}"], ["evaluate", "checkpoint={}"], ["outputs", "teacher.checkpoint={}"],
     ["evaluate", "model.timm=resnet18", "model.weights={}"]],
)  # fmt: skip
def test_a_pickle_runs_nothing(place, capsys, typed, name):
    if name != "evil.pkl":
        torch.save({"state_dict": {"a": Code()}, "kdrobust": Code()}, place / name)
    error = refused(place, capsys, *(word.format(name) for word in typed), code=1)
    assert name in error


def test_weights_that_are_trusted_are_read_and_only_then_run(place, capsys):
    torch.save({"state_dict": {}, "args": Code()}, place / "evil.pt")
    typed = ["evaluate", "model.timm=resnet18", "model.weights=evil.pt"]
    assert "model.trust=true" in refused(place, capsys, *typed, code=1)
    assert main([*typed, "model.trust=true"]) == 1
    assert (place / CANARY).exists()


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "os.mkdir", "_partial_": True, "path": CANARY},
        {"_target_": "kdrobust.models.MLP", "_partial_": True, "hidden": [6], "spec": {"_target_": "os.mkdir"}},
        {"_target_": "kdrobust.models.load_data", "path": "evil.pkl"},
        {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1},
        {"_target_": "torch.hub.load", "repo_or_dir": "evil"},
        {"_target_": "mine.Network"},
    ],
)
def test_a_checkpoint_s_config_runs_nothing_and_trusts_nobody(place, capsys, node):
    (place / "mine.py").write_text(f"import os\nos.mkdir('{CANARY}')\nclass Network: pass\n")
    model = {"network": node, "normalize": True, "trusted_modules": ["mine"]}
    payload = {"model": model, "trusted_modules": ["mine"]}
    checkpoint(payload=payload)(place / "evil.ckpt")
    # a package that the user trusts is the user's matter, but no other, and no library
    trusted = "trusted_modules=[yours,torch]" if node["_target_"] == "mine.Network" else "trusted_modules=[mine,torch]"
    error = refused(place, capsys, "evaluate", "checkpoint=evil.ckpt", trusted, code=1)
    assert "evil.ckpt: names the network" in error


def test_a_good_checkpoint_of_the_same_kind_is_read(place):
    checkpoint()(place / "good.ckpt")
    assert restore_classifier(place / "good.ckpt")(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    "path",
    [
        "torch.load", "torch.hub.load", "torch.jit.load", "torch.nn.Module.load_state_dict", "torch.nn.os.system",
        "torchvision.io.write_file", "torchvision.utils.save_image", "torchvision.datasets.utils.extract_archive",
        "timm.models.load_checkpoint", "timm.models.load_state_dict", "pytorch_lightning.cli.LightningCLI",
        "pytorch_lightning.LightningModule.load_from_checkpoint", "pytorch_lightning.core.saving.load_hparams_from_yaml",
        "kdrobust.models.load_torchscript", "kdrobust.models.load_imported", "kdrobust.tracking.write_bytes",
        "kdrobust.refusal.without_trace", "kdrobust.sweeps.command.main", "kdrobust.htmlreport.main",
        "kdrobust.attacks.goals.GOALS.clear",
    ],
)  # fmt: skip
def test_what_loads_writes_or_fetches_is_no_target(path):
    for kind in KINDS:
        with pytest.raises(UsageError, match=r"not allowed|has no|is not an? "):
            kind.find(path, ["os", "builtins"])
