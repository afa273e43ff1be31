"""Several readers of one case: how far they agree, where they do not, and what they agree on. Knows no Qt."""

from meduniseg_core.readers.agreement import Agreement, ClassAgreement, SliceAgreement, agreement
from meduniseg_core.readers.consensus import Method, consensus
from meduniseg_core.readers.disputes import Dispute, disputes
from meduniseg_core.readers.readings import CaseReadings, adjudicate, read_readings, shared_cases

__all__ = [
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
