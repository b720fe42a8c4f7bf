"""What an exported file says about itself. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kdrobust.errors import CheckpointError
from kdrobust.media.wav import Format

#: Under this name the metadata lie in an exported file, as JSON.
KEY = "kdrobust"
#: Version of the metadata; raised when a field changes its meaning.
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What one has to know to use a model, and what was measured about it.

    Attributes:
        shape: of one input without the batch, images as (channels, height, width).
        class_names: one name a class, by label.
        value_range: what inputs lie in; normalisation is inside the model.
        sample_rate: samples a second of the recordings it takes; None: no sound.
        peak: largest absolute value that recordings are scaled to; None: taken as recorded.
        threat: the threat model it was trained against; empty where none is known.
        quantize: `none`, `dynamic_int8` or `static_int8`.
        checkpoint: sha256 of the checkpoint it was made from.
        robustness: what was measured on this model: threat, samples, accuracies with intervals, trust checks; empty
            where nothing was.
    """

    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    value_range: tuple[float, float] = (0.0, 1.0)
    sample_rate: int | None = None
    peak: float | None = None
    threat: Mapping[str, Any] = field(default_factory=dict)
    quantize: str = "none"
    checkpoint: str = ""
    robustness: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.class_names)

    @property
    def recordings(self) -> Format | None:
        """What recordings are brought to before the model hears them; None: it takes no sound."""
        if self.sample_rate is None:
            return None
        return Format(sample_rate=self.sample_rate, samples=self.shape[-1], peak=self.peak)

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes | None, path: str | Path) -> Metadata:
        """Read what `to_json` wrote.

        Args:
            text: JSON, None or empty where the file holds none.
            path: of the file, for error messages.

        Raises:
            CheckpointError: there is none, or not ours.
        """
        if not text:
            raise CheckpointError(f"{path}: says nothing about its classes and inputs; make it with `kdrobust export`")
        try:
            found = json.loads(text)
            version = found.pop("format")
            if version != FORMAT:
                raise CheckpointError(f"{path}: exported in format {version}, this version reads {FORMAT}")
            metadata = cls(
                **{
                    **found,
                    "shape": tuple(int(side) for side in found["shape"]),
                    "class_names": tuple(str(name) for name in found["class_names"]),
                    "value_range": tuple(float(end) for end in found["value_range"]),
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            raise CheckpointError(f"{path}: its metadata are damaged; make it again with `kdrobust export`") from None
        if not metadata.shape or metadata.classes < 2:
            raise CheckpointError(f"{path}: its metadata are damaged; make it again with `kdrobust export`")
        return metadata
