"""The optional library behind DICOM segmentations and reports."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from meduniseg_core.errors import BadInputError, MedUniSegError, UsageError
from meduniseg_core.images.checks import brief


def require_highdicom(what: str) -> None:
    """Check that highdicom is there, before any work is done.

    Args:
        what: What is to be written, for the message.

    Raises:
        UsageError: It is not installed; the message says what to install.
    """
    if find_spec("highdicom") is None:
        raise UsageError(
            f"{what} is written by the library highdicom, which is not installed; "
            "run: pip install 'napari-meduniseg[dicom]'."
        )


@contextmanager
def making(what: str, name: str) -> Iterator[None]:
    """Turn what highdicom raises about foreign headers into one sentence. Its warnings about them are dropped.

    Args:
        what: What is being made.
        name: The source's name.

    Yields:
        Nothing.

    Raises:
        BadInputError: The headers do not allow such an object.
    """
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    # for good, and so that others keep theirs: to take the filters back is not safe beside other threads
    warnings.filterwarnings("ignore", module=r"(highdicom|pydicom)\b")
    try:
        yield
    except (MedUniSegError, MemoryError):
        raise
    except Exception as error:  # it raises whatever the headers lead to: KeyError, AttributeError, ValueError
        raise BadInputError(
            f"{what} of {name} cannot be made from its headers ({brief(error)}); save as nii.gz instead."
        ) from error
    finally:
        logger.setLevel(level)
