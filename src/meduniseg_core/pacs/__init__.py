"""Archives of hospitals (PACS) by DICOMweb: what they hold, series from there, results to there (extra ``[dicom]``)."""

from meduniseg_core.connections import Certificates
from meduniseg_core.pacs.archive import DicomArchive, RemoteSeries, RemoteStudy
from meduniseg_core.pacs.credentials import Credentials, credentials_for, keep_credentials
from meduniseg_core.pacs.transfer import pull, push

__all__ = [
    "Certificates",
    "Credentials",
    "DicomArchive",
    "RemoteSeries",
    "RemoteStudy",
    "credentials_for",
    "keep_credentials",
    "pull",
    "push",
]
