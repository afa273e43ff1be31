"""Where the program keeps what belongs to the user."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from meduniseg_core.errors import UsageError

_NOWHERE = Path("/nonexistent/meduniseg")


def user_folder() -> Path:
    """The user's data folder (models, remembered probes); ``MEDUNISEG_HOME`` overrides it. Not created here.

    A user without a home (a container's number that has no name) has a folder in which nothing is and nothing can be
    kept; what only reads works all the same.

    Returns:
        An absolute path.
    """
    override = os.environ.get("MEDUNISEG_HOME")
    if override:
        return expanded(override)
    try:
        folder = Path(platformdirs.user_data_dir("meduniseg", appauthor=False))
    except RuntimeError:
        return _NOWHERE
    return folder if folder.is_absolute() else _NOWHERE  # older versions leave a "~" that stands for nothing


def expanded(path: str | Path) -> Path:
    """Replace a leading ``~``.

    Args:
        path: as a user writes it.

    Returns:
        The path.

    Raises:
        UsageError: nobody knows whose home that is.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: there is no such home folder; give the whole path.") from None


def corrections_folder() -> Path:
    """Where the user's own ledgers of corrections are kept, a folder each. Not created here.

    Returns:
        The folder.
    """
    return user_folder() / "corrections"
