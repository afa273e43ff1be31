"""The corrections ledger: label maps that an annotator accepted, from which the next model learns."""

from meduniseg_core.corrections.ledger import Ledger
from meduniseg_core.corrections.patient_split import SplitDecision, assign_subset
from meduniseg_core.corrections.records import (
    Adjudication,
    ClassChange,
    LedgerEntry,
    ModelReference,
    Reading,
    Subset,
    model_beside,
    user_logged_in,
)
from meduniseg_core.corrections.schema import channels_for, ending_for

__all__ = [
    "Adjudication",
    "ClassChange",
    "Ledger",
    "LedgerEntry",
    "ModelReference",
    "Reading",
    "SplitDecision",
    "Subset",
    "assign_subset",
    "channels_for",
    "ending_for",
    "model_beside",
    "user_logged_in",
]
