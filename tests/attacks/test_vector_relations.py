"""The rest of attacks.npz: the stored model, transfer, APGD's objective values, and peers whose projection differs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kdrobust.attacks import GradientAttack, Threat
from kdrobust.attacks.goals import cross_entropy, dlr, dlr_targeted
from kdrobust.attacks.threat import l2_norm

ARRAYS = np.load(Path(__file__).parent / "vectors" / "attacks.npz")


def tensor(key):
    return torch.from_numpy(np.asarray(ARRAYS[key]))


def network(prefix):
    conv_w, conv_b, fc_w, fc_b = (tensor(f"{prefix}/{name}") for name in ("conv_w", "conv_b", "fc_w", "fc_b"))
    return lambda x: F.relu(F.conv2d(x, conv_w, conv_b, stride=2)).flatten(1) @ fc_w.T + fc_b


MODEL, TEACHER = network("model"), network("teacher")
X, Y, WANTED = tensor("x"), tensor("y"), tensor("y_target")


def close(ours, theirs, atol=1e-9):
    return float((ours.detach() - theirs).abs().max()) <= atol


def test_the_stored_model():
    x = X.clone().requires_grad_(True)
    logits = MODEL(x)
    assert close(logits, tensor("logits"))
    assert close(TEACHER(X), tensor("teacher_logits"))
    values = cross_entropy(logits, Y)
    assert close(values, tensor("ce_per_sample"))
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert close(gradient, tensor("ce_sum_grad_x"))


def test_pixels_without_gradient_do_not_move():
    still = tensor("ce_sum_grad_x") == 0
    assert int(still[0].sum()) >= 15
    found = GradientAttack(threat=Threat(norm="linf", eps=0.1), steps=1, step_size=0.1)(MODEL, X, Y)
    assert torch.equal(found[still], X[still])


def test_transfer_from_the_teacher():
    found = GradientAttack(threat=Threat(norm="linf", eps=0.1), steps=10, step_size=0.025)(TEACHER, X, Y)
    assert close(found, tensor("transfer_pgd_linf_ce_from_teacher/e100m/torchattacks"))
    assert float((MODEL(found).argmax(1) == Y).double().mean()) == 0.75


@pytest.mark.parametrize("tag", ["linf_e8", "linf_e100m", "l2_e500m", "l2_e1500m"])
def test_objectives_at_the_official_apgd_points(tag):
    objectives = {
        "ce": lambda z: cross_entropy(z, Y),
        "dlr": lambda z: dlr(z, Y),
        "t_dlr": lambda z: dlr_targeted(z, Y, WANTED),
    }
    for name, value in objectives.items():
        point = tensor(f"apgd_{name}/{tag}/official_x_best_loss").double()
        official = tensor(f"apgd_{name}/{tag}/official_best_loss").double()
        assert close(value(MODEL(point)), official), name


@pytest.mark.parametrize(("tag", "eps"), [("e8", 8 / 255), ("e100m", 0.1)])
def test_margin_finds_what_adv_lib_finds_and_returns_attacks_where_it_returns_the_clean_input(tag, eps):
    found = tensor(f"pgd_linf_margin/{tag}/advlib_found")
    theirs = tensor(f"pgd_linf_margin/{tag}/advlib_best")
    step = 2 / 255 if tag == "e8" else 0.025
    attack = GradientAttack(threat=Threat(norm="linf", eps=eps), goal="margin", steps=10, step_size=step, keep="best")
    ours = attack.run(MODEL, X, Y)
    assert bool((ours.fooled >= found).all())
    assert torch.equal(theirs[~found], X[~found])
    assert not torch.equal(ours.adversarial, theirs)
    if bool((~found).any()):
        assert bool(((ours.adversarial - X)[~found].flatten(1).abs().amax(1) > 0).all())


class BoxThenBall(Threat):
    """ART's and the official TRADES code's order for ℓ2: clip first, then back into the ball."""

    guard = 1e-12

    def project(self, adversarial, inputs, radius):
        delta = self.clip(adversarial) - inputs
        return inputs + delta * (radius / (l2_norm(delta) + self.guard)).clamp(max=1.0)


class Renormed(BoxThenBall):
    guard = 1e-7


@pytest.mark.parametrize(("tag", "eps", "step"), [("e500m", 0.5, 0.1), ("e1500m", 1.5, 0.3)])
def test_art_projects_in_the_other_order(tag, eps, step):
    theirs = tensor(f"pgd_l2_ce/{tag}/art_clip_then_project_f32").double()
    options = {"steps": 10, "step_size": step}
    assert close(GradientAttack(threat=BoxThenBall(norm="l2", eps=eps), **options)(MODEL, X, Y), theirs, 1e-5)
    assert not close(GradientAttack(threat=Threat(norm="l2", eps=eps), **options)(MODEL, X, Y), theirs, 1e-3)


@pytest.mark.parametrize(("tag", "eps"), [("e500m", 0.5), ("e1500m", 1.5)])
def test_trades_l2_projects_in_the_other_order(tag, eps):
    theirs = tensor(f"trades_kl_l2/{tag}/trades_official")
    options = {"steps": 10, "step_size": 2 * eps / 10, "goal": "kl_to_clean", "start": "normal"}
    start = X + 0.001 * tensor("start/normal_noise2")

    def found(threat):
        return GradientAttack(threat=threat, **options)(MODEL, X, Y, initial=start)

    assert close(found(Renormed(norm="l2", eps=eps)), theirs)
    assert not close(found(Threat(norm="l2", eps=eps)), theirs, 1e-3)
