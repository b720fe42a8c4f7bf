"""Attacks of other libraries, their side effects and their verdicts kept at the door."""

from kdrobust.attacks.external.art import ArtAttack
from kdrobust.attacks.external.autoattack import AutoAttack
from kdrobust.attacks.external.base import ExternalAttack, Found
from kdrobust.attacks.external.foolbox import FoolboxAttack
from kdrobust.attacks.external.library import LibraryAttack
from kdrobust.attacks.external.torchattacks import TorchAttack

__all__ = [
    "ArtAttack",
    "AutoAttack",
    "ExternalAttack",
    "FoolboxAttack",
    "Found",
    "LibraryAttack",
    "TorchAttack",
]
