"""Natural shifts of a recording: how loud, where in the clip, through which microphone, in which room."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kdrobust.randomness import address, normal, uniform


def volume(inputs: Tensor, *, factor: float) -> Tensor:
    """Quieter: `factor·x`.

    Args:
        inputs: [B, C, T] floats in [-1, 1].
        factor: share of the amplitude left, in [0, 1].
    """
    return factor * inputs


def dc_offset(inputs: Tensor, *, shift: float) -> Tensor:
    """A microphone that does not rest at zero: `clip(x + shift, -1, 1)`.

    Args:
        inputs: [B, C, T] floats in [-1, 1].
        shift: in [-1, 1].
    """
    return (inputs + shift).clamp(-1.0, 1.0)


def time_shift(inputs: Tensor, keys: Tensor, *, share: float, seed: int) -> Tensor:
    """The word earlier or later, with equal chance; silence takes its place, and what leaves the clip is lost.

    Args:
        inputs: [B, C, T] floats in [-1, 1].
        keys: [B] integers, e.g. sample indices; equal keys get equal directions.
        share: of the clip's length, in [0, 1].
        seed: the address of the draws.
    """
    length = inputs.shape[-1]
    step = round(share * length)
    later = uniform(keys, (), seed=address(seed, "time shift")) < 0.5
    places = torch.arange(length, device=inputs.device) - torch.where(later, step, -step).unsqueeze(1)
    inside = (places >= 0) & (places < length)
    moved = inputs.gather(2, places.clamp(0, length - 1).unsqueeze(1).expand(-1, inputs.shape[1], -1))
    kept: Tensor = moved * inside.unsqueeze(1).to(inputs.dtype)
    return kept


def white_noise(inputs: Tensor, keys: Tensor, *, decibels: float, seed: int) -> Tensor:
    """Gaussian noise over the whole clip, so many decibels below the signal: `clip(x + n, -1, 1)`.

    Args:
        inputs: [B, C, T] floats in [-1, 1].
        keys: [B] integers; equal keys get equal noise.
        decibels: expected signal-to-noise ratio, 20·log10(‖x‖₂ / ‖n‖₂).
        seed: the address of the draws.
    """
    level = inputs.flatten(1).square().mean(dim=1).sqrt() * 10.0 ** (-decibels / 20.0)
    noise = normal(keys, inputs.shape[1:], seed=address(seed, "white noise"), dtype=inputs.dtype)
    noisy: Tensor = inputs + level.view(-1, 1, 1) * noise
    return noisy.clamp(-1.0, 1.0)


def reverberation(inputs: Tensor, keys: Tensor, *, decay: float, seed: int) -> Tensor:
    """A room: the signal, and as much energy again of echoes that die away; scaled back to its own peak.

    The room's answer to a click is the click and Gaussian noise whose level falls by 60 dB over `decay`, each of energy
    1 (Moorer's model of late reverberation). Every sample stands in a room of its own.

    Args:
        inputs: [B, C, T] floats in [-1, 1].
        keys: [B] integers; equal keys get the same room.
        decay: reverberation time, as a share of the clip's length (of clips of a second: seconds), > 0.
        seed: the address of the draws.

    Source: Moorer, "About This Reverberation Business", Computer Music Journal 3(2), 1979.
    """
    length = inputs.shape[-1]
    time = torch.arange(length, device=inputs.device, dtype=inputs.dtype) / (decay * length)
    room = normal(keys, (length,), seed=address(seed, "reverberation"), dtype=inputs.dtype)
    room = room * torch.exp(-math.log(1000.0) * time)
    room[:, 0] = 0.0
    room = room / room.norm(dim=1, keepdim=True).clamp(min=1e-12)
    room[:, 0] = 1.0
    spectrum = torch.fft.rfft(inputs, n=2 * length) * torch.fft.rfft(room, n=2 * length).unsqueeze(1)
    heard = torch.fft.irfft(spectrum, n=2 * length)[..., :length]
    loudest = inputs.abs().amax(dim=(1, 2), keepdim=True)
    scaled: Tensor = heard * (loudest / heard.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-12))
    return scaled.clamp(-1.0, 1.0)
