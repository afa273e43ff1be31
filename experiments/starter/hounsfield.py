"""An unenhanced CT in Hounsfield units, given to the task *abdomen*, which has learned from enhanced 8-bit pictures.

    export MEDUNISEG_SHARED=../shared
    python experiments/starter/run.py mean         # makes the one start of a part that is not kept (seconds)
    python experiments/starter/hounsfield.py       # the starter, and what its parts end with: results/hounsfield.json

``Dataset301_Geometry/ct_sm.nii.gz``, 30 slices of another source; the reference is another model's output.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import numpy as np

from meduniseg_core.evaluation import dice
from meduniseg_core.files import write_text
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.weights import load_model

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "hounsfield.json"
MODELS = (
    "starter",
    *(f"{part}_part.safetensors" for part in ("first", "second", "third", "fourth")),
    "mean_of_second_and_fourth.safetensors",
)
ORGANS = {"liver": (5,), "kidney": (2, 3), "pancreas": (7,)}
"""The reference's labels of each class of the task; it has 117."""
LOG = logging.getLogger("hounsfield")


def measure(model: str, folder: Path) -> dict[str, object]:
    """Dice of each class of one model (fp32, CPU).

    Args:
        model: a name, or a file.
        folder: ``Dataset301_Geometry``.

    Returns:
        The model's sha256 and its Dice by class.
    """
    loaded = load_model(model)
    reference = read_labels(folder / "ct_organs_reference.nii.gz").array[0]
    result = Predictor(loaded, "cpu", "fp32").segment(read_image(folder / "ct_sm.nii.gz"), "abdomen")["abdomen"]
    found = result.labels.array[0]
    scores = {
        name: round(
            dice((found == label).astype(np.uint8), np.isin(reference, ORGANS[name]).astype(np.uint8), 1),
            4,
        )
        for label, name in enumerate(result.class_names, 1)
    }
    return {"sha256": loaded.sha256, "dice": scores}


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    root = Path(os.environ.get("MEDUNISEG_SHARED", HERE.parents[2] / "shared")) / "data"
    rows = {}
    for name in MODELS:
        rows[name] = measure(name if name == "starter" else str(HERE / "weights" / name), root / "Dataset301_Geometry")
        LOG.info("%s: %s", name, rows[name]["dice"])
    write_text(RESULTS, json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
