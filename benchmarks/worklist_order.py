"""The worklist's order (uncertainty x novelty) against random order, by simulated annotators on real tasks.

Of a data set's training images some are held out (whole patients), some are the pool. Two random cases are "annotated"
(their reference labels are taken), and the base is fine-tuned on them. Then, round by round, the order chooses the next
cases of the pool by what the present model shows on it, as `meduniseg_core.worklist` does, they are annotated, and the
base is fine-tuned anew on all that are. Dice on the held-out images after each round. Both orders of a seed begin with
the same two cases. Images are small and trainings short, so figures say which order is better, not how good a model is.

    git show 7b746ef:src/meduniseg_core/weights/shipped/starter.safetensors > runs/first_starter.safetensors
    python benchmarks/worklist_order.py DATA --base runs/first_starter.safetensors --work FOLDER
        [--tasks Dataset114_BrainTumourT1c Dataset115_FetalHead] [--seeds 0 1 2] [--rounds 3] [--each 2]
        [--iterations 100] [--side 96] [-o benchmarks/results/worklist_order.md]

The base is the first starter: today's was trained on these images.
What is done is kept in FOLDER (one JSON line each) and not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from meduniseg_core.adaptation.finetune import finetune, finetune_config
from meduniseg_core.evaluation import dice
from meduniseg_core.files import write_text
from meduniseg_core.images import Image, place_labels, read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.training import PlanSettings
from meduniseg_core.weights import Model, load_model
from meduniseg_core.worklist.state_file import Predicted
from meduniseg_core.worklist.worth import novelties, uncertainty_of

ORDERS = ("worth", "random")
TASKS = ("Dataset114_BrainTumourT1c", "Dataset115_FetalHead")  # that the first starter does not know


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiment."""

    rounds: int = 3
    each: int = 2
    iterations: int = 100
    side: int = 96
    pool: int = 24
    held_out: int = 12


@dataclass(frozen=True)
class Measured:
    """Mean Dice of the held-out images after ``accepted`` cases."""

    task: str
    seed: int
    order: str
    accepted: int
    dice: float
    chosen: tuple[str, ...]


def divided(dataset: RawDataset, seed: int, settings: Settings) -> tuple[list[RawCase], list[RawCase]]:
    """Pool and held-out cases, whole patients each; drawn by the seed."""
    labelled = [case for case in dataset.cases("Tr") if case.label is not None]
    rng = np.random.default_rng([seed, *dataset.task.encode("utf-8")])
    patients = [str(one) for one in rng.permutation(sorted({case.patient for case in labelled}))]
    ranked = sorted(labelled, key=lambda case: (patients.index(case.patient), case.case))
    held = ranked[: settings.held_out]
    apart = {case.patient for case in held}
    return [case for case in ranked if case.patient not in apart][: settings.pool], held


def simulate(dataset: RawDataset, base: Model, seed: int, settings: Settings, work: Path) -> Iterator[Measured]:
    """Both orders of one seed, which share their first model."""
    pool, held = divided(dataset, seed, settings)
    images = {case.case: read_image(case.images) for case in (*pool, *held)}
    rng = np.random.default_rng(seed)
    first = [pool[index].case for index in rng.permutation(len(pool))[:2]]
    begun = _learn(dataset, base, first, seed, settings, work / "start")
    start = _dice(begun, dataset, held, images)
    for order in ORDERS:
        model, accepted = begun, list(first)
        yield Measured(dataset.task, seed, order, len(accepted), start, tuple(first))
        for number in range(1, settings.rounds + 1):
            left = [case.case for case in pool if case.case not in accepted]
            if order == "random":
                chosen = [left[index] for index in rng.permutation(len(left))[: settings.each]]
            else:
                chosen = _worth_most(model, dataset, pool, images, accepted, settings.each)
            accepted += chosen
            model = _learn(dataset, base, accepted, seed, settings, work / f"{order}{number}")
            scored = _dice(model, dataset, held, images)
            yield Measured(dataset.task, seed, order, len(accepted), scored, tuple(chosen))


def _learn(
    dataset: RawDataset, base: Model, cases: Sequence[str], seed: int, settings: Settings, folder: Path
) -> Predictor:
    """Fine-tune the base on these cases."""
    shutil.rmtree(folder, ignore_errors=True)
    data = folder / dataset.name
    (data / "imagesTr").mkdir(parents=True)
    (data / "labelsTr").mkdir()
    for case in dataset.cases("Tr"):
        if case.case in cases and case.label is not None:
            for path in case.images:
                shutil.copy(path, data / "imagesTr")
            shutil.copy(case.label, data / "labelsTr")
    content = json.loads((dataset.folder / "dataset.json").read_text("utf-8"))
    patients = {case: patient for case, patient in content.get("patient_of", {}).items() if case in cases}
    write_text(data / "dataset.json", json.dumps({**content, "patient_of": patients, "numTraining": len(cases)}))
    plan = PlanSettings(patch=(1, settings.side, settings.side), batch=4, longest_side=settings.side)
    overrides = {
        "plan": {dataset.task: plan},
        "epochs": 1,
        "iterations_per_dataset": settings.iterations,
        "validation_every": 1,
        "validation_fraction": 0.0,
        "select": "last",
    }
    config = finetune_config(
        data, base, "learned", folder, iterations=50, seed=seed, device="cpu", precision="fp32", overrides=overrides
    )
    result = finetune(data, base, config)
    predictor = Predictor(load_model(str(result.model)), "cpu", "fp32")
    shutil.rmtree(folder)
    return predictor


def _worth_most(
    model: Predictor,
    dataset: RawDataset,
    pool: Sequence[RawCase],
    images: dict[str, Image],
    accepted: Sequence[str],
    count: int,
) -> list[str]:
    """The next cases in the worklist's order. The novelty is found anew after each, as after an acceptance."""
    shown: dict[str, Predicted] = {}
    for case in pool:
        found = model.segment(images[case.case], dataset.task, evidence=True)[dataset.task]
        assert found.evidence is not None
        shown[case.case] = Predicted(
            image_sha256="0" * 64,
            model_sha256=model.model.sha256,
            uncertainty=uncertainty_of(found.evidence, found.quality),
            voxels=0,
            features=tuple(found.evidence.features.tolist()),
        )
    done, chosen = list(accepted), []
    for _ in range(count):
        novelty = novelties(shown, done)
        left = [name for name in shown if name not in done]
        best = max(left, key=lambda name: (shown[name].uncertainty * novelty[name], name))
        chosen.append(best)
        done.append(best)
    return chosen


def _dice(model: Predictor, dataset: RawDataset, cases: Sequence[RawCase], images: dict[str, Image]) -> float:
    scores = []
    for case in cases:
        assert case.label is not None
        reference = place_labels(read_labels(case.label), images[case.case]).array
        found = model.segment(images[case.case], dataset.task)[dataset.task].labels.array
        scores.append(np.mean([dice(found, reference, label) for label in range(1, len(dataset.classes) + 1)]))
    return float(np.mean(scores))


def table(rows: Sequence[Measured], settings: Settings, base: str) -> str:
    """The results as Markdown: Dice after each round, and the paired difference of the means over all rounds."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    seeds = sorted({row.seed for row in rows})
    counts = sorted({row.accepted for row in rows})
    values = {(row.task, row.seed, row.order, row.accepted): 100 * row.dice for row in rows}
    lines = [
        "# The worklist's order against random order",
        "",
        "`python benchmarks/worklist_order.py DATA --base runs/first_starter.safetensors --work FOLDER`: "
        f"{settings}, base {base}, seeds {', '.join(map(str, seeds))}.",
        "Mean Dice (%) of the held-out images after so many accepted cases, with the spread over the seeds.",
        "",
        f"| task | order | {' | '.join(str(count) for count in counts)} |",
        f"| --- | --- |{' --- |' * len(counts)}",
    ]
    differences = []
    for task in tasks:
        for order in ORDERS:
            cells = []
            for count in counts:
                found = [values[key] for seed in seeds if (key := (task, seed, order, count)) in values]
                cells.append(f"{np.mean(found):.1f} ± {np.std(found):.1f}" if found else "-")
            lines.append(f"| {task} | {order} | {' | '.join(cells)} |")
        for seed in seeds:
            later = [count for count in counts[1:] if all((task, seed, order, count) in values for order in ORDERS)]
            if later:
                gains = [values[task, seed, "worth", one] - values[task, seed, "random", one] for one in later]
                differences.append((task, seed, float(np.mean(gains))))
    lines += ["", "Worth less random, mean of the rounds after the first:", ""]
    lines += [f"- {task}, seed {seed}: {gain:+.1f}" for task, seed, gain in differences]
    gains = [gain for _, _, gain in differences]
    if gains:
        ahead = sum(gain > 0 for gain in gains)
        lines.append(f"- all: {np.mean(gains):+.1f} ± {np.std(gains):.1f}; ahead in {ahead} of {len(gains)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--base", required=True, help="a model that does not know the tasks: its name or file")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path)
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    given = parser.parse_args()
    settings = Settings(**{name: getattr(given, name) for name in asdict(Settings())})
    given.work.mkdir(parents=True, exist_ok=True)
    kept = given.work / "measured.jsonl"
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    rows = [Measured(**{**row, "chosen": tuple(row["chosen"])}) for row in map(json.loads, lines)]
    base = load_model(given.base)
    for seed in given.seeds:
        for name in given.tasks:
            dataset = RawDataset.open(given.data / name)
            wanted = len(ORDERS) * (settings.rounds + 1)
            if sum(row.task == dataset.task and row.seed == seed for row in rows) == wanted:
                continue
            new = []
            for row in simulate(dataset, base, seed, settings, given.work / name):
                print(json.dumps(asdict(row)), flush=True)
                new.append(row)
            rows += new
            write_text(kept, "".join(f"{json.dumps(asdict(row))}\n" for row in rows))
            _write(given.output, table(rows, settings, Path(given.base).stem))
    text = table(rows, settings, Path(given.base).stem)
    _write(given.output, text)
    print(text)


def _write(path: Path | None, text: str) -> None:
    """Write the table, where a file for it was named."""
    if path is not None:
        write_text(path, text)


if __name__ == "__main__":
    main()
