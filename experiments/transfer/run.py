"""Fine-tuning from the starter against the same network from scratch: the paper's Table 4 in miniature.

    export MEDUNISEG_SHARED=../shared
    python experiments/transfer/run.py train [--iterations 400] [--runs 3] [--only cardiac]    # finished runs stay
    python experiments/transfer/run.py table                                                   # of results/dice.json

Four data sets that the starter has never seen, 20, 50 and 100 % of their training images (whole patients where they
are known), three runs each; both arms of a run see the same images, split, plan, recipe and number of iterations, and
differ in the weights they start from. Dice on imagesTs, mean over classes, then over images.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meduniseg_core.adaptation.finetune import finetune_config
from meduniseg_core.adaptation.transfer import Downstream
from meduniseg_core.evaluation import dice
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.model import MedUniSeg
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training import train
from meduniseg_core.weights import ModelInfo, load_model

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent.parent / "runs" / "transfer"
FIGURES = HERE / "results" / "dice.json"
DATASETS = {
    "cardiac": "Dataset201_Cardiac",
    "nuclei": "Dataset202_Nuclei",
    "kidney": "Dataset203_KidneyCT",
    "brain": "Dataset204_BrainTumour",
}
FRACTIONS = (0.2, 0.5, 1.0)
LOG = logging.getLogger("transfer")


class Scratch(Downstream):
    """The same network with random weights, all of which learn."""

    @property
    def fingerprint(self) -> str:
        """Apart from the other arm's."""
        return f"scratch, {super().fingerprint}"

    def load(self, network: MedUniSeg, info: ModelInfo) -> None:
        """Leave the weights as they were drawn."""


def subset(source: Path, fraction: float, seed: int, target: Path) -> Path:
    """A folder of links to some of the data set's patients, at least one, drawn by ``seed``."""
    description = json.loads((source / "dataset.json").read_text("utf-8"))
    ending = description["file_ending"]
    cases = sorted(path.name.removesuffix(ending) for path in (source / "labelsTr").glob(f"*{ending}"))
    owner = {case: description.get("patient_of", {}).get(case, case) for case in cases}
    patients = np.random.default_rng(seed).permutation(sorted(set(owner.values())))
    wanted, chosen = max(1, round(fraction * len(cases))), set[str]()
    for patient in patients:
        if sum(owner[case] in chosen for case in cases) >= wanted:
            break
        chosen.add(str(patient))
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True, exist_ok=True)
        for path in sorted((source / name).iterdir()):
            case = path.name.removesuffix(ending)
            case = case if name == "labelsTr" else case.rsplit("_", 1)[0]
            link = target / name / path.name
            if owner.get(case) in chosen and not link.exists():
                link.symlink_to(path.resolve())
    kept = {case for case in cases if owner[case] in chosen}
    if "patient_of" in description:
        description["patient_of"] = {k: v for k, v in description["patient_of"].items() if k in kept}
    description["numTraining"] = len(kept)
    write_text(target / "dataset.json", json.dumps(description, indent=1))
    return target


def test_dice(model: Path, source: Path) -> list[float]:
    """Dice of every held-out image, mean over classes."""
    dataset = RawDataset.open(source)
    predictor = Predictor(load_model(model), device="cpu", precision="fp32")
    task = predictor.model.info.tasks[0].task
    scores = []
    for case in dataset.cases("Ts"):
        labels = predictor.segment(read_image(case.images), [task])[task].labels.array[0]
        truth = read_labels(case.label).array[0]
        scores.append(float(np.mean([dice(labels, truth, k + 1) for k in range(len(dataset.classes))])))
    return scores


def run(names: list[str], iterations: int, runs: int) -> None:
    """Train what is not there yet, evaluate it, and keep the figures after every pair."""
    torch.set_num_threads(1)
    shared = Path(os.environ["MEDUNISEG_SHARED"]).resolve() / "data"
    base = load_model("starter")
    figures: dict[str, Any] = json.loads(FIGURES.read_text("utf-8")) if FIGURES.is_file() else {}
    for name in names:
        source = shared / DATASETS[name]
        for fraction in FRACTIONS:
            for seed in range(runs):
                key = f"{name} {fraction} {seed} {iterations} {base.sha256[:12]}"
                if key in figures:
                    continue
                place = RUNS / name / f"{round(100 * fraction)}-{seed}"
                data = subset(source, fraction, seed, place / "data")
                figures[key] = {"cases": len(list((data / "labelsTr").iterdir()))}
                for arm, start in (("starter", Downstream(base)), ("scratch", Scratch(base))):
                    config = finetune_config(
                        data,
                        base,
                        f"{name}-{arm}",
                        place / arm,
                        iterations=iterations,
                        seed=seed,
                        device="cpu",
                        overrides={
                            "cache": RUNS / "cache" / f"{name}-{round(100 * fraction)}-{seed}",
                            "validation_fraction": 0.0,
                            "select": "last",
                            "threads": 1,
                            "momentum": 0.9,
                            "learning_rate": 0.02,
                            "batch_dice": True,
                        },
                    )
                    result = train(config, start=start)
                    figures[key][arm] = test_dice(result.model, source)
                    figures[key][f"{arm}_seconds"] = round(result.seconds, 1)
                means = {arm: round(float(np.mean(figures[key][arm])), 3) for arm in ("starter", "scratch")}
                LOG.info("%s: %s", key, means)
                write_text(FIGURES, json.dumps(figures, indent=1) + "\n")


def table() -> str:
    """Markdown: mean and spread over the runs, in %."""
    figures = json.loads(FIGURES.read_text("utf-8"))
    lines = ["| data set | images | scratch | from starter | difference |", "| --- | --- | --- | --- | --- |"]
    for name in DATASETS:
        for fraction in FRACTIONS:
            rows = [row for key, row in figures.items() if key.startswith(f"{name} {fraction} ")]
            if not rows:
                continue
            means = {arm: [100 * float(np.mean(row[arm])) for row in rows] for arm in ("scratch", "starter")}
            cells = [f"{np.mean(means[arm]):.1f} ± {np.std(means[arm]):.1f}" for arm in ("scratch", "starter")]
            difference = float(np.mean(means["starter"]) - np.mean(means["scratch"]))
            images = f"{rows[0]['cases']} ({round(100 * fraction)} %)"
            lines.append(f"| {name} | {images} | {cells[0]} | {cells[1]} | {difference:+.1f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "table"))
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=tuple(DATASETS), action="append")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if arguments.step == "train":
        run(arguments.only or list(DATASETS), arguments.iterations, arguments.runs)
    else:
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
