"""The figures in the documents are those of the committed results, and these are of the shipped starter."""

from __future__ import annotations

import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from skimage.data import retina

from meduniseg_core.images import Geometry, Image
from meduniseg_core.inference import Predictor
from meduniseg_core.model import count_parameters
from meduniseg_core.weights import Model, load_model, read_pack
from tests.conftest import REPOSITORY

EXPERIMENTS = REPOSITORY / "experiments"
STARTER = EXPERIMENTS / "starter"
CARD = REPOSITORY / "docs" / "model_card.md"


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model("starter")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The starter's scripts can be imported by their own names, as they import each other."""
    monkeypatch.syspath_prepend(str(STARTER))
    names = {path.stem for path in STARTER.glob("*.py")}
    yield
    for name in names & sys.modules.keys():
        del sys.modules[name]


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def results(path: str) -> Any:
    return json.loads((EXPERIMENTS / path).read_text("utf-8"))


def words(path: Path) -> str:
    """The text without its line breaks."""
    return " ".join(path.read_text("utf-8").split())


def percent(values: list[float]) -> str:
    return f"{100 * float(np.mean(values)):.1f}"


def models_of(content: Any) -> set[str]:
    """The sha256 of every starter that a result says it is of."""
    rows = content if isinstance(content, list) else [content]
    keys = ("sha256", "starter_sha256", "starter")
    own = {row[key] for row in rows if isinstance(row, dict) for key in keys if isinstance(row.get(key), str)}
    inner = [value for row in rows if isinstance(row, dict) for value in row.values() if isinstance(value, dict)]
    return own | {row["starter"] for row in inner if isinstance(row.get("starter"), str)}


# what the starter's own training was chosen by is of other networks
RESULTS = sorted(
    path
    for path in EXPERIMENTS.glob("*/results/*.json")
    if path.name not in ("validation.json", "sources.json", "hounsfield.json", "scaling.json")
)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_what_was_measured_on_the_starter_is_of_the_shipped_one(path: Path, scripts: None, shipped: Model) -> None:
    """Or of a file with the same weights, where the result is not of a task whose plan differs."""
    run = script("run")
    same_weights = set(results("starter/results/weights.json")[run.weights_digest(shipped)])
    assert shipped.sha256 in same_weights
    task = path.stem in run.POSTPROCESSED
    assert models_of(json.loads(path.read_text("utf-8"))) <= ({shipped.sha256} if task else same_weights)


def test_the_cards_tables_are_those_of_the_results(scripts: None, shipped: Model) -> None:
    tables, figures = script("tables"), results("starter/results/dice.json")
    assert figures["starter_sha256"] == shipped.sha256
    begin, end = tables.MARKS
    assert f"{begin}\n{tables.tables(figures)}\n{end}" in CARD.read_text("utf-8")


def test_the_card_says_how_far_the_starter_is_behind_single_task_networks() -> None:
    figures = results("starter/results/dice.json")

    def mean(key: str) -> float:
        return 100 * float(np.mean([np.mean(own) for own in figures["networks"][key]["dice"].values()]))

    behind = {
        row["task"]: float(np.mean([mean(key) for key in row["singles"].values()])) - mean(row["starter"])
        for row in figures["tasks"]
    }
    assert len(behind) == 16
    others = np.mean([value for task, value in behind.items() if task != "polyp"])
    said = f"is {np.mean(list(behind.values())):.1f} points behind them, and {others:.1f} without polyp"
    assert said in words(CARD)


def test_the_tables_beside_the_results_are_those_of_the_results(scripts: None) -> None:
    nothing_there, sources = script("nothing_there"), script("sources")
    assert nothing_there.TABLE.read_text("utf-8") == nothing_there.table(results("starter/results/nothing_there.json"))
    assert sources.TABLE.read_text("utf-8") == sources.table() + "\n"


def test_the_card_has_the_scaling_experiments_table(scripts: None) -> None:
    scaling = script("scaling")
    table = scaling.table(results("starter/results/scaling.json"))
    assert table in CARD.read_text("utf-8")
    mean = {(row[0], row[1]): row[-1] for row in _cells(table)}
    assert f"is better ({mean['32', 'own']} against {mean['16', 'own']})" in words(CARD)


def test_the_card_has_the_transfers_table_and_what_quick_adapt_does(shipped: Model) -> None:
    table = (EXPERIMENTS / "transfer" / "results" / "table.md").read_text("utf-8").strip()
    assert table in CARD.read_text("utf-8")
    for name in ("cardiac", "nuclei", "kidney", "brain", "cardiac_3d"):
        rows = results(f"transfer/results/{name}.json")
        for line in (cells for cells in _cells(table) if cells[0] == name):
            share = line[1].split("(")[1].split(" ")[0]
            for arm, said in zip(("scratch", "starter"), line[2:4], strict=True):
                means = [100 * float(np.mean(rows[f"{share} {seed} {arm}"]["dice"])) for seed in range(3)]
                assert said == f"{np.mean(means):.1f} ± {np.std(means):.1f}"
    page = REPOSITORY / "docs" / "how-to" / "adapt.md"
    for task in ("head_neck_organs", "chest"):
        before, after = adapted(task)
        assert f"{before[0]} before, {after[0]} after" in words(CARD) and f"from {before[0]} to {after[0]}" in words(
            page
        )
    (_, lung, infection), (_, lung_after, infection_after) = before, after  # of the chest
    assert f"(infection {infection} and {infection_after}, lung {lung} and {lung_after};" in words(CARD)
    minutes = [float(row[2]) for task in ("head_neck_organs", "chest") for row in _quick_adapt(task)[2:]]
    assert max(minutes) <= 2.0  # two minutes at most


def adapted(task: str) -> tuple[list[str], list[str]]:
    """Mean Dice, and that of each class, before and after 300 iterations of quick adapt."""
    rows = {(row[0], row[1]): row[5:] for row in _quick_adapt(task)}
    return rows["starter", "0"], rows["quick", "300"]


def _quick_adapt(task: str) -> list[list[str]]:
    return _cells((EXPERIMENTS / "quick_adapt" / "results" / f"{task}.md").read_text("utf-8"))


SAID_AS = {
    "breast_lesion": "breast lesion",
    "gland": "gland",
    "retinal_vessel": "vessels",
    "brain_tumour_t1c": "brain tumour",
    "teeth_panoramic": "teeth",
    "head_neck_organs": "head and neck",
}


def test_the_card_says_what_refinement_does(shipped: Model) -> None:
    table = (EXPERIMENTS / "refine" / "results" / "table.md").read_text("utf-8")
    assert results("refine/results/choice.json")["starter_sha256"] == shipped.sha256
    rows = {row[0].strip("*").split("*")[0]: row[2:] for row in _cells(table) if len(row) == 5}
    figures, refined = results("refine/results/dice.json"), results("refine/results/choice.json")["chosen"]
    assert {task: pack["sha256"] for task, pack in figures["packs"].items()} == {
        task: read_pack(EXPERIMENTS / "refine" / "packs" / f"starter-{task}.safetensors").sha256 for task in refined
    }
    for task in refined:
        before, after, gain = rows[task]
        assert f"{SAID_AS[task]} {before} before, {after} after ({gain.split('(')[1]}" in words(CARD)
    (tumours,) = [row["cases"] for row in figures["tasks"] if row["task"] == "brain_tumour_t1c"]
    assert sum(np.mean(case["after"]) <= 0.01 for case in tumours) == 3  # three are not found
    assert "Through its pack (below) three are not found." in words(CARD)
    same = [task for task, row in rows.items() if row[2] == "0 (the same in every case)"]
    assert {*same, *refined, "mean"} == set(rows) - {"task", "---"} and len(same) == 10  # the other ten
    before, after, _ = rows["mean"]
    (single,) = [row[5].strip("*") for row in _cells(CARD.read_text("utf-8")) if row[0] == "**mean**"]
    assert f"over all sixteen {before} before, {after} after (single-task networks: {single})" in words(CARD)


def test_the_card_says_what_was_called_target_where_there_is_none(shipped: Model) -> None:
    (found,) = results("starter/results/nothing_there.json")
    share = {task: [row["share"] for row in rows] for task, rows in found["tasks"].items()}
    lungs = percent([row["lung_dice"] for row in found["tasks"]["chest"]])
    text = words(CARD)
    for said in (
        f"chest X-rays {percent(share['chest'])} % of the lungs are called infection in the mean "
        f"({percent([max(share['chest'])])} % in the worst of seven; lungs themselves {lungs})",
        f"without a polyp {percent(share['polyp'])} %",
        f"a healthy breast {percent(share['breast_lesion'])} % "
        f"({percent([max(share['breast_lesion'])])} % in the worst of eight)",
        f"without a lesion {percent(share['skin_lesion'])} % (two pictures)",
        f"without a brain tumour {percent(share['brain_tumour_t1c'])} %",
    ):
        assert said in text


def test_the_card_says_how_the_recipe_holds_on_a_source_left_out(scripts: None) -> None:
    sources = script("sources")
    rows = {row[1]: row[2:6] for row in _cells(sources.table()) if row[0] == "new"}
    skin, gland, breast, polyp = rows["the starter's recipe"]
    assert f"skin lesion {skin}, gland {gland}, breast lesion {breast}, polyp {polyp}." in words(CARD)
    *first, last = rows["first starter"]
    assert f"had {', '.join(first)} and {last}." in words(CARD)


def _cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_card_says_what_the_starter_makes_of_hounsfield_units(shipped: Model) -> None:
    found = results("starter/results/hounsfield.json")
    own, before = found["starter"]["dice"], found["second_part.safetensors"]["dice"]
    assert found["starter"]["sha256"] == shipped.sha256
    assert (
        f"liver {own['liver']:.2f} and kidneys {own['kidney']:.2f} (after the second part of the training "
        f"{before['liver']:.2f} and {before['kidney']:.2f}), pancreas {own['pancreas']:.2f}"
    ) in words(CARD)


def test_the_card_says_what_the_starter_keeps_of_organs_in_one_piece(shipped: Model) -> None:
    found = {one["name"]: one for one in results("starter/results/postprocessing.json")["starter"]}
    kept = tuple(name for name, one in found.items() if one["largest_only"])
    assert shipped.info.plan_of("head_neck_organs").largest_only == kept == ("spinal cord", "left parotid", "mandible")
    cord = found["spinal cord"]
    assert cord["cases"] == 9  # nine images
    dice, largest = percent([cord["dice"]]), percent([cord["dice_of_largest"]])
    assert f"(the cord's Dice there: {largest}, with all components {dice};" in words(CARD)


def test_the_card_says_what_the_starter_does_badly() -> None:
    figures = results("starter/results/dice.json")
    tumours, breast, chest = (
        list(figures["networks"][f"{figures['starter_sha256']}:{task}"]["dice"].values())
        for task in ("brain_tumour_t1c", "breast_lesion", "chest")
    )
    found = [case[0] for case in tumours if case[0] > 0.01]
    assert (len(tumours) - len(found), len(tumours)) == (9, 30)  # nine of thirty
    lesions = [100 * case[0] for case in breast]
    infection = [case[1] for case in chest]
    text = words(CARD)
    assert f"nine of thirty are not found (Dice 0.01 at most), the others have a Dice of {np.mean(found):.2f}" in text
    assert f"({np.mean(lesions):.1f} on nine pictures, from {min(lesions):.1f} to {max(lesions):.1f})" in text
    # one of the twenty is without infection: nothing found there would be 1, something found is 0
    assert len(infection) == 20 and figures["tasks"][7]["task"] == "chest"
    assert f"its Dice with the reader is {sum(infection) / 19:.2f} in the mean" in text


def test_what_is_said_of_the_quality_estimate_is_what_was_measured(shipped: Model) -> None:
    found = results("quality/results/quality.json")
    parts = [found["parts"][part]["all"] for part in ("held out", "source left out", "both")]
    page = (REPOSITORY / "docs" / "explanation" / "quality.md").read_text("utf-8")
    for name, key in (
        ("AUROC of telling a Dice below 0.5", "auroc"),
        ("rank correlation of predicted and true Dice", "spearman"),
        ("calibration error of the probability of being present", "present_error"),
    ):
        assert f"| {name} | {' | '.join(f'{part[key]:.2f}' for part in parts)} |" in page
    covered = " | ".join(f"{100 * part['covered']:.0f} %" for part in parts)
    assert f"(80 % are promised) | {covered} |" in page
    own, out, both = parts
    assert f"on {own['images']} images that were held out" in page and f"on {out['images']} images" in page
    assert f"{both['below']} of {both['classes']} have a Dice below 0.5 ({out['below']} of the {out['images']})" in page
    assert (
        f"AUROC of {own['auroc']:.2f} ({out['auroc']:.2f} with a whole source left out of the calibration, where only "
        f"{out['below']} of {out['images']} are below), ranks results with a correlation of {own['spearman']:.2f}, and "
        f"its probability that a class is there is off by {own['present_error']:.2f} in the mean"
    ) in words(CARD)


def test_the_starters_size_and_tasks_are_what_the_documents_say(shipped: Model) -> None:
    parameters = count_parameters(shipped.info.config)["total"]
    plans = shipped.info.tasks
    size = (REPOSITORY / "src/meduniseg_core/weights/shipped/starter.safetensors").stat().st_size
    assert (len(plans), len({plan.modality for plan in plans})) == (16, 9)  # sixteen tasks, nine modalities
    assert f"{parameters / 1e6:.2f} M parameters, stored as fp16 ({size / 1e6:.0f} MB)" in words(CARD)
    assert f"16 tasks, {sum(len(plan.classes) for plan in plans)} classes, 2D and 3D, nine modalities" in words(CARD)
    for page in ("README.md", "docs/how-to/models.md"):
        assert f"sixteen tasks, nine modalities, {parameters / 1e6:.1f} million parameters" in words(REPOSITORY / page)


def test_the_card_says_how_long_the_training_was_and_took() -> None:
    folders = ("part-1", "part-2", "part-3", "part-4", "starter")
    ends = [
        json.loads((STARTER / "results" / folder / "log.jsonl").read_text("utf-8").splitlines()[-1])
        for folder in folders
    ]
    *first, last = [f"{end['iteration']:,}" for end in ends]
    hours = [end["seconds"] / 3600 for end in ends]
    assert f"in five runs of {', '.join(first)} and {last} iterations" in words(CARD)
    assert f"Two CPU cores, bf16, {sum(hours[:2]):.1f} hours, and one core for {sum(hours[2:]):.1f}" in words(CARD)


def test_the_parts_of_the_training_have_the_figures_that_stand_beside_their_weights() -> None:
    held_back = set()
    for model in results("starter/results/validation.json").values():
        of = {task: percent([np.mean(case) for case in cases.values()]) for task, cases in model["dice"].items()}
        every = [np.mean([np.mean(case) for case in cases.values()]) for cases in model["dice"].values()]
        held_back.add((percent(every), of["abdomen"], of["brain_tumour_t1c"]))
    hounsfield = {
        (f"{100 * model['dice']['liver']:.1f}", f"{100 * model['dice']['kidney']:.1f}")
        for model in results("starter/results/hounsfield.json").values()
    }
    table = (STARTER / "weights" / "README.md").read_text("utf-8")
    rows = [tuple(re.findall(r"\| (\d+\.\d)(?= )", line)) for line in table.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row]
    assert len(rows) == len(hounsfield) == 6
    for row in rows:
        assert row[:3] in held_back and row[3:] in hounsfield


def test_the_shipped_file_carries_the_licence_that_its_training_data_give(scripts: None, shipped: Model) -> None:
    licences = script("licences")
    derived = licences.derived(licences.read_licences())
    assert shipped.info.licence == derived
    assert [row.task for row in licences.read_licences()] == [plan.task for plan in shipped.info.tasks]
    for path in STARTER.glob("sixteen*.toml"):
        assert tomllib.loads(path.read_text("utf-8"))["licence"] == derived


def test_what_the_method_says_of_boxes_and_classes_is_what_was_measured() -> None:
    text = words(REPOSITORY / "docs" / "spec.md")
    evaluate = (EXPERIMENTS / "detection/results/evaluate.md").read_text("utf-8")
    choose = (EXPERIMENTS / "detection/results/choose.md").read_text("utf-8")
    line = r"mean probability ([\d.]+), largest probability ([\d.]+), sum above one half ([\d.]+), area ([\d.]+)\."
    ((mean, largest, above, area),) = re.findall(line, choose)
    assert (
        f"mean AP {mean} by the mean probability, {above} by the sum of what it is above one half, {area} by area "
        f"alone, {largest} by the largest probability"
    ) in text
    ((mean, largest, above, area),) = re.findall(line, evaluate)
    assert f"On held-out images it is {mean}, {above}, {area} and {largest}" in text
    (row,) = re.findall(
        r"\| all \| (\d+) \| ([^|]+) \| ([^|]+) \|",
        (EXPERIMENTS / "classification/results/evaluate.md").read_text("utf-8"),
    )
    head, low, high = (f"{float(value):.2f}" for value in re.findall(r"[\d.]+", row[1]))
    alone = f"{float(row[2].split()[0]):.2f}"
    assert (
        f"On {row[0]} crops of held-out pictures (six tasks) the heads' AUROC is {head} (95 % interval {low} to "
        f"{high}), that of a fit on the segmented area alone {alone}"
    ) in text


def test_the_first_example_shows_what_the_starter_finds(shipped: Model) -> None:
    pixels = np.moveaxis(retina(), -1, 0)[:, None]
    geometry = Geometry((1, *pixels.shape[2:]), (1.0, 1.0, 1.0))
    image = Image(np.ascontiguousarray(pixels), geometry, False, meta={"colour": "rgb"})
    found = Predictor(shipped, "cpu", "fp32").segment(image, "disc_cup")["disc_cup"]
    page = (REPOSITORY / "docs" / "getting_started.md").read_text("utf-8")
    for label, name in enumerate(found.class_names, 1):
        (said,) = re.findall(rf" {name} +([\d,]+) +\1 +px", page)
        # in bf16, as there, some pixels of the border differ
        assert int((found.labels.array == label).sum()) == pytest.approx(int(said.replace(",", "")), rel=0.01)
