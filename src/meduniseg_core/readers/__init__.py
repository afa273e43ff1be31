"""Several readers of one case: how far they agree, where they disagree, and their consensus. Knows no Qt."""

from meduniseg_core.readers.agreement import Agreement, ClassAgreement, SliceAgreement, agreement
from meduniseg_core.readers.consensus import METHODS, Method, consensus
from meduniseg_core.readers.disputes import Dispute, disputes
from meduniseg_core.readers.readings import CaseReadings, adjudicate, read_readings, shared_cases

__all__ = [
    "METHODS",
    "Agreement",
    "CaseReadings",
    "ClassAgreement",
    "Dispute",
    "Method",
    "SliceAgreement",
    "adjudicate",
    "agreement",
    "consensus",
    "disputes",
    "read_readings",
    "shared_cases",
]
