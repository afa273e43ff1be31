"""One truth about dependencies, Python versions and the version, wherever they are written."""

from __future__ import annotations

import re
import tomllib

import npe2
import pytest
import yaml

import meduniseg_core
from meduniseg_core.images.formats import ENDINGS, PHOTOGRAPH_FORMATS
from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
CONDA_NAMES = {"torch": "pytorch"}


def _requirement(text: str) -> tuple[str, str]:
    match = re.match(r"([A-Za-z0-9._-]+)\s*(.*)", text)
    assert match is not None
    name = match[1].lower().replace("_", "-")
    return CONDA_NAMES.get(name, name), match[2].replace(" ", "")


def test_the_conda_recipe_has_the_dependencies_of_the_project() -> None:
    text = (REPOSITORY / "packaging/conda/meta.yaml").read_text("utf-8")
    recipe = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", re.sub(r"\{%.*?%\}", "", text)))
    run = dict(map(_requirement, recipe["requirements"]["run"]))
    assert run.pop("python") == PROJECT["requires-python"]
    assert run == dict(map(_requirement, PROJECT["dependencies"]))


def test_the_recipe_finds_the_version() -> None:
    text = (REPOSITORY / "packaging/conda/meta.yaml").read_text("utf-8")
    found = re.search(r"load_file=\"(.+?)\", regex_pattern='(.+?)'", text)
    assert found is not None
    version = re.search(found[2], (REPOSITORY / found[1]).read_text("utf-8"))
    assert version is not None
    assert version[1] == meduniseg_core.__version__
    assert "version" not in PROJECT


def test_every_direct_dependency_has_a_tested_version() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    extras = [one for name in ("napari", "docs", "dev") for one in PROJECT["optional-dependencies"][name]]
    wanted = {_requirement(re.sub(r"\[.*?\]", "", one))[0] for one in [*PROJECT["dependencies"], *extras]}
    wanted = {"torch" if name == "pytorch" else name for name in wanted} - {"napari-meduniseg"}
    assert wanted <= pinned


def test_ci_runs_on_the_versions_that_are_promised() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text("utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert matrix["python"] == promised
    assert {system.split("-")[0] for system in matrix["system"]} == {"ubuntu", "macos", "windows"}


def test_the_citation_names_the_paper() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert citation["preferred-citation"]["url"] == PROJECT["urls"]["Paper"]


def test_the_manifest_is_valid_and_has_categories() -> None:
    manifest = npe2.PluginManifest.from_file(REPOSITORY / "src/napari_meduniseg/napari.yaml")
    assert "Segmentation" in manifest.categories


def test_the_viewer_offers_the_reader_for_every_picture_that_can_be_read() -> None:
    manifest = npe2.PluginManifest.from_file(REPOSITORY / "src/napari_meduniseg/napari.yaml")
    patterns = {pattern for reader in manifest.contributions.readers or () for pattern in reader.filename_patterns}
    assert {f"*{ending}" for ending, kind in ENDINGS.items() if kind in PHOTOGRAPH_FORMATS} <= patterns


@pytest.mark.parametrize("package", ["src/meduniseg_core", "training_cli"])
def test_typed_packages_say_so(package: str) -> None:
    assert (REPOSITORY / package / "py.typed").is_file()
