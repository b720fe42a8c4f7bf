"""What an evaluation is called: after the model it measures."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

#: Keys under `model` that name a foreign model.
_FOREIGN = ("robustbench", "timm", "torchscript", "import")


def subject_name(otherwise: str, *, _root_: DictConfig) -> str:
    """`${subject:NAME}`: the folder of the one checkpoint a config names, or its foreign model's name, else NAME.

    Args:
        otherwise: the name where there are several models, or none.
    """
    checkpoint = OmegaConf.select(_root_, "checkpoint", throw_on_missing=False)
    if isinstance(checkpoint, ListConfig) and len(checkpoint) == 1:
        checkpoint = checkpoint[0]
    if isinstance(checkpoint, str):
        return Path(checkpoint).expanduser().resolve().parent.name or otherwise
    for source in _FOREIGN:
        name = OmegaConf.select(_root_, f"model.{source}")
        if name is not None and checkpoint is None:
            return Path(str(name)).stem if source == "torchscript" else str(name)
    return otherwise
