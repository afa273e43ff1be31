"""Does a result know when it has failed? Calibrate the starter, and compare what its results say with the truth.

    export MEDUNISEG_SHARED=../shared
    python experiments/quality/run.py observe       # segments everything that is needed; goes on where it broke off
    python experiments/quality/run.py calibrate     # fits, and writes the calibrated model to --output
    python experiments/quality/run.py table         # results/quality.json and results/quality.md

All 2D tasks of the model. Fitted on training images (imagesTr): those that the model was not trained on, changed copies
of all, and images of other kinds. The table has two parts: imagesTs, looked at once, with everything fitted; and one
source left out at a time of the tasks with several (polyp, gland, breast and skin lesion), nothing of which then takes
part in the fit.

``--split``: the training's own split.json; by default the one that `starter/run.py evaluate` kept. The network
itself has learnt from every source: a source is left out of the calibration alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from meduniseg_core.adaptation.calibrate import (
    calibration_of,
    observation_of,
    observe,
    read_observation,
    write_observation,
)
from meduniseg_core.adaptation.calibration_fit import Observation, fit_calibration
from meduniseg_core.adaptation.calibration_scores import Scored, scores
from meduniseg_core.events import Event, Progress
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.images.grid import place_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.inference.quality.assessment import assess
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training.split import read_splits
from meduniseg_core.weights import Model, load_model, save_model

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent.parent / "runs" / "quality"
RESULTS = HERE / "results" / "quality.json"
TABLE = HERE / "results" / "quality.md"
SPLIT = HERE.parent / "starter" / "results" / "starter" / "split.json"
SEVERAL_SOURCES = ("polyp", "gland", "breast_lesion", "skin_lesion")
LOG = logging.getLogger("quality")
COLUMNS = ("images", "classes", "below", "auroc", "spearman", "present_error", "dice_error", "covered")


def datasets_of(model: Model) -> list[RawDataset]:
    """The data sets of the model's 2D tasks."""
    root = Path(os.environ.get("MEDUNISEG_SHARED", HERE.parent.parent.parent / "shared")) / "data"
    tasks = {plan.task for plan in model.info.tasks if plan.dimension == 2}
    found = [RawDataset.open(folder) for folder in sorted(root.glob("Dataset1*"))]
    return [dataset for dataset in found if dataset.task in tasks]


def held_out(predictor: Predictor, datasets: Sequence[RawDataset]) -> list[Observation]:
    """Every image of imagesTs."""
    found = []
    for dataset in datasets:
        for case in dataset.cases("Ts"):
            path = RUNS / "test" / f"{dataset.task}--{case.case}-{predictor.model.sha256[:16]}.json"
            if not path.is_file():
                assert case.label is not None
                image = read_image(case.images)
                labels = place_labels(read_labels(case.label), image)
                write_observation(path, observation_of(predictor, dataset, case, image, labels))
            found.append(read_observation(path))
    return found


def source_of(observation: Observation) -> str:
    """The source of an image of a task with several, as its patient's name tells."""
    group = observation.group
    if group.startswith("cvc"):
        return f"{observation.task}: CVC-ClinicDB"
    return f"{observation.task}: {'added' if 'more' in group or group.startswith('kvasir') else 'first'} images"


def left_out(model: Model, observations: Sequence[Observation]) -> list[Scored]:
    """Each source assessed by a calibration that has seen none of it, nor changed copies of it."""
    own = [one for one in observations if one.task in SEVERAL_SOURCES]
    plans = [plan for plan in model.info.tasks if any(one.task == plan.task for one in observations)]
    found = []
    for source in sorted({source_of(one) for one in own}):
        out = [one for one in own if source_of(one) == source]
        task = out[0].task
        calibration = fit_calibration([one for one in observations if one not in out], plans)
        for one in out:
            if not (one.copy or one.learned):
                quality = assess(one.evidence, model.info.plan_of(task), calibration)
                assert quality is not None
                found.append(Scored(source, quality, one.dice, one.present))
    return found


def table(model: Model, observations: Sequence[Observation], tests: Sequence[Observation]) -> None:
    """Both parts, for each task and together."""
    calibration = fit_calibration(observations, [p for p in model.info.tasks if any(o.task == p.task for o in tests)])
    scored = []
    for one in tests:
        quality = assess(one.evidence, model.info.plan_of(one.task), calibration)
        assert quality is not None
        scored.append(Scored(one.task, quality, one.dice, one.present))
    sources = left_out(model, observations)
    parts = {
        "held out": {"all": scores(scored), **by_name(scored)},
        "source left out": {"all": scores(sources), **by_name(sources)},
        "both": {"all": scores([*scored, *sources])},
    }
    content = {"model": model.info.name, "sha256": model.sha256, "parts": parts}
    write_text(RESULTS, json.dumps(content, indent=1) + "\n")
    lines = [f"Model {model.info.name}, sha256 {model.sha256[:16]}.", ""]
    lines += ["| images | task | " + " | ".join(COLUMNS) + " |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for part, rows in parts.items():
        for name, row in rows.items():
            cells = " | ".join("-" if row[c] is None else f"{row[c]:.3g}" for c in COLUMNS)
            lines.append(f"| {part} | {name} | {cells} |")
    write_text(TABLE, "\n".join(lines) + "\n")
    print("\n".join(lines))


def by_name(scored: Sequence[Scored]) -> dict[str, dict[str, float | None]]:
    """The scores of each task or source."""
    names = sorted({one.name for one in scored})
    return {name: scores([one for one in scored if one.name == name]) for name in names}


def log_event(event: Event) -> None:
    """Every twentieth image."""
    if isinstance(event, Progress) and event.stage == "calibrate" and event.done % 20 == 0:
        LOG.info("%d of %d: %s", event.done, event.total, event.detail)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("observe", "calibrate", "table"))
    parser.add_argument("--model", default="starter")
    parser.add_argument("--split", type=Path, default=SPLIT)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--output", type=Path, default=RUNS / "starter.safetensors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    torch.set_num_threads(1)
    model = load_model(arguments.model)
    predictor = Predictor(model, "cpu", "fp32")
    datasets = datasets_of(model)
    splits = read_splits(arguments.split)
    tests = held_out(predictor, datasets) if arguments.step != "calibrate" else []
    cache = RUNS / "training"
    observations = observe(predictor, datasets, splits=splits, images=arguments.images, cache=cache, events=log_event)
    if arguments.step == "table":
        table(model, observations, tests)
    elif arguments.step == "calibrate":
        info = model.info.model_copy(update={"calibration": calibration_of(model.info, datasets, observations)})
        print(arguments.output, save_model(arguments.output, info, model.network.state_dict(), "fp16"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
