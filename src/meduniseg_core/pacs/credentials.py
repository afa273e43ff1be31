"""Who asks an archive: from the environment or the system's keyring, never from a file, never into a log."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from meduniseg_core.errors import UsageError

USER, PASSWORD, TOKEN = "MEDUNISEG_DICOMWEB_USER", "MEDUNISEG_DICOMWEB_PASSWORD", "MEDUNISEG_DICOMWEB_TOKEN"


@dataclass(frozen=True)
class Credentials:
    """A user with a password, or a bearer token. ``source`` says where they are from, for messages."""

    source: str
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def credentials_for(address: str) -> Credentials | None:
    """Find the credentials for an archive: the environment's, else what the keyring has for its address.

    Args:
        address: the archive's address.

    Returns:
        The credentials; None where there are none.

    Raises:
        UsageError: a user is named without a password.
    """
    token, user, password = (os.environ.get(name, "") for name in (TOKEN, USER, PASSWORD))
    if token:
        return Credentials(f"the variable {TOKEN}", token=token)
    if user or password:
        if not (user and password):
            raise UsageError(f"The variables {USER} and {PASSWORD} belong together; set both, or neither.")
        return Credentials(f"the variables {USER} and {PASSWORD}", user=user, password=password)
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        found = keyring.get_credential(_service(address), None)
    except KeyringError:  # no keyring on this system, or a locked one
        return None
    if found is None or not found.password:
        return None
    return Credentials("the keyring", user=found.username, password=found.password)


def keep_credentials(address: str, user: str, password: str) -> None:
    """Put a password for an archive into the system's keyring.

    Args:
        address: the archive's address.
        user: the user's name.
        password: the password.

    Raises:
        UsageError: the system has no keyring, or it refuses.
    """
    remedy = f"set the variables {USER} and {PASSWORD} instead"
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise UsageError(
            f"The library keyring is not installed; run: pip install 'napari-meduniseg[dicom]', or {remedy}."
        ) from None
    try:
        keyring.set_password(_service(address), user, password)
    except KeyringError as error:
        raise UsageError(
            f"The system's keyring did not take the password ({type(error).__name__}); {remedy}."
        ) from error


def _service(address: str) -> str:
    return f"meduniseg {address.rstrip('/')}"
