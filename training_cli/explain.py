"""``meduniseg explain``: a look inside a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training_cli.options import Device, Json, Precision, ProgressOption, a_folder
from training_cli.output import table
from training_cli.session import work


def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, or a model file.")],
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DATASET...]", help="Data sets of tasks that the model has, in nnU-Net's raw layout."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", callback=a_folder, metavar="DIR", help="Folder of the page.")
    ] = Path("explain"),
    new: Annotated[
        list[Path] | None,
        typer.Option(
            "--new", metavar="DATASET", help="Find the known task that this data set is nearest to. Repeatable."
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores",
            metavar="CSV",
            help="Scores of models (columns model, upstream, downstream): show how the two correlate.",
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=2, help="Patches of each data set.")] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the choice of images and patches, and of t-SNE.")
    ] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Show a model's task priors (t-SNE, PCA, silhouette), its modal priors, and what it costs on this device.

    The page is DIR/explain.html; pictures and numbers lie beside it. Without data sets: modal priors and costs alone.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.insight.page import explain_model
        from meduniseg_core.preprocessing import RawDataset
        from meduniseg_core.weights import load_model

        found = explain_model(
            load_model(model),
            [RawDataset.open(folder) for folder in datasets or ()],
            [RawDataset.open(folder) for folder in new or ()],
            output,
            scores=scores,
            samples=samples,
            seed=seed,
            device=device,
            precision=precision,
            events=session.events,
            cancel=session.cancel,
        )
        columns = ("network", "patch", "parameters", "GFLOP", "seconds")
        rows = [
            (
                row["network"],
                "x".join(map(str, row["patch"])),
                f"{row['parameters']:,}",
                f"{row['gflop']:.2f}",
                f"{row['seconds']:.4f}",
            )
            for row in found["resources"]
        ]
        session.show(table(columns, rows, right=columns[2:]))
        if found["silhouette"] is not None:
            session.show(f"Silhouette of the task priors: {found['silhouette']:.3f}")
        for name, ranked in found["nearest"].items():
            session.show(f"{name} is nearest to {ranked[0]['task']} (distance {ranked[0]['distance']:.2f}).")
        if found["correlation"] is not None:
            one = found["correlation"]
            session.show(
                f"Upstream and downstream scores of {one['points']} models: r = {one['r']:.3f} "
                f"(95 % interval {one['low']:.3f} to {one['high']:.3f})."
            )
        session.result({**found, "page": output / "explain.html"}, str(output / "explain.html"))
