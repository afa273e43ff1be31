"""The run's log: one JSON object per epoch, readable while the run is going on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meduniseg_core.files import write_text, writing_into
from meduniseg_core.structured_text import parse_json

LOG_FILE = "log.jsonl"


class RunLog:
    """Appends lines to ``folder/log.jsonl``; each is on disk before the call returns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_FILE

    def restart(self, epoch: int) -> list[dict[str, Any]]:
        """Drop the lines from an epoch on: a killed run may have logged more than its checkpoint holds.

        Args:
            epoch: the first epoch to drop, counted from 0.

        Returns:
            The lines that were kept.
        """
        kept = [line for line in self.read() if line["epoch"] < epoch]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        return kept

    def append(self, line: dict[str, Any]) -> None:
        """Append the line of one epoch.

        Args:
            line: a JSON object with "epoch".

        Raises:
            UnwritableError: the disk is full.
        """
        with writing_into(self._path.parent), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Read all complete lines; a last line that was cut off is skipped.

        Returns:
            One JSON object per epoch.
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


def loss_figures(names: Sequence[str], losses: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    """Sum up an epoch's losses for its line of the log.

    Args:
        names: the tasks' names, by number.
        losses: by a task's number, the loss of each of its steps.

    Returns:
        The mean loss of each task, and the mean over the tasks.
    """
    means = {names[task]: float(np.mean(values)) for task, values in sorted(losses.items())}
    return {"loss": float(np.mean(list(means.values()))), "task_loss": means}


def gradient_figures(names: Sequence[str], lengths: Mapping[int, Sequence[float]], longest: float) -> dict[str, Any]:
    """Sum up the lengths of an epoch's gradients for its line of the log.

    Args:
        names: the tasks' names, by number.
        lengths: by a task's number, the length of the gradient of each of its steps, before clipping.
        longest: the length to which gradients are clipped.

    Returns:
        For each task the mean length, and the share of steps that were clipped.
    """
    by_name = {names[task]: own for task, own in sorted(lengths.items()) if own}
    return {
        "task_gradient": {task: float(np.mean(own)) for task, own in by_name.items()},
        "task_cut": {task: float(np.mean(np.array(own) > longest)) for task, own in by_name.items()},
    }
