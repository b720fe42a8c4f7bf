"""Defences that only look like some: each wraps a model that is honest, and each hides something else."""

import copy
import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from kdrobust.attacks import GradientAttack
from kdrobust.losses.knowledge import soft_target


class Wrapped(nn.Module):
    """A defence around a copy of a model."""

    def __init__(self, model):
        super().__init__()
        self.model = copy.deepcopy(model)

    def before(self, inputs):
        return inputs

    def after(self, logits):
        return logits

    def forward(self, inputs):
        return self.after(self.model(self.before(inputs)))


class Scaled(Wrapped):
    """A temperature of 1e-3: the softmax saturates and cross-entropy has no gradient."""

    def after(self, logits):
        return logits / 1e-3


class Quantised(Wrapped):
    """Inputs in few levels: the gradient of rounding is zero."""

    def before(self, inputs):
        return (inputs * 8).round() / 8


class Jpeg(Wrapped):
    """Rounded coefficients of the 8x8 cosine transform."""

    def before(self, inputs):
        at = torch.arange(8.0)
        basis = torch.cos(torch.pi * (at[None, :] + 0.5) * at[:, None] / 8) * (2 / 8) ** 0.5
        basis[0] /= 2**0.5
        return basis.T @ ((basis @ inputs @ basis.T) * 4).round() @ basis / 4


class Binarised(Wrapped):
    """A sigmoid so steep that its gradient vanishes in float32."""

    def before(self, inputs):
        return torch.sigmoid(1e4 * (inputs - 0.5))


class Detached(Wrapped):
    """A graph that does not reach the inputs."""

    def before(self, inputs):
        return inputs.detach()


class Resized(Wrapped):
    """Shrunk or grown by chance, and back."""

    def before(self, inputs):
        side = int(torch.randint(6, 12, ()))
        return F.interpolate(F.interpolate(inputs, size=(side, side), mode="bilinear"), size=inputs.shape[-2:])


class Dropped(Wrapped):
    """Dropout that stays switched on."""

    def before(self, inputs):
        return F.dropout(inputs, 0.3, training=True)


class Shattered(torch.autograd.Function):
    """The identity, with a gradient that is multiplied by something else."""

    @staticmethod
    def forward(ctx, inputs, factor):
        ctx.factor = factor
        return inputs.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


class Flipped(Wrapped):
    """The gradient's opposite."""

    def before(self, inputs):
        return Shattered.apply(inputs, -1.0)


class Scrambled(Wrapped):
    """Every other pixel's gradient flipped."""

    def before(self, inputs):
        mask = torch.ones(inputs.shape[1:])
        mask.view(-1)[::2] = -1.0
        return Shattered.apply(inputs, mask)


class Training(Wrapped):
    """Batch norm that will not leave training mode."""

    def forward(self, inputs):
        for module in self.model.modules():
            module.training = True
        return self.model(inputs)


class Purified(Wrapped):
    """Makes its own inputs more confident first, by gradient steps in the forward pass."""

    def before(self, inputs):
        with torch.enable_grad():
            x = inputs.detach().requires_grad_(True)
            loss = torch.logsumexp(self.model(x), dim=1) - self.model(x).amax(dim=1)
            (gradient,) = torch.autograd.grad(loss.sum(), x)
        return inputs - 0.05 * gradient.sign()


class Neighbour(nn.Module):
    """The class of the nearest training sample, as one-hot answers."""

    def __init__(self, inputs, labels):
        super().__init__()
        self.register_buffer("inputs", inputs.flatten(1))
        self.register_buffer("labels", labels)

    def forward(self, inputs):
        nearest = torch.cdist(inputs.flatten(1), self.inputs).argmin(dim=1)
        return 5.0 * F.one_hot(self.labels[nearest], 10).to(inputs.dtype) + 0.0 * inputs.flatten(1).sum(1, keepdim=True)


class Memorised(Wrapped):
    """Knows the test samples by a hash of their pixels and answers them from a table of their labels."""

    def __init__(self, model, inputs, labels):
        super().__init__(model)
        self.table = dict(zip(map(self.hash, inputs), labels.tolist(), strict=True))

    @staticmethod
    def hash(pixels):
        return (pixels * 255).round().to(torch.uint8).numpy().tobytes()

    def forward(self, inputs):
        logits = self.model(inputs)
        known = [self.table.get(self.hash(pixels), -1) for pixels in inputs.detach()]
        bonus = torch.stack([torch.zeros(10) if label < 0 else 8.0 * torch.eye(10)[label] for label in known])
        return logits + bonus


class Reluctant:
    """An attack that walks over the boundary and back: it returns the clean inputs, whatever it met."""

    def __init__(self, attack):
        self.attack = attack

    def run(self, model, inputs, labels, *, keys, seed):
        found = self.attack.run(model, inputs, labels, keys=keys, seed=seed)
        fooled = torch.zeros_like(found.fooled)
        return dataclasses.replace(found, adversarial=inputs, fooled=fooled, goal_end=found.goal_start)

    def describe(self):
        return self.attack.describe()


class Outside(Reluctant):
    """An attack that clips to other bounds than the pixels': what it finds is no image."""

    def run(self, model, inputs, labels, *, keys, seed):
        found = self.attack.run(model, inputs, labels, keys=keys, seed=seed)
        return dataclasses.replace(found, adversarial=inputs - 0.05)


def train(network, loss, inputs, labels, *, epochs, lr=5e-3):
    """Train on a loss of (model, inputs, labels, rows, epoch)."""
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for epoch in range(epochs):
        for rows in torch.randperm(len(inputs)).split(64):
            network.train()
            optimizer.zero_grad()
            loss(network, inputs[rows], labels[rows], rows, epoch).mean().backward()
            optimizer.step()
    return network.eval()


def trades(threat):
    """Clean cross-entropy plus six times the divergence of the attacked outputs from the clean ones."""
    attack = GradientAttack(threat=threat, goal="kl_to_clean", start="normal", steps=4, step_size=threat.radius / 2)

    def loss(model, inputs, labels, rows, epoch):
        attacked, logits = attack(model, inputs, labels, keys=rows, seed=epoch, validate=False), model(inputs)
        return F.cross_entropy(logits, labels, reduction="none") + 6 * soft_target(model(attacked), logits)

    return loss


def distilled(threat, teacher):
    """A robust teacher's clean outputs as the target of the student's clean and attacked ones (RSLAD)."""
    attack = GradientAttack(threat=threat, goal="kl_to_teacher", start="normal", steps=4, step_size=threat.radius / 2)

    def loss(model, inputs, labels, rows, epoch):
        with torch.no_grad():
            target = teacher(inputs)
        given = {"teacher": teacher, "teacher_logits": target, "keys": rows, "seed": epoch, "validate": False}
        attacked = attack(model, inputs, labels, **given)
        return soft_target(model(inputs), target) / 6 + 5 * soft_target(model(attacked), target) / 6

    return loss


def hot(model, inputs, labels, rows, epoch):
    """Training at temperature 100, for use at 1: defensive distillation's masking."""
    return F.cross_entropy(model(inputs) / 100, labels, reduction="none")
