"""Transforms of logits, against numpy."""

import numpy as np
import pytest
import torch

from kdrobust.losses.terms import LOSS_MODULES, bind
from kdrobust.losses.transforms import center, zscore

LOGITS = torch.randn(4, 5, generator=torch.Generator().manual_seed(12), dtype=torch.float64) * 3 + 2


def test_standardised_logits():
    rows = LOGITS.numpy()
    expected = (rows - rows.mean(1, keepdims=True)) / (rows.std(1, ddof=1, keepdims=True) + 1e-7)
    np.testing.assert_allclose(zscore(LOGITS).numpy(), expected)
    torch.testing.assert_close(zscore(100 * LOGITS + 7), zscore(LOGITS), rtol=1e-5, atol=1e-6)
    assert zscore(LOGITS.half()).dtype == torch.float32


def test_a_least_deviation_bounds_the_slope():
    flat = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    zscore(flat, min_std=1e-2)[0, 0].backward()
    assert float(flat.grad.abs().max()) == pytest.approx(0.8 * 100, rel=1e-3)
    torch.testing.assert_close(zscore(LOGITS, min_std=1e-3), zscore(LOGITS))


def test_centred_logits():
    assert float(center(LOGITS).mean(dim=1).abs().max()) < 1e-12
    torch.testing.assert_close(center(LOGITS).softmax(1), LOGITS.softmax(1))


def term(**changes):
    spec = {"loss": "logit_mse", "student": "clean", "teacher": "clean", **changes}
    return bind(spec, slot="loss", modules=LOSS_MODULES, key="method.terms.a")


def test_a_term_takes_one_with_its_options():
    given = {"student": LOGITS, "teacher": LOGITS.flip(0) + 9.0}
    ours = term(logits_transform="center").apply(given, 0.0)
    torch.testing.assert_close(ours, (center(LOGITS) - center(LOGITS.flip(0))).square().mean(1))
    wide = term(logits_transform={"function": "zscore", "min_std": 50.0})
    torch.testing.assert_close(wide.apply(given, 0.0), ours / 50.0**2, rtol=1e-5, atol=1e-9)
    assert wide.describe()["logits_transform"] == "zscore"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("zscor", r"method\.terms\.a\.logits_transform: no transform 'zscor'; did you mean zscore"),
        ({"function": "zscore", "std": 1}, r"method\.terms\.a\.logits_transform\.std"),
        ({"function": "os.system"}, "trusted_modules"),
    ],
)
def test_mistakes(given, words):
    with pytest.raises(ValueError, match=words):
        term(logits_transform=given)
