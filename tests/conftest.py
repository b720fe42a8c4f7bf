"""What every test shares: one thread, so that tests that run side by side do not fight over the cores."""

import functools
import gc
import logging
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.pop("KDROBUST_DATA", None)


def pytest_configure(config):
    import omegaconf._utils
    import omegaconf.base
    import torch

    torch.set_num_threads(1)
    # the same few hundred interpolations are parsed in every test that composes a config; nothing changes a parse tree
    parse = functools.lru_cache(maxsize=None)(omegaconf.base.parse)
    omegaconf.base.parse = omegaconf._utils.parse = parse


def pytest_collection_finish():
    """Half a million objects of the packages and of pytest stay to the end: looking for garbage among them is slow."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _hydra_s_handlers_go():
    """Hydra's log handlers keep the streams of the test that ran a command in this process."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        if type(handler).__module__ == "logging":
            root.removeHandler(handler)
            handler.close()
