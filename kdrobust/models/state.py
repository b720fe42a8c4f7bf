"""Weights of models from elsewhere: state dicts, read as data and laid into a network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdrobust.errors import CheckpointError
from kdrobust.models.checkpoint import load_data, load_weights

log = logging.getLogger("kdrobust")

#: Where people's training scripts put the weights in what they save.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
#: What batch norm counts since torch 0.4.1; torch itself takes 0 where an older file does not have it.
_COUNTER = "num_batches_tracked"
_MOST = 6


def load_state(model: nn.Module, path: str | Path, *, trust: bool = False, prefix: str | None = None) -> nn.Module:
    """Fill a model with a state dict from a `.safetensors` file, or from one of `torch.save` read as data only.

    The state dict may lie under a usual name (`state_dict`, `model` ...), and the model's names in it may begin with
    what a wrapper adds (`module.`, `student.` ...), whatever else lies beside them: the one prefix under which all of
    the model's weights are found is taken, and what is left out is logged as a warning. Files of torch before 0.4.1,
    without batch norm's `num_batches_tracked`, are read as torch reads them.

    Args:
        model: to be filled.
        path: the file.
        trust: unpickle it even if it holds more than data; see `load_data`.
        prefix: what the model's names begin with in the file; None: found out.

    Raises:
        CheckpointError: it is missing, damaged, holds more than data, belongs to another model, or fits under several
            prefixes.
    """
    state = _read_state(Path(path), trust)
    chosen = _choose(model, state, path) if prefix is None else _given(prefix, state, path)
    part = {name.removeprefix(chosen): value for name, value in state.items() if name.startswith(chosen)}
    rest = [name for name in state if not name.startswith(chosen)]
    if not any(name.endswith(_COUNTER) for name in part):
        part |= {name: value for name, value in model.state_dict().items() if name.endswith(_COUNTER)}
    try:
        load_weights(model, {"state_dict": {f"model.{name}": value for name, value in part.items()}}, path)
    except CheckpointError as error:
        starts = _starts(state)
        beside = f"; the file's names begin with {_listed(starts)}" if len(starts) > 1 and rest else ""
        raise CheckpointError(f"{error}{beside}") from None
    if rest:
        log.warning(
            "%s: taken were the names that begin with %s; left out: %s (what normalises inputs belongs into "
            "model.normalize)",
            path, chosen, _listed(rest),
        )  # fmt: skip
    return model


def _given(prefix: str, state: Mapping[str, Tensor], path: str | Path) -> str:
    whole = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
    if not any(name.startswith(whole) for name in state):
        raise CheckpointError(
            f"{path}: no name in it begins with {whole} (model.prefix); there are {_listed(_starts(state))}"
        )
    return whole


def _choose(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> str:
    """The prefix under which a state dict holds all of a model; where there is none, the one that comes nearest."""
    own = {name: value.shape for name, value in model.state_dict().items() if not name.endswith(_COUNTER)}
    ends = [(len(name) - len(known), name) for known in own for name in state if name.endswith(known)]
    found = {name[:cut] for cut, name in ends if not cut or name[cut - 1] == "."}
    held = {each: [name for name in own if f"{each}{name}" in state] for each in sorted(found)}
    whole = [each for each, names in held.items() if len(names) == len(own)]
    fitting = [each for each in whole if all(state[f"{each}{name}"].shape == shape for name, shape in own.items())]
    if len(fitting) > 1:
        shown = [each or "names without a prefix" for each in fitting]
        raise CheckpointError(
            f"{path}: the model's weights are found several times in it: {_listed(shown)}; set "
            f"model.prefix={fitting[-1]} or save one of them alone"
        )
    return max(fitting or whole or held or [""], key=lambda each: (len(held.get(each, ())), each == ""))


def _starts(state: Mapping[str, Tensor]) -> list[str]:
    """What comes before the first dot of the names; names without a dot as they are."""
    return list(dict.fromkeys(f"{name.split('.')[0]}." if "." in name else name for name in state))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST]) + (", ..." if len(names) > _MOST else "")


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
    content = _flat(content)
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path}: holds no state dict (names to tensors); save model.state_dict()")
    return {str(name): value for name, value in content.items()}


def _flat(content: Any) -> Any:
    """Several state dicts side by side, `{"student": {...}, "teacher": {...}, "epoch": 3}`, as one with prefixes."""
    if not isinstance(content, Mapping) or all(isinstance(value, Tensor) for value in content.values()):
        return content
    parts = {key: value for key, value in content.items() if isinstance(value, Mapping) and value}
    states = {key: part for key, part in parts.items() if all(isinstance(each, Tensor) for each in part.values())}
    return {f"{key}.{name}": value for key, part in states.items() for name, value in part.items()} or content
