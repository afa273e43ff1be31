"""The class of a whole image, as results, tables and files carry it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ImageClass:
    """The most probable class of an image, the probability of each class, and the sha256 of the head that says so."""

    name: str
    probabilities: dict[str, float]
    head_sha256: str

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """All classes with their probabilities, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda entry: -entry[1])

    def as_json(self) -> dict[str, Any]:
        """Describe the class as JSON.

        Returns:
            The class, all probabilities and the head, in JSON's types.
        """
        return {"class": self.name, "probabilities": self.probabilities, "head_sha256": self.head_sha256}
