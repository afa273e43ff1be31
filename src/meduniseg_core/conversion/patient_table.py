"""Which patient a case is of, where a table in the download says so and no file's name (GlaS)."""

from __future__ import annotations

import csv
import io

from meduniseg_core.conversion.source import Tree
from meduniseg_core.conversion.table import PatientTable
from meduniseg_core.errors import BadInputError
from meduniseg_core.files import read_small


def patients_in(table: PatientTable | None, tree: Tree) -> dict[str, str]:
    """Read the table of patients.

    Args:
        table: Which file it is, and its columns; None for a part that has none.
        tree: The download's files.

    Returns:
        The patient of each case that the table names; none where the download lacks the table.

    Raises:
        BadInputError: The file has no such columns.
    """
    found: dict[str, str] = {}
    if table is None:
        return found
    for name, _ in tree.matches(table.files):
        path = tree.path(name)
        try:
            text = read_small(path).decode("utf-8-sig")
            for row in csv.DictReader(io.StringIO(text), skipinitialspace=True):
                found[row[table.case].strip()] = f"patient_{row[table.patient].strip()}"
        except (KeyError, AttributeError, UnicodeDecodeError, csv.Error):
            raise BadInputError(
                f"{path} is not a table with the columns {table.case} and {table.patient}; restore the original file."
            ) from None
    return found
