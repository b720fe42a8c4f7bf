"""Finding an attack by name, checking its options, running it in batches: with a library made up here."""

import logging
import sys
import warnings
from types import ModuleType

import pytest
import torch
from omegaconf import OmegaConf

from kdrobust.attacks import Threat
from kdrobust.attacks.external import ArtAttack, FoolboxAttack, TorchAttack
from kdrobust.attacks.external.library import load_library
from kdrobust.config import instantiate
from kdrobust.errors import UsageError

THREAT = Threat(norm="linf", eps="25.5/255")


class Step:
    """One signed step, as a library would write it."""

    def __init__(self, model, eps=8 / 255, alpha=2 / 255, steps=10):
        self.model, self.eps, self.alpha, self.steps = model, eps, alpha, steps

    def __call__(self, images, labels):
        Step.seen.append((len(images), self.eps, self.alpha, self.steps))
        logging.info("only testing ten classes")
        logging.getLogger("torchattacks.step").warning("no convergence")
        warnings.warn(f"seen {len(images)} images", RuntimeWarning, stacklevel=1)
        warnings.warn("this will go away", DeprecationWarning, stacklevel=1)
        return (images + self.alpha).clamp(0, 1)


class Anything:
    def __init__(self, model, **settings):
        self.settings = settings

    def __call__(self, images, labels):
        return images


@pytest.fixture
def library(monkeypatch):
    module = ModuleType("torchattacks")
    module.__version__ = "9.9"
    module.Step, module.Anything, Step.seen = Step, Anything, []
    monkeypatch.setitem(sys.modules, "torchattacks", module)
    return module


def test_options_and_radius_arrive_and_batches_are_the_attacks_own(library, tiny, caplog):
    caplog.set_level(logging.DEBUG)
    attack = TorchAttack(threat=THREAT, name="Step", options={"alpha": "51/255", "steps": 3}, batch_size=3)
    result = attack.run(tiny.model, tiny.inputs, tiny.labels)
    assert Step.seen == [(3, 0.1, 0.2, 3), (3, 0.1, 0.2, 3), (2, 0.1, 0.2, 3)]
    assert torch.allclose(result.adversarial, (tiny.inputs + 0.1).clamp(max=1))
    logged, said, outside = result.notes
    assert logged == "no convergence (said 3 times)"
    assert caplog.records == []
    logging.info("heard again")
    assert len(caplog.records) == 1
    assert said == "seen 3 images (said 3 times)"
    assert "left the ball, by up to 0.1" in outside


def test_the_description_says_everything(library):
    attack = TorchAttack(threat=THREAT, name="Step", options={"alpha": 0.2}, batch_size=3)
    assert attack.describe() == {
        "attack": "Step (torchattacks 9.9)",
        "library": "torchattacks 9.9",
        "threat": THREAT.describe(),
        "name": "Step",
        "options": {"alpha": 0.2},
        "batch_size": 3,
    }
    assert attack.whole


def test_a_constructor_that_takes_anything_is_given_the_users_options_only(library, tiny):
    attack = TorchAttack(threat=THREAT, name="Anything", options={"depth": "deep"})
    assert attack.taken(eps=0.1) == {"depth": "deep"}
    assert attack.run(tiny.model, tiny.inputs, tiny.labels).notes == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "Stp"}, ["name: torchattacks has no attack 'Stp'", "near: Step"]),
        ({"name": "__version__"}, ["name: ", "no attack"]),
        ({"name": "Step", "options": {"alhpa": 1}}, ["options: Step takes no 'alhpa'", "near: alpha"]),
        ({"name": "Step", "options": {"zzz": 1}}, ["'zzz'", "alpha, steps"]),
        ({"name": "Step", "options": {"eps": 1}}, ["options: 'eps' comes from threat.eps"]),
        ({"name": "Step", "batch_size": 0}, ["batch_size: "]),
    ],
)
def test_mistakes_are_named_when_it_is_made(library, settings, words):
    with pytest.raises(ValueError, match=":") as error:
        TorchAttack(threat=THREAT, **settings)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_in_a_config_the_key_stands_before(library):
    node = {"_target_": "kdrobust.attacks.external.TorchAttack", "name": "Stp"}
    node["threat"] = {"_target_": "kdrobust.attacks.Threat", "norm": "linf", "eps": "8/255"}
    with pytest.raises(UsageError, match=r"^evaluation\.attacks\.one\.name: torchattacks has no attack"):
        instantiate(OmegaConf.create({"evaluation": {"attacks": {"one": node}}}))


@pytest.mark.parametrize(
    ("attack", "package", "install"),
    [
        (TorchAttack, "torchattacks", "pip install --no-deps torchattacks"),
        (FoolboxAttack, "foolbox", "pip install 'kdrobust[foolbox]'"),
        (ArtAttack, "art", "pip install 'kdrobust[art]'"),
    ],
)
def test_a_library_that_is_not_there(attack, package, install, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError) as error:
        attack(threat=THREAT, name="PGD")
    assert str(error.value).startswith(f"{package} is not installed; {install}")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import broken_lib.part", ["the installed broken_lib has no broken_lib.part", "the remedy"]),
        ("import a_module_that_nobody_has", ["importing broken_lib failed", "pip install a_module_that_nobody_has"]),
        ("raise RuntimeError('two\\nlines')", ["importing broken_lib failed", "RuntimeError", "the remedy"]),
    ],
)
def test_a_library_whose_import_fails(source, words, tmp_path, monkeypatch):
    (tmp_path / "broken_lib.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError) as error:
        load_library("broken_lib", "the remedy")
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)
