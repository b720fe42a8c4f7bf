"""Attacking without leaving a trace: modes, gradients, statistics and random numbers are as they were before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from kdrobust.attacks.contract import Model, attack_mode
from kdrobust.randomness import address


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
def own_random_numbers(device: torch.device, seed: int) -> Iterator[None]:
    """Let a model draw (dropout, noise) without moving the global generators.

    Inside, they are seeded from their state and `seed`: other numbers than the training step draws next, the same ones
    in a resumed run.

    Args:
        device: where the model draws, beside the CPU.
        seed: an address.
    """
    held = [(generator, generator.get_state()) for generator in _generators(device)]
    try:
        for generator, state in held:
            digest = hashlib.blake2b(state.numpy().tobytes(), digest_size=8).digest()
            generator.manual_seed(address(seed, "model noise", int.from_bytes(digest, "big")))
        yield
    finally:
        for generator, state in held:
            generator.set_state(state)


def seed_generators(device: torch.device, seed: int) -> None:
    """Set what a model draws next, whatever was drawn before. Only inside `own_random_numbers`.

    Args:
        device: where the model draws, beside the CPU.
        seed: an address.
    """
    for generator in _generators(device):
        generator.manual_seed(seed)


def _gpu(device: torch.device) -> list[int]:
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]


def _generators(device: torch.device) -> list[torch.Generator]:
    return [torch.default_generator, *(torch.cuda.default_generators[index] for index in _gpu(device))]
