"""Quick adapt: what ten corrected cases of one of the starter's weak tasks do to its Dice on images held out.

    export MEDUNISEG_SHARED=../shared
    python experiments/quick_adapt/run.py [--task chest]     # trains, evaluates, writes results/TASK.json, .md and .svg

No image here is one that the starter has learnt from. A permutation of fixed seed halves imagesTs: in the first fold
the first half is corrected and the second held out, in the second fold the other way round. Where half of imagesTs is
less than ten, the starter's validation images make up ten corrected cases. A case is corrected as in the viewer: the
starter's prediction, and the reference as its correction, are accepted into a ledger. Then `meduniseg finetune --quick`
with its own defaults, on two cores.

Held-out Dice of the starter, and after every epoch of 50 iterations; nothing is chosen by it. Beside its end,
that of the same training with corrected places neither sampled more often nor weighted more ("plain").
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curve import curve_svg

from meduniseg_core.adaptation.finetune import finetune_config, frozen
from meduniseg_core.adaptation.transfer import Downstream
from meduniseg_core.corrections import Ledger
from meduniseg_core.evaluation import dice
from meduniseg_core.events import Event, Metric
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.model import MedUniSeg
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.preprocessing.dataset import RawCase
from meduniseg_core.training import train
from meduniseg_core.weights import Model, ModelInfo, load_model, save_model

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent.parent / "runs" / "quick_adapt"
RESULTS = HERE / "results"
DATASETS = {"head_neck_organs": "Dataset102_HeadNeckCT", "chest": "Dataset108_ChestXray"}
SPLIT = HERE.parent / "starter" / "results" / "starter" / "split.json"
SEED, CORRECTED = 0, 10
PLAIN = {"correction_oversampling": 0.0, "correction_weight": 1.0}
LOG = logging.getLogger("quick_adapt")


class Watched(Downstream):
    """Keeps the network within reach, so that it can be looked at while it learns."""

    def load(self, network: MedUniSeg, info: ModelInfo) -> None:
        """As :class:`Downstream` does."""
        super().load(network, info)
        self.network, self.info = network, info


def folds(task: str) -> list[tuple[list[RawCase], list[RawCase]]]:
    """(corrected, held out), twice; of images that the starter has not learnt from."""
    data = RawDataset.open(Path(os.environ["MEDUNISEG_SHARED"]).resolve() / "data" / DATASETS[task])
    unlearnt = set(json.loads(SPLIT.read_text("utf-8"))[task]["validation"])
    spare = [case for case in data.cases("Tr") if case.case in unlearnt]
    tested = data.cases("Ts")
    order = [tested[index] for index in np.random.default_rng(SEED).permutation(len(tested))]
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    return [((own + spare)[:CORRECTED], other) for own, other in (halves, halves[::-1])]


def corrected_ledger(folder: Path, task: str, cases: list[RawCase], predictor: Predictor) -> Path:
    """A ledger that took in ``cases``, all to learn from: the starter's prediction, corrected to the reference."""
    shutil.rmtree(folder, ignore_errors=True)
    plan = predictor.model.info.plan_of(task)
    ending = "".join(cases[0].images[0].suffixes)
    ledger = Ledger.create(
        folder,
        task=task,
        modality=plan.modality,
        classes=plan.classes,
        channels=plan.channels,
        file_ending=ending,
        validation_fraction=0.0,
    )
    for case in cases:
        assert case.label is not None
        image = read_image(case.images)
        predicted = predictor.segment(image, [task])[task].labels
        ledger.accept(image, read_labels(case.label), patient=case.patient, predicted=predicted)
    return folder


def held_out_dice(predictor: Predictor, task: str, cases: list[RawCase]) -> list[list[float]]:
    """Dice (cases, classes)."""
    classes = predictor.model.info.plan_of(task).class_count
    scores = []
    for case in cases:
        assert case.label is not None
        labels = predictor.segment(read_image(case.images), [task])[task].labels.array[0]
        truth = read_labels(case.label).array[0]
        scores.append([round(dice(labels, truth, label), 4) for label in range(1, classes)])
    return scores


def adapt(
    ledger: Path, base: Model, place: Path, iterations: int | None, changes: dict[str, Any]
) -> list[dict[str, Any]]:
    """Train, and lay down the model after every epoch: ``{iteration, seconds, model}``; seconds of training alone."""
    overrides = {"select": "last", "threads": torch.get_num_threads(), **changes}
    config = finetune_config(
        ledger, base, "adapted", place, iterations=iterations, quick=True, device="cpu", overrides=overrides
    )
    start, moments = Watched(base), list[dict[str, Any]]()

    def watch(event: Event) -> None:
        if isinstance(event, Metric) and event.name == "loss":
            path = place / f"after-{event.step}.safetensors"
            save_model(path, start.info, start.network.state_dict())
            moments.append({"iteration": event.step, "model": path})

    config = config.model_copy(update={"datasets": frozen([ledger], config.output)})
    train(config, start=start, events=watch)
    lines = [json.loads(line) for line in (config.output / "log.jsonl").read_text("utf-8").splitlines()]
    for moment, line in zip(moments, lines, strict=True):
        moment["seconds"] = line["seconds"]
    return moments


def run(task: str, iterations: int | None) -> dict[str, Any]:
    """Both folds, quick and plain."""
    base = load_model("starter")
    starter = Predictor(base, device="cpu")
    content: dict[str, Any] = {
        "starter": base.sha256,
        "threads": torch.get_num_threads(),
        "classes": base.info.plan_of(task).classes,
        "folds": [],
    }
    for number, (corrected, held) in enumerate(folds(task), start=1):
        place = RUNS / task / f"fold{number}"
        shutil.rmtree(place, ignore_errors=True)
        ledger = corrected_ledger(place / "ledger", task, corrected, starter)
        begin = {"iteration": 0, "seconds": 0.0, "dice": held_out_dice(starter, task, held)}
        fold: dict[str, Any] = {
            "corrected": [case.case for case in corrected],
            "held_out": [case.case for case in held],
        }
        for name, changes in (("quick", {}), ("plain", PLAIN)):
            moments = adapt(ledger, base, place / name, iterations, changes)
            fold[name] = [begin]
            for moment in moments if name == "quick" else moments[-1:]:
                adapted = Predictor(load_model(moment.pop("model")), device="cpu")
                fold[name].append({**moment, "dice": (scores := held_out_dice(adapted, task, held))})
                LOG.info("fold %d, %s, %s: %.1f %%", number, name, moment["iteration"], 100 * float(np.mean(scores)))
        content["folds"].append(fold)
        shutil.rmtree(place)
    return content


def means(content: dict[str, Any], arm: str) -> list[tuple[int, float, list[float], list[float]]]:
    """Iteration, seconds, mean Dice in % of every fold, and of every class over the folds."""
    rows = []
    for moments in zip(*(fold[arm] for fold in content["folds"]), strict=True):
        scores = [100 * np.array(moment["dice"]) for moment in moments]
        by_class = np.mean([own.mean(axis=0) for own in scores], axis=0).tolist()
        seconds = float(np.mean([moment["seconds"] for moment in moments]))
        rows.append((moments[0]["iteration"], seconds, [float(own.mean()) for own in scores], by_class))
    return rows


def table(content: dict[str, Any]) -> str:
    """Markdown: held-out Dice in % by moment; the last line is plain fine-tuning's."""
    head = ["", "iterations", "minutes", "fold 1", "fold 2", "mean", *content["classes"]]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    begin, *adapted = means(content, "quick")
    for name, row in (("starter", begin), *(("quick", row) for row in adapted), ("plain", means(content, "plain")[-1])):
        iteration, seconds, by_fold, by_class = row
        figures = " | ".join(f"{value:.1f}" for value in (*by_fold, float(np.mean(by_fold)), *by_class))
        lines.append(f"| {name} | {iteration} | {seconds / 60:.1f} | {figures} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tuple(DATASETS), default="head_neck_organs")
    parser.add_argument("--iterations", type=int, help="default: quick adapt's own")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of figures, table and curve")
    parser.add_argument("--threads", type=int, default=2, help="1 where others use the machine: threads wait in vain")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    content = run(arguments.task, arguments.iterations)
    place = arguments.results / arguments.task
    arguments.results.mkdir(parents=True, exist_ok=True)
    write_text(place.with_suffix(".json"), json.dumps(content, indent=1) + "\n")
    write_text(place.with_suffix(".md"), table(content) + "\n")
    rows = means(content, "quick")
    curves = {"mean": [(seconds / 60, float(np.mean(by_fold))) for _, seconds, by_fold, _ in rows]}
    for number in range(len(content["folds"])):
        curves[f"fold {number + 1}"] = [(seconds / 60, by_fold[number]) for _, seconds, by_fold, _ in rows]
    title = f"Ten corrected cases of {arguments.task}: Dice on images held out"
    write_text(place.with_suffix(".svg"), curve_svg(title, "minutes of training", "Dice (%)", curves))
    print(table(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
