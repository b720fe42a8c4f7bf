"""What `kdrobust evaluate` measures: a checkpoint, or one model from elsewhere, named in the result."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from kdrobust.models import file_hash, read_checkpoint, restore_classifier
from kdrobust.stages.subject import subject_problems

QUICK = ["evaluation.num_samples=40", "evaluation.checks=false", "threads=1"]


def line(capsys):
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1, error
    return error


def network(classes=10):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


@pytest.fixture
def mine(workplace, monkeypatch):
    """A package that makes the network of `network`, and its weights."""
    source = (
        "from torch import nn\n"
        "def make(classes=10):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
        "def soft():\n    return nn.Sequential(make(), nn.Softmax(dim=1))\n"
    )
    (workplace.folder / "nets_of_mine.py").write_text(source)
    torch.save(network().state_dict(), workplace.folder / "weights.pt")
    monkeypatch.syspath_prepend(workplace.folder)
    yield workplace
    sys.modules.pop("nets_of_mine", None)


def test_an_imported_model_with_weights(mine):
    mine.run(
        "evaluate",
        *QUICK,
        "model.import=nets_of_mine:make",
        "model.weights=weights.pt",
        "trusted_modules=[nets_of_mine]",
        "model.normalize={mean:[0.3],std:[0.4]}",
        "+model.arguments.classes=10",
    )
    result = mine.result("outputs/evaluate/*")
    assert "checkpoint" not in result
    assert result["subject"] == {
        "source": "import",
        "name": "nets_of_mine:make",
        "arguments": {"classes": 10},
        "weights": {"path": "weights.pt", "sha256": file_hash(mine.folder / "weights.pt")},
        "normalize": {"mean": [0.3], "std": [0.4]},
    }
    assert result["model"]["parameters"] == 650


def test_a_script_answers_like_the_network_it_was_made_from(workplace, trained):
    model = restore_classifier(trained / "best.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model.eval(), torch.rand(2, 1, 8, 8)), workplace.folder / "teacher.pt")
    workplace.run("evaluate", *QUICK, "model.torchscript=teacher.pt", "model.trust=true", "run.folder=script")
    workplace.run("evaluate", *QUICK, f"checkpoint={trained / 'best.ckpt'}", "run.folder=own")
    script, own = (np.load(workplace.folder / name / "samples.npz") for name in ("script", "own"))
    assert all(np.array_equal(script[key], own[key]) for key in ("indices", "clean", "fgsm", "pgd20"))
    results = [json.loads((workplace.folder / name / "result.json").read_text()) for name in ("script", "own")]
    assert results[0]["subject"]["sha256"] == file_hash(workplace.folder / "teacher.pt")
    assert results[1]["checkpoint"]["sha256"] == file_hash(trained / "best.ckpt")
    assert results[0]["evaluation"]["clean"] == results[1]["evaluation"]["clean"]
    assert read_checkpoint(trained / "best.ckpt")


def test_a_model_of_robustbench(workplace, monkeypatch):
    source = (
        "from torch import nn\nimport torch\n"
        "def load_model(model_name, model_dir, dataset, threat_model):\n"
        "    assert (dataset, threat_model) == ('digits', 'Linf')\n"
        "    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "    model.load_state_dict(torch.load(f'{model_dir}/{dataset}/{threat_model}/{model_name}.pt'))\n"
        "    return model\n"
    )
    package = workplace.folder / "robustbench"
    package.mkdir()
    (package / "__init__.py").write_text("from autoattack import AutoAttack\n")
    (package / "utils.py").write_text(source)
    place = workplace.folder / "datasets" / "robustbench" / "digits" / "Linf"
    place.mkdir(parents=True)
    torch.save(network().state_dict(), place / "Some2020.pt")
    monkeypatch.syspath_prepend(workplace.folder)
    try:
        workplace.run("evaluate", *QUICK, "model.robustbench=Some2020")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "robustbench"]:
            del sys.modules[name]
    subject = workplace.result("outputs/evaluate/*")["subject"]
    assert (subject["source"], subject["name"], subject["dataset"]) == ("robustbench", "Some2020", "digits")
    assert subject["weights"]["sha256"] == file_hash(place / "Some2020.pt")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, ["checkpoint: not given", "model.robustbench", "model.import"]),
        (["checkpoint=a.ckpt", "model.timm=resnet18"], 2, ["checkpoint and model.timm", "one of them"]),
        (["model.timm=resnet18", "model.torchscript=a.pt"], 2, ["model.timm and model.torchscript"]),
        (["checkpoint=a.ckpt", "model.weights=a.pt"], 2, ["model.weights", "checkpoint does not read it"]),
        (["checkpoint=absent.ckpt"], 2, ["checkpoint=absent.ckpt", "no such file"]),
        (["model.torchscript=absent.pt"], 2, ["model.torchscript=absent.pt", "no such file"]),
        (["model.torchscript=weights.pt"], 2, ["model.trust=true", "code"]),
        (["model.torchscript=weights.pt", "model.trust=true"], 1, ["weights.pt", "torch.jit.save"]),
        (["model.import=nets_of_mine:make"], 2, ["model.import", "trusted_modules=[nets_of_mine]"]),
        (["model.import=nets_of_mine:make", "model.weights=absent.pt"], 2, ["model.weights=absent.pt"]),
        (["model.robustbench=X", "model.normalize={mean:[0],std:[1]}"], 2, ["model.normalize", "does not read it"]),
        (["model.robustbench=X", "+model.arguments.data=cifar10"], 2, ["model.arguments.data", "dataset"]),
        (["model.timm=3"], 2, ["model.timm: expected"]),
        (["model.timm=resnet18", "model.normalize=imagenet"], 2, ["model.normalize: expected"]),
    ],
)
def test_mistakes(mine, capsys, arguments, code, words):
    mine.run("evaluate", *QUICK, *arguments, code=code)
    error = line(capsys)
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["model.import=nets_of_mine:soft", "~evaluation.attacks.fgsm", "~evaluation.attacks.pgd20"],
            ["probabilities"],
        ),
        (["model.import=nets_of_mine:make", "+model.arguments.classes=3"], ["3 classes", "the data have 10"]),
        (["model.import=nets_of_mine:make", "data=npz", "data.source.path=colour.npz"], ["does not take inputs"]),
    ],
)
def test_models_that_do_not_fit(mine, capsys, arguments, words):
    generator = np.random.default_rng(0)
    arrays = {
        f"{kind}_{split}": generator.random((60, 3, 6, 6), dtype=np.float32) if kind == "x" else np.arange(60) % 3
        for kind in "xy"
        for split in ("train", "test")
    }
    np.savez(mine.folder / "colour.npz", **arrays)
    mine.run("evaluate", *QUICK, "trusted_modules=[nets_of_mine]", *arguments, code=1)
    error = line(capsys)
    assert all(word in error for word in words), error


def test_a_checkpoint_of_other_data_or_none_at_all(workplace, trained, capsys):
    """As many classes, of inputs of the same form, but not the same ones."""
    generator = np.random.default_rng(0)
    arrays = {
        f"{kind}_{split}": generator.random((60, 1, 8, 8), dtype=np.float32) if kind == "x" else np.arange(60) % 10
        for kind in "xy"
        for split in ("train", "test")
    }
    names = ["cat", "dog", *"cdefghij"]
    np.savez(workplace.folder / "animals.npz", **arrays, class_names=np.array(names))
    best = trained / "best.ckpt"
    workplace.run("evaluate", *QUICK, f"checkpoint={best}", "data=npz", "data.source.path=animals.npz", code=1)
    told = f"checkpoint={best}: its class 0 is '0', the data call it 'cat'; data=... must name what it was trained on"
    assert told in line(capsys)
    workplace.run("evaluate", *QUICK, f"checkpoint={trained}", code=1)
    assert f"checkpoint={trained}: is a folder; name the best.ckpt in it" in line(capsys)
    workplace.run("evaluate", *QUICK, "checkpoint=animals.npz", code=1)
    assert "checkpoint=animals.npz: damaged or no checkpoint" in line(capsys)


def test_data_of_another_form_are_not_fetched_to_be_refused(workplace, trained, capsys):
    best = trained / "best.ckpt"
    workplace.run("evaluate", *QUICK, f"checkpoint={best}", "data=fashion_mnist", "data.root=nowhere", code=1)
    assert f"checkpoint={best}: the model takes inputs (1, 8, 8), the data are (1, 28, 28); data=..." in line(capsys)
    assert not (workplace.folder / "nowhere").exists()


def test_a_config_without_the_node_asks_for_a_checkpoint():
    """The pipeline's own evaluations have no `model`."""
    assert subject_problems(OmegaConf.create({"checkpoint": "a.ckpt"})) == []
    (problem,) = subject_problems(OmegaConf.create({"checkpoint": None}))
    assert problem.startswith("checkpoint: not given")
