"""From the downloads of all 23 data sets to the report in three commands, each of which may be repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import miniature_files
import miniatures
import numpy as np
import pytest
from PIL import Image as PillowImage

from meduniseg_core.conversion import CONVERSIONS
from meduniseg_core.preprocessing.cache import SOURCES
from training_cli.main import main

CONFIG = """
name = "all"
datasets = [{datasets}]
output = "run"
cache = "cache"
epochs = 1
iterations_per_dataset = 1
validation_fraction = 0.0
select = "last"
device = "cpu"
precision = "fp32"
plan_3d = {{ spacing = [2.0, 1.0, 1.0], patch = [4, 16, 16], batch = 2 }}
plan_2d = {{ longest_side = 16, patch = [1, 16, 16], batch = 2 }}

[network]
features = [4, 4, 4]
strides = [[1, 2, 2], [2, 2, 2]]
task_prompt_channels = 4
task_prompt_size = [2, 2, 2]
modal_prompt_length = 8
"""

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))

    def call(*words: object) -> dict[str, Any]:
        capsys.readouterr()
        code = main([*map(str, words), "--json", "--progress", "none"])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        answer: dict[str, Any] = json.loads(printed.out)
        return answer

    return call


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file that a run may write, with its identity and time; but for what it remembers of files' times, since
    files that were too young for that at first are remembered by the next run."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock") and SOURCES not in path.parts
    }


def test_from_all_downloads_to_the_report_and_again_only_what_changed(tmp_path: Path, run: Run) -> None:
    for name, make in miniatures.DOWNLOADS.items():
        make(tmp_path / "downloads" / name)
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(datasets=", ".join(f'"data/{name}"' for name in CONVERSIONS)))
    for path in (tmp_path / "downloads").rglob("*"):
        os.utime(path, (1e9, 1e9))  # of long ago: times tell whether a file changed

    def convert() -> dict[str, Any]:
        return run("dataset", "convert", "all", tmp_path / "downloads", "-o", tmp_path / "data")

    def three_commands() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return convert(), run("train", config, "--only-changed"), run("test", config)

    converted, trained, tested = three_commands()
    assert [one["dataset"] for one in converted["datasets"]] == list(CONVERSIONS)
    assert sum(one["converted"] for one in converted["datasets"]) == sum(
        sum(one["cases"].values()) for one in converted["datasets"]
    )
    assert Path(trained["model"]) == tmp_path / "run" / "all.safetensors"
    upstream, downstream = tested["tables"]
    assert (len(upstream["rows"]), len(downstream["rows"])) == (17, 6)
    assert tested["untested"] == []
    assert all(0 <= row["scores"][0] <= 100 for row in (*upstream["rows"], *downstream["rows"]))

    before = states(tmp_path)
    again = three_commands()
    assert sum(one["converted"] for one in again[0]["datasets"]) == 0
    assert again[2]["tables"] == tested["tables"]
    assert states(tmp_path) == before

    # a test label of one data set changes: its report alone is made anew
    label = next((tmp_path / "data" / "GlaS" / "labelsTs").iterdir())
    with PillowImage.open(label) as picture:
        moved = np.roll(np.asarray(picture), 2, axis=0)
    PillowImage.fromarray(moved).save(label)
    run("test", config)
    differ = {name for name, state in states(tmp_path).items() if before[name] != state}
    differ.remove(str(label.relative_to(tmp_path)))
    assert differ and all(name.startswith("run/test/gland/") for name in differ)
    assert not any("predictions" in name for name in differ)
    before = states(tmp_path)

    # one training label of a data set is corrected (not of CT, where the whole set's intensities decide on every case)
    case = sorted((tmp_path / "data" / "BraTS21" / "labelsTr").iterdir())[1].name.removesuffix(".nii.gz")
    (label,) = (tmp_path / "downloads" / "BraTS21").rglob(f"{case}_seg.nii.gz")
    miniature_files.nifti(label, miniature_files.blocks(2, 1, 4))
    former = Path(trained["model"]).read_bytes()
    changed = convert(), run("train", config, "--only-changed")
    assert sum(one["converted"] for one in changed[0]["datasets"]) == 1
    after = states(tmp_path)
    cached = {name for name, state in after.items() if name.startswith("cache/") and before.get(name) != state}
    assert {Path(name).name for name in cached} <= {
        *(f"{case}{end}" for end in (".npy", "_seg.npy", ".json", "_facts.json", ".npz")),
        "brain_tumour.json",
    }
    (aside,) = (tmp_path / "run" / "former").iterdir()
    assert (aside / "all.safetensors").read_bytes() == former != Path(changed[1]["model"]).read_bytes()
