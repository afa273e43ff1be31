"""``meduniseg explain``."""

from __future__ import annotations

import json

import pytest


def test_without_data_sets_it_shows_modal_priors_and_costs(meduniseg, tiny_model, tmp_path) -> None:
    out = tmp_path / "inside"
    done = meduniseg("explain", tiny_model, "-o", out, "--device", "cpu", "--precision", "fp32", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["page"] == str(out / "explain.html") and found["silhouette"] is None
    assert {row["network"] for row in found["resources"]} >= {"tiny", "2D backbone"}
    assert (out / "modal_priors.png").is_file()
    assert meduniseg("explain", tiny_model, tmp_path, "-o", out).returncode == 3  # no data set


@pytest.mark.parametrize("name", ["explain.html", "explain.json", "resources.csv", "modal_priors.png"])
def test_files_of_others_are_never_replaced(meduniseg, tiny_model, tmp_path, name) -> None:
    (tmp_path / name).write_text("mine")
    done = meduniseg("explain", tiny_model, "-o", tmp_path, "--device", "cpu", "--precision", "fp32")
    assert done.returncode == 2 and f"{name} exists already and is not a result of this program" in done.stderr
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_an_earlier_look_is_replaced(meduniseg, tiny_model, tmp_path) -> None:
    for _ in range(2):
        done = meduniseg("explain", tiny_model, "-o", tmp_path, "--device", "cpu", "--precision", "fp32")
        assert done.returncode == 0, done.stderr
    (tmp_path / "explain.html").write_text("my notes")
    done = meduniseg("explain", tiny_model, "-o", tmp_path, "--device", "cpu", "--precision", "fp32")
    assert done.returncode == 2 and (tmp_path / "explain.html").read_text() == "my notes"
