"""The run's log: one JSON object per epoch, readable while the run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from meduniseg_core.files import parse_json, write_text, writing_into

LOG_FILE = "log.jsonl"


class RunLog:
    """Appends lines to ``folder/log.jsonl``, each on the disk before the call returns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_FILE

    def restart(self, epoch: int) -> list[dict[str, Any]]:
        """Keep the lines of the epochs before one (a killed run may have logged more than it saved).

        Args:
            epoch: the first that is dropped.

        Returns:
            The lines that were kept.
        """
        kept = [line for line in self.read() if line["epoch"] < epoch]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        return kept

    def append(self, line: dict[str, Any]) -> None:
        """Add one epoch.

        Args:
            line: in JSON's types, with "epoch".

        Raises:
            UnwritableError: the disk is full.
        """
        with writing_into(self._path.parent), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Read all whole lines; a last line that a kill cut short is left out.

        Returns:
            One for each epoch.
        """
        if not self._path.is_file():
            return []
        lines = []
        for text in self._path.read_text("utf-8").splitlines():
            try:
                line = parse_json(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("epoch"), int):
                lines.append(line)
        return lines
