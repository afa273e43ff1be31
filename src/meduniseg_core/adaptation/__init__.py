"""Adaptation: the corrections ledger, from which the next model learns."""

from meduniseg_core.adaptation.entry import ClassChange, Entry, ModelReference, Subset, model_beside, user_logged_in
from meduniseg_core.adaptation.form import channels_for, ending_for
from meduniseg_core.adaptation.ledger import Ledger
from meduniseg_core.adaptation.placement import Placement, place

__all__ = [
    "ClassChange",
    "Entry",
    "Ledger",
    "ModelReference",
    "Placement",
    "Subset",
    "channels_for",
    "ending_for",
    "model_beside",
    "place",
    "user_logged_in",
]
