"""Where the program keeps the user's data."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from meduniseg_core.errors import UsageError

_NOWHERE = Path("/nonexistent/meduniseg")


def user_folder() -> Path:
    """The user's data folder (models, packs, runs, corrections); ``MEDUNISEG_HOME`` overrides it. It need not exist.

    For a user without a home (in a container, for example) it is a folder that does not exist and cannot be created:
    reading works, and only writing fails.

    Returns:
        An absolute path.

    Raises:
        UsageError: ``MEDUNISEG_HOME`` begins with the home of an unknown user.
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
    """Expand a leading ``~``.

    Args:
        path: a path as the user typed it.

    Returns:
        The path.

    Raises:
        UsageError: there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: there is no such home folder; give the whole path.") from None


def corrections_folder() -> Path:
    """The folder of the user's own ledgers of corrections, one subfolder each. It need not exist.

    Returns:
        The folder.
    """
    return user_folder() / "corrections"
