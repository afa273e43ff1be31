"""What goes wrong between this machine and a server, in words: certificates above all."""

from __future__ import annotations

import os
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import read_small

BUNDLE = "REQUESTS_CA_BUNDLE"
"""The variable that names certificates to trust instead of the system's (of the library requests)."""
_BUNDLES = (BUNDLE, "CURL_CA_BUNDLE")  # the first that is set counts
_OTHER_NAME = (62, 64)  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH
_OTHER_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_ALERT = "_ALERT_"  # in OpenSSL's name of a reason: the other side refused
_OF_CLIENTS = (  # what it says so of our certificate, or of there being none
    "HANDSHAKE_FAILURE",  # TLS 1.2 without a certificate
    "CERTIFICATE_REQUIRED",
    "NO_CERTIFICATE",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)


@dataclass(frozen=True)
class Certificates:
    """Files (PEM) for TLS with a server.

    Attributes:
        authority: certificates to trust instead of the system's.
        certificate: what this program shows to a server that asks its clients for one.
        key: the certificate's key; None where it stands in the certificate's file.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def check(self) -> None:
        """Check the files, and what the environment names in the place of ``authority``, before anything is sent.

        Raises:
            BadInputError: one cannot be read, or holds no certificate.
            UsageError: certificate and key cannot be used together.
        """
        if self.authority is not None:
            check_authority(self.authority)
        else:
            check_bundle()
        if self.certificate is not None:
            check_pair(self.certificate, self.key or self.certificate)
        elif self.key is not None:
            raise UsageError(f"The key {self.key} belongs to a certificate; name its file, too.")


def check_pair(certificate: Path, key: Path) -> None:
    """Check a certificate and its key.

    Args:
        certificate: the certificate's file (PEM), with those between it and its authority.
        key: the key's file (PEM); may be the same.

    Raises:
        BadInputError: one cannot be read.
        UsageError: they do not belong together, or the key has a password.
    """
    for path in (certificate, key):
        read_small(path)
    try:
        # a password of our own refuses keys that have one; without it OpenSSL would ask on a terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, secrets.token_hex(16))
    except OSError as error:  # ssl.SSLError is one
        reason = str(getattr(error, "reason", None) or error.strerror or error).replace("_", " ").lower()
        raise UsageError(
            f"{certificate} and {key} cannot be used ({reason}); give a certificate (PEM) and the key that belongs to "
            "it, without a password."
        ) from error


def check_authority(path: Path) -> Path:
    """Check a file of certificates to trust, before anything is sent.

    Args:
        path: the file (PEM).

    Returns:
        The same.

    Raises:
        BadInputError: it cannot be read, or holds no certificate.
    """
    read_small(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one; Python may raise whatever errno was left
        raise BadInputError(
            f"{path} holds no certificates that can be read; give the authority's certificate as PEM."
        ) from error
    return path


def check_bundle() -> None:
    """Check what the environment names as certificates to trust: requests raises no error of its own where it is not
    there.

    Raises:
        BadInputError: it is not there, or holds no certificate.
    """
    variable = next((one for one in _BUNDLES if os.environ.get(one)), None)
    if variable is None or (path := Path(os.environ[variable])).is_dir():  # a folder is OpenSSL's to search
        return
    try:
        check_authority(path)
    except BadInputError as error:
        raise BadInputError(
            f"The variable {variable} names {path}, which holds no certificates that can be read; correct or unset it."
        ) from error


def certificate_fault(address: str, error: BaseException, remedy: str, shown: str) -> str:
    """Describe why TLS with a server failed.

    Args:
        address: the server's address.
        error: what the library raised, however deep the true reason lies in it.
        remedy: how the certificate's authority is named there, the end of a sentence.
        shown: how a certificate is shown to a server that asks for one, the end of a sentence.

    Returns:
        One sentence with the remedy that fits the reason.
    """
    cause = _innermost(error)
    code, reason = getattr(cause, "verify_code", None), str(getattr(cause, "reason", None) or "")
    if code in _OTHER_NAME:
        return f"The certificate of {address} is for another name; give the address with a name that it holds."
    if code in _OTHER_TIME:
        return f"The certificate of {address} is not valid now; have it renewed, or set this machine's clock."
    if reason in _NO_TLS:
        return f"{address} does not speak TLS; check the port."
    alert = reason.partition(_ALERT)[2]
    if alert in _OF_CLIENTS:
        words = alert.replace("_", " ").lower()
        return f"{address} asks its clients for a certificate that it trusts ({words}); {shown}."
    if line_broke(error):
        return f"{address} ended the connection; try again later, or {shown} if it asks its clients for one."
    return f"The certificate of {address} cannot be verified ({connection_reason(cause)}); {remedy}."


def line_broke(error: BaseException) -> bool:
    """Whether TLS failed because the other side went away. Servers that want a certificate may do so without a word.

    Args:
        error: what the library raised.

    Returns:
        Whether it did.
    """
    return isinstance(_innermost(error), ssl.SSLEOFError | ssl.SSLZeroReturnError)


def connection_reason(error: BaseException) -> str:
    """The innermost cause of a failed request in few words: libraries wrap theirs in addresses and objects.

    Args:
        error: what the library raised.

    Returns:
        The words, without the address.
    """
    cause = _innermost(error)
    text = getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or type(cause).__name__
    return str(text)[:100].lower() if isinstance(text, str) else type(cause).__name__


def _innermost(error: BaseException) -> BaseException:
    cause = error
    while True:
        inner = next((one for one in cause.args if isinstance(one, BaseException)), None)
        inner = inner if inner is not None else getattr(cause, "reason", None)
        inner = inner if isinstance(inner, BaseException) else cause.__cause__
        if not isinstance(inner, BaseException):
            return cause
        cause = inner
