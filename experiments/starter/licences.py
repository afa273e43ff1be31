"""The model's licence, derived from its training data's: the strictest of all terms (docs/data_licences.toml).

python experiments/starter/licences.py      # prints the sentence that the training configuration must carry
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).resolve().parents[2] / "docs" / "data_licences.toml"


class DataLicence(BaseModel):
    """The terms of one task's data, as its source states them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    dataset: str
    source: str
    licence: str
    non_commercial: bool
    share_alike: bool
    research_only: bool


def read_licences(path: Path = FILE) -> tuple[DataLicence, ...]:
    """The table of docs/data_licences.toml."""
    return tuple(DataLicence.model_validate(row) for row in tomllib.loads(path.read_text("utf-8"))["data"])


def derived(licences: Iterable[DataLicence]) -> str:
    """One sentence: what the weights may be used for, and which tasks' data decide that."""
    rows = tuple(licences)
    terms = [
        (word, [row.task for row in rows if getattr(row, name)])
        for name, word in (
            ("research_only", "for research only"),
            ("non_commercial", "non-commercial"),
            ("share_alike", "share alike"),
        )
    ]
    limits = [f"{word} ({', '.join(tasks)})" for word, tasks in terms if tasks]
    if not limits:
        return "Weights: as the code, with attribution of the training data. Not for clinical use."
    return f"Weights: {', '.join(limits)}, with attribution of the training data. Not for clinical use."


if __name__ == "__main__":
    print(derived(read_licences()))
    sys.exit(0)
