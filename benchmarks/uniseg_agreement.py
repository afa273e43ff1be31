"""Labels of an imported UniSeg against those of its own program's preprocessing, windows and export.

The original's steps are the tests' oracle (tests/core/importers/uniseg_original.py: SimpleITK, scikit-image, scipy);
the network is the same in both. For a CT, parts of it that are smaller than the patch, and other spacings, it prints
the share of voxels with the same label, of all and of those that are foreground in either: as imported, and with this
program's own preprocessing, which imports had before.

    python benchmarks/uniseg_agreement.py [--checkpoint FILE] [--task liver] [--image ct_sm.nii.gz]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK
import torch

from meduniseg_core.images import read_image
from meduniseg_core.importers.uniseg import import_uniseg
from meduniseg_core.inference import Predictor
from meduniseg_core.model import build_model
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import Model

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "core" / "importers"))
from uniseg_original import predict  # noqa: E402

WANTED = 0.995
DATA = Path(os.environ.get("MEDUNISEG_SHARED", ROOT.parent / "shared")) / "data"


def parts(image: SimpleITK.Image) -> dict[str, SimpleITK.Image]:
    """The whole, parts of it, and the whole with other voxels."""
    width, height, depth = image.GetSize()
    middle = depth // 2
    finer = SimpleITK.ResampleImageFilter()
    finer.SetInterpolator(SimpleITK.sitkLinear)
    finer.SetReferenceImage(image)
    finer.SetSize([width * 2, height * 2, depth])
    finer.SetOutputSpacing([image.GetSpacing()[0] / 2, image.GetSpacing()[1] / 2, image.GetSpacing()[2]])
    return {
        "5 slices": image[:, :, middle - 2 : middle + 3],
        "a quarter": image[width // 4 : width // 4 + 40, height // 4 : height // 4 + 36, :],
        "12 slices": image[:, :, middle - 6 : middle + 6],
        "whole": image,
        "half the pixel size": finer.Execute(image),
    }


def own_preprocessing(plan: TaskPlan) -> TaskPlan:
    """The plan that imports had before."""
    fields = plan.model_dump(exclude={"scheme", "resampling", "low_pass", "small_images", "averaging", "crop_to_body"})
    return TaskPlan.model_validate(fields)


def main() -> None:
    """Print the table; the exit status tells whether every row reaches 99.5 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=DATA / "uniseg_reference" / "uniseg_narrow.model")
    parser.add_argument("--task", default="liver")
    parser.add_argument("--image", type=Path, default=DATA / "Dataset301_Geometry" / "ct_sm.nii.gz")
    arguments = parser.parse_args()
    imported = import_uniseg(arguments.checkpoint)
    network = build_model(imported.info.config)
    network.load_state_dict(imported.state_dict)
    network.eval()
    info = imported.info
    plan = info.plan_of(arguments.task)
    position = torch.tensor([info.task_index(plan.task)])
    before = info.model_copy(update={"tasks": tuple(own_preprocessing(one) for one in info.tasks)})
    sessions = [Predictor(Model(one, network, "0" * 64), "cpu", "fp32") for one in (info, before)]

    def logits(window: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(window)[None], position, levels=1)[0][0].numpy())

    assert plan.spacing is not None
    hounsfield = [kind == "ct" for kind in plan.normalisation]
    worst = 1.0
    print(f"{'':22} {'voxels':>22} {'as imported':>20} {'own preprocessing':>20}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "case.nii.gz"
        for name, image in parts(SimpleITK.ReadImage(str(arguments.image))).items():
            SimpleITK.WriteImage(image, str(file))
            theirs = predict(
                [file], logits, classes=plan.class_count, spacing=plan.spacing, patch=plan.patch, ct=hounsfield
            )
            shares = []
            for session in sessions:
                ours = session.segment(read_image(file), plan.task)[plan.task].labels.array[0]
                either = (ours > 0) | (theirs > 0)
                shares.append(((ours == theirs).mean(), (ours == theirs)[either].mean() if either.any() else 1.0))
            worst = min(worst, *shares[0])
            texts = [f"{100 * whole:9.3f}% {100 * own:8.3f}%" for whole, own in shares]
            print(f"{name:22} {' x '.join(map(str, theirs.shape)):>22} {texts[0]:>20} {texts[1]:>20}", flush=True)
    raise SystemExit(bool(worst < WANTED))


if __name__ == "__main__":
    main()
