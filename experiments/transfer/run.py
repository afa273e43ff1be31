r"""Fine-tuning from the starter against the same network from scratch: the paper's Table 4 in miniature.

    export MEDUNISEG_SHARED=../shared OMP_NUM_THREADS=1
    python experiments/transfer/run.py train --only cardiac --only nuclei &      # two processes, one core each;
    python experiments/transfer/run.py train --only kidney --only brain          # what is finished stays
    python experiments/transfer/run.py table > experiments/transfer/results/table.md
    python experiments/transfer/run.py train --only brain --percent 20 \
        --seed 10 --seed 11 --seed 12 --seed 13 --seed 14 --seed 15 --seed 16 --seed 23 \
        --results experiments/transfer/results/more_runs                         # each of its four images twice
    python experiments/transfer/run.py choose                                    # how the product's rates were chosen

Five data sets that the starter has never seen, 20, 50 and 100 % of their training images, three runs each. Both arms of
a run see the same images, plan, recipe, seed and number of iterations, and differ in the weights they start from. One
exception: the product's recipe spares what the base knows of such images; from scratch, with nothing to keep, all
learns at the full rate from the first iteration. Nothing is chosen within a run: the last iteration's weights are
tested. Dice on imagesTs, mean over classes, then images.

``choose`` compares how the rates spare the base, without imagesTs: 20 % of the training images, other seeds, tested on
the training images that a run left out; and, for kidneys, on those of other patients (AbdomenCT's imagesTs, which the
starter has not learnt from either).

A finished run is done again where its recipe has changed, or, in the starter's arm, the starter's file; a finished
choice never, unless results/choice.json is removed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from meduniseg_core.adaptation.finetune import KNOWN_CLASSES, finetune_config, warm_up
from meduniseg_core.adaptation.transfer import Downstream
from meduniseg_core.evaluation import dice
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.model import MedUniSeg
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.training import TrainingConfig, train
from meduniseg_core.weights import Model, ModelInfo, load_model

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent.parent / "runs" / "transfer"
RESULTS = HERE / "results"
DATASETS = {
    "cardiac": "Dataset201_Cardiac",
    "nuclei": "Dataset202_Nuclei",
    "kidney": "Dataset203_KidneyCT",
    "brain": "Dataset204_BrainTumour",
    "cardiac_3d": "Dataset205_CardiacMR",
}
PERCENT = (20, 50, 100)
SEEDS = (0, 1, 2)
ITERATIONS = 150
RECIPE: dict[str, object] = {
    "validation_fraction": 0.0,
    "select": "last",
    "precision": "bf16",
    "threads": 1,
    "checkpoint_every": 1000,
}
"""Over the product's recipe for few iterations, which was chosen on training cases that runs had left out."""

AT_ONCE: dict[str, object] = {"rate_shares": (), "rate_warm_ups": ()}
"""All learns at the full rate from the first iteration."""

CHOOSING_SEEDS = {
    "cardiac": (10, 11, 12),
    "nuclei": (10, 11, 12),
    "kidney": (10, 11, 12),
    "brain": (10, 11, 12, 13, 14, 15, 16, 23),  # a single image in each run: every one of the four twice
}
CHOICES: dict[str, dict[str, object]] = {
    "from scratch": {},
    "all at once": {},
    "deep encoder at a tenth": {"rate_shares": (("encoder.stages.[!01].*", 0.1),)},
    "all but the heads at a tenth": {"rate_shares": KNOWN_CLASSES},
    "warm-up": {"rate_warm_ups": warm_up(ITERATIONS)},
}
"""Over AT_ONCE."""

LOG = logging.getLogger("transfer")


class Scratch(Downstream):
    """The same network with random weights, all of which learn."""

    @property
    def identity(self) -> str:
        """Apart from the other arm's."""
        return f"scratch, {super().identity}"

    def load(self, network: MedUniSeg, info: ModelInfo) -> None:
        """Leave the weights as they were drawn."""


def subset(source: Path, percent: int, seed: int, target: Path) -> Path:
    """A folder of links to ``percent`` of the training images, at least one, drawn by ``seed``; fewer lie in more.

    By image, not by patient: KidneyCT's training images are one patient's, and the test images are of others anyway.
    """
    description = json.loads((source / "dataset.json").read_text("utf-8"))
    ending = description["file_ending"]
    cases = sorted(path.name.removesuffix(ending) for path in (source / "labelsTr").glob(f"*{ending}"))
    count = max(1, round(percent / 100 * len(cases)))
    chosen = {str(case) for case in np.random.default_rng(seed).permutation(cases)[:count]}
    shutil.rmtree(target, ignore_errors=True)
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True)
        for path in (source / name).iterdir():
            case = path.name.removesuffix(ending)
            if (case if name == "labelsTr" else case.rsplit("_", 1)[0]) in chosen:
                (target / name / path.name).symlink_to(path.resolve())
    owners = {case: owner for case, owner in description.get("patient_of", {}).items() if case in chosen}
    content = {**description, "patient_of": owners, "numTraining": count}
    write_text(target / "dataset.json", json.dumps(content, indent=1))
    return target


def test_dice(model: Path, cases: Sequence[RawCase], classes: Sequence[tuple[int, int]]) -> list[float]:
    """Dice of every image, mean over ``classes``: pairs of the model's label and that in the image's reference."""
    predictor = Predictor(load_model(model), device="cpu", precision="fp32")
    task = predictor.model.info.tasks[0].task
    scores = []
    for case in cases:
        assert case.label is not None
        labels = predictor.segment(read_image(case.images), [task])[task].labels.array[0]
        truth = read_labels(case.label).array[0]
        scores.append(float(np.mean([dice(labels == own, truth == other, 1) for own, other in classes])))
    return scores


def all_classes(dataset: RawDataset) -> list[tuple[int, int]]:
    """Every class is what it is called."""
    return [(label, label) for label in range(1, len(dataset.classes) + 1)]


def configured(
    name: str,
    percent: int,
    seed: int,
    arm: str,
    base: Model,
    iterations: int,
    overrides: dict[str, object],
) -> TrainingConfig:
    """One run. All arms share the preprocessed cases."""
    place = RUNS / name / f"{percent}-{seed}"
    data = subset(data_folder(name), percent, seed, place / "data")
    cache = {"cache": RUNS / "cache" / f"{name}-{percent}-{seed}"}
    return finetune_config(
        data,
        base,
        f"{name}-{arm}",
        place / arm,
        iterations=iterations,
        seed=seed,
        device="cpu",
        overrides=RECIPE | cache | overrides,
    )


def recipe_of(config: TrainingConfig) -> str:
    """Hash of everything that decides a run but its data and the weights it starts from; a setting that is new and
    changes nothing by default leaves it."""
    apart = {"name", "title", "licence", "datasets", "output", "cache"}
    content = config.model_dump(mode="json", exclude=apart, exclude_defaults=True)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def data_folder(name: str) -> Path:
    """The data set's folder."""
    folder = "Dataset110_AbdomenCT" if name == "abdomen" else DATASETS[name]
    return Path(os.environ["MEDUNISEG_SHARED"]).resolve() / "data" / folder


def read_rows(results: Path, name: str) -> dict[str, Any]:
    """Finished runs of a data set (``PERCENT SEED ARM`` -> figures), or of the choice."""
    path = results / f"{name}.json"
    rows: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return rows


def add_row(results: Path, name: str, key: str, row: dict[str, object]) -> None:
    """Note a finished run; other processes may be adding theirs."""
    results.mkdir(parents=True, exist_ok=True)
    with FileLock(RUNS / "results.lock"):
        rows = read_rows(results, name) | {key: row}
        write_text(results / f"{name}.json", json.dumps(dict(sorted(rows.items())), indent=1) + "\n")


def run(name: str, iterations: int, seeds: Sequence[int], percents: Sequence[int], results: Path) -> None:
    """Train and test what is not there yet; the file of figures is written after every run."""
    base, rows = load_model("starter"), read_rows(results, name)
    for seed in seeds:
        for percent in percents:
            for arm, start, changes in (
                ("starter", Downstream(base), {}),
                ("scratch", Scratch(base), AT_ONCE),
            ):
                config = configured(name, percent, seed, arm, base, iterations, changes)
                mark = {"recipe": recipe_of(config), "starter": base.sha256 if arm == "starter" else None}
                key = f"{percent} {seed} {arm}"
                if {field: rows.get(key, {}).get(field) for field in mark} == mark:
                    continue
                result = train(config, start=start)
                dataset = RawDataset.open(data_folder(name))
                scores = test_dice(result.model, dataset.cases("Ts"), all_classes(dataset))
                row = {
                    **mark,
                    "iterations": config.total_iterations,
                    "images": len(list((config.datasets[0] / "labelsTr").iterdir())),
                    "dice": [round(score, 4) for score in scores],
                    "seconds": round(result.seconds, 1),
                }
                add_row(results, name, key, row)
                shutil.rmtree(config.output)
                LOG.info("%s %s: %.1f %% in %.0f s", name, key, 100 * float(np.mean(scores)), result.seconds)


def choose(name: str, seeds: Sequence[int], results: Path) -> None:
    """Train and test every choice; the file of figures is written after every run."""
    base, rows = load_model("starter"), read_rows(results, "choice")
    dataset = RawDataset.open(data_folder(name))
    for seed in seeds:
        for choice, changes in CHOICES.items():
            key = f"{name} {seed} {choice}"
            if key in rows:
                continue
            arm = "scratch" if choice == "from scratch" else choice.replace(" ", "_")
            config = configured(name, 20, seed, arm, base, ITERATIONS, AT_ONCE | changes)
            start = Scratch(base) if arm == "scratch" else Downstream(base)
            model = train(config, start=start).model
            used = {file.name for file in (config.datasets[0] / "labelsTr").iterdir()}
            left = [case for case in dataset.cases("Tr") if case.label is not None and case.label.name not in used]
            row = {"left_out": round(float(np.mean(test_dice(model, left, all_classes(dataset)))), 4)}
            if name == "kidney":
                others = RawDataset.open(data_folder("abdomen"))
                label = others.classes.index("kidney") + 1
                holding = [case for case in others.cases("Ts") if (read_labels(case.label).array == label).any()]
                row["other_patients"] = round(float(np.mean(test_dice(model, holding, [(1, label)]))), 4)
            add_row(results, "choice", key, row)
            shutil.rmtree(config.output)
            LOG.info("%s %d %s: %s", name, seed, choice, row)


def choice_table(results: Path) -> str:
    """Markdown: Dice in %, mean over the seeds, by choice."""
    rows = read_rows(results, "choice")
    columns = [(name, "left_out") for name in CHOOSING_SEEDS] + [("kidney", "other_patients")]
    titles = [name if kind == "left_out" else f"{name}s of other patients" for name, kind in columns]
    lines = [f"| rates | {' | '.join(titles)} |", f"|{' --- |' * (len(columns) + 1)}"]
    for choice in CHOICES:
        cells = []
        for name, kind in columns:
            own = [row[kind] for key, row in rows.items() if key.startswith(f"{name} ") and key.endswith(f" {choice}")]
            cells.append(f"{100 * np.mean(own):.1f}" if own else "-")
        lines.append(f"| {choice} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table(results: Path) -> str:
    """Markdown: mean and spread over the runs, in %, by data set and fraction, and the mean of the data sets."""
    lines = ["| data set | images | from scratch | from the starter | difference |", "| --- | --- | --- | --- | --- |"]
    differences: dict[int, list[float]] = {percent: [] for percent in PERCENT}
    for name in DATASETS:
        rows = read_rows(results, name)
        for percent in PERCENT:
            arms = {
                arm: [row for key, row in rows.items() if key.startswith(f"{percent} ") and key.endswith(f" {arm}")]
                for arm in ("scratch", "starter")
            }
            if not all(arms.values()):
                continue
            means = {arm: [100 * float(np.mean(row["dice"])) for row in own] for arm, own in arms.items()}
            cells = [f"{np.mean(own):.1f} ± {np.std(own):.1f}" for own in means.values()]
            difference = float(np.mean(means["starter"]) - np.mean(means["scratch"]))
            differences[percent].append(difference)
            images = f"{arms['starter'][0]['images']} ({percent} %)"
            lines.append(f"| {name} | {images} | {cells[0]} | {cells[1]} | {difference:+.1f} |")
    for percent, own in differences.items():
        if own:
            lines.append(f"| mean of {len(own)} | {percent} % | | | {np.mean(own):+.1f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "table", "choose"))
    parser.add_argument("--only", choices=tuple(DATASETS), action="append")
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of train")
    parser.add_argument(
        "--seed", type=int, action="append", help="default: the three of the table, those of the choice"
    )
    parser.add_argument("--percent", type=int, choices=PERCENT, action="append", help="default: all")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if arguments.step == "table":
        print(table(arguments.results))
        if (arguments.results / "choice.json").is_file():
            print(
                "\nHow the rates spare the base (20 % of the training images, tested on those that the run left out):\n"
            )
            print(choice_table(arguments.results))
        return 0
    for name in arguments.only or (CHOOSING_SEEDS if arguments.step == "choose" else DATASETS):
        if arguments.step == "choose":
            choose(name, arguments.seed or CHOOSING_SEEDS[name], arguments.results)
            continue
        run(name, arguments.iterations, arguments.seed or SEEDS, arguments.percent or PERCENT, arguments.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
