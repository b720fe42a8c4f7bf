"""PGD of the libraries, called as their documentation does; each is imported only when its run is asked for."""

from __future__ import annotations

import torch
from timing import Absent
from torch import Tensor, nn


def _need(package: str, remedy: str) -> None:
    try:
        __import__(package)
    except ImportError as error:
        raise Absent(f"{error.name} is not installed; {remedy}") from error


def torchattacks(model: nn.Module, inputs: Tensor, labels: Tensor, *, eps: float, size: float, steps: int) -> Tensor:
    """torchattacks' PGD with random start."""
    _need("torchattacks", "pip install --no-deps torchattacks==3.5.1, and requests, tqdm, scipy")
    from torchattacks import PGD

    return PGD(model, eps=eps, alpha=size, steps=steps, random_start=True)(inputs, labels)


def foolbox(model: nn.Module, inputs: Tensor, labels: Tensor, *, eps: float, size: float, steps: int) -> Tensor:
    """Foolbox' LinfPGD with random start."""
    _need("foolbox", "pip install 'kdrobust[foolbox]'")
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfPGD

    wrapped = PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, found, _ = LinfPGD(abs_stepsize=size, steps=steps, random_start=True)(wrapped, inputs, labels, epsilons=eps)
    return found


def art(model: nn.Module, inputs: Tensor, labels: Tensor, *, eps: float, size: float, steps: int) -> Tensor:
    """ART's PyTorch PGD with one random start."""
    _need("art", "pip install 'kdrobust[art]'")
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(inputs.shape[1:]), int(model(inputs[:1]).shape[1]), clip_values=(0.0, 1.0)
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier, eps=eps, eps_step=size, max_iter=steps, num_random_init=1, batch_size=len(inputs), verbose=False
    )
    return torch.from_numpy(attack.generate(inputs.numpy(), labels.numpy()))


LIBRARIES = {"torchattacks": torchattacks, "Foolbox": foolbox, "ART": art}
