"""The Segment form's modality follows the image at hand, and never the image of a choice made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from small_inputs import write_photograph, write_volume

from meduniseg_core.images import Geometry, Image, write_image
from meduniseg_core.images.modality_guess import ModalityGuess


@pytest.fixture
def form(gui: Any, qtbot: Any) -> Any:
    from napari_meduniseg.widgets.segment import SegmentWidget

    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    assert isinstance(found, SegmentWidget)
    found.form.choose(model="starter")
    return found.form


def opened(gui: Any, path: Path) -> Any:
    (layer,) = gui.open(str(path), plugin="napari-meduniseg")
    return layer


def write_ct(path: Path) -> Path:
    values = np.random.default_rng(0).choice([-1000, -60, 40], size=(1, 12, 24, 24)).astype(np.int16)
    write_image(Image(values, Geometry((12, 24, 24), (2.0, 2.0, 2.0))), path)
    return path


def ticked(form: Any) -> list[str]:
    return [plan.task for plan in form.chosen_plans()]


def test_the_modality_follows_each_image_that_is_opened_or_chosen(gui: Any, form: Any, tmp_path: Path) -> None:
    assert form.modality() == "ct"  # the model's first, while there is no image
    photograph = opened(gui, write_photograph(tmp_path / "photo.png"))
    assert form.modality() is None and form.tasks.count() == 0  # colours at random: it is asked, not guessed
    form.modality_box.setCurrentIndex(form.modality_box.findData("dermoscopy"))
    assert ticked(form) == ["skin_lesion"]
    scan = opened(gui, write_ct(tmp_path / "ct.nii.gz"))
    assert form.modality() == "ct"
    form.image.set_layer(photograph)
    assert form.modality() == "dermoscopy"
    form.image.set_layer(scan)
    assert form.modality() == "ct"


def test_what_was_chosen_by_hand_stays(gui: Any, form: Any, tmp_path: Path) -> None:
    photograph = opened(gui, write_photograph(tmp_path / "photo.png"))
    form.modality_box.setCurrentIndex(form.modality_box.findData("endoscopy"))
    assert ticked(form) == ["polyp"]
    opened(gui, write_photograph(tmp_path / "next.png", height=80))
    assert form.modality() == "endoscopy"  # the next photograph is of the kind that was said last
    opened(gui, write_ct(tmp_path / "ct.nii.gz"))
    assert form.modality() == "ct"
    form.choose(modality="pet", tasks=("sarcoma",))  # a channel of PET and CT
    opened(gui, write_volume(tmp_path / "other_grid.nii.gz"))
    pet = opened(gui, write_volume(tmp_path / "pet.nii.gz", (12, 24, 24)))
    assert form.modality() == "pet" and ticked(form) == ["sarcoma"]
    form.image.set_layer(photograph)
    assert form.modality() == "endoscopy" and ticked(form) == ["polyp"]
    form.choose(model="tiny")
    form.choose(model="starter")
    assert form.modality() == "endoscopy"
    form.image.set_layer(pet)
    assert form.modality() == "pet" and ticked(form) == ["sarcoma"]


def test_the_only_task_is_ticked_until_it_is_unticked_for_that_image(gui: Any, form: Any, tmp_path: Path) -> None:
    first = opened(gui, write_photograph(tmp_path / "photo.png"))
    form.modality_box.setCurrentIndex(form.modality_box.findData("endoscopy"))
    assert ticked(form) == ["polyp"]
    form.choose(tasks=())
    form.tell_modalities(first, ModalityGuess("endoscopy", ("endoscopy",)))  # the look at its voxels ends
    assert ticked(form) == []
    form.choose(tasks=("polyp",))
    opened(gui, write_photograph(tmp_path / "next.png", height=80))
    assert ticked(form) == ["polyp"]
    form.choose(tasks=())
    opened(gui, write_photograph(tmp_path / "third.png", height=90))
    assert ticked(form) == ["polyp"]


def test_what_a_ct_tells_by_itself_is_not_taken_for_the_next_volume(gui: Any, form: Any, tmp_path: Path) -> None:
    opened(gui, write_ct(tmp_path / "ct.nii.gz"))
    form.choose(tasks=("head_neck_organs",))
    assert form.modality() == "ct" and ticked(form) == ["head_neck_organs"]
    opened(gui, write_volume(tmp_path / "mr.nii.gz"))
    assert form.modality() is None  # its values are no Hounsfield units: it is asked


def test_what_was_chosen_before_an_image_was_there_is_for_the_first_one(gui: Any, form: Any, tmp_path: Path) -> None:
    form.modality_box.setCurrentIndex(form.modality_box.findData("fundus"))
    opened(gui, write_ct(tmp_path / "ct.nii.gz"))
    assert form.modality() == "fundus"
    opened(gui, write_photograph(tmp_path / "photo.png"))
    assert form.modality() == "fundus"


def test_an_image_that_does_not_tell_changes_nothing(gui: Any, form: Any) -> None:
    form.modality_box.setCurrentIndex(form.modality_box.findData("ultrasound"))
    gui.add_image(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8), name="grey")
    gui.add_image(np.random.default_rng(1).integers(0, 255, (50, 40), np.uint8), name="grey, too")
    assert form.modality() == "ultrasound"


def test_another_reader_s_image_is_looked_at_in_a_thread(gui: Any, form: Any, qtbot: Any) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    gui.add_image(da.from_array(colours), rgb=True, name="lazy")
    qtbot.waitUntil(lambda: form.modality() is None, timeout=30_000)
    values = np.random.default_rng(0).choice([-1000, -60, 40], size=(12, 24, 24)).astype(np.int16)
    gui.add_image(values, units="mm", name="ct")
    qtbot.waitUntil(lambda: form.modality() == "ct", timeout=30_000)


def test_a_fundus_photograph_is_told_by_its_colours(gui: Any, form: Any) -> None:
    gui.open_sample("napari-meduniseg", "retina")
    assert form.modality() == "fundus" and ticked(form) == []  # two tasks: the user says which
    assert [form.tasks.item(row).text() for row in range(form.tasks.count())] == [
        "Optic disc and cup",
        "Retinal vessels",
    ]


def test_a_grey_picture_after_a_photograph_is_asked_about_once(gui: Any, form: Any, qtbot: Any) -> None:
    gui.open_sample("napari-meduniseg", "retina")
    pictures = [np.random.default_rng(seed).integers(0, 255, (40 + seed, 40), np.uint8) for seed in range(2)]
    gui.add_image(pictures[0], name="grey")
    qtbot.waitUntil(lambda: form.modality() is None, timeout=30_000)  # not the photograph's
    form.modality_box.setCurrentIndex(form.modality_box.findData("xray"))
    gui.add_image(pictures[1], name="grey, too")
    qtbot.waitUntil(lambda: form.modality() == "xray", timeout=30_000)
    from napari_meduniseg._likely_modality import LikelyModality

    another_day, layer = LikelyModality(), gui.layers[-1]
    qtbot.waitUntil(lambda: bool(form._likely._guess(layer).possible), timeout=30_000)  # its voxels were read
    another_day.told(layer, form._likely._guess(layer))
    assert another_day.best_of(layer, ("ultrasound", "xray")) == (True, "xray")
