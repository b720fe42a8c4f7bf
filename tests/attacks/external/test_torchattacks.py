"""torchattacks' own PGD through the adapter is our PGD."""

import pytest
import torch

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.attacks.external import TorchAttack

from .conftest import Fragile, footprint

pytest.importorskip("torchattacks")
LINF, L2 = Threat(norm="linf", eps=0.1), Threat(norm="l2", eps=0.5)


@pytest.mark.parametrize(("threat", "name", "size"), [(LINF, "PGD", 0.025), (L2, "PGDL2", 0.1)])
def test_their_pgd_is_ours(threat, name, size, tiny):
    theirs = TorchAttack(threat=threat, name=name, options={"alpha": size, "steps": 10, "random_start": False})
    result = theirs.run(tiny.model, tiny.inputs, tiny.labels)
    ours = GradientAttack(threat=threat, steps=10, step_size=size)
    torch.testing.assert_close(result.adversarial, ours(tiny.model, tiny.inputs, tiny.labels), atol=1e-6, rtol=0)
    assert result.notes == ()


@pytest.mark.parametrize("name", ["VMIFGSM", "APGD", "Square", "TPGD"])
def test_others_run_and_leave_no_trace(name, tiny, tracer):
    model = Fragile()
    before = footprint(model)
    attack = TorchAttack(threat=LINF, name=name, options={"n_queries": 20} if name == "Square" else {"steps": 3})
    result = attack.run(model, tiny.inputs, tiny.labels)
    assert footprint(model) == before
    assert float(LINF.distance(result.adversarial, tiny.inputs).max()) <= 0.1 + 1e-6
