"""Weights of models from elsewhere: state dicts, read as data and laid into a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from kdrobust.errors import CheckpointError
from kdrobust.models.checkpoint import load_data, load_weights

#: Where people's training scripts put the weights in what they save.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
#: What wrappers put before every name.
_PREFIXES = ("module.", "model.", "network.", "_orig_mod.")


def load_state(model: nn.Module, path: str | Path, *, trust: bool = False) -> nn.Module:
    """Fill a model with a state dict from a `.safetensors` file, or from one of `torch.save` read as data only.

    The state dict may lie under a usual name (`state_dict`, `model` ...), and every name in it may begin with what
    wrappers add (`module.` ...).

    Args:
        model: to be filled.
        path: the file.
        trust: unpickle it even if it holds more than data; see `load_data`.

    Raises:
        CheckpointError: it is missing, damaged, holds more than data, or belongs to another model.
    """
    state = _read_state(Path(path), trust)
    own = model.state_dict()
    while not set(own) & set(state):
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    load_weights(model, {"state_dict": {f"model.{name}": value for name, value in state.items()}}, path)
    return model


def one_line(error: BaseException) -> str:
    """An exception's type and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:200] if lines else type(error).__name__


def _read_state(path: Path, trust: bool) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such checkpoint") from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: damaged or no safetensors file ({one_line(error)})") from None
    content = load_data(path, trust=trust, flag="model.trust=true")
    for key in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path}: holds no state dict (names to tensors); save model.state_dict()")
    return {str(name): value for name, value in content.items()}
