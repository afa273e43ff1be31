"""One archive (DICOMweb): what it holds. Its faults become one sentence."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from meduniseg_core.addresses import address_fault
from meduniseg_core.connections import BUNDLE, Certificates, certificate_fault, connection_reason
from meduniseg_core.errors import BadInputError, MedUniSegError, UsageError, message_of
from meduniseg_core.pacs.credentials import Credentials

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient

_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 60.0
_TAIL = 4096  # bytes at an answer's end among which its last line is
_LONGEST_LIST, _LIST_SECONDS = 256 << 20, 300.0  # bytes and time that a list of studies, series or instances may take
_UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError, EOFError, NotImplementedError, InvalidDicomError),
    RecursionError,  # of lists in lists without end
)
_STUDY = ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "StudyDescription", "ModalitiesInStudy")
_SERIES = ("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances")


@dataclass(frozen=True)
class RemoteStudy:
    """A study of an archive, as it describes it; empty where it does not say."""

    uid: str
    patient: str
    patient_id: str
    date: str
    description: str
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class RemoteSeries:
    """A series of an archive; ``instances`` is None where it does not say how many there are."""

    study_uid: str
    uid: str
    modality: str
    number: str
    description: str
    instances: int | None


class DicomArchive:
    """An archive that speaks DICOMweb. Only https is spoken (http with this machine itself), certificates are verified.

    Args:
        address: of its DICOMweb service, ``https://HOST/dicom-web``.
        credentials: who asks; None for an archive that wants nobody's name.
        certificates: whom to trust instead of the system's authorities, and what is shown to an archive that asks its
            clients for a certificate.

    Raises:
        UsageError: the address, or a certificate with its key, cannot be used, or the library is missing.
        BadInputError: the authority's file, or what the environment names in its place, holds no certificates.
    """

    def __init__(
        self, address: str, credentials: Credentials | None = None, certificates: Certificates | None = None
    ) -> None:
        self.address = check_address(address)
        self._credentials = credentials
        try:
            import requests
            from dicomweb_client import DICOMwebClient
        except ImportError:
            raise UsageError(
                "Archives are reached by the library dicomweb-client, which is not installed; "
                "run: pip install 'napari-meduniseg[dicom]'."
            ) from None

        class _Authorization(requests.auth.AuthBase):  # type: ignore[misc]  # requests is not typed here
            """Always set, so that no file (.netrc) is asked."""

            def __call__(self, request: Any) -> Any:
                if credentials is not None and credentials.token:
                    request.headers["Authorization"] = f"Bearer {credentials.token}"
                elif credentials is not None:
                    basic = requests.auth.HTTPBasicAuth(credentials.user.encode(), credentials.password.encode())
                    return basic(request)
                return request

        files = certificates or Certificates()
        files.check()

        class _Session(requests.Session):  # type: ignore[misc]  # requests is not typed here
            """Trusts the authority alone: requests prefers a file that the environment names to the session's."""

            def merge_environment_settings(self, *given: Any) -> Any:
                settings = super().merge_environment_settings(*given)
                return settings if files.authority is None else {**settings, "verify": str(files.authority)}

        session = _Session()
        session.hooks["response"].append(self._whole)
        if files.certificate is not None:
            session.cert = str(files.certificate), str(files.key or files.certificate)
        session.auth = _Authorization()
        session.max_redirects = 0  # a redirect would take images and passwords to another place
        self.client: DICOMwebClient = DICOMwebClient(
            self.address, session=session, timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS)
        )
        self.client.set_http_retry_params(retry=False)

    def studies(self, limit: int = 100, **filters: str) -> list[RemoteStudy]:
        """Search for studies.

        Args:
            limit: how many at most.
            **filters: what they must match, by DICOM's keywords (PatientID="4711", StudyDate="20200101-20201231").

        Returns:
            The studies, the newest first.

        Raises:
            BadInputError: the archive cannot be reached, refuses, or does not answer as DICOMweb does.
        """
        with self.speaking():
            found = self.client.search_for_studies(
                limit=limit, search_filters=filters, fields=["StudyDescription", "ModalitiesInStudy"]
            )
            studies = [_study(_dataset(item)) for item in found]
        return sorted(studies, key=lambda study: study.date, reverse=True)

    def series(self, study_uid: str) -> list[RemoteSeries]:
        """List the series of a study.

        Args:
            study_uid: its UID.

        Returns:
            The series by their number.

        Raises:
            BadInputError: as for :meth:`studies`, or there is no such study.
        """
        with self.speaking():
            found = self.client.search_for_series(
                check_uid(study_uid), fields=["SeriesDescription", "NumberOfSeriesRelatedInstances"]
            )
            series = [_series(_dataset(item), study_uid) for item in found]
        if not series:
            raise BadInputError(f"{self.address} has no study {study_uid}; check the UID.")
        return sorted(series, key=lambda one: (len(one.number), one.number))

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Turn what goes wrong between here and the archive into one sentence, without credentials.

        Yields:
            Nothing.

        Raises:
            BadInputError: it did.
        """
        import requests

        quiet = warnings.catch_warnings()
        quiet.__enter__()
        warnings.simplefilter("ignore")  # pydicom's remarks on values outside the standard
        talkative = logging.getLogger("retrying")  # it prints tracebacks of what becomes a sentence here
        level = talkative.level
        talkative.setLevel(logging.CRITICAL)
        try:
            yield
        except MedUniSegError:
            raise
        except requests.HTTPError as error:
            raise BadInputError(self._refusal(error.response)) from None
        except requests.exceptions.SSLError as error:
            remedy = f"name its authority's file (--ca, Authority in the Archive panel, or the variable {BUNDLE})"
            shown = "give a certificate with its key (--certificate and --key, or in the Archive panel)"
            raise BadInputError(certificate_fault(self.address, error, remedy, shown)) from None
        except requests.TooManyRedirects:
            raise BadInputError(f"{self.address} redirects to another address; give that one.") from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise BadInputError(
                f"{self.address} cannot be reached, or went away ({connection_reason(error)}); try again later."
            ) from None
        except (requests.RequestException, *_UNREADABLE) as error:
            raise BadInputError(
                f"{self.address} does not answer as DICOMweb does ({message_of(error, 100)}); check the address."
            ) from None
        finally:
            talkative.setLevel(level)
            quiet.__exit__(None, None, None)

    def _whole(self, response: Any, **_: Any) -> Any:
        """Refuse a list without end, and several objects in one answer that ends before they do.

        Archives may send them without a length and close the line at the end; a line that breaks looks the same, and
        the library takes what it has of the last object for all of it.
        """
        told = Message()
        told["Content-Type"] = response.headers.get("Content-Type", "")
        boundary = told.get_boundary()
        blocks, closing = response.iter_content, f"--{boundary}--".encode()
        if boundary is None or told.get_content_maintype() != "multipart":
            response.iter_content = lambda *given, **options: self._bounded(blocks(*given, **options), response)
            return response

        def whole(*given: Any, **options: Any) -> Iterator[bytes]:
            last = b""
            for block in blocks(*given, **options):
                yield block
                last = (last + block[-_TAIL:])[-_TAIL:]
            if closing not in last:
                raise BadInputError(f"{self.address} went away before its answer was whole; try again later.")

        response.iter_content = whole
        return response

    def _bounded(self, blocks: Iterator[bytes], response: Any) -> Iterator[bytes]:
        left, until = _LONGEST_LIST, time.monotonic() + _LIST_SECONDS
        for block in blocks:
            left -= len(block)
            if left < 0 or time.monotonic() > until:
                response.close()
                raise BadInputError(f"{self.address} answers without end; check the address, or ask for less.")
            yield block

    def _refusal(self, response: Any) -> str:
        status = response.status_code
        if status in (401, 403):
            if self._credentials is None:
                return (
                    f"{self.address} requires a login; run 'meduniseg dicom login', or set the variables "
                    "MEDUNISEG_DICOMWEB_USER and MEDUNISEG_DICOMWEB_PASSWORD."
                )
            return f"{self.address} refuses the user or password of {self._credentials.source}; correct them."
        if status == 404:
            return f"{self.address} has nothing there (404); check the address and the UIDs."
        return f"{self.address} refuses the request ({status} {str(response.reason)[:60]}); ask its administrator."


def check_address(address: str) -> str:
    """Check an archive's address.

    Args:
        address: ``https://HOST[:PORT]/PATH``; http for this machine itself.

    Returns:
        The address without a slash at its end.

    Raises:
        UsageError: it is none, is not encrypted, or has a password in it.
    """
    fault, host = address_fault(address)
    if fault == "none":
        raise UsageError(f"{address[:80]!r} is not an archive's address; give https://HOST/dicom-web.")
    if fault == "password":
        raise UsageError("The address must not hold a user or password; see 'meduniseg dicom login'.")
    if fault == "unencrypted":
        raise UsageError(f"Data would go to {host} unencrypted; give its https address.")
    return address.rstrip("/")


def check_uid(text: str) -> str:
    """Check that a text is a UID, before it becomes part of an address or a file's name.

    Args:
        text: what was given, or came from an archive.

    Returns:
        The UID.

    Raises:
        BadInputError: it is none.
    """
    if not (0 < len(text) <= 64 and set(text) <= set("0123456789.") and text[0] != "." and ".." not in text):
        raise BadInputError(f"{text[:70]!r} is no UID; give digits and dots.")
    return text


def _dataset(item: dict[str, Any]) -> Dataset:
    return pydicom.Dataset.from_json(item)


def _study(found: Dataset) -> RemoteStudy:
    uid, patient, patient_id, date, description, modalities = (found.get(name) for name in _STUDY)
    kinds = [modalities] if isinstance(modalities, str) else list(modalities or ())
    return RemoteStudy(
        check_uid(str(uid or "")),
        _plain(patient),
        _plain(patient_id),
        _plain(date),
        _plain(description),
        tuple(_plain(kind) for kind in kinds),
    )


def _series(found: Dataset, study_uid: str) -> RemoteSeries:
    uid, modality, number, description, instances = (found.get(name) for name in _SERIES)
    return RemoteSeries(
        study_uid,
        check_uid(str(uid or "")),
        _plain(modality),
        _plain(number),
        _plain(description),
        None if instances in (None, "") else int(instances),
    )


def _plain(value: object) -> str:
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in text)[:120].strip()
