"""Writes the small models of ``tests/core/importers/models`` and what nnU-Net answers with them.

Run in nnU-Net's environment (README.md): ``python benchmarks/peers/nnunet/fixtures.py [NAME...]``. The product's tests
compare with these answers, so that they need no nnU-Net.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import models
import numpy as np
import torch
from nnunet_samples import CASES, sample_image, sample_window
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

TARGET = models.REPOSITORY / "tests" / "core" / "importers" / "models"

WIDTHS = [4, 6, 8]
STEP = 3  # of arrays every third voxel is kept


def main() -> None:
    """All models."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in sys.argv[1:] or models.MODELS:
            made = models.make(name, Path(scratch), trained=True, widths=WIDTHS)
            folder = TARGET / name
            folder.parent.mkdir(parents=True, exist_ok=True)
            models.shutil.rmtree(folder, ignore_errors=True)
            models.shutil.copytree(made, folder)
            np.savez_compressed(folder / "expected.npz", **answers(folder))
    print(sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file()), "bytes in all")


def answers(folder: Path) -> dict[str, Any]:
    """Logits of one window by the first fold; per case the preprocessed image and the labels."""
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), None)
    channels = len(predictor.dataset_json["channel_names"])
    window = sample_window(tuple(predictor.configuration_manager.patch_size), channels)
    with torch.inference_mode():
        logits = predictor.network.eval()(torch.from_numpy(window))[0].numpy()
    found: dict[str, Any] = {"logits": thinned(logits)}
    ct = predictor.configuration_manager.normalization_schemes[0] == "CTNormalization"
    for case, facts in CASES.items():
        image = sample_image(facts["shape"], facts["spacing"], channels=channels, ct=ct).astype(np.float32)
        properties = {"spacing": list(facts["spacing"])}
        data, _, _ = predictor.configuration_manager.preprocessor_class(verbose=False).run_case_npy(
            image,
            None,
            dict(properties),
            predictor.plans_manager,
            predictor.configuration_manager,
            predictor.dataset_json,
        )
        found[f"{case}_shape"] = np.array(data.shape)
        found[f"{case}_data"] = thinned(data)
        for mirrored in (False, True):
            predictor.use_mirroring = mirrored
            labels = predictor.predict_single_npy_array(image, dict(properties))
            found[f"{case}_labels{'_tta' if mirrored else ''}"] = labels.astype(np.uint8)
            print(folder.name, case, np.bincount(labels.ravel()))
    return found


def thinned(array: np.ndarray) -> np.ndarray:
    """Every third voxel of (C, ...)."""
    return array[(slice(None), *[slice(None, None, STEP)] * (array.ndim - 1))]


if __name__ == "__main__":
    main()
