"""What goes wrong between this machine and a server, in words: certificates above all."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import read_small

BUNDLE = "REQUESTS_CA_BUNDLE"
"""The variable that names certificates to trust instead of the system's (of the library requests)."""
_BUNDLES = (BUNDLE, "CURL_CA_BUNDLE")  # the first that is set counts
_OTHER_NAME = (62, 64)  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH
_OTHER_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


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
    except ssl.SSLError as error:
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


def certificate_fault(address: str, error: BaseException, remedy: str) -> str:
    """Describe why TLS with a server failed.

    Args:
        address: the server's address.
        error: what the library raised, however deep the true reason lies in it.
        remedy: how the certificate's authority is named there, the end of a sentence.

    Returns:
        One sentence with the remedy that fits the reason.
    """
    cause = _innermost(error)
    code = getattr(cause, "verify_code", None)
    if code in _OTHER_NAME:
        return f"The certificate of {address} is for another name; give the address with a name that it holds."
    if code in _OTHER_TIME:
        return f"The certificate of {address} is not valid now; have it renewed, or set this machine's clock."
    if getattr(cause, "reason", None) in _NO_TLS:
        return f"{address} does not speak TLS; check the port."
    return f"The certificate of {address} cannot be verified ({connection_reason(cause)}); {remedy}."


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
        if not isinstance(inner, BaseException):
            return cause
        cause = inner
