"""``meduniseg models calibrate``: a model learns what its own results are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meduniseg_core.errors import UsageError
from training_cli.asset_commands import Replace
from training_cli.options import Device, Json, Precision, ProgressOption
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.training.split import Split


def splits_in(path: Path | None) -> dict[str, Split] | None:
    """The split of a model's training, by task; None where none is given."""
    from meduniseg_core.training.split import read_splits

    if path is None:
        return None
    if not path.is_file():
        raise UsageError(f"There is no file {path}; give the split.json of the model's training.")
    return read_splits(path)


def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, or a model file.")],
    datasets: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET...",
            help="Images with labels that the model was not trained on: folders in nnU-Net's raw layout, or ledgers of "
            "corrections. One for each task.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="NAME|FILE",
            help="Name or file of the calibrated model. Default: replace the model.",
        ),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            "--split",
            metavar="FILE",
            help="split.json of the model's training, where the data sets hold images that it was trained on.",
        ),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Use at most this many images of each task.")] = 100,
    copies: Annotated[
        int, typer.Option("--copies", min=0, help="Worsened copies of each image: blurred, noisy, cut.")
    ] = 1,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Keep what was found on each image here, to go on after a stop."),
    ] = None,
    replace: Replace = False,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Calibrate a model on images with labels, so that its results say how far to trust them.

    From then on every result says whether each class is there, its predicted Dice, and whether the image is like those
    known. The weights stay as they are; the file changes.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.adaptation.calibrate import calibration_of, observe
        from meduniseg_core.adaptation.calibrated import destination_for, keep_calibrated
        from meduniseg_core.inference import Predictor
        from meduniseg_core.preprocessing import RawDataset
        from meduniseg_core.weights import load_model

        loaded = load_model(model)
        destination = destination_for(loaded, output, replace=replace)
        opened = [RawDataset.open(folder) for folder in datasets]
        observations = observe(
            Predictor(loaded, device, precision),
            opened,
            splits=splits_in(split),
            images=images,
            copies=copies,
            cache=cache,
            events=session.events,
            cancel=session.cancel,
        )
        calibration = calibration_of(loaded.info, opened, observations)
        path, sha256 = keep_calibrated(loaded, calibration, destination)
        tasks = {entry.task: entry.images for entry in calibration.tasks}
        payload = {"model": destination.name, "path": path, "sha256": sha256, **calibration.provenance, "tasks": tasks}
        listed = ", ".join(tasks)
        session.result(payload, f"{destination.name} is calibrated for {listed} ({path}).")
