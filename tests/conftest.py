"""What every test shares: one thread, so that tests that run side by side do not fight over the cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.pop("KDROBUST_DATA", None)


def pytest_configure(config):
    import torch

    torch.set_num_threads(1)
