"""ART's own PGD through the adapter is our PGD; what ART is told, and that it does not take our logging."""

import logging
import logging.config
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.attacks.external import ArtAttack

from .conftest import Fragile, footprint

LINF, L2 = Threat(norm="linf", eps=0.1), Threat(norm="l2", eps=0.5)


@pytest.fixture
def made_up(monkeypatch):
    told = SimpleNamespace()

    class Shift:
        def __init__(self, estimator, norm=np.inf, eps=0.3, max_iter=10, batch_size=1, verbose=True):
            told.attack = (norm, eps, max_iter, batch_size, verbose)

        def generate(self, x, y):
            assert isinstance(x, np.ndarray)
            assert y.shape == (len(x),)
            return x + 0.05

    def classifier(**settings):
        told.estimator = settings
        return settings

    names = ("art", "art.attacks", "art.attacks.evasion", "art.estimators", "art.estimators.classification")
    modules = {name: ModuleType(name) for name in names}
    for module in modules.values():
        module.__path__ = []
    modules["art.attacks.evasion"].Shift = Shift
    modules["art.estimators.classification"].PyTorchClassifier = classifier
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return told


def test_what_the_library_is_told(made_up, tiny):
    attack = ArtAttack(threat=L2, name="Shift", options={"max_iter": 4}, batch_size=5)
    result = attack.run(tiny.model, tiny.inputs, tiny.labels)
    assert made_up.attack == (2, 0.5, 4, 3, False), "the last batch has three samples"
    told = made_up.estimator
    assert (told["nb_classes"], told["input_shape"], told["clip_values"]) == (5, (1, 8, 8), (0.0, 1.0))
    assert not told["model"].training
    torch.testing.assert_close(result.adversarial, (tiny.inputs + 0.05).clamp(max=1))
    with pytest.raises(ValueError, match=r"options: 'norm' comes from threat\.norm"):
        ArtAttack(threat=L2, name="Shift", options={"norm": 2})


def test_importing_it_does_not_configure_logging(tmp_path, monkeypatch):
    """The real package does so in its `__init__`, and every open handler is closed by that."""
    for folder in ("art/attacks/evasion", "art/estimators/classification"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "art" / "__init__.py").write_text(
        "import logging.config\nlogging.config.dictConfig({'version': 1, 'disable_existing_loggers': False})\n"
    )
    (tmp_path / "art/attacks/evasion/__init__.py").write_text("class Shift:\n    pass\n")
    (tmp_path / "art/estimators/classification/__init__.py").write_text("PyTorchClassifier = None\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "art"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    configure, stream = logging.config.dictConfig, logging.FileHandler(tmp_path / "run.log", mode="w")
    logger = logging.getLogger("of this test")
    logger.addHandler(stream)
    try:
        logger.warning("before")
        ArtAttack(threat=LINF, name="Shift")
        logger.warning("after")
    finally:
        logger.removeHandler(stream)
        stream.close()
        for name in [name for name in sys.modules if name.split(".")[0] == "art"]:
            del sys.modules[name]
    assert (tmp_path / "run.log").read_text() == "before\nafter\n"
    assert logging.config.dictConfig is configure


def test_their_pgd_is_ours(tiny):
    pytest.importorskip("art")
    theirs = ArtAttack(threat=LINF, name="ProjectedGradientDescent", options={"eps_step": 0.025, "max_iter": 10})
    result = theirs.run(tiny.model, tiny.inputs, tiny.labels)
    ours = GradientAttack(threat=LINF, steps=10, step_size=0.025)
    torch.testing.assert_close(result.adversarial, ours(tiny.model, tiny.inputs, tiny.labels), atol=1e-6, rtol=0)


def test_others_run_and_leave_no_trace(tiny, tracer):
    pytest.importorskip("art")
    model = Fragile()
    before = footprint(model)
    options = {"max_iter": 5, "nb_random_init": 1, "eps_step": 0.05}
    attack = ArtAttack(threat=LINF, name="AutoProjectedGradientDescent", options=options)
    result = attack.run(model, tiny.inputs, tiny.labels)
    assert footprint(model) == before
    assert float(LINF.distance(result.adversarial, tiny.inputs).max()) <= 0.1 + 1e-6
