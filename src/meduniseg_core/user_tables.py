"""Small tables (CSV) that a person made: separators, blanks around cells and capitals in the head do not matter."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from meduniseg_core.errors import BadInputError, message_of
from meduniseg_core.files import MAX_SMALL_BYTES, read_small

_SEPARATORS = ",;\t"


def read_rows(
    path: Path, columns: Sequence[str], *, max_bytes: int = MAX_SMALL_BYTES
) -> list[tuple[int, dict[str, str]]]:
    """Read a table.

    Args:
        path: a CSV in UTF-8, separated by commas, semicolons or tabs (where the comma separates decimals, spreadsheets
            write semicolons). Other columns than those asked for do not matter.
        columns: their names, in lower case.
        max_bytes: take no larger file.

    Returns:
        Of each row that is not empty its last line in the file (from 1) and its cells by column, "" where it has none.

    Raises:
        BadInputError: the file cannot be read, is no text in UTF-8, or lacks a column.
    """
    try:
        text = read_small(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not text in UTF-8; save the table as CSV in UTF-8.") from error
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(_SEPARATORS, key=head.count), skipinitialspace=True)
    named = ", ".join(columns)
    try:
        names = [cell.strip().lower() for cell in next(reader, [])]
        missing = [name for name in columns if name not in names]
        if missing:
            raise BadInputError(f"{path} has no column {missing[0]} in its first line; name the columns {named}.")
        places = {name: names.index(name) for name in columns}
        found = []
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                kept = {name: cells[place] if place < len(cells) else "" for name, place in places.items()}
                found.append((reader.line_num, kept))
    except csv.Error as error:
        text = f"{path}, line {reader.line_num}: it is no CSV ({message_of(error)})"
        raise BadInputError(f"{text}; save the table as CSV with the columns {named}.") from error
    return found
