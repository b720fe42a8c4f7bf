"""The one form of a run's config: nothing in it refers to anything, and its file says all of it."""

import pytest
from omegaconf import OmegaConf

from kdrobust.config import DERIVED, compose, config_hash, read_resolved, require_resolved, resolved, settings, to_text
from kdrobust.config.resolved import FILE
from kdrobust.errors import CheckpointError
from kdrobust.stages.run import run_config


@pytest.fixture(scope="module")
def composed():
    cfg = compose("distill", ["threat.eps=8/255", "optimizer.lr=1e-3", "run.name='1e-3'"])
    cfg.run.folder = "somewhere"
    return cfg


def test_every_value_is_written_out(composed):
    cfg = resolved(composed, {"teachers": {"teacher": {"epochs": 3}}})
    require_resolved(cfg)
    assert cfg.threat.eps == "8/255"
    assert cfg.callbacks.last.path == "somewhere/last.ckpt"
    assert cfg.attack.step_size == pytest.approx(8 / 255 / 4)
    assert config_hash(cfg) == config_hash(composed)
    assert settings(cfg) == {key: value for key, value in OmegaConf.to_container(cfg).items() if key != DERIVED}


def test_its_file_gives_it_back(composed, tmp_path):
    cfg = resolved(composed, {"rungs": [{"threat": {"eps": 0.1}}]})
    (tmp_path / FILE).write_text(to_text(OmegaConf.to_container(cfg)))
    again = read_resolved(tmp_path)
    assert again == cfg
    assert (type(again.optimizer.lr), type(again.run.name)) == (float, str)


def test_what_is_not_resolved_never_runs(composed):
    with pytest.raises(ValueError, match=r"not resolved \(\$\{"):
        run_config(composed)


def test_what_an_earlier_version_left_is_refused(composed):
    cfg = resolved(composed)
    del cfg[DERIVED]
    with pytest.raises(CheckpointError, match=r"config_resolved\.yaml is of an earlier version; give the run's own"):
        run_config(cfg)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("a: [", "damaged: no resolved config of a run"),
        ("- 1", "damaged: no resolved config of a run"),
        ("epochs: 3", "no config of a run"),
        ("stage: distill\nepochs: ${seed}\nseed: 0", "epochs: not resolved (${seed})"),
        ("stage: distill\nepochs: ???", "epochs: not resolved (???)"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, text, words):
    if text is not None:
        (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError) as error:
        read_resolved(tmp_path)
    assert words in str(error.value)
    assert str(tmp_path / FILE) in str(error.value)
