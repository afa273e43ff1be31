"""Lesions, glands and nuclei as boxes: which score ranks the pieces of a result best, and how well boxes are found.

    export MEDUNISEG_SHARED=../shared
    python experiments/detection/run.py choose [MODEL]      # on images that the starter's training held back
    python experiments/detection/run.py evaluate [MODEL]    # on imagesTs, once; both write results/STEP.json and .md

A piece's score may be its mean probability (the product's), its largest one, the sum over its voxels of what the
probability is above one half, or its area: a baseline that sees the segmentation and nothing else. Chance is the mean
of 20 random orders. ``choose`` shows which of them ranks best, on no image of imagesTs; ``evaluate`` compares the
product's with area and chance. Average precision, FROC and F1 are the product's (docs/spec.md section 14), with 95 %
intervals by resampling images; that of a difference draws the same images for both.

The starter does not know nuclei: a pack is fine-tuned for them by the product's recipe (150 iterations, seven images;
two are held back). What was found in an image is kept by the model's sha256: run the command again after a stop.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from meduniseg_core.adaptation.finetune import finetune_config
from meduniseg_core.adaptation.transfer import Downstream
from meduniseg_core.evaluation.detection import (
    Candidate,
    Matched,
    average_precision,
    lesion_boxes,
    match_boxes,
    summarise_detection,
)
from meduniseg_core.evaluation.intervals import percentile_interval
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.images.boxes import Box, piece_boxes
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.training import train
from meduniseg_core.training.measure import held_back_cases
from meduniseg_core.training.split import read_splits
from meduniseg_core.training.standing import model_path
from meduniseg_core.weights import Model, load_model

HERE = Path(__file__).resolve().parent
RESULTS, RUNS = HERE / "results", HERE.parents[1] / "runs" / "detection"
SPLIT = HERE.parent / "starter" / "results" / "starter" / "split.json"
DATASETS = {
    "gland": "Dataset106_Glands",
    "polyp": "Dataset109_Polyp",
    "breast_lesion": "Dataset107_BreastLesion",
    "skin_lesion": "Dataset104_SkinLesion",
    "brain_tumour_t1c": "Dataset114_BrainTumourT1c",
    "sarcoma": "Dataset103_SarcomaPET",
}
NUCLEI, ITERATIONS = "Dataset202_Nuclei", 150
MOST = 20
"""Held-back images of a task: enough to choose a score, and half an hour less on a CPU."""
DRAWS, ORDERS = 1000, 20
Found = dict[str, Any]
SCORES: dict[str, Callable[[Found], float]] = {
    "mean probability": lambda piece: piece["mean"],
    "largest probability": lambda piece: piece["largest"],
    "sum above one half": lambda piece: (piece["mean"] - 0.5) * piece["voxels"],
    "area": lambda piece: piece["voxels"],
}
PRODUCT, BASELINE = "mean probability", "area"


def data_folder(name: str) -> Path:
    return Path(os.environ["MEDUNISEG_SHARED"]).resolve() / "data" / name


def found_in(predictor: Predictor, dataset: RawDataset, case: RawCase) -> Found:
    """The pieces of a case's result and the boxes of its reference, class by class; kept on the disk."""
    kept = RUNS / "found" / predictor.model.sha256[:16] / f"{dataset.task}--{case.case}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text("utf-8")))
    result = predictor.segment(read_image(case.images), dataset.task, probabilities=True)[dataset.task]
    assert result.probabilities is not None and case.label is not None
    labels, truth = result.labels.array[0], read_labels(case.label).array[0]
    found: Found = {"pieces": [], "lesions": []}
    for label in range(1, len(dataset.classes) + 1):
        pieces, count = ndimage.label(labels == label, np.ones((3, 3, 3), dtype=bool))
        numbers, shares = np.arange(1, count + 1), result.probabilities.array[label].astype(np.float64)
        figures = (ndimage.mean(shares, pieces, numbers), ndimage.maximum(shares, pieces, numbers))
        counts = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        for box, voxels, mean, largest in zip(piece_boxes(pieces), counts, *figures, strict=True):
            found["pieces"].append({"box": box, "voxels": int(voxels), "mean": float(mean), "largest": float(largest)})
        found["lesions"] += lesion_boxes(truth == label)
    write_text(kept, json.dumps(found))
    return found


def matched(images: Sequence[Found], score: Callable[[Found], float]) -> list[Matched]:
    def box_of(given: Sequence[Sequence[int]]) -> Box:
        d, h, w = ((int(low), int(high)) for low, high in given)
        return d, h, w

    return [
        match_boxes(
            [Candidate(box_of(piece["box"]), score(piece)) for piece in image["pieces"]],
            [box_of(box) for box in image["lesions"]],
        )
        for image in images
    ]


def precision(images: Sequence[Matched]) -> float:
    found = average_precision(images)
    return float("nan") if found is None else found


def difference(ours: Sequence[Matched], theirs: Sequence[Matched]) -> dict[str, float]:
    """Average precision of the one minus that of the other."""
    rng, draws = np.random.default_rng(0), []
    for _ in range(DRAWS):
        drawn = rng.integers(len(ours), size=len(ours))
        draws.append(precision([ours[at] for at in drawn]) - precision([theirs[at] for at in drawn]))
    usable = [draw for draw in draws if np.isfinite(draw)]
    return {"value": precision(ours) - precision(theirs), **percentile_interval(usable).model_dump()}


def measured(images: Sequence[Found]) -> Found:
    """All figures of a task."""
    by_score = {name: matched(images, score) for name, score in SCORES.items()}
    rng = np.random.default_rng(0)
    orders = [precision(matched(images, lambda _: float(rng.random()))) for _ in range(ORDERS)]
    summary = summarise_detection(1, "all", by_score[PRODUCT]).model_dump(mode="json")
    return {
        "images": len(images),
        "summary": summary,
        "average_precision": {name: precision(of) for name, of in by_score.items()}
        | {"chance": float(np.mean(orders))},
        "difference": {name: difference(by_score[PRODUCT], of) for name, of in by_score.items() if name != PRODUCT},
    }


def nuclei_pack(base: Model) -> tuple[Predictor, list[RawCase]]:
    """The model with a pack for nuclei, and the images that its training held back."""
    changes = {"validation_fraction": 0.2, "select": "last", "precision": "bf16", "threads": 1, "cache": RUNS / "cache"}
    config = finetune_config(
        data_folder(NUCLEI),
        base,
        "nuclei",
        RUNS / f"nuclei-{base.sha256[:16]}",
        iterations=ITERATIONS,
        seed=0,
        device="cpu",
        overrides=changes,
    )
    path = model_path(config)
    model = load_model(path if path.is_file() else train(config, start=Downstream(base)).model)
    return Predictor(model, "cpu", "fp32"), held_back_cases(config, RawDataset.open(data_folder(NUCLEI)))


def table(found: Found) -> str:
    """Markdown."""
    held = "images that the training held back" if found["step"] == "choose" else "held-out images"
    lines = [
        f"# Boxes on {held}: {found['model']} {found['sha256'][:8]}",
        "",
        f"Written by experiments/detection/run.py {found['step']}. Score of the pieces: {PRODUCT}. IoU of boxes 0.1 at "
        "least. In brackets 95 % intervals by resampling images.",
        "",
        "| task | images | lesions | pieces | F1 | FROC | average precision | chance | "
        + " | ".join(f"{name} instead: difference" for name in SCORES if name != PRODUCT)
        + " |",
        "| --- " * (8 + len(SCORES) - 1) + "|",
    ]
    for task, one in found["tasks"].items():
        of = one["summary"]
        cells = [task, one["images"], of["lesions"], of["candidates"], f"{of['f1']:.3f}"]
        cells += [with_interval(of["froc"], of["froc_interval"])]
        cells += [with_interval(of["average_precision"], of["average_precision_interval"])]
        cells += [f"{one['average_precision']['chance']:.3f}"]
        cells += [with_interval(-gap["value"], gap, turned=True) for gap in one["difference"].values()]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    means = {name: np.mean([one["average_precision"][name] for one in found["tasks"].values()]) for name in SCORES}
    lines += ["", "Mean average precision over tasks: " + ", ".join(f"{n} {v:.3f}" for n, v in means.items()) + "."]
    return "\n".join(lines) + "\n"


def with_interval(value: float, interval: dict[str, float], *, turned: bool = False) -> str:
    low, high = (-interval["high"], -interval["low"]) if turned else (interval["low"], interval["high"])
    sign = "+" if turned else ""
    value, low, high = (round(one, 3) + 0.0 for one in (value, low, high))  # no "-0.000"
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("choose", "evaluate"))
    parser.add_argument("model", nargs="?", default="starter")
    parser.add_argument(
        "--only", action="append", choices=(*DATASETS, "nuclei"), help="only this task; writes no table"
    )
    arguments = parser.parse_args()
    base = load_model(arguments.model)
    predictor, splits = Predictor(base, "cpu", "fp32"), read_splits(SPLIT)
    tasks: Found = {}
    for name, folder in {**DATASETS, "nuclei": NUCLEI}.items():
        if arguments.only and name not in arguments.only:
            continue
        dataset = RawDataset.open(data_folder(folder))
        own, held = predictor, []
        if name == "nuclei":
            own, held = nuclei_pack(base)
        elif arguments.step == "choose":
            names = set(splits[name].validation)
            held = [case for case in dataset.cases("Tr") if case.case in names][:MOST]
        cases = held if arguments.step == "choose" else dataset.cases("Ts")
        tasks[name] = measured([found_in(own, dataset, case) for case in cases])
        print(f"{name}: {len(cases)} images, {tasks[name]['average_precision']}", flush=True)
    found = {"step": arguments.step, "model": base.info.name, "sha256": base.sha256, "tasks": tasks}
    print(table(found))
    if not arguments.only:
        write_text(RESULTS / f"{arguments.step}.json", json.dumps(found, indent=1) + "\n")
        write_text(RESULTS / f"{arguments.step}.md", table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
