"""Masks as run lengths in a table (SIIM-ACR): pairs of (gap since the last run's end, length), down the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from meduniseg_core.conversion.file_cases import as_rgb, grouped
from meduniseg_core.conversion.source import Loaded, SourceCase, Tree, safe_case_name
from meduniseg_core.conversion.table import Conversion, Part
from meduniseg_core.errors import BadInputError
from meduniseg_core.files import read_small
from meduniseg_core.images import read_image


def run_length_cases(conversion: Conversion, part: Part, tree: Tree) -> list[SourceCase]:
    """Find the DICOM images of a part that a table of masks names.

    Args:
        conversion: The data set.
        part: The part; its label files are tables with the columns ``ImageId`` and ``EncodedPixels``.
        tree: The download's files.

    Returns:
        The cases. Images that no table names (a challenge's test set) are none.

    Raises:
        BadInputError: A table is damaged, or two tables differ about an image.
    """
    masks = read_tables([tree.path(path) for rule in part.labels for path, _ in tree.matches(rule.files)])
    cases = []
    for group in grouped(part, tree):
        uid = group.groups["case"] or ""
        if uid in masks:
            path = tree.path(group.images[0][0])
            runs = masks[uid]
            cases.append(
                SourceCase(
                    safe_case_name(uid),
                    safe_case_name(uid),
                    None,
                    part.subset,
                    (path,),
                    partial(_load, path, runs),
                    partial(bool, runs),
                    detail=repr(runs),
                )
            )
    return cases


def read_tables(paths: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """Read tables of masks.

    Args:
        paths: CSV files with the columns ``ImageId`` and ``EncodedPixels``; several rows of an image are several masks,
            ``-1`` is none.

    Returns:
        For each image its run lengths, as text; empty for an image without a mask.

    Raises:
        BadInputError: A file is not such a table, or two tables differ about an image.
    """
    joined: dict[str, tuple[str, ...]] = {}
    for path in paths:
        try:
            text = read_small(path, 512 << 20).decode("utf-8-sig")
            rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
            table: dict[str, list[str]] = {}
            for row in rows:
                runs = table.setdefault(row["ImageId"].strip(), [])
                if row["EncodedPixels"].strip() not in ("-1", ""):
                    runs.append(" ".join(row["EncodedPixels"].split()))
        except (KeyError, AttributeError, UnicodeDecodeError, csv.Error):
            raise BadInputError(
                f"{path} is not a table with the columns ImageId and EncodedPixels; restore the original file."
            ) from None
        for image, runs in table.items():
            mask = tuple(sorted(runs))
            if joined.setdefault(image, mask) != mask:
                raise BadInputError(f"{path} gives another mask for {image} than an earlier table; keep one of them.")
    return joined


def decode(runs: str, shape: tuple[int, int], name: str) -> np.ndarray:
    """Decode one mask.

    Args:
        runs: Pairs of numbers: pixels passed over since the end of the last run, and pixels of the run, counted down
            the columns, from left to right.
        shape: (H, W).
        name: The image, for the error.

    Returns:
        Bool (H, W).

    Raises:
        BadInputError: The text is no such list, or reaches beyond the image.
    """
    try:
        numbers = np.array([int(number) for number in runs.split()], dtype=np.int64)
    except ValueError:
        numbers = np.array([-1])
    if len(numbers) % 2 or (numbers < 0).any():
        raise BadInputError(f"The run lengths of {name} are not pairs of numbers; restore the original table.")
    gaps, lengths = numbers[::2], numbers[1::2]
    ends = np.cumsum(gaps + lengths)
    if len(ends) and ends[-1] > shape[0] * shape[1]:
        raise BadInputError(
            f"The run lengths of {name} reach beyond its {shape[1]}x{shape[0]} pixels; check the image."
        )
    flat = np.zeros(shape[0] * shape[1], dtype=bool)
    for end, length in zip(ends, lengths, strict=True):
        flat[end - length : end] = True
    return flat.reshape(shape[1], shape[0]).T


def _load(path: Path, runs: tuple[str, ...]) -> Loaded:
    image = as_rgb(read_image(path))
    size = (image.geometry.shape[1], image.geometry.shape[2])
    marked = np.zeros(size, dtype=bool)
    for one in runs:
        marked |= decode(one, size, path.name)
    return Loaded((image,), image.with_array(marked[None, None].astype(np.uint8)), (None,))
