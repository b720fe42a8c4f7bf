"""Files for bad inputs: archives, checkpoints and vectors with one thing wrong in each."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kdrobust.spec import InputSpec

SPEC = InputSpec(shape=(1, 8, 8), classes=10, mean=(0.3,), std=(0.4,))


class Code:
    """A pickle that makes a folder when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle is to call."""
        return os.mkdir, ("owned",)


def arrays(**changes: Any) -> dict[str, Any]:
    """A small data set of three classes, with some arrays replaced; None leaves one out."""
    generator = np.random.default_rng(0)
    base = {
        "x_train": generator.random((60, 1, 8, 8), dtype=np.float32),
        "y_train": np.arange(60) % 3,
        "x_test": generator.random((15, 1, 8, 8), dtype=np.float32),
        "y_test": np.arange(15) % 3,
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def npz(**changes: Any) -> Callable[[Path], None]:
    """Write `arrays`."""
    return lambda path: np.savez(path, allow_pickle=True, **arrays(**changes))


def damaged(write: Callable[[Path], Any], *, keep: float = 1.0, flip: float | None = None) -> Callable[[Path], None]:
    """Cut a file to a share, or turn a byte over at a share of its length."""

    def spoiled(path: Path) -> None:
        write(path)
        content = bytearray(path.read_bytes())
        content = content[: int(len(content) * keep)]
        if flip is not None:
            content[int(len(content) * flip)] ^= 0xFF
        path.write_bytes(bytes(content))

    return spoiled


def checkpoint(**changes: Any) -> Callable[[Path], None]:
    """Write one of our checkpoints of a small MLP, with keys of its payload replaced (None: left out)."""

    def write(path: Path) -> None:
        import torch

        from kdrobust.models import MLP, build_classifier, checkpoint_payload

        spec = changes.get("made_for", SPEC)
        model = build_classifier(lambda *, spec: MLP(spec=spec, hidden=[6]), spec=spec, normalize=True, seed=5)
        node = {
            "network": {"_target_": changes.get("target", "kdrobust.models.MLP"), "_partial_": True, "hidden": [6]},
            "normalize": True,
        }
        payload = checkpoint_payload(model=node, spec=spec, stage="teacher", threat=None) | changes.get("payload", {})
        weights = {f"model.{name}": value for name, value in model.state_dict().items()}
        weights = {**weights, **changes.get("weights", {})}
        content = {"state_dict": weights, "kdrobust": payload, "epoch": 0} | changes.get("content", {})
        torch.save({key: value for key, value in content.items() if value is not None}, path)

    return write


def pickled(value: Any) -> bytes:
    """A bare pickle."""
    return pickle.dumps(value, protocol=2)


def saved(value: Any) -> Callable[[Path], None]:
    """Anything as `torch.save` writes it."""

    def write(path: Path) -> None:
        import torch

        torch.save(value, path)

    return write


def idx(*shape: int, content: bytes | None = None) -> bytes:
    """MNIST's format: unsigned bytes of a shape."""
    head = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    return head + (bytes(int(np.prod(shape))) if content is None else content)


def stored(folder: str = "stored", *, manifest: Any = None, content: bytes = b"") -> dict[str, str | bytes]:
    """A folder of stored outputs, as `kdrobust outputs` leaves it, with a manifest of one's own."""
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    return {f"{folder}/outputs.json": text, f"{folder}/outputs.safetensors": content}
