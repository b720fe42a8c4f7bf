"""The version, in the one place that code may read without looking up the installed package."""

from __future__ import annotations

__version__ = "0.1.0"
