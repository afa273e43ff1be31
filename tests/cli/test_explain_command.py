"""``meduniseg explain``."""

from __future__ import annotations

import json


def test_without_data_sets_it_shows_modal_priors_and_costs(meduniseg, tiny_model, tmp_path) -> None:
    out = tmp_path / "inside"
    done = meduniseg("explain", tiny_model, "-o", out, "--device", "cpu", "--precision", "fp32", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["page"] == str(out / "explain.html") and found["silhouette"] is None
    assert {row["network"] for row in found["resources"]} >= {"tiny", "2D backbone"}
    assert (out / "modal_priors.png").is_file()
    assert meduniseg("explain", tiny_model, tmp_path, "-o", out).returncode == 3  # no data set
