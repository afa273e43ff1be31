"""``meduniseg corrections agreement`` and ``adjudicate``: several readers of one case."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from meduniseg_core.errors import UsageError
from training_cli.options import Json
from training_cli.output import print_table
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.readers import Agreement, Dispute

LedgerFolder = Annotated[Path, typer.Argument(metavar="LEDGER", help="The ledger's folder.")]


def agreement(
    folder: LedgerFolder,
    case: Annotated[
        list[str] | None, typer.Option("--case", metavar="CASE", help="Only this case. Repeatable. Default: all.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Of the surface Dice in mm (pixels for pictures).")
    ] = 2.0,
    as_json: Json = False,
) -> None:
    """Compare the readers of every case that several of them accepted: Dice and surface Dice by class and slice.

    Each pair of readers is compared, and the pairs are averaged. --json also lists pairs, slices and disputed regions.
    """
    with work("none", as_json=as_json) as session:
        from meduniseg_core.corrections import Ledger
        from meduniseg_core.readers import agreement as compare
        from meduniseg_core.readers import disputes, read_readings, shared_cases

        ledger = Ledger.open(folder)
        cases = list(dict.fromkeys(case)) if case else list(shared_cases(ledger))
        if not cases:
            raise UsageError(
                f"No case of {folder} has several readers; each accepts with 'corrections add --who NAME' or in napari."
            )
        found: dict[str, tuple[Agreement, list[Dispute]]] = {}
        for name in cases:
            session.cancel.raise_if_cancelled()
            readings = read_readings(ledger, name)
            arrays = readings.arrays(ledger.dataset.ignored)
            spacing = readings.image.geometry.spacing
            compared = compare(arrays, spacing, readings.names, tolerance, session.cancel)
            found[name] = compared, disputes(arrays)[1]
        if as_json:
            rows = [_report(name, *one) for name, one in found.items()]
            session.result({"ledger": folder, "task": ledger.task, "tolerance": tolerance, "cases": rows})
            return
        columns = ("case", "readers", "class", "Dice", "surface Dice", "worst slice", "disputes")
        print_table(
            columns,
            [row for name, (one, regions) in found.items() for row in _rows(name, one, len(regions))],
            right=columns[3:],
            title=f"{ledger.task}: {len(found)} case(s) with several readers",
        )


def adjudicate(
    folder: LedgerFolder,
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case's name in the ledger.")],
    method: Annotated[
        Literal["majority", "staple"] | None, typer.Option("--method", help="Accept the readers' consensus.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FILE", help="Accept this label map, decided by hand.")
    ] = None,
    who: Annotated[
        str | None, typer.Option("--who", metavar="NAME", help="Who decided. Default: the user who is logged in.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Accept the decision between the readings of a case. The readings stay in the ledger's history."""
    with work("none", as_json=as_json) as session:
        from meduniseg_core.corrections import Ledger, user_logged_in
        from meduniseg_core.images import read_labels
        from meduniseg_core.readers import adjudicate as decide
        from meduniseg_core.readers import read_readings

        if (method is None) == (labels is None):
            raise UsageError("Give either --method (majority or staple) or --labels FILE with the decision.")
        ledger = Ledger.open(folder)
        readings = read_readings(ledger, case)
        if labels is not None:
            decided = read_labels(labels, like=readings.image)
        else:
            assert method is not None
            decided = readings.joined(method, ledger.dataset.ignored)
        name = who if who is not None else user_logged_in()
        entry = decide(ledger, readings, decided, who=name, consensus=method or "reading")
        readers = ", ".join(readings.labels)
        line = f"{entry.case}: decided by {entry.who or 'nobody named'} between {readers} ({entry.consensus})"
        warnings = [finding.as_json() for finding in entry.findings]
        content = {"ledger": folder, "entry": entry.model_dump(mode="json"), "warnings": warnings}
        session.result(content, line, *(finding["text"] for finding in warnings))


def _rows(case: str, found: Agreement, disputes: int) -> list[tuple[str, ...]]:
    rows = []
    lead: tuple[str, ...] = (case, ", ".join(found.readers))
    tail = str(disputes)
    for one in found.classes:
        worst = one.worst_slice
        where = "-" if worst is None else f"{worst.index} ({worst.dice:.2f})"
        rows.append((*lead, one.name, f"{one.dice:.4f}", f"{one.surface_dice:.4f}", where, tail))
        lead, tail = ("", ""), ""
    return rows or [(*lead, "-", "-", "-", "-", tail)]


def _report(case: str, found: Agreement, regions: list[Dispute]) -> dict[str, Any]:
    classes = [
        {
            "label": one.label,
            "name": one.name,
            "dice": one.dice,
            "surface_dice": one.surface_dice,
            "pairs": [
                {"readers": list(pair), "dice": scores[0], "surface_dice": scores[1]}
                for pair, scores in one.pairs.items()
            ],
            "slices": [
                {"index": part.index, "dice": part.dice, "surface_dice": part.surface_dice} for part in one.slices
            ],
        }
        for one in found.classes
    ]
    disputes = [{"voxels": one.voxels, "voxel": list(one.voxel), "labels": list(one.said)} for one in regions]
    return {
        "case": case,
        "readers": list(found.readers),
        "dice": found.dice,
        "disputed_voxels": found.disputed,
        "classes": classes,
        "disputes": disputes,
    }
