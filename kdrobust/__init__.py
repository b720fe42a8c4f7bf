"""Knowledge distillation in adversarial learning: robust teachers into small robust students, proved under attack."""

from kdrobust.loading import load
from kdrobust.version import __version__

__all__ = ["__version__", "load"]
