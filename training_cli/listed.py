"""Fine-tunings and refinements as listed runs: what they share on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from meduniseg_core.adaptation.gate_report import GateReport
    from meduniseg_core.adaptation.runs import Request, Run


def request_of(
    kind: Literal["finetune", "refine"], dataset: Path, name: str, base: str, options: Sequence[str]
) -> Request:
    """The request that makes the same command again, from any folder."""
    from meduniseg_core.adaptation.runs import Request
    from meduniseg_core.preprocessing import RawDataset

    source = str(Path(base).resolve()) if Path(base).suffix == ".safetensors" else base
    place = str(dataset.resolve())
    return Request(
        kind=kind,
        name=name,
        arguments=(kind, place, "--output", name, "--base", source, *options),
        base=source,
        dataset=place,
        task=RawDataset.open(dataset).task,
        created=datetime.now(UTC),
    )


def taken_up(request: Request, going_on: bool) -> Run:
    """The run of this request, begun where there is none, with the present process at work on it."""
    from meduniseg_core.adaptation.runs import Run

    if is_begun(request.name):
        run = Run.open(request.name)
        run.check_same(request, going_on)
    else:
        run = Run.create(request)
    run.taken_up()
    return run


def is_begun(name: str) -> bool:
    """Whether there is a run of this name."""
    from meduniseg_core.adaptation.runs import runs_folder

    return (runs_folder() / name / "request.json").is_file()


def comparison(report: GateReport, folder: Path) -> dict[str, Any]:
    """What a command answers of a gate whose report lies in ``folder``."""
    return {
        "verdict": report.verdict,
        "recommended": report.recommended,
        "reason": report.reason,
        "bias": report.bias,
        "dice_before": report.dice_before,
        "dice_after": report.dice_after,
        "html": str(folder / "gate.html"),
    }
