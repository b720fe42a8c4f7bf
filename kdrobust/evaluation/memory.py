"""How many samples an attack can climb at once in the memory there is."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from kdrobust.spec import InputSpec

#: Peak of an attack's step over what its forward pass keeps: gradients on the way back, the kernels' own buffers, the
#: attack's copies of its inputs. Measured (ResNet-18 exact, fp32, bf16; MobileNet-V2): 1.6, 1.3, 1.2, 1.1.
_PEAK = 2.0
#: Share of the free memory that is used; the rest is lost to fragments, or is somebody else's a moment later.
_FILLED = 0.8
#: What the kernels and the allocator take once, whatever the batch: 0.1 to 0.2 GB on a CPU.
_FIXED = 2**28
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def sample_bytes(model: nn.Module, spec: InputSpec) -> int:
    """Bytes that one more sample in the batch takes in a forward and backward pass to the input.

    What autograd keeps for the way back is counted, every storage once and without parameters and buffers, for one
    sample in eval mode and in the parameters' precision; the rest of a step is a factor of it.

    Args:
        model: takes [B, *spec.shape]; its modes are as before afterwards.
        spec: the data's shape.
    """
    modes = [(module, module.training) for module in model.modules()]
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    alive = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # held on to, or its address would be given to the next
        alive.append(storage)
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    first = next(model.parameters())
    sample = torch.zeros(1, *spec.shape, device=first.device, dtype=first.dtype, requires_grad=True)
    kept = {sample.untyped_storage().data_ptr(): sample.untyped_storage().nbytes()}
    try:
        model.eval()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(sample)
    finally:
        for module, training in modes:
            module.training = training
    return int(_PEAK * sum(size for place, size in kept.items() if place not in own))


def free_bytes(device: torch.device) -> int | None:
    """Memory that a process may still take on a device; None where the system does not say.

    On a CPU what `/proc/meminfo` calls available, or what a container's limit (cgroup v2) leaves, whichever is less.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    told = [size for size in (_available(), _left_to_container()) if size is not None]
    return min(told, default=None)


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(kilobytes)
    except (OSError, ValueError, StopIteration, IndexError):
        return None


def _left_to_container() -> int | None:
    try:
        limit, used = ((_CGROUP / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        # "max": no limit
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return None


def batch_within(at_most: int, one: int, free: int | None, processes: int = 1) -> int:
    """The batch size within memory: `at_most` where it fits, else the largest power of two that does.

    Args:
        at_most: samples asked for.
        one: bytes a sample, see `sample_bytes`.
        free: bytes there are; None: unknown, and nothing is changed.
        processes: that share them.

    Returns:
        At least 1, and never more than `at_most`.
    """
    if free is None or one <= 0:
        return at_most
    fits = int(max(0.0, _FILLED * free / processes - _FIXED) / one)
    return at_most if fits >= at_most else power_of_two(fits)


def power_of_two(most: int) -> int:
    """The largest power of two up to `most`; 1 where there is none."""
    return 1 << (most.bit_length() - 1) if most >= 1 else 1
