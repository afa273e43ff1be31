"""Dice of a model on all images that the starter's training held back: what its further training is chosen by.

    export MEDUNISEG_SHARED=../shared
    python experiments/starter/validation.py [MODEL]     # default: the trained starter; adds to results/validation.json

During a training only a few of them are looked at. Nothing here looks at imagesTs.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import torch
from tables import measured

from meduniseg_core.files import write_text
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training import TrainingConfig
from meduniseg_core.training.split import read_splits
from meduniseg_core.training.standing import model_path
from meduniseg_core.weights import load_model

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "validation.json"
LOG = logging.getLogger("validation")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    torch.set_num_threads(1)
    config = TrainingConfig.from_toml(HERE / "sixteen_fifth.toml")
    given = sys.argv[1] if len(sys.argv) > 1 else str(model_path(config))
    splits = read_splits(config.output / "split.json")
    predictor = Predictor(load_model(given), "cpu", "fp32")
    rows: dict[str, dict[str, list[float]]] = {}
    for folder in config.datasets:
        dataset = RawDataset.open(folder)
        task, held = dataset.task, set(splits[dataset.task].validation)
        found = measured(predictor, task, [case for case in dataset.cases("Tr") if case.case in held])
        rows[task] = {case: [round(value, 4) for value in values] for case, values in found["dice"].items()}
        LOG.info(
            "%s: %d images, %.1f", task, len(rows[task]), 100 * np.mean([np.mean(of) for of in rows[task].values()])
        )
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    known[predictor.model.sha256] = {"model": Path(given).name, "dice": rows}
    write_text(RESULTS, json.dumps(known, indent=1) + "\n")
    means = [np.mean([np.mean(of) for of in cases.values()]) for cases in rows.values()]
    LOG.info("mean of %d tasks: %.1f", len(means), 100 * np.mean(means))
    return 0


if __name__ == "__main__":
    sys.exit(main())
