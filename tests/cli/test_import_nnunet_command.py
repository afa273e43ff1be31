"""``meduniseg models import nnunet FOLDER``, and segmenting a file with what was imported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK

MODELS = Path(__file__).parents[1] / "core" / "importers" / "models"


def test_an_imported_model_segments_like_any_other(meduniseg, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    done = meduniseg("models", "import", "nnunet", MODELS / "regions", "--name", "mine", "--folds", "0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tasks"] == ["regions"]
    image = SimpleITK.GetImageFromArray(np.random.default_rng(0).integers(1, 300, (20, 36, 34)).astype(np.int16))
    image.SetSpacing((1.1, 1.3, 2.5))
    SimpleITK.WriteImage(image, str(tmp_path / "case.nii.gz"))
    out = tmp_path / "out"
    done = meduniseg("segment", tmp_path / "case.nii.gz", "-o", out, "--task", "regions", "--model", "mine", "--json")
    assert done.returncode == 0, done.stderr
    labels = SimpleITK.ReadImage(str(out / "case.nii.gz"))
    assert labels.GetSize() == image.GetSize() and np.allclose(labels.GetSpacing(), image.GetSpacing())
    result = json.loads((out / "case.json").read_text())
    assert result["model"] == "mine" and result["classes"] == {"1": "all", "2": "core"}


def test_what_cannot_be_imported_is_said_in_one_sentence(meduniseg, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    done = meduniseg("models", "import", "nnunet", tmp_path, "--name", "mine")
    assert done.returncode == 3 and "plans.json" in done.stderr and len(done.stderr.splitlines()) == 1
    assert meduniseg("models", "import", "nnunet", MODELS / "regions").returncode == 2  # no name
    bare = meduniseg("models", "import", MODELS / "regions")
    assert bare.returncode == 2 and f"say: import nnunet {MODELS / 'regions'}" in bare.stderr
    missing = meduniseg("models", "import", "nnunet", MODELS / "regions", "--name", "mine", "--folds", "0,7")
    assert missing.returncode == 2 and "'7'" in missing.stderr
    assert json.loads(meduniseg("models", "list", "--json").stdout)["models"][0]["name"] == "starter"
