"""``meduniseg ablate``: what would be trained, and tables of what is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_inputs import write_dataset

SUITE = """
name = "one"
output = "out"
seeds = [3]
reference = "a"
cases = "validation"
[base]
datasets = ["Dataset001_Blob"]
cache = "cache"
epochs = 2
iterations_per_dataset = 1
validation_fraction = 0.4
device = "cpu"
precision = "fp32"
select = "last"
plan_3d = { patch = [16, 32, 32], batch = 2 }
[base.network]
features = [4, 4, 4]
strides = [[1, 2, 2], [2, 2, 2]]
task_prompt_channels = 4
task_prompt_size = [2, 2, 2]
[[runs]]
name = "a"
title = "ours"
[[runs]]
name = "b"
settings.network.modal_prior = false
[[tables]]
number = 5
title = "variants"
runs = ["b", "a"]
"""


def test_plan_train_and_tables(meduniseg, tmp_path: Path) -> None:
    write_dataset(tmp_path / "Dataset001_Blob", ("a", "b", "c"))
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE)
    done = meduniseg("ablate", suite, "--plan", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"trainings": {"one-a-3": 2, "one-b-3": 2}, "iterations": 4}
    assert not (tmp_path / "out").exists()
    done = meduniseg("ablate", suite, "--only", "b", "--json")
    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)["tables"]
    first, second = table["columns"]
    assert list(first["tasks"]) == ["blob"] and first["parameters"] > 0 and second["tasks"] == {}
    assert "## Table 5: variants" in (tmp_path / "out" / "tables.md").read_text()
    shown = meduniseg("ablate", suite, "--tables")
    assert shown.returncode == 0 and shown.stdout.strip() == str(tmp_path / "out" / "tables.md")
    assert "Table 5: variants" in shown.stderr
    assert meduniseg("ablate", suite, "--only", "nobody").returncode == 2
    assert "give one of them" in meduniseg("ablate", suite, "--tables", "--plan").stderr


@pytest.mark.parametrize("command", ["ablate", "train"])
def test_an_interruption_says_that_the_same_command_goes_on(tmp_path: Path, interrupt, command: str) -> None:
    write_dataset(tmp_path / "Dataset001_Blob", ("a", "b", "c"))
    long = SUITE.replace("epochs = 2", "epochs = 9999")
    base = long.partition("[base]\n")[2].partition("[[runs]]")[0].replace("[base.network]", "[network]")
    suite, config = tmp_path / "suite.toml", tmp_path / "config.toml"
    suite.write_text(long)
    config.write_text('name = "one"\noutput = "run"\nfolds = 2\n' + base)
    words = (command, suite) if command == "ablate" else (command, config, "--fold", "all")
    done = interrupt(*words, at=lambda event: event.get("stage") == "train" and event["done"] > 0)
    assert done.returncode == 130
    assert done.error["message"] == "Interrupted; what is done stays, and the same command goes on from there."
    assert list(tmp_path.glob("**/checkpoint_last.safetensors"))
