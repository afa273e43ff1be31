"""Describes the result of a fine-tuning or a refinement in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meduniseg_core.adaptation.execution import JobResult


def result_line(result: JobResult) -> str:
    """The file, its best score and the time it took."""
    dice = "" if result.best_dice is None else f", best validation Dice {result.best_dice:.3f}"
    return f"{result.file}{dice}, {result.seconds / 60:.1f} min"


def gate_lines(result: JobResult) -> list[str]:
    """The comparison with the base, a line for each task; the task is named where there are several."""
    named = len(result.gate) > 1
    return [
        (f"{task}: " if named else "") + f"{gate.reason} {gate.bias}".strip() + f" ({gate.html})"
        for task, gate in result.gate.items()
    ]
