"""Teaching by strokes on real images: how good after how many strokes, how quick, and what a correction takes.

    python benchmarks/teach.py                      # everything; what is there already is not computed again
    python benchmarks/teach.py --images Tr --per-task 1 --only strokes          # where choices are made

Annotators are simulated by one fixed rule (`annotators.py`). Count 1 is one stroke on every class and one beside them,
each further count one stroke more. Compared are: what the panel Teach does, a random walk on intensities alone (on a
grid as fine as ours, the same strokes), and what the panel does without the network's features. ``corrections``: a
prediction of the starter is corrected until Dice 0.9, by strokes of Teach, by clicks of Edit, and by a brush; and
painted anew by a brush. ``times``: from the stroke to the slice and to the volume, on a head CT.

Tasks marked unknown are not in the model, or are left out of the list of tasks whose features are taken. ``--images
Ts`` (held out) is for the final table; its cases are spread evenly over the folder. One JSON per image goes to
``runs/teach/MODEL``, the table to ``benchmarks/results/teach.md``, curves to ``teach.svg``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_high
from typing import Any

import numpy as np
import torch
from annotators import first_strokes, next_click, next_stroke, painted
from skimage.transform import resize

from meduniseg_core.evaluation import bootstrap_interval
from meduniseg_core.files import write_text
from meduniseg_core.images import Image, read_image, read_labels
from meduniseg_core.images.grid import place_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.interactive import FeatureCache, ImageFeatures, Stroke, Teacher, grow_at, remove_at
from meduniseg_core.interactive.network_features import fitting_tasks
from meduniseg_core.interactive.walk import WalkGrid
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.structured_text import json_text
from meduniseg_core.weights import load_model

ROOT = Path(__file__).parents[1].resolve()
sys.path.insert(0, str(ROOT / "experiments" / "quick_adapt"))
from curve import curve_svg  # noqa: E402

DATA = Path(os.environ.get("MEDUNISEG_SHARED", ROOT.parent / "shared")) / "data"
RUNS = ROOT / "runs" / "teach"
RESULTS = ROOT / "benchmarks" / "results"
COUNTS = (1, 3, 5, 10)
METHODS = {"ours": "ours", "plain": "without network features", "walker": "random walker"}
GOAL, MOST_STEPS = 0.9, 20
WALKED = 160  # pixels of the longest side that the compared random walk runs on, as ours; volumes: 120,000 voxels


@dataclass(frozen=True)
class Subject:
    """A data set; ``unknown``: its task's features are never used."""

    folder: str
    unknown: bool


SUBJECTS = (
    Subject("Dataset104_SkinLesion", False),
    Subject("Dataset105_DiscCup", False),
    Subject("Dataset106_Glands", False),
    Subject("Dataset107_BreastLesion", False),
    Subject("Dataset108_ChestXray", False),
    Subject("Dataset110_AbdomenCT", False),
    Subject("Dataset102_HeadNeckCT", False),
    Subject("Dataset114_BrainTumourT1c", True),
    Subject("Dataset115_FetalHead", True),
    Subject("Dataset117_TeethXray", True),
    Subject("Dataset201_Cardiac", True),
    Subject("Dataset202_Nuclei", True),
    Subject("Dataset203_KidneyCT", True),
    Subject("Dataset205_CardiacMR", True),
)


@dataclass(frozen=True, eq=False)
class Example:
    """An image, its reference (D, H, W), and what its results are called."""

    subject: Subject
    dataset: RawDataset
    image: Image
    reference: np.ndarray
    name: str


def examples(images: str, per_task: int, chosen: Sequence[str]) -> list[Callable[[], Example]]:
    """The images, not read yet, one of every task at a time."""
    found: list[tuple[int, Callable[[], Example]]] = []
    for subject in SUBJECTS:
        if chosen and not any(subject.folder.startswith(name) for name in chosen):
            continue
        dataset = RawDataset.open(DATA / subject.folder)
        cases = dataset.cases(images)
        places = np.unique(np.linspace(0, len(cases) - 1, min(per_task, len(cases))).round().astype(int))
        for number, place in enumerate(places):
            found.append((number, lambda s=subject, d=dataset, c=cases[place]: _read(s, d, c, images)))
    return [read for _, read in sorted(found, key=lambda one: one[0])]


def _read(subject: Subject, dataset: RawDataset, case: RawCase, images: str) -> Example:
    assert case.label is not None
    image = read_image(case.images)
    reference = place_labels(read_labels(case.label), image)
    labels = reference.array[0].astype(np.int64)
    return Example(subject, dataset, image, labels, f"{images}--{dataset.task}--{case.case}")


def mean_dice(labels: np.ndarray, reference: np.ndarray) -> float:
    """Over the classes of the reference."""
    scores = []
    for label in np.unique(reference[reference > 0]):
        one, other = labels == label, reference == label
        scores.append(2 * float((one & other).sum()) / float(one.sum() + other.sum()))
    return float(np.mean(scores))


class Walker:
    """A random walk on intensities alone; it takes strokes as a `Teacher` does."""

    def __init__(self, image: Image) -> None:
        shape, steps = image.geometry.shape, image.geometry.spacing
        most = WALKED / max(shape) if shape[0] == 1 else (120_000 / float(np.prod(shape))) ** (1 / 3)
        self._size = tuple(size if size == 1 else max(2, round(size * min(1.0, most))) for size in shape)
        found = [resize(channel.astype(np.float64), self._size, order=1, anti_aliasing=True) for channel in image.array]
        data = np.stack([(one - one.mean()) / max(float(one.std()), 1e-6) for one in found], axis=-1)
        sides = [step * size / small for step, size, small in zip(steps, shape, self._size, strict=True)]
        least = min(sides)
        whole = tuple(slice(0, size) for size in shape)
        self._grid = WalkGrid(whole, data, (sides[0] / least, sides[1] / least, sides[2] / least))
        self._drawn = np.full(shape, -1, np.int32)

    def add(self, stroke: Stroke) -> None:
        """Take one more stroke."""
        self._drawn[stroke.where] = stroke.label

    def whole(self) -> np.ndarray:
        """Label the image."""
        classes = [int(label) for label in np.unique(self._drawn) if label >= 0]
        labels = np.array(classes)[self._grid.reach(self._drawn, classes).argmax(axis=0)]
        return np.where(self._drawn >= 0, self._drawn, labels)


def strokes_of(example: Example, method: Any) -> tuple[list[float], list[float]]:
    """Dice after every count up to the last, and the seconds of this process that each took."""
    reference = example.reference
    drawn = np.zeros(reference.shape, bool)
    labels = reference  # replaced before it is looked at
    scores, seconds = [], []
    for count in range(1, max(COUNTS) + 1):
        stroke = next_stroke(reference, labels, drawn) if count > 1 else None
        new = first_strokes(reference) if count == 1 else [] if stroke is None else [stroke]
        for one in new:
            drawn[one.where] = True
            method.add(one)
        began = time.process_time()
        labels = method.whole()
        seconds.append(time.process_time() - began)
        scores.append(mean_dice(labels, reference))
    return scores, seconds


WAYS: dict[str, Callable[[Example, ImageFeatures, np.ndarray], list[float]]] = {
    "strokes": lambda example, features, base: _by_strokes(example, features, base),
    "clicks": lambda example, features, base: _by_clicks(example, features, base),
    "brush": lambda example, _features, base: _by_brush(example.reference, base),
    "brush anew": lambda example, _features, base: _by_brush(example.reference, np.zeros_like(base)),
}
"""How a prediction is corrected: Dice after every step, from the prediction on, until the goal."""


def _by_strokes(example: Example, features: ImageFeatures, base: np.ndarray) -> list[float]:
    reference = example.reference
    teacher, labels, drawn = Teacher(features, base), base, np.zeros(base.shape, bool)
    scores = [mean_dice(labels, reference)]
    while scores[-1] < GOAL and len(scores) <= MOST_STEPS:
        stroke = next_stroke(reference, labels, drawn)
        if stroke is None:
            break
        drawn[stroke.where] = True
        teacher.add(stroke)
        labels = teacher.whole()
        scores.append(mean_dice(labels, reference))
    return scores


def _by_clicks(example: Example, features: ImageFeatures, base: np.ndarray) -> list[float]:
    reference, labels = example.reference, base.copy()
    tried: set[tuple[int, int, int]] = set()
    scores = [mean_dice(labels, reference)]
    while scores[-1] < GOAL and len(scores) <= MOST_STEPS:
        click = next_click(reference, labels, tried)
        if click is None:
            break
        tried.add(click.at)
        if click.label:
            edit = grow_at(features, labels, click.at, click.label)
        else:
            edit = remove_at(labels, click.at, lasso=click.lasso)
        labels = edit.apply(labels)
        scores.append(mean_dice(labels, reference))
    return scores


def _by_brush(reference: np.ndarray, base: np.ndarray) -> list[float]:
    labels = base.copy()
    scores = [mean_dice(labels, reference)]
    while scores[-1] < GOAL and len(scores) <= MOST_STEPS:
        stroke = painted(reference, labels)
        if stroke is None:
            break
        labels[stroke.where] = stroke.label
        scores.append(mean_dice(labels, reference))
    return scores


class Features:
    """Features of an image: those of the tasks that its subject may use, with the model loaded once."""

    def __init__(self, model: str) -> None:
        self.predictor = Predictor(load_model(model), "cpu", "fp32")
        self.runs = RUNS / self.predictor.model.sha256[:16]

    def of(self, example: Example) -> ImageFeatures:
        """Compute them; an unknown task's own are left out."""
        plans = self.predictor.model.info.tasks
        left_out = (example.dataset.task,) if example.subject.unknown else ()
        tasks = fitting_tasks(plans, example.image, example.dataset.modality, left_out)
        return FeatureCache().get(example.image, self.predictor, tasks)

    def knows(self, example: Example) -> bool:
        """Whether the model has the task and may use it here."""
        tasks = [plan.task for plan in self.predictor.model.info.tasks]
        return not example.subject.unknown and example.dataset.task in tasks


def without_network(features: ImageFeatures) -> ImageFeatures:
    """The image's own features alone."""
    return replace(features, parts=features.parts[:1])


def run(example: Example, features: Features, only: Sequence[str], methods: Sequence[str]) -> None:
    """Compute what is missing of one image and write it."""
    path = features.runs / f"{example.name}.json"
    known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    wanted = [name for name in methods if name not in known.get("dice", {})] if "strokes" in only else []
    ways = [way for way in WAYS if way not in known.get("corrections", {})]
    ways = ways if "corrections" in only and features.knows(example) else []
    if not (wanted or ways):
        return
    began = time.process_time()
    found = features.of(example)
    known |= {"task": example.dataset.task, "unknown": example.subject.unknown, "tasks": found.tasks}
    known["model"] = features.predictor.model.sha256
    known.setdefault("features_s", time.process_time() - began)
    made: dict[str, Callable[[], Any]] = {
        "ours": lambda: Teacher(found),
        "plain": lambda: Teacher(without_network(found)),
        "walker": lambda: Walker(example.image),
    }
    for name in wanted:
        scores, seconds = strokes_of(example, made[name]())
        known.setdefault("dice", {})[name] = scores
        known.setdefault("seconds", {})[name] = seconds
    if ways:
        plan = features.predictor.model.info.plan_of(example.dataset.task)
        result = features.predictor.segment(example.image, [plan.task])[plan.task]
        base = np.asarray(result.labels.array)[0].astype(np.int64)
        known["corrections"] = known.get("corrections", {}) | {way: WAYS[way](example, found, base) for way in ways}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json_text(known))
    print(path.stem, _shown(known), f"{time.process_time() - began:.0f} s of CPU", flush=True)


def _shown(known: dict[str, Any]) -> str:
    dice = known.get("dice", {})
    parts = [f"{name} " + "/".join(f"{100 * own[count - 1]:.0f}" for count in COUNTS) for name, own in dice.items()]
    for name, scores in known.get("corrections", {}).items():
        parts.append(f"{name} {len(scores) - 1}{'' if scores[-1] >= GOAL else '+'}")
    return "; ".join(parts)


def times(features: Features) -> dict[str, Any]:
    """From the stroke to the slice and to the volume on a head CT: seconds of the clock and of this process."""
    dataset = RawDataset.open(DATA / "Dataset102_HeadNeckCT")
    case = max(dataset.cases("Tr"), key=lambda one: one.images[0].stat().st_size)
    example = _read(Subject(dataset.folder.name, False), dataset, case, "Tr")
    shape, label = example.image.geometry.shape, int(example.reference.max())
    found: dict[str, Any] = {"shape": shape, "load": os.getloadavg()[0], "threads": torch.get_num_threads()}
    began = time.perf_counter(), time.process_time()
    own = features.of(example)
    found["features"] = _passed(began)
    teacher = Teacher(own)
    for stroke in first_strokes((example.reference == label).astype(np.int64)):
        teacher.add(stroke)
    depth = int((example.reference == label).sum(axis=(1, 2)).argmax())
    plane = slice(depth, depth + 1), slice(0, shape[1]), slice(0, shape[2])
    slices, volumes = [], []
    for number in range(10):
        row = np.full(8, 2 + number)
        teacher.add(Stroke((np.full(8, depth), row, np.arange(2, 10)), 0))
        began = time.perf_counter(), time.process_time()
        teacher.labels(plane)
        slices.append(_passed(began))
        if number < 3:
            began = time.perf_counter(), time.process_time()
            teacher.whole()
            volumes.append(_passed(began))
    found["slice"] = [float(np.median(column)) for column in zip(*slices, strict=True)]
    found["volume"] = [float(np.median(column)) for column in zip(*volumes, strict=True)]
    return found


def _passed(began: tuple[float, float]) -> tuple[float, float]:
    return time.perf_counter() - began[0], time.process_time() - began[1]


def table(runs: Path, images: str, measured: dict[str, Any] | None) -> None:
    """Write the table and the curves of all images that are there."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(runs.glob(f"{images}--*.json"))]
    whole = [one for one in found if set(one.get("dice", {})) == set(METHODS)]
    lines = [
        "# Teaching by strokes",
        "",
        f"`python benchmarks/teach.py`. Images: {'held out' if images == 'Ts' else 'of training'}; {_models(found)}.",
        "",
    ]
    lines += [*_stroke_table(whole), "", *_correction_table(found), "", *_time_lines(measured, whole)]
    write_text(RESULTS / "teach.md", "\n".join(lines).rstrip() + "\n")
    counts = range(1, max(COUNTS) + 1)
    curves = {
        title: [(count, 100 * float(np.mean([one["dice"][name][count - 1] for one in whole]))) for count in counts]
        for name, title in METHODS.items()
    }
    title = f"Teaching by strokes, {len(whole)} images of {len({one['task'] for one in whole})} tasks"
    write_text(RESULTS / "teach.svg", curve_svg(title, "strokes (1: one on every class)", "mean Dice (%)", curves))


def _models(found: list[dict[str, Any]]) -> str:
    return "model " + ", ".join(sorted({one["model"][:16] for one in found}))


def _stroke_table(whole: list[dict[str, Any]]) -> list[str]:
    """Mean Dice over images in per cent; the last rows are means of the tasks' means, with intervals over images."""
    heads = [f"{title} {count}" for title in METHODS.values() for count in COUNTS]
    lines = [
        "## Dice after so many strokes (%)",
        "",
        "Count 1 is one stroke on every class and one beside them; each further count is one stroke more. Unknown: not "
        "a task of the model, or left out of its list. Intervals: 95 %, bootstrap over images.",
        "",
        "| task | images | " + " | ".join(heads) + " |",
        "| --- |" + " --- |" * (1 + len(heads)),
    ]
    tasks = sorted({(one["unknown"], one["task"]) for one in whole})
    for unknown, task in tasks:
        own = [one for one in whole if one["task"] == task]
        lines.append(_row(f"{task}{' (unknown)' if unknown else ''}", own, interval=False))
    for title, own in (
        ("all", whole),
        ("known tasks", [one for one in whole if not one["unknown"]]),
        ("unknown tasks", [one for one in whole if one["unknown"]]),
    ):
        if own:
            lines.append(_row(f"**{title}**", own, interval=True))
    for name in ("walker", "plain"):
        cells = []
        for count in COUNTS:
            gains = [100 * (one["dice"]["ours"][count - 1] - one["dice"][name][count - 1]) for one in whole]
            interval = bootstrap_interval(gains)
            cells.append(f"{count}: {np.mean(gains):+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]")
        lines += ["", f"Ours minus {METHODS[name]}, paired, after " + "; ".join(cells) + "."]
    return lines


def _row(title: str, own: list[dict[str, Any]], *, interval: bool) -> str:
    cells = []
    for name in METHODS:
        for count in COUNTS:
            values = [100 * one["dice"][name][count - 1] for one in own]
            bounds = bootstrap_interval(values)
            cells.append(f"{np.mean(values):.1f}" + (f" [{bounds.low:.0f}, {bounds.high:.0f}]" if interval else ""))
    return f"| {title} | {len(own)} | " + " | ".join(cells) + " |"


def _correction_table(found: list[dict[str, Any]]) -> list[str]:
    """Median steps to the goal; where it is not reached, the most steps that were tried and a plus."""
    known = [one for one in found if set(one.get("corrections", {})) == set(WAYS)]
    ways = tuple(WAYS)
    lines = [
        f"## Steps from the prediction to Dice {GOAL}",
        "",
        "Median (the higher of two) over images of the steps until the goal, and in brackets how many images reached "
        f"it within {MOST_STEPS} steps. Strokes: of Teach with *Correct the present labels*. Clicks: of Edit. "
        "Brush: painting alone; anew: without the prediction.",
        "",
        "| task | images | Dice of the prediction (%) | " + " | ".join(ways) + " |",
        "| --- |" + " --- |" * (2 + len(ways)),
    ]
    for task in sorted({one["task"] for one in known}):
        own = [one for one in known if one["task"] == task]
        lines.append(_correction_row(task, own, ways))
    open_ones = [one for one in known if one["corrections"]["strokes"][0] < GOAL]
    if open_ones:
        lines.append(_correction_row("**all that began below the goal**", open_ones, ways))
    return lines


def _correction_row(title: str, own: list[dict[str, Any]], ways: Sequence[str]) -> str:
    start = 100 * float(np.mean([one["corrections"]["strokes"][0] for one in own]))
    cells = []
    for way in ways:
        steps = [_steps(one["corrections"][way]) for one in own]
        reached = sum(step <= MOST_STEPS for step in steps)
        middle = median_high(steps)
        cells.append(f"{middle} ({reached})" if middle <= MOST_STEPS else f"over {MOST_STEPS} ({reached})")
    return f"| {title} | {len(own)} | {start:.1f} | " + " | ".join(cells) + " |"


def _steps(scores: Sequence[float]) -> int:
    return len(scores) - 1 if scores[-1] >= GOAL else MOST_STEPS + 1


def _time_lines(measured: dict[str, Any] | None, whole: list[dict[str, Any]]) -> list[str]:
    lines = ["## Times", ""]
    if whole:
        seconds = [value for one in whole for value in one["seconds"]["ours"]]
        lines.append(f"One stroke on these images, CPU of one core: median {np.median(seconds):.2f} s.")
    if measured is not None:
        (a, b), (c, d), (e, f) = (measured[name] for name in ("features", "slice", "volume"))
        size = " x ".join(str(value) for value in measured["shape"])
        lines += [
            "",
            f"Head CT of {size} voxels, {measured['threads']} threads, load of the machine {measured['load']:.1f}: "
            f"features once {a:.1f} s (CPU {b:.1f} s); from the stroke to the slice {1000 * c:.0f} ms "
            f"(CPU {1000 * d:.0f} ms, wanted below 300); to the volume {e:.2f} s (CPU {f:.2f} s, wanted below 5).",
        ]
    return lines


def main() -> None:
    """Run what is asked for, then write the table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--images", choices=("Ts", "Tr"), default="Ts", help="held out, or training images")
    parser.add_argument("--per-task", type=int, default=3)
    parser.add_argument("--data", nargs="*", default=[], help="beginnings of data sets' names")
    parser.add_argument("--only", nargs="*", default=["strokes", "corrections", "times"])
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no image after so many")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    features, end = Features(chosen.model), time.monotonic() + 60 * chosen.minutes
    for read in examples(chosen.images, chosen.per_task, chosen.data):
        if time.monotonic() > end:
            print("The time is up; start it again to go on.")
            break
        run(read(), features, chosen.only, chosen.methods)
    place = features.runs / "times.json"
    if "times" in chosen.only:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, json_text(times(features)))
    if chosen.images == "Ts" and not chosen.data:
        table(features.runs, chosen.images, json.loads(place.read_text("utf-8")) if place.is_file() else None)


if __name__ == "__main__":
    main()
