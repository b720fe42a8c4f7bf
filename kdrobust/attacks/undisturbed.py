"""Attacking without leaving a trace: modes, gradients, statistics and random numbers are as they were before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from kdrobust.randomness import address

Model = Callable[[Tensor], Tensor]


@contextmanager
def undisturbed(model: Model, teacher: Model | None, *, mode: str, device: torch.device, seed: int) -> Iterator[None]:
    """Everything an attack may not change, put back at the end, whatever happens; gradients are on inside.

    Args:
        model: the model under attack.
        teacher: it answers in eval mode; None where there is none.
        mode: `eval` or `train`, see `attack_mode`.
        device: where the inputs live.
        seed: address of the model's own noise (dropout, noisy layers).
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(own_random_numbers(device, seed))
        if teacher is not model:
            stack.enter_context(attack_mode(teacher, "eval"))
        stack.enter_context(attack_mode(model, mode))
        yield


@contextmanager
def attack_mode(model: Model | None, mode: str) -> Iterator[None]:
    """A model as an attack needs it, and afterwards exactly as it was, even after an exception.

    Every module goes into eval mode and back into its own; parameters ask for no gradient meanwhile. In train mode
    buffers are replaced by copies: the statistics that normalisation layers collect in the attack are thrown away.
    A model that trains already is left in the modes it has, so that a frozen normalisation layer stays frozen.

    Args:
        model: an `nn.Module`, or any function (then nothing is touched).
        mode: `eval` or `train`.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    # not for speed (it saves none): a parameter that asks for gradients is kept in autocast's cache of cast weights, and
    # a copy cached by a pass without graph would cut the gradients of the training step that follows
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.is_leaf]
    held = _swap_buffers(model) if mode == "train" else []
    try:
        if mode == "eval" or not model.training:
            for module, _ in modes:
                module.training = mode == "train"
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in asking:
            parameter.requires_grad_(True)
        for module, name, buffer in held:
            module._buffers[name] = buffer


def _swap_buffers(model: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    held = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    copies: dict[int, Tensor] = {}
    for module, name, buffer in held:
        # two modules that share a buffer go on sharing it
        module._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
    return held


@contextmanager
def own_random_numbers(device: torch.device, seed: int) -> Iterator[None]:
    """Let a model draw (dropout, noise) without moving the global generators.

    Inside, they are seeded from their state and `seed`: other numbers than the training step draws next, the same ones
    in a resumed run.

    Args:
        device: where the model draws, beside the CPU.
        seed: an address.
    """
    on_gpu = device.type == "cuda"
    index = (torch.cuda.current_device() if device.index is None else device.index) if on_gpu else 0
    with torch.random.fork_rng(devices=[index] if on_gpu else []):
        generators = [torch.default_generator, *([torch.cuda.default_generators[index]] if on_gpu else [])]
        for generator in generators:
            digest = hashlib.blake2b(generator.get_state().numpy().tobytes(), digest_size=8).digest()
            generator.manual_seed(address(seed, "model noise", int.from_bytes(digest, "big")))
        yield
