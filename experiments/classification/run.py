"""Is the target in the picture? Heads on the frozen starter against a baseline that sees only the segmentation's area.

    export MEDUNISEG_SHARED=../shared
    python experiments/classification/run.py validation [MODEL]   # tried on images that the training held back
    python experiments/classification/run.py evaluate [MODEL]     # imagesTs, once; both write results/STEP.*

Of every 2D picture two crops are made, as `experiments/starter/nothing_there.py` does: the largest window that holds no
target, and one of the same size around the target. Heads are fitted on crops of training images (imagesTr), a patient's
together; everything about them is chosen there, by cross-validation. Held-out pictures (imagesTs) are looked at once;
``validation`` takes in their place the training images that the starter has not learnt from, and fits without them.
The baseline is the same kind of fit on one number: the share of the picture that the model calls target.
What was found in a crop is kept by the model's sha256: run the command again after a stop.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "starter"))

from nothing_there import EVERYWHERE, crop_without, picture_of  # noqa: E402

from meduniseg_core.adaptation.classifier import LabelledEvidence, fit_head  # noqa: E402
from meduniseg_core.evaluation.classification import (  # noqa: E402
    balanced_accuracy,
    class_auroc,
    drawn_by_class,
    summarise_classification,
)
from meduniseg_core.evaluation.intervals import percentile_interval  # noqa: E402
from meduniseg_core.files import write_text  # noqa: E402
from meduniseg_core.images import Image, read_image, read_labels  # noqa: E402
from meduniseg_core.inference import Predictor  # noqa: E402
from meduniseg_core.inference.classification import head_inputs, head_probabilities  # noqa: E402
from meduniseg_core.inference.quality.evidence import ClassEvidence, Evidence  # noqa: E402
from meduniseg_core.preprocessing import RawCase, RawDataset  # noqa: E402
from meduniseg_core.training import TrainingConfig  # noqa: E402
from meduniseg_core.training.split import read_splits  # noqa: E402
from meduniseg_core.weights import load_model  # noqa: E402

RESULTS = HERE / "results"
SPLIT = HERE.parent / "starter" / "results" / "starter" / "split.json"
CACHE = HERE.parents[1] / "runs" / "classification"
MOST = 200
"""Training pictures of a task: all."""
SIZES = (0.8, 0.65, 0.5, 0.35)
"""Of a crop, as shares of the picture's sides; the first that has a place without the target is taken."""
CHEST = "chest"
LEAST = 10, 5
"""Crops of each class for a fit, and for a comparison; a task with fewer is left out, and named."""
CLASSES = ("absent", "present")
DRAWS = 2000


def crops(image: Image, labels: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, Image]]:
    """A crop without the target and one of its size with it; nothing where no window is free of it."""
    window = crop_without(labels, rng, SIZES)
    if window is None or not labels.any():
        return
    yield "absent", picture_of(image, window)
    h, w = (part.stop - part.start for part in window)
    rows, columns = np.nonzero(labels)
    at = int(rng.integers(len(rows)))
    top = int(np.clip(rows[at] - rng.integers(h), 0, labels.shape[0] - h))
    left = int(np.clip(columns[at] - rng.integers(w), 0, labels.shape[1] - w))
    yield "present", picture_of(image, (slice(top, top + h), slice(left, left + w)))


def seen(predictor: Predictor, dataset: RawDataset, case: RawCase) -> list[dict[str, Any]]:
    """What the network shows of a case's crops; kept on the disk."""
    kept = CACHE / predictor.model.sha256[:16] / f"{dataset.task}--{case.case}.json"
    if kept.is_file():
        return list(json.loads(kept.read_text("utf-8")))
    rng = np.random.default_rng([0, *case.case.encode()])
    found = []
    labels = read_labels(case.label).array[0, 0]
    for label, picture in crops(read_image(case.images), labels, rng):
        result = predictor.segment(picture, dataset.task, evidence=True)[dataset.task]
        evidence = result.evidence
        assert evidence is not None
        found.append(
            {
                "label": label,
                "case": case.case,
                "patient": case.patient,
                "area": float((result.labels.array > 0).mean()),
                "voxels": evidence.voxels,
                "features": evidence.features.tolist(),
                "classes": [asdict(one) for one in evidence.classes],
            }
        )
    write_text(kept, json.dumps(found))
    return found


def evidence_of(row: dict[str, Any]) -> Evidence:
    return Evidence(row["voxels"], tuple(ClassEvidence(**one) for one in row["classes"]), np.asarray(row["features"]))


def by_area(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> np.ndarray:
    """Probabilities (images, 2) of the baseline."""
    truth = [CLASSES.index(row["label"]) for row in train]
    table, other = ([[np.log(row["area"] + 1e-4)] for row in rows] for rows in (train, test))
    fitted = LogisticRegression(C=1.0, class_weight="balanced").fit(table, truth)
    return np.asarray(fitted.predict_proba(other))


def difference(truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> dict[str, dict[str, float]]:
    """Head minus baseline on the same pictures, with 95 % intervals."""
    found = {}
    for name, figure in (("auroc", class_auroc), ("balanced_accuracy", balanced_accuracy)):
        rng, draws = np.random.default_rng(0), []
        for _ in range(DRAWS):
            chosen = drawn_by_class(truth, rng)
            draws.append(figure(truth[chosen], ours[chosen]) - figure(truth[chosen], theirs[chosen]))
        found[name] = {"value": figure(truth, ours) - figure(truth, theirs), **percentile_interval(draws).model_dump()}
    return found


def compared(truth: list[int], ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    return {
        "head": summarise_classification(CLASSES, truth, ours).model_dump(),
        "area": summarise_classification(CLASSES, truth, theirs).model_dump(),
        "difference": difference(np.asarray(truth), ours, theirs),
    }


def table(found: dict[str, Any]) -> str:
    of = "held-back training" if found["step"] == "validation" else "held-out"
    lines = [
        f"# Is the target in the picture? {found['model']} {found['sha256'][:8]}",
        "",
        f"Crops with and without the target (sizes {', '.join(map(str, SIZES))} of the sides) of {of} pictures. Chance "
        "is 0.5 in both figures. In brackets 95 % intervals by resampling crops. Written by "
        f"experiments/classification/run.py {found['step']}.",
        "",
        "| task | pictures | head: AUROC | area: AUROC | difference | head: balanced accuracy | area | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task, one in found["tasks"].items():
        cells = [task, str(sum(one["head"]["images"].values()))]
        for figure in ("auroc", "balanced_accuracy"):
            for who in ("head", "area"):
                interval = one[who][f"{figure}_interval"]
                cells.append(f"{one[who][figure]:.3f} ({interval['low']:.3f} to {interval['high']:.3f})")
            gap = one["difference"][figure]
            cells.append(f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})")
        lines.append(f"| {' | '.join(cells)} |")
    for task, (train, test) in found["left_out"].items():
        lines += ["", f"Left out, too few crops: {task} ({train} for the fit, {test} to test)."]
    for task, (train, test) in found["blank"].items():
        lines += ["", f"Crops of background alone, passed over: {task} ({train} for the fit, {test} to test)."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("validation", "evaluate"))
    parser.add_argument("model", nargs="?", default="starter")
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help="training pictures of a task (%(default)s)")
    parser.add_argument("--only", action="append", metavar="TASK", help="this task alone; no file")
    arguments = parser.parse_args()
    predictor, splits = Predictor(load_model(arguments.model), "cpu", "fp32"), read_splits(SPLIT)
    known = [plan.task for plan in predictor.model.info.tasks]
    tasks: dict[str, Any] = {}
    left_out: dict[str, list[int]] = {}
    blank: dict[str, list[int]] = {}
    truths: list[int] = []
    shares: dict[str, list[np.ndarray]] = {"head": [], "area": []}
    for folder in TrainingConfig.from_toml(HERE.parent / "starter" / "sixteen.toml").datasets:
        dataset = RawDataset.open(folder)
        if dataset.dimension != 2 or dataset.task not in known or dataset.task in (*EVERYWHERE, CHEST):
            continue
        if arguments.only and dataset.task not in arguments.only:
            continue
        cases, tested = dataset.cases("Tr"), dataset.cases("Ts")
        if arguments.step == "validation":
            held = set(splits[dataset.task].validation)
            tested = [case for case in cases if case.case in held]
            cases = [case for case in cases if case.case not in held]
        chosen = np.random.default_rng(0).permutation(len(cases))[: arguments.most]
        shown = [row for at in sorted(chosen) for row in seen(predictor, dataset, cases[at])]
        asked = [row for case in tested for row in seen(predictor, dataset, case)]
        # a crop of background alone, of which the product says nothing
        train, test = ([row for row in rows if row["features"]] for rows in (shown, asked))
        if len(train) < len(shown) or len(test) < len(asked):
            blank[dataset.task] = [len(shown) - len(train), len(asked) - len(test)]
        print(f"{dataset.task}: {len(train)} and {len(test)} crops", flush=True)
        if len(train) < 2 * LEAST[0] or len(test) < 2 * LEAST[1]:
            left_out[dataset.task] = [len(train), len(test)]
            continue
        samples = [LabelledEvidence(evidence_of(row), row["label"], row["patient"]) for row in train]
        head = fit_head(predictor.model, dataset.task, samples)
        own = np.stack([head_probabilities(head, head_inputs(evidence_of(row), head.inputs)) for row in test])
        theirs = by_area(train, test)
        truth = [CLASSES.index(row["label"]) for row in test]
        tasks[dataset.task] = {**compared(truth, own, theirs), "fit": {"inputs": head.inputs, **head.provenance}}
        truths += truth
        shares["head"].append(own)
        shares["area"].append(theirs)
    if not truths:
        sys.exit("No task has enough crops; give --most a larger number.")
    found = {
        "step": arguments.step,
        "model": predictor.model.info.name,
        "sha256": predictor.model.sha256,
        "tasks": {**tasks, "all": compared(truths, np.concatenate(shares["head"]), np.concatenate(shares["area"]))},
        "left_out": left_out,
        "blank": blank,
    }
    print(table(found))
    if not arguments.only:
        write_text(RESULTS / f"{arguments.step}.json", json.dumps(found, indent=1) + "\n")
        write_text(RESULTS / f"{arguments.step}.md", table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
