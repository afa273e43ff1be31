"""``meduniseg models postprocess``: decides on held-out images which classes keep only their largest component."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training_cli.asset_commands import Replace
from training_cli.calibrating import splits_in
from training_cli.options import Device, Json, Precision, ProgressOption
from training_cli.output import table
from training_cli.session import work


def postprocess(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, or a model file.")],
    datasets: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET...",
            help="Images with labels that the model was not trained on: folders in nnU-Net's raw layout, one a task.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="NAME|FILE", help="Name or file of the new model. Default: replace the model."
        ),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", metavar="FILE", help="split.json of the model's training, whose cases are left out."),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=3, help="Use at most this many images of each task.")] = 100,
    replace: Replace = False,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Decide for every class, on held-out images, whether only its largest connected component is kept.

    It is kept where that raises the mean Dice and no more images lose by it than gain. The decision is stored in the
    model's plan; results then name it in their JSON.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.adaptation.calibrated import destination_for, keep_model
        from meduniseg_core.adaptation.postprocessing import decide_postprocessing, with_decisions
        from meduniseg_core.preprocessing import RawDataset
        from meduniseg_core.weights import load_model

        loaded = load_model(model)
        destination = destination_for(loaded, output, replace=replace)
        opened = [RawDataset.open(folder) for folder in datasets]
        decisions = decide_postprocessing(
            loaded,
            opened,
            splits=splits_in(split),
            images=images,
            device=device,
            precision=precision,
            events=session.events,
            cancel=session.cancel,
        )
        info = with_decisions(loaded.info, opened, decisions)
        path, sha256 = keep_model(loaded, info, destination)
        columns = ("task", "class", "Dice", "largest only", "cases better, worse", "kept")
        rows = [
            (
                one.task,
                one.name,
                f"{one.dice:.4f}",
                f"{one.dice_of_largest:.4f}",
                f"{one.better}, {one.worse} of {one.cases}",
                "largest component" if one.largest_only else "all",
            )
            for one in decisions
        ]
        session.show(table(columns, rows, right=columns[2:5]))
        listed = [{**vars(one), "largest_only": one.largest_only} for one in decisions]
        payload = {"model": destination.name, "path": path, "sha256": sha256, "classes": listed}
        session.result(payload, f"{destination.name}: postprocessing is stored in its plan ({path}).")
