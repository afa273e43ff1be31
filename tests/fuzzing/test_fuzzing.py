"""Fuzzing of everything that parses a file: whatever is in it, only our own errors come out, in one line.

A bounded, repeatable share runs with the tests. By hand, for as long as one likes and with new inputs every time:
``MEDUNISEG_FUZZ_SECONDS=600 python -m pytest -q -m slow tests/fuzzing`` (seconds for each parser).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from fuzzing.mutations import EDITS, Edit, changed, in_header
from hostile.corpus import corpus
from hypothesis import HealthCheck, Phase, given, seed, settings
from weights_samples import CONFIG, small_info, small_state

from meduniseg_core.corrections import Ledger
from meduniseg_core.corrections.journal import read_journal
from meduniseg_core.errors import MedUniSegError
from meduniseg_core.images import Geometry, Image, read_image, read_labels
from meduniseg_core.model import build_model
from meduniseg_core.model.lora import Refinement
from meduniseg_core.preprocessing import RawDataset, load_plans, save_plans
from meduniseg_core.provenance import read_provenance
from meduniseg_core.training import TrainingConfig
from meduniseg_core.training.checkpoint import LAST, RunState, load_checkpoint, newest_checkpoint, save_checkpoint
from meduniseg_core.weights import (
    ActiveModels,
    PackInfo,
    read_info,
    read_model,
    read_pack,
    read_pack_info,
    save_model,
    save_pack,
)

EXAMPLES = 40
SECONDS = float(os.environ.get("MEDUNISEG_FUZZ_SECONDS", "60"))
CONFIG_TOML = """
name = "tiny"
datasets = ["Dataset001_Discs", "../Dataset002"]
output = "run"
cache = "cache"
epochs = 3
iterations_per_dataset = 2
learning_rate = 0.01
validation_fraction = 0.3
patience = 2
select = "last"
rate_shares = [["*.head.*", 1], ["*", 0.1]]
[network]
features = [4, 6, 8]
strides = [[1, 2, 2], [2, 2, 2]]
[plan.disc]
patch = [1, 32, 32]
batch = 3
long_side = 56
[plan_3d]
spacing = [3.0, 1.0, 1.0]
classes = ["a", "b"]
[augmentation]
presets = "none"
[absence.disc]
share = 0.2
"""
_HEADER = 1000  # bytes in which the headers of small images lie

FORMATS = {
    "nifti": ("nifti_plain.nii", "nifti_packed.nii.gz", "nifti_rgb.nii", "nifti_quaternion_rounded.nii"),
    "nrrd": ("nrrd_plain.nrrd", "nrrd_overlap.seg.nrrd", "nrrd_leaves_its_folder.nhdr"),
    "metaimage": ("meta_plain.mha", "meta_names_itself.mhd"),
    "png": ("png_plain.png", "png_turned.png", "png_grey_labels.png"),
    "jpeg": ("jpeg_plain.jpg", "jpeg_turned.jpg", "jpeg_cmyk.jpg"),
    "bmp": ("bmp_plain.bmp",),
    "tiff": ("tiff_plain.tif", "tiff_by_hand.tif", "tiff_spacing.tif", "tiff_ome.tif"),
    "numpy": ("numpy_plain.npy", "numpy_packed.npz"),
    "dicom": ("dicom_plain.dcm", "dicom_deflated.dcm", "dicom_rle_rubbish.dcm"),
}


@dataclass(frozen=True)
class Target:
    """A parser and a sound file of its kind."""

    file: Path
    parsers: tuple[Callable[[Path], object], ...]
    mutate: Callable[[bytes, list[Edit]], bytes]


def _text(content: bytes, edits: list[Edit]) -> bytes:
    return changed(content, edits, len(content))


def _image(content: bytes, edits: list[Edit]) -> bytes:
    return changed(content, edits, _HEADER)


def _targets(folder: Path) -> dict[str, list[Target]]:
    found: dict[str, list[Target]] = {}
    items = {item.name: item for item in corpus()}
    for form, names in FORMATS.items():
        for name in names:
            (folder / name).write_bytes(items[name].content)
            for beside, content in items[name].beside.items():
                (folder / beside).write_bytes(content)
            found.setdefault(form, []).append(Target(folder / name, (read_image, read_labels), _image))
    model, pack = folder / "model.safetensors", folder / "pack.safetensors"
    sha256 = save_model(model, small_info(), small_state())
    torch.manual_seed(0)
    tensors = dict(Refinement(build_model(CONFIG), 2).state_dict())
    fields = {"base": "small", "base_sha256": sha256, "config": CONFIG, "tasks": ("organ",), "rank": 2, "alpha": 4.0}
    save_pack(pack, PackInfo.model_validate({"name": "p", **fields}), tensors)
    for file, parsers in ((model, (read_info, read_model)), (pack, (read_pack_info, read_pack))):
        name = file.stem
        found[name] = [Target(file, parsers, in_header), Target(file, parsers, _image)]
    found["checkpoint"] = _checkpoint(folder / LAST)
    toml = folder / "config.toml"
    toml.write_text(CONFIG_TOML)
    found["config"] = [Target(toml, (TrainingConfig.from_toml,), _text)]
    plans = folder / "plans.json"
    save_plans(small_info().tasks, plans)
    found["plans"] = [Target(plans, (load_plans,), _text)]
    ledger = Ledger.create(folder / "ledger", task="organ", modality="ct", classes=("liver",), channels=("CT",))
    image = Image(torch.arange(24).reshape(1, 2, 3, 4).numpy().astype("int16"), Geometry((2, 3, 4), (3, 1, 1)))
    for patient in ("a", "b"):
        ledger.accept(image, image.with_array(image.array % 2), patient=patient)
        image = image.with_array(image.array + 1)
    found["ledger"] = [Target(folder / "ledger" / "ledger.jsonl", (read_journal,), _text)]
    dataset = folder / "ledger" / "dataset.json"
    found["dataset"] = [Target(dataset, (lambda file: RawDataset.open(file.parent).cases("Tr"),), _text)]
    result = folder / "labels.json"
    result.write_text(json.dumps({"task": "t", "model": "m", "classes": {"1": "a"}, "colours": {"1": [1, 2, 3]}}))
    found["provenance"] = [Target(result, (lambda file: read_provenance(file.with_suffix(".png")),), _text)]
    adopted = ActiveModels(folder)
    adopted.adopt("disc_cup", "starter", "starter")
    file = next(path for path in folder.rglob("*.json") if b"starter" in path.read_bytes())
    found["adoptions"] = [Target(file, (lambda _: adopted.all(), lambda _: adopted.gone()), _text)]
    return found


def _checkpoint(file: Path) -> list[Target]:
    """A training's state after one step, changed in its header and anywhere."""
    torch.manual_seed(0)
    network = build_model(CONFIG)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimizer.step()
    save_checkpoint(file, network, optimizer, RunState(iteration=50, epoch=1, best_dice=0.5, config_hash="f"))
    parsers = (
        lambda path: load_checkpoint(path, network, optimizer, "f"),
        lambda path: newest_checkpoint(path.parent, "f"),
    )
    return [Target(file, parsers, in_header), Target(file, parsers, _image)]


NAMES = (*FORMATS, "model", "pack", "checkpoint", "config", "plans", "ledger", "dataset", "provenance", "adoptions")


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Target]]:
    return _targets(tmp_path_factory.mktemp("fuzzing"))


def check(target: Target, edits: list[Edit]) -> None:
    """Parse the changed file; anything but an answer or an error of ours, in one line, is a fault."""
    sound = target.file.read_bytes()
    try:
        target.file.write_bytes(target.mutate(sound, edits))
        for parse in target.parsers:
            try:
                parse(target.file)
            except MedUniSegError as error:
                assert str(error).strip()
                assert "\n" not in str(error)
    finally:
        target.file.write_bytes(sound)


def fuzz(target: Target, rules: settings, start: int | None = None) -> None:
    """Check one target by these rules."""

    def one(edits: list[Edit]) -> None:
        check(target, edits)

    rules(given(EDITS)(one) if start is None else seed(start)(given(EDITS)(one)))()


BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
LONG = settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", NAMES)
def test_only_our_own_errors_come_out(name: str, targets: dict[str, list[Target]]) -> None:
    for target in targets[name]:
        fuzz(target, BOUNDED)


@pytest.mark.slow
@pytest.mark.skipif("MEDUNISEG_FUZZ_SECONDS" not in os.environ, reason="say how long: MEDUNISEG_FUZZ_SECONDS")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", NAMES)
def test_for_a_while(name: str, targets: dict[str, list[Target]]) -> None:
    end, start = time.monotonic() + SECONDS, int(time.time()) * 1000
    while time.monotonic() < end:
        for target in targets[name]:
            start += 1
            fuzz(target, LONG, start)
