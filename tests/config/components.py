"""Targets for the tests: what a user's own package would hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

CALLS: list[Any] = []


class Part:
    """Keeps what it was given; refuses a negative eps."""

    def __init__(
        self,
        *,
        eps: float | str,
        steps: int = 10,
        rate: float = 0.5,
        mode: Literal["eval", "train"] = "eval",
        shape: Sequence[int] = (),
        limits: tuple[float, float] = (0.0, 1.0),
        path: Path | None = None,
        flag: bool = False,
        name: str | None = None,
        inner: Part | None = None,
        schedule: float | Callable[[float], float] = 1.0,
        options: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(eps, int | float) and eps < 0:
            raise ValueError(f"eps: expected a number >= 0, got {eps}")
        self.given = dict(locals())
        CALLS.append(self)


class Open:
    """Takes anything."""

    def __init__(self, first: int, **others: Any) -> None:
        self.first, self.others = first, others


def broken() -> Part:
    raise RuntimeError("a bug")
