"""What a task of windowed CT pictures makes of CT in other grey levels than it learned from.

A CT is given in Hounsfield units and changed in the ways in which CT is handed on. Printed for each: the finding, the
error of the picture that the network gets against the one of the Hounsfield units (grey levels of 255), and, with
--labels, Dice of the labels against those. Last, how many of the task's own training pictures would be taken for
another scale, which must be none.

    python benchmarks/scaled_ct.py [--labels] [--model starter] [--task abdomen]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meduniseg_core.checks.image_checks import check_image, in_the_tasks_window
from meduniseg_core.images import Image, read_image
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.weights import load_model

SHARED = Path(os.environ.get("MEDUNISEG_SHARED", Path(__file__).resolve().parents[2] / "shared"))
WORST = 12.0


def window(low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    """An 8-bit picture."""
    return lambda hu: (255 * np.clip((hu - low) / (high - low), 0, 1)).round().astype(np.uint8)


WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Hounsfield units": lambda hu: hu,
    "+1024": lambda hu: (hu + 1024).clip(0).astype(np.uint16),
    "0 to 1": lambda hu: ((hu - hu.min()) / np.ptp(hu)).astype(np.float32),
    "-1 to 1": lambda hu: (2 * (hu - hu.min()) / np.ptp(hu) - 1).astype(np.float32),
    "times 10": lambda hu: (hu * 10).astype(np.int16),
    "16-bit picture": lambda hu: (65535 * (hu - hu.min()) / np.ptp(hu)).astype(np.uint16),
    "8-bit, whole range": lambda hu: window(hu.min(), hu.max())(hu),
    "8-bit, -1000..1000": window(-1000, 1000),
    "8-bit, -1000..400": window(-1000, 400),
    "8-bit, lung": window(-1350, 150),
    "8-bit, soft tissue": window(-160, 240),
    "8-bit, bone": window(-450, 1050),
    "8-bit, the task's own": window(-38, 312),
}
RECOGNISED = 9  # ways that must come out right


def grey(image: Image, low: float, high: float) -> np.ndarray:
    """The picture that the network gets, 0 to 255; a picture that was not recognised is taken as it is."""
    array = image.array[0].astype(np.float64)
    array = array if image.array.dtype == np.uint8 else (array - low) / (high - low) * 255
    return np.asarray(array.clip(0, 255))


def main() -> None:
    """Print the table; the exit status tells whether all that should be recognised is, and nothing else."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--task", default="abdomen")
    parser.add_argument("--labels", action="store_true")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    plan = model.info.plan_of(arguments.task)
    assert plan.hu_window is not None
    ct = read_image(SHARED / "data" / "Dataset301_Geometry" / "ct_sm.nii.gz")
    session = Predictor(model, "cpu", "fp32") if arguments.labels else None
    reference = grey(in_the_tasks_window(ct, plan), *plan.hu_window)
    labels = None if session is None else session.segment(ct, plan.task)[plan.task].labels.array
    failed = 0
    for position, (name, change) in enumerate(WAYS.items()):
        image = ct.with_array(change(ct.array.astype(np.float64)))
        found = [finding.code for finding in check_image(image, plan) if finding.code.startswith("intensity")]
        error = float(np.abs(grey(in_the_tasks_window(image, plan), *plan.hu_window) - reference).mean())
        text = f"{name:22} {found[0] if found else '-':20} {error:6.1f}"
        if session is not None and labels is not None:
            ours = session.segment(image, plan.task)[plan.task].labels.array
            both = 2 * int(((ours == labels) & (ours > 0)).sum()) / max(1, int((ours > 0).sum() + (labels > 0).sum()))
            text += f" {both:7.3f}"
        print(text, flush=True)
        failed += position < RECOGNISED and not (found and error <= WORST)
    pictures = [
        read_image(case.images)
        for folder in sorted((SHARED / "data").glob("Dataset1*"))
        for dataset in [RawDataset.open(folder)]
        if dataset.task == plan.task
        for case in dataset.cases("Tr")
    ]
    wrong = sum(in_the_tasks_window(picture, plan) is not picture for picture in pictures)
    print(f"{wrong} of {len(pictures)} training pictures taken for another scale")
    raise SystemExit(bool(failed or wrong))


if __name__ == "__main__":
    main()
