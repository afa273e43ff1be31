"""Everything about a model's inside in one folder: a page, pictures, and the numbers as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.files import write_bytes, write_text
from meduniseg_core.former_results import ResultKind, standing
from meduniseg_core.insight.correlation import correlation, read_scores
from meduniseg_core.insight.embedding import Embedding, embed
from meduniseg_core.insight.neighbours import Neighbour, neighbours
from meduniseg_core.insight.pictures import maps_picture, scatter_picture
from meduniseg_core.insight.priors import SAMPLES, PriorSample, modal_maps, sample_priors
from meduniseg_core.insight.resources import PAPER_RATIO, ResourceRow, resource_table
from meduniseg_core.model import MedUniSeg, resolve_device
from meduniseg_core.outputs import write_result
from meduniseg_core.pages import render
from meduniseg_core.preprocessing import RawDataset, TaskPlan, make_plan
from meduniseg_core.weights import Model

RECORD = "explain.json"
_NAMES = ("explain.html", "priors.csv", "resources.csv", "nearest.csv", "tsne.png", "pca.png", "modal_priors.png")
_LOOK = ResultKind(is_ours=lambda content: {"model_sha256", "silhouette", "resources", "nearest"} <= content.keys())


def explain_model(
    model: Model,
    datasets: Sequence[RawDataset],
    new: Sequence[RawDataset],
    folder: Path,
    *,
    scores: Path | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Look inside a model and write what is seen.

    Args:
        model: a MedUniSeg with task priors.
        datasets: of tasks that the model has.
        new: data sets whose nearest known task is asked for; their tasks need not be the model's.
        folder: receives ``explain.html``, ``explain.json``, ``priors.csv``, ``resources.csv``, ``nearest.csv`` and
            pictures; files of an earlier look are replaced, others never.
        scores: a table of models with upstream and downstream scores (`correlation.read_scores`), to be correlated.
        samples: patches of each data set.
        seed: of images, patches and t-SNE.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16, of the resource table; priors are computed in fp32.
        events: receives progress.
        cancel: stops between two images.

    Returns:
        What ``explain.json`` holds.

    Raises:
        UsageError: the model is no MedUniSeg, has no task priors (or all are the same), or not the task of one of
            ``datasets``, or two are of one task; or a file of others, or one that was changed since, is in the way.
        BadInputError: an image cannot be used, or the table of scores.
        CancelledError: ``cancel`` was set.
    """
    if not isinstance(model.network, MedUniSeg):
        text = f"Model {model.info.name} is another network than MedUniSeg, with no prior to look at"
        raise UsageError(f"{text}; choose a MedUniSeg model.")
    before = standing(folder / RECORD, _NAMES, _LOOK)  # before the work, which takes long
    listed = [] if scores is None else read_scores(scores)
    correlated = None if scores is None else correlation(listed)
    plans = [model.info.plan_of(dataset.task) for dataset in datasets]
    tasks = [dataset.task for dataset in datasets]
    doubled = next((task for task in tasks if tasks.count(task) > 1), None)
    if doubled is not None:
        raise UsageError(f"Two of the data sets are of the task {doubled}; give one of each task.")
    if new and not datasets:
        raise UsageError("A new data set is compared with known ones; give data sets of the model's tasks, too.")

    def sampled(dataset: RawDataset, plan: TaskPlan) -> PriorSample:
        return sample_priors(
            model, dataset, plan, count=samples, seed=seed, device=resolve_device(device), events=events, cancel=cancel
        )

    known = [sampled(dataset, plan) for dataset, plan in zip(datasets, plans, strict=True)]
    embedding = embed(known, seed=seed) if len(known) > 1 else None
    stride = model.universal_network.config.total_stride
    nearest = {
        dataset.name: neighbours(sampled(dataset, _plan(model, dataset, stride, events, cancel)), known)
        for dataset in new
    }
    maps = modal_maps(model) if model.universal_network.modal_map is not None else {}
    rows, ratio = resource_table(model, device=device, precision=precision)
    content: dict[str, Any] = {
        "model": model.info.name,
        "model_sha256": model.sha256,
        "samples": {one.task: len(one.cases) for one in known},
        "seed": seed,
        "silhouette": None if embedding is None else embedding.silhouette,
        "silhouette_by_task": {} if embedding is None else embedding.by_task,
        "pca_explained": None if embedding is None else embedding.explained,
        "nearest": {name: [asdict(one) for one in found] for name, found in nearest.items()},
        "resources": [asdict(row) for row in rows],
        "ratio_to_2d_backbone": ratio,
        "paper_ratio": round(PAPER_RATIO, 2),
        "scores": [asdict(one) for one in listed],
        "correlation": None if correlated is None else asdict(correlated),
    }
    pictures = {} if embedding is None else _pictures(embedding)
    if maps:
        pictures["modal_priors.png"] = maps_picture(maps)
    page = render("explain.html", title=f"Inside {model.info.name}", pictures=pictures, **content)
    texts = {"explain.html": page, "resources.csv": _resources_csv(rows)}
    if embedding is not None:
        texts["priors.csv"] = _priors_csv(embedding)
    if nearest:
        texts["nearest.csv"] = _nearest_csv(nearest)
    files: dict[str, Callable[[Path], object]] = {name: partial(_write_text, text) for name, text in texts.items()}
    files |= {name: partial(_write_bytes, data) for name, data in pictures.items()}
    write_result(folder / RECORD, content, files, _LOOK, before=before)
    return content


def _write_text(text: str, path: Path) -> None:
    write_text(path, text)


def _write_bytes(data: bytes, path: Path) -> None:
    write_bytes(path, data)


def _plan(
    model: Model, dataset: RawDataset, stride: tuple[int, int, int], events: EventSink, cancel: CancelToken | None
) -> TaskPlan:
    """How a new data set is prepared: as a task of its kind (same modality, dimension and number of channels) where the
    model has one, so that grids and grey values are alike; else as planned from its images."""
    for plan in model.info.tasks:
        same = (plan.modality, plan.dimension, len(plan.channels))
        if same == (dataset.modality, dataset.dimension, len(dataset.channels)):
            return plan
    return make_plan(dataset, total_stride=stride, events=events, cancel=cancel)


def _pictures(embedding: Embedding) -> dict[str, bytes]:
    return {
        "tsne.png": scatter_picture(embedding.tsne, embedding.tasks, "task priors, t-SNE"),
        "pca.png": scatter_picture(
            embedding.pca, embedding.tasks, f"task priors, PCA ({100 * embedding.explained:.0f} % of the variance)"
        ),
    }


def _priors_csv(embedding: Embedding) -> str:
    rows = zip(embedding.tasks, embedding.cases, embedding.pca.tolist(), embedding.tsne.tolist(), strict=True)
    return _csv(
        ("task", "case", "pca_1", "pca_2", "tsne_1", "tsne_2"),
        [(task, case, *(f"{value:.6g}" for value in (*pca, *tsne))) for task, case, pca, tsne in rows],
    )


def _resources_csv(rows: Sequence[ResourceRow]) -> str:
    return _csv(
        ("network", "patch", "parameters", "gflop", "seconds"),
        [
            (row.network, "x".join(map(str, row.patch)), row.parameters, f"{row.gflop:.6g}", f"{row.seconds:.6g}")
            for row in rows
        ],
    )


def _nearest_csv(nearest: dict[str, list[Neighbour]]) -> str:
    return _csv(
        ("data set", "task", "distance"),
        [(name, one.task, f"{one.distance:.6g}") for name, found in nearest.items() for one in found],
    )


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([head, *rows])
    return stream.getvalue()
