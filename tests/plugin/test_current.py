"""One current image and one current labels layer, whatever is selected, hidden, added and removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from small_inputs import write_volume

from meduniseg_core.errors import UsageError
from napari_meduniseg._accepting import submission
from napari_meduniseg._current import Current, current_of
from napari_meduniseg._layers import DERIVED, METADATA_KEY
from napari_meduniseg._links import bind, image_of, lies_on
from napari_meduniseg._reader import read_one

SHAPE = (12, 10)


@pytest.fixture
def viewer() -> ViewerModel:
    """Four photographs of one size, as they come from one camera."""
    found = ViewerModel()
    for name in ("a", "b", "c", "d"):
        found.add_image(np.zeros(SHAPE), name=name)
    return found


@pytest.fixture
def current(viewer: ViewerModel) -> Current:
    return current_of(viewer)


def labels_of(viewer: ViewerModel, name: str) -> Labels:
    """Labels that belong to the image of this name."""
    added = viewer.add_labels(np.zeros(SHAPE, np.uint8), name=f"{name}: labels")
    bind(added, viewer.layers[name])
    viewer.layers.selection.active = viewer.layers[name]
    viewer.layers.selection.active = added
    return added


def visible(viewer: ViewerModel) -> set[str]:
    return {layer.name for layer in viewer.layers if layer.visible}


def test_all_panels_share_one_and_the_topmost_image_is_current(viewer: ViewerModel, current: Current) -> None:
    assert current_of(viewer) is current and current.image is viewer.layers["d"] and current.labels is None


def test_labels_of_an_image_that_was_closed_are_not_given_to_another_in_its_place(
    viewer: ViewerModel, current: Current
) -> None:
    """Two photographs of one camera, two scans of one protocol: Accept would store them with the wrong patient."""
    for name in ("c", "d"):
        viewer.layers.remove(name)
    of_a = labels_of(viewer, "a")
    first = viewer.layers["a"]
    viewer.layers.remove(first)
    assert lies_on(of_a, viewer.layers["b"]) and image_of(of_a, viewer.layers) is None
    assert current.image is viewer.layers["b"] and current.labels is None
    with pytest.raises(UsageError, match="The image of a: labels is not known"):
        submission(of_a, current.image_of(of_a))
    again = viewer.add_image(np.zeros(SHAPE), name="a")  # opened again
    assert image_of(of_a, viewer.layers) is again
    current.choose_image(again)
    assert current.labels is of_a


def test_a_chosen_image_is_seen_alone_with_its_own_labels_until_all_are_shown(
    viewer: ViewerModel, current: Current
) -> None:
    of_d, of_a = labels_of(viewer, "d"), labels_of(viewer, "a")
    current.show_all()
    assert visible(viewer) == {"a", "b", "c", "d", "a: labels", "d: labels"}
    current.choose_image(viewer.layers["a"])
    assert visible(viewer) == {"a", "a: labels"}
    assert (current.image, current.labels) == (viewer.layers["a"], of_a)
    current.choose_image(viewer.layers["d"])
    assert visible(viewer) == {"d", "d: labels"} and current.labels is of_d
    current.choose_image(viewer.layers["b"])
    assert visible(viewer) == {"b"} and current.labels is None
    current.show_all()
    assert visible(viewer) == {"a", "b", "c", "d", "a: labels", "d: labels"} and not current.put_aside
    assert current.image is viewer.layers["d"]  # it is the one that is seen then


def test_an_image_of_another_grid_is_seen_alone_as_it_opens(viewer: ViewerModel, current: Current) -> None:
    other = viewer.add_image(np.zeros((5, 5)), name="small", units="mm")
    assert visible(viewer) == {"small"} and current.image is other
    current.show_all()
    assert visible(viewer) == {"a", "b", "c", "d", "small"}
    viewer.add_image(np.zeros((7, 7)), name="over it", blending="additive")
    assert visible(viewer) == {"a", "b", "c", "d", "small", "over it"}


def test_what_the_user_had_hidden_stays_hidden(viewer: ViewerModel, current: Current) -> None:
    viewer.layers["c"].visible = False
    current.choose_image(viewer.layers["a"])
    current.show_all()
    assert visible(viewer) == {"a", "b", "d"}


def test_the_selection_is_followed_to_an_image_that_lay_below_others(viewer: ViewerModel, current: Current) -> None:
    viewer.layers.selection.active = viewer.layers["b"]
    assert current.image is viewer.layers["b"] and visible(viewer) == {"b"}


def test_images_that_do_not_hide_each_other_stay_as_they_are(viewer: ViewerModel, current: Current) -> None:
    for name in ("b", "c", "d"):
        viewer.layers[name].blending = "additive"
    viewer.layers.selection.active = viewer.layers["a"]
    assert current.image is viewer.layers["a"] and visible(viewer) == {"a", "b", "c", "d"}


def test_selecting_labels_brings_their_image(viewer: ViewerModel, current: Current) -> None:
    of_a, of_d = labels_of(viewer, "a"), labels_of(viewer, "d")
    assert current.labels is of_d
    viewer.layers.selection.active = of_a
    assert (current.image, current.labels) == (viewer.layers["a"], of_a) and visible(viewer) == {"a", "a: labels"}


def test_hiding_an_image_moves_on_to_the_one_that_is_seen_then_and_back(viewer: ViewerModel, current: Current) -> None:
    of_d, of_c = labels_of(viewer, "d"), labels_of(viewer, "c")
    current.show_all()
    viewer.layers["d"].visible = False
    assert (current.image, current.labels) == (viewer.layers["c"], of_c)
    viewer.layers["d"].visible = True
    assert (current.image, current.labels) == (viewer.layers["d"], of_d)
    viewer.layers["a"].visible = False  # far below
    viewer.layers["a"].visible = True
    assert current.image is viewer.layers["d"]


def test_hidden_labels_give_way_to_others_of_their_image_only(viewer: ViewerModel, current: Current) -> None:
    labels_of(viewer, "a")
    first, second = labels_of(viewer, "d"), labels_of(viewer, "d")
    assert current.labels is second
    second.visible = False
    assert current.labels is first
    first.visible = False
    assert current.labels is first  # none of this image is seen; those of another are not meant
    second.visible = True
    assert current.labels is second


def test_removing_what_is_current_leaves_nothing_stale(viewer: ViewerModel, current: Current) -> None:
    first, second = labels_of(viewer, "d"), labels_of(viewer, "d")
    viewer.layers.remove(second)
    assert current.labels is first
    viewer.layers.remove(first)
    assert current.labels is None and current.image is not None and current.image.visible
    viewer.layers.clear()
    assert current.image is None and current.labels is None
    image = viewer.add_image(np.zeros(SHAPE))
    assert current.image is image


def test_a_result_becomes_current_at_its_image_and_waits_where_one_looks_elsewhere(
    viewer: ViewerModel, current: Current
) -> None:
    a, b = viewer.layers["a"], viewer.layers["b"]
    current.choose_image(a)
    with current.adding_to(a) as added:
        added.append(viewer.add_labels(np.zeros(SHAPE, np.uint8), name="first"))
        bind(added[0], a)
    assert current.labels is added[0] and visible(viewer) == {"a", "first"}
    current.choose_image(b)
    with current.adding_to(a) as late:
        late.append(viewer.add_labels(np.zeros(SHAPE, np.uint8), name="second"))
        bind(late[0], a)
    assert current.image is b and current.labels is None and visible(viewer) == {"b"}
    assert viewer.layers.selection.active is b
    current.choose_image(a)
    assert current.labels is late[0] and late[0].visible


def test_derived_layers_are_neither_image_nor_labels(viewer: ViewerModel, current: Current) -> None:
    of_d = labels_of(viewer, "d")
    marked: dict[str, Any] = {"metadata": {METADATA_KEY: DERIVED}}
    viewer.add_image(np.zeros(SHAPE), name="uncertainty", **marked)
    viewer.add_labels(np.zeros(SHAPE, np.uint8), name="difference", **marked)
    assert (current.image, current.labels) == (viewer.layers["d"], of_d)


def test_labels_that_the_user_makes_belong_to_the_image_he_looks_at(viewer: ViewerModel, current: Current) -> None:
    current.choose_image(viewer.layers["b"])
    mine = viewer.add_labels(np.zeros(SHAPE, np.uint8), name="mine")
    assert current.image_of(mine) is viewer.layers["b"] and current.labels is mine
    current.choose_image(viewer.layers["d"])
    assert current.labels is None and not mine.visible


def test_labels_of_another_size_are_not_bound_to_the_image_below_them(viewer: ViewerModel, current: Current) -> None:
    large = viewer.add_image(np.zeros((40, 40)), name="large")
    current.choose_image(viewer.layers["b"])
    mine = viewer.add_labels(np.zeros((40, 40), np.uint8), name="mine")
    assert current.image_of(mine) is large and current.image is large and large.visible


def test_labels_among_images_of_one_grid_that_were_there_before_are_not_guessed_and_can_be_told(
    viewer: ViewerModel,
) -> None:
    mine = viewer.add_labels(np.zeros(SHAPE, np.uint8), name="mine")
    current = current_of(viewer)
    assert current.labels is mine and current.image_of(mine) is None
    assert not current.say_image(viewer.add_image(np.zeros((3, 3)), name="another grid"))
    current.choose_labels(mine)
    assert current.say_image(viewer.layers["b"]) and current.image_of(mine) is viewer.layers["b"]
    assert not current.say_image(viewer.layers["c"])  # it is known now


def test_labels_that_lie_on_no_image_are_not_worked_on_beside_one() -> None:
    viewer = ViewerModel()
    current = current_of(viewer)
    lost = viewer.add_labels(np.zeros((7, 7), np.uint8), name="lost")
    assert current.labels is lost
    image = viewer.add_image(np.zeros(SHAPE), name="a")
    assert current.image is image and current.labels is None


def test_the_place_counts_units_and_turns_and_forgives_rounding() -> None:
    viewer = ViewerModel()
    shape = (6, 8, 9)
    one = viewer.add_image(np.zeros(shape), scale=(3.0, 0.7, 0.7), units="mm")
    same = viewer.add_labels(np.zeros(shape, int), scale=(3000.0, 700.0, 700.00001), units="um")
    moved = viewer.add_labels(np.zeros(shape, int), scale=(3.0, 0.7, 0.7), translate=(0, 0.7, 0), units="mm")
    turned = viewer.add_labels(np.zeros(shape, int), scale=(3.0, 0.7, 0.7), rotate=(10.0, 0, 0), units="mm")
    rgb = viewer.add_image(np.zeros((6, 8, 3), np.uint8), rgb=True)
    flat = viewer.add_labels(np.zeros((6, 8), int))
    assert lies_on(same, one) and not lies_on(moved, one) and not lies_on(turned, one)
    assert lies_on(flat, rgb) and not lies_on(flat, one)


def test_a_label_file_belongs_to_the_image_that_its_json_names(tmp_path: Path) -> None:
    from meduniseg_core.images import read_image, write_labels
    from napari_meduniseg._layers import image_layers

    first, second = write_volume(tmp_path / "first.nii.gz"), write_volume(tmp_path / "second.nii.gz")
    image = read_image(second)
    saved = tmp_path / "out" / "second.nii.gz"
    saved.parent.mkdir()
    write_labels(image.with_array(np.zeros((1, *image.geometry.shape), np.uint8)), saved, like=image)
    (tmp_path / "out" / "second.json").write_text(
        '{"task": "organ", "model": "tiny", "model_sha256": null, "classes": {"1": "liver"}, "image": "second.nii.gz"}'
    )
    viewer = ViewerModel()
    for path in (second, first):
        for data, options, _ in image_layers(read_image(path)):
            viewer.add_image(data, **options)
    ((data, options, kind),) = read_one(saved)
    assert kind == "labels"
    labels = viewer.add_labels(data, **options)
    assert image_of(labels, viewer.layers) is viewer.layers["second.nii.gz"]
    viewer.layers.remove("second.nii.gz")
    assert image_of(labels, viewer.layers) is None  # not the other one of the same grid


def test_an_image_that_is_opened_after_its_labels_does_not_hide_them() -> None:
    viewer = ViewerModel()
    current = current_of(viewer)
    labels = viewer.add_labels(np.eye(5, 6, dtype=np.uint8), name="labels")
    image = viewer.add_image(np.zeros((5, 6, 3), np.uint8), name="photo", rgb=True)
    assert current.image is image and current.labels is labels
    assert list(viewer.layers) == [image, labels] and visible(viewer) == {"photo", "labels"}
    other = viewer.add_image(np.zeros((7, 6, 3), np.uint8), name="another", rgb=True)  # the labels are not its
    assert list(viewer.layers) == [image, labels, other]
