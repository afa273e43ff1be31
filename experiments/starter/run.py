"""The starter model, start to finish: train it, train the single-task networks, evaluate both, write the tables.

    export MEDUNISEG_SHARED=../shared
    git show 7b746ef:src/meduniseg_core/weights/shipped/starter.safetensors > runs/first_starter.safetensors
    python experiments/starter/run.py train --part 1   # the universal network's first part, into weights/
    python experiments/starter/run.py train --part 2   # its second, third and fourth, each from there, likewise
    python experiments/starter/run.py train --part 3
    python experiments/starter/run.py train --part 4
    python experiments/starter/run.py mean         # the mean of the second's and the fourth's weights
    python experiments/starter/run.py train        # its fifth and last part, from there: the starter
    python experiments/starter/run.py baselines    # sixteen single-task networks, same budget; --task and --seed choose
    python experiments/starter/run.py ship         # the universal network, as fp16, into the package
    python experiments/starter/run.py postprocess  # which organs keep one component, of the shipped file and the others
    python experiments/starter/run.py evaluate     # the shipped file and the others on imagesTs; writes results/
    python experiments/starter/run.py table
    # results/ -> the tables of docs/model_card.md

``--resume`` goes on with interrupted trainings. The universal network takes two cores, a single-task network one.
``evaluate`` takes the single-task networks that are finished, and never segments a held-out image twice by one network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from meduniseg_core.adaptation.calibrated import Destination, keep_model
from meduniseg_core.adaptation.postprocessing import ClassDecision, decide_postprocessing, with_decisions
from meduniseg_core.events import Event, Message, Metric
from meduniseg_core.files import write_text
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training import TrainingConfig, train
from meduniseg_core.training.absence import AbsenceSettings
from meduniseg_core.training.checkpoint import LAST
from meduniseg_core.training.split import read_splits
from meduniseg_core.training.standing import model_path
from meduniseg_core.weights import Model, load_model, save_model
from meduniseg_core.weights.digests import record_digests
from meduniseg_core.weights.registry import SHIPPED
from meduniseg_core.weights.statistics_step import with_statistics

HERE = Path(__file__).resolve().parent
PARTS = tuple(HERE / f"sixteen{part}.toml" for part in ("", "_second", "_third", "_fourth", "_fifth"))
"""The parts of the universal training, each from what the one before ends with, and why."""
WEIGHTS = tuple(HERE / "weights" / f"{part}_part.safetensors" for part in ("first", "second", "third", "fourth"))
"""What the parts before the last one end with."""
AVERAGED = (WEIGHTS[1], WEIGHTS[3])
"""Of these the last part starts from the mean (Wortsman et al. 2022, "Model soups")."""
SEEDS = (1, 2, 3)
"""Of the single-task networks; seeds above 1 where their spread is wanted."""
FORMER_ITERATIONS = 3000
"""For each task of the first starter; single-task networks, which start from scratch, have them on top."""
POSTPROCESSED = ("head_neck_organs",)
"""Tasks of organs in one piece. Of lesions a second piece may be a second lesion: none is taken away."""
SPLIT = HERE / "results" / "starter" / "split.json"
DECISIONS = HERE / "results" / "postprocessing.json"
WEIGHTS_NOTED = HERE / "results" / "weights.json"
"""By the digest of their weights the shipped files' sha256, and what is new in each."""
LOG = logging.getLogger("starter")


def universal(part: int = len(PARTS)) -> TrainingConfig:
    """The configuration of a part of the universal training, counted from 1; the last one trains the starter."""
    return TrainingConfig.from_toml(PARTS[part - 1])


def iterations_by_task() -> dict[str, int]:
    """The universal network's iterations for each task: of all parts and of the network that the first starts from."""
    parts = [TrainingConfig.from_toml(path) for path in PARTS]
    former = load_model(parts[0].pretrained_weights).info.tasks if parts[0].pretrained_weights else ()
    known = {plan.task for plan in former}
    counts = {task: FORMER_ITERATIONS if task in known else 0 for task in map(task_of, parts[0].datasets)}
    for config in parts:
        shares = {task: config.task_shares.get(task, 1.0) for task in counts}
        for task, share in shares.items():
            counts[task] += round(config.total_iterations * share / sum(shares.values()))
    return counts


def task_of(folder: Path) -> str:
    """The task of a data set."""
    return RawDataset.open(folder).task


def baselines(tasks: Sequence[str] = (), seeds: Sequence[int] = SEEDS) -> list[TrainingConfig]:
    """For each task the same backbone without prompts: same data, split, plan and recipe, and no fewer iterations.

    A task of which the universal network sees few has the mean number here: alone it cannot lean on others.

    Args:
        tasks: which; empty: all.
        seeds: one network for each.

    Returns:
        Their configurations, task by task.
    """
    config = universal(1)
    mean = sum(TrainingConfig.from_toml(path).epochs for path in PARTS)
    iterations = iterations_by_task()
    singles = []
    for folder in config.datasets:
        task = task_of(folder)
        if tasks and task not in tasks:
            continue
        epochs = max(iterations[task] // config.iterations_per_dataset, mean)
        for seed in seeds:
            name = f"single-{task}" if seed == 1 else f"single-{task}-seed{seed}"
            singles.append(
                config.model_copy(
                    update={
                        "name": name,
                        "title": f"Single-task network: {task}",
                        "description": "Baseline of the starter model's card.",
                        "datasets": (folder,),
                        "output": config.output.parent / "singles" / name.removeprefix("single-"),
                        "pretrained_weights": None,
                        "network": config.network.model_copy(update={"priors": False}),
                        "epochs": epochs,
                        # once, at the end
                        "validation_every": epochs,
                        "seed": seed,
                        "threads": 1,
                        "task_shares": {},
                        # one task alone has nothing to be balanced against: steps as long as its gradients
                        "gradient_clip": 12.0,
                        "plan": {name: plan for name, plan in config.plan.items() if name == task},
                        "absence": {name: _alone(own) for name, own in config.absence.items() if name == task},
                    }
                )
            )
    return singles


def _alone(settings: AbsenceSettings) -> AbsenceSettings:
    """Samples without the target from the task's own images: a single-task network has no others."""
    methods = tuple(method for method in settings.methods if method != "other")
    return settings.model_copy(update={"methods": methods, "others": ()})


def log_event(event: Event) -> None:
    """Metrics and messages to the log; progress is in the runs' log.jsonl."""
    if isinstance(event, Metric):
        LOG.info("%s %s = %.4f at iteration %d", event.task or "all", event.name, event.value, event.step)
    elif isinstance(event, Message):
        LOG.info("%s: %s", event.level, event.text)


def run_training(config: TrainingConfig, resume: bool) -> None:
    """Train, or go on, or leave a finished run alone."""
    model = model_path(config)
    if resume and model.is_file():
        LOG.info("%s is finished", config.name)
        return
    result = train(config, resume=resume and (config.output / LAST).is_file(), events=log_event)
    LOG.info("%s: %s in %.0f s", config.name, result.model.name, result.seconds)


def keep(config: TrainingConfig, path: Path) -> None:
    """Write the trained network, weights as fp16, and its sha256 beside it."""
    model = load_model(model_path(config))
    path.parent.mkdir(exist_ok=True)
    # a model trained by now has statistics of its training images; one trained before gets them here
    missing = [RawDataset.open(folder) for folder in config.datasets]
    missing = [dataset for dataset in missing if model.info.plan_of(dataset.task).statistics is None]
    sha256 = save_model(path, with_statistics(model.info, missing), model.network.state_dict(), "fp16")
    note_sha256(path, sha256)


def note_sha256(path: Path, sha256: str) -> None:
    """Write a model file's sha256 beside it."""
    record_digests(path, sha256)
    LOG.info("%s: %.1f MB, sha256 %s", path, path.stat().st_size / 1e6, sha256)


def postprocess() -> None:
    """Decide, on the validation images, which classes keep their largest component, of the shipped network and of the
    finished single-task ones; written into their files, the weights as they are."""
    folders = [folder for folder in universal().datasets if task_of(folder) in POSTPROCESSED]
    shipped = SHIPPED / f"{universal().name}.safetensors"
    found = {universal().name: decided(shipped, SPLIT, folders)}
    model = load_model(shipped)
    note_sha256(shipped, model.sha256)
    note_weights(model, "postprocessing of " + ", ".join(POSTPROCESSED))
    for config in baselines(POSTPROCESSED):
        if model_path(config).is_file():
            found[config.name] = decided(model_path(config), config.output / "split.json", config.datasets)
    content = noted_in(DECISIONS)  # networks that are gone keep theirs
    content |= {name: [vars(one) | {"largest_only": one.largest_only} for one in own] for name, own in found.items()}
    write_text(DECISIONS, json.dumps(content, indent=1) + "\n")


def noted_in(path: Path) -> dict[str, Any]:
    """What an earlier step wrote into a file of results; nothing where there is none."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def note_weights(model: Model, what: str) -> None:
    """Write a file's sha256 under the digest of its weights: what other files of these weights were measured to do
    holds of this one, too, except for ``what`` is new in it."""
    noted = noted_in(WEIGHTS_NOTED)
    noted.setdefault(weights_digest(model), {}).setdefault(model.sha256, what)
    write_text(WEIGHTS_NOTED, json.dumps(noted, indent=1) + "\n")


def weights_digest(model: Model) -> str:
    """The sha256 of all tensors, by name, in half precision."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(name.encode() + tensor.half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def decided(path: Path, split: Path, folders: Sequence[Path]) -> list[ClassDecision]:
    """Decide for the tasks of these data sets, and write it into the model file, whose weights stay."""
    model, datasets = load_model(path), [RawDataset.open(folder) for folder in folders]
    decisions = decide_postprocessing(model, datasets, splits=read_splits(split), device="cpu", precision="fp32")
    for one in decisions:
        LOG.info("%s: %s", path.stem, one)
    keep_model(model, with_decisions(model.info, datasets, decisions), Destination(model.info.name, path))
    return decisions


def save_mean(paths: Sequence[Path], path: Path) -> None:
    """Write a model file with the mean of the weights of models of one architecture; all else is the last one's."""
    models = [load_model(one) for one in paths]
    states = [model.network.state_dict() for model in models]
    mean = {key: torch.stack([state[key].float() for state in states]).mean(0) for key in states[0]}
    sha256 = save_model(path, models[-1].info, mean, "fp32")
    LOG.info("%s: sha256 %s", path, sha256)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "mean", "baselines", "ship", "postprocess", "evaluate", "table"))
    parser.add_argument("--part", type=int, choices=range(1, len(PARTS) + 1), default=len(PARTS), help="train: which")
    parser.add_argument("--resume", action="store_true", help="go on with interrupted trainings")
    parser.add_argument("--task", action="append", default=[], help="baselines: only of this task; may be repeated")
    parser.add_argument("--seed", type=int, action="append", help="baselines: with this seed (default: 1)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if arguments.step == "train":
        run_training(universal(arguments.part), arguments.resume)
        if arguments.part < len(PARTS):
            keep(universal(arguments.part), WEIGHTS[arguments.part - 1])
    elif arguments.step == "mean":
        start = universal().pretrained_weights
        assert start is not None
        save_mean(AVERAGED, Path(start))
    elif arguments.step == "baselines":
        for config in baselines(arguments.task, arguments.seed or (1,)):
            run_training(config, arguments.resume)
    elif arguments.step == "ship":
        keep(universal(), SHIPPED / f"{universal().name}.safetensors")
    elif arguments.step == "postprocess":
        postprocess()
    else:
        import tables

        if arguments.step == "evaluate":
            tables.evaluate(PARTS, baselines(), iterations_by_task())
        else:
            tables.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
