"""A run packed for another machine: the same run, near the same voxels, and a checkpoint goes on at either."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError, CancelledError
from meduniseg_core.training import TrainingConfig, train
from meduniseg_core.training.packed import pack, sizes, unpack
from meduniseg_core.training.prepare import prepare
from meduniseg_core.weights import load_model
from tests.stopping import StopAfter


@pytest.fixture
def packed(config: TrainingConfig, tmp_path: Path) -> Path:
    path = tmp_path / "run.pack"
    pack(prepare(config), path)
    return path


def test_what_is_unpacked_is_the_run_that_was_packed(config: TrainingConfig, packed: Path, tmp_path: Path) -> None:
    first, second = prepare(config), unpack(packed, tmp_path / "elsewhere")
    assert second.config_hash == first.config_hash and second.info == first.info
    for a, b in zip(first.tasks, second.tasks, strict=True):
        assert a.plan == b.plan
        for old, new in zip((*a.train, *a.validation), (*b.train, *b.validation), strict=True):
            assert (old.case, old.patient, old.record.key) == (new.case, new.patient, new.record.key)
            assert np.array_equal(old.seg, new.seg)
            assert all(np.array_equal(old.foreground[k], new.foreground[k]) for k in old.foreground)
            apart = np.abs(np.asarray(old.data, np.float32) - np.asarray(new.data, np.float32))
            assert apart.mean() < 0.25  # of a standard deviation, and noise is what JPEG keeps worst
    assert {name for name, _ in sizes(packed)} >= {"disc", "ball"}


def test_a_checkpoint_goes_on_from_the_pack_and_back(config: TrainingConfig, packed: Path, tmp_path: Path) -> None:
    token = StopAfter(5)  # four iterations are an epoch
    with pytest.raises(CancelledError):
        train(config, events=token.listen, cancel=token)
    there = unpack(packed, tmp_path / "elsewhere")
    token = StopAfter(5)
    with pytest.raises(CancelledError):
        train(config, resume=True, prepared=there, events=token.listen, cancel=token)
    result = train(config, resume=True)
    assert result.epochs == 3 and load_model(result.model).info.plan_of("disc")


@pytest.mark.parametrize("damage", ["cut", "other", "entry"])
def test_a_damaged_pack_is_refused_by_name(packed: Path, tmp_path: Path, damage: str) -> None:
    if damage == "cut":
        packed.write_bytes(packed.read_bytes()[:-400])
    elif damage == "other":
        packed.write_text("no zip at all")
    else:
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("prepared.json", b"nonsense")
    with pytest.raises(BadInputError, match=r"run\.pack"):
        unpack(packed, tmp_path / "elsewhere")
