"""Where the program keeps what belongs to the user."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def user_folder() -> Path:
    """The user's data folder (models, remembered probes); ``MEDUNISEG_HOME`` overrides it. Not created here."""
    override = os.environ.get("MEDUNISEG_HOME")
    if override:
        return Path(override).expanduser()
    return Path(platformdirs.user_data_dir("meduniseg", appauthor=False))


def corrections_folder() -> Path:
    """Where the user's own ledgers of corrections are kept, a folder each. Not created here."""
    return user_folder() / "corrections"
