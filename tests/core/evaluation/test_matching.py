"""Ids that do not meet, and pairs that are cropped, turned or ignored in part: the right figure, or a refusal."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import Report, evaluate_case, evaluate_folders, write_report
from meduniseg_core.evaluation.matching import Sides
from meduniseg_core.images import Geometry, Image, Reorientation, write_labels

GEOMETRY = Geometry((6, 20, 20), (3.0, 1.0, 1.0), (4.0, 5.0, 6.0))


def mask(label: int = 1, columns: int = 8, geometry: Geometry = GEOMETRY) -> Image:
    ids = np.zeros((1, *geometry.shape), dtype=np.uint16)
    ids[0, 1:5, 4:12, 4 : 4 + columns] = label
    return Image(ids, geometry)


def folders(root: Path, pairs: dict[str, tuple[Image, Image]]) -> tuple[Path, Path]:
    for case, (prediction, reference) in pairs.items():
        write_labels(prediction, root / "p" / f"{case}.nii.gz")
        write_labels(reference, root / "r" / f"{case}.nii.gz")
    return root / "p", root / "r"


@pytest.mark.parametrize(("ours", "theirs"), [(1, 255), (255, 1), (1, 2), (3, 1000)])
@pytest.mark.parametrize("names", [None, ["lesion"]])
def test_binary_masks_are_one_class_whatever_their_ids_and_that_is_said(
    ours: int, theirs: int, names: list[str] | None, tmp_path: Path
) -> None:
    pairs = {"a": (mask(ours), mask(theirs)), "b": (mask(ours, 4), mask(theirs)), "c": (mask(0), mask(theirs))}
    report = evaluate_folders(*folders(tmp_path, pairs), class_names=names)
    if names is not None and 1 not in (ours, theirs):
        assert [entry.name for entry in report.classes] == ["lesion"]
    assert [case.dice for case in report.cases] == pytest.approx([1.0, 2 / 3, 0.0])
    (warning,) = report.warnings
    assert warning.code == "labels_matched" and warning.level == "warning"
    assert f"only the label {ours} and the references only {theirs}" in warning.text
    assert warning.text in report.notes
    assert "labels_matched" in json.loads(report.json_text())["warnings"][0]["code"]
    assert Report.model_validate_json(report.json_text()).warnings == report.warnings


def test_several_ids_that_never_meet_are_refused_by_name(tmp_path: Path) -> None:
    both = mask(1).array.copy()
    both[0, 2, 5:7, 5:7] = 2
    pair = (Image(both, GEOMETRY), Image(np.where(both, both + 10, 0).astype(np.uint16), GEOMETRY))
    for names in (None, ["liver", "cyst"]):
        with pytest.raises(BadInputError, match=r"predictions hold the labels 1, 2 and the references 11, 12"):
            evaluate_folders(*folders(tmp_path, {"a": pair}), class_names=names)
    with pytest.raises(BadInputError, match=r"labels 1, 2 and the references 255"):
        evaluate_folders(*folders(tmp_path, {"a": (pair[0], mask(255))}))


def test_ids_that_are_both_named_are_two_classes(tmp_path: Path) -> None:
    report = evaluate_folders(*folders(tmp_path, {"a": (mask(1), mask(2))}), class_names=["liver", "cyst"])
    assert report.dice.mean == 0.0 and report.warnings == ()


def test_classes_of_which_the_maps_hold_none_are_no_figure(tmp_path: Path) -> None:
    pair = folders(tmp_path, {"a": (mask(7), mask(7))})
    with pytest.raises(BadInputError, match=r"hold the labels 7, and the classes are 1, 2 \(liver, cyst\)"):
        evaluate_folders(*pair, class_names=["liver", "cyst"])
    write_labels(mask(9), tmp_path / "r" / "a.nii.gz")
    with pytest.raises(BadInputError, match="hold the labels 7 and the references 9"):
        evaluate_folders(*pair, class_names=["liver", "cyst"])


def test_a_class_that_no_map_holds_is_said(tmp_path: Path) -> None:
    pairs = {"a": (mask(1), mask(1)), "b": (mask(0), mask(1))}
    report = evaluate_folders(*folders(tmp_path / "some", pairs), class_names=["liver", "kidney", "spleen"])
    assert report.notes == ("No label map holds kidney, spleen: a Dice of 1 says only that.",)
    assert evaluate_folders(*folders(tmp_path / "all", pairs), class_names=["liver"]).notes == ()
    empty = evaluate_folders(*folders(tmp_path / "none", {"a": (mask(0), mask(0))}))
    assert empty.notes == ("No label map holds any label: a Dice of 1 says only that.",)


def test_ids_that_meet_somewhere_are_compared_and_the_lonely_ones_named(tmp_path: Path) -> None:
    report = evaluate_folders(*folders(tmp_path, {"a": (mask(1), mask(1)), "b": (mask(1), mask(255))}))
    assert [case.dice for case in report.cases] == [1.0, 0.0]
    assert report.notes == ("Labels that occur in the references only: 255.",)


def test_empty_predictions_match_nothing(tmp_path: Path) -> None:
    report = evaluate_folders(*folders(tmp_path, {"a": (mask(0), mask(255))}))
    assert report.dice.mean == 0.0 and report.warnings == ()


def test_pictures_show_matched_masks_in_one_colour(tmp_path: Path) -> None:
    report = evaluate_folders(*folders(tmp_path, {"a": (mask(1), mask(255))}))
    assert "worst" in write_report(report, tmp_path / "out")
    pixels = _pixels(report.pictures[0].png)
    half = (pixels.shape[1] - 4) // 2
    assert pixels.any() and np.array_equal(pixels[:, :half], pixels[:, half + 4 :])


def _pixels(png: bytes) -> np.ndarray:
    import io

    from PIL import Image as PillowImage

    return np.asarray(PillowImage.open(io.BytesIO(png)))


def test_a_reference_that_was_cropped_is_compared_where_it_belongs(tmp_path: Path) -> None:
    truth, guess = mask(columns=8), mask(columns=6)
    whole = evaluate_case(guess, truth)
    cut = (slice(None), slice(1, 5), slice(4, 12), slice(4, 12))
    origin = tuple((GEOMETRY.affine @ [1, 4, 4, 1])[:3].tolist())
    cropped = Image(truth.array[cut], Geometry((4, 8, 8), GEOMETRY.spacing, origin))
    for prediction, reference in ((guess, cropped), (replace(guess), truth)):
        assert evaluate_case(prediction, reference).classes == whole.classes
    # both cropped, each to its own extent, as 3D Slicer saves them
    cut_guess = Image(guess.array[:, :, :, 3:11], Geometry((6, 20, 8), GEOMETRY.spacing, (4.0 + 3, 5.0, 6.0)))
    assert evaluate_case(cut_guess, cropped).classes == whole.classes
    report = evaluate_folders(*folders(tmp_path, {"a": (cut_guess, cropped)}))
    assert report.cases[0].classes == whole.model_copy(update={"case": "a"}).classes


def test_the_same_voxels_in_another_axis_order_are_compared(tmp_path: Path) -> None:
    guess, truth = mask(columns=6), mask()
    change = Reorientation((2, 0, 1), (True, False, True))
    turned = Image(change.forward(truth.array), change.forward_geometry(GEOMETRY))
    assert evaluate_case(guess, turned).classes == evaluate_case(guess, truth).classes
    assert evaluate_folders(*folders(tmp_path, {"a": (guess, turned)})).dice.mean == pytest.approx(6 / 7)


def test_what_nobody_looked_at_takes_no_part(tmp_path: Path) -> None:
    guess, truth = mask(columns=12), mask(columns=8)
    unknown = truth.array.copy()
    unknown[..., 12:] = 2  # beyond the lesion: the prediction's surplus is not wrong, it is not known
    reference = Image(unknown, GEOMETRY)
    scores = evaluate_case(guess, reference, {1: "lesion"}, ignored=2)
    assert [(entry.label, entry.dice, entry.hd95) for entry in scores.classes] == [(1, 1.0, 0.0)]
    assert evaluate_case(guess, reference, {1: "lesion"}).classes[0].dice == pytest.approx(0.8)
    report = evaluate_folders(*folders(tmp_path, {"a": (guess, reference)}), class_names=["lesion"], ignored=2)
    assert report.dice.mean == 1.0 and report.notes == ()
    binary = Image(np.where(unknown == 1, 255, unknown).astype(np.uint16), GEOMETRY)
    report = evaluate_folders(*folders(tmp_path, {"a": (guess, binary)}), class_names=["lesion"], ignored=2)
    assert report.dice.mean == 1.0 and [finding.code for finding in report.warnings] == ["labels_matched"]


def test_names_that_files_carry_are_taken_and_must_agree() -> None:
    def segments(names: dict[int, str], name: str) -> Image:
        return replace(mask(), source=Path(name), meta={"class_names": names})

    sides = Sides()
    sides.add(segments({1: "bone"}, "p.seg.nrrd"), segments({1: "bone", 2: "fat"}, "r.seg.nrrd"))
    assert {label: name for label, (name, _) in sides.names.items()} == {1: "bone", 2: "fat"}
    with pytest.raises(BadInputError, match=r"p\.seg\.nrrd calls the label 1 'bone' and q\.seg\.nrrd calls it 'fat'"):
        sides.add(segments({1: "fat"}, "q.seg.nrrd"), mask())
    Sides(trust_names=False).add(segments({1: "bone"}, "p"), segments({1: "fat"}, "q"))


def organs(first: int, second: int) -> Image:
    """Two blocks apart from each other."""
    ids = np.zeros((1, *GEOMETRY.shape), dtype=np.uint16)
    ids[0, 1:5, 4:9, 4:9], ids[0, 1:5, 12:18, 4:9] = first, second
    return Image(ids, GEOMETRY)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ((1, 2), (2, 1), ["Label 1 .* hold label 2 .Dice 1.00", "Label 2 .* hold label 1 .Dice 1.00"]),
        ((1, 2), (2, 3), ["Label 1 .* hold label 2", "Label 2 .* hold label 3"]),  # one more class before them
        ((1, 2), (1, 3), ["Label 2 .* hold label 3"]),
        ((1, 2), (1, 2), []),
        ((1, 0), (1, 2), []),  # one was not found: that is what Dice is for
    ],
)
def test_classes_in_another_order_are_said(
    ours: tuple[int, int], theirs: tuple[int, int], said: list[str], tmp_path: Path
) -> None:
    pairs = {"a": (organs(*ours), organs(*theirs)), "b": (organs(*ours), organs(*theirs))}
    report = evaluate_folders(*folders(tmp_path, pairs))
    found = [finding.text for finding in report.warnings if finding.code == "labels_swapped"]
    assert len(found) == len(said)
    for text, pattern in zip(found, said, strict=True):
        assert re.match(pattern, text) and text in report.notes


def test_an_inverted_mask_is_said(tmp_path: Path) -> None:
    inverted = Image(255 * (mask().array == 0).astype(np.uint16), GEOMETRY)
    report = evaluate_folders(*folders(tmp_path, {"a": (mask(1), inverted)}))
    assert [case.dice for case in report.cases] == [0.0]
    assert any("one side seems to be inverted" in finding.text for finding in report.warnings)


def test_an_inverted_mask_is_said_whatever_number_of_classes_the_other_side_has(tmp_path: Path) -> None:
    two = organs(1, 2)
    inverted = Image((two.array == 0).astype(np.uint8), GEOMETRY)
    for number, pair in enumerate(((inverted, two), (two, inverted), (two, two))):
        report = evaluate_folders(*folders(tmp_path / str(number), {"a": pair}))
        said = [finding.text for finding in report.warnings if "one side seems to be inverted" in finding.text]
        assert len(said) == (0 if number == 2 else 1)
    nothing_found = evaluate_folders(*folders(tmp_path / "missed", {"a": (mask(0), mask(1))}))
    assert nothing_found.warnings == ()


def test_label_maps_that_hardly_share_a_place_are_said(tmp_path: Path) -> None:
    there = replace(GEOMETRY, origin=(4.0, 5.0 - 19.0, 6.0))  # as if RAS were taken for LPS
    report = evaluate_folders(*folders(tmp_path, {"a": (mask(), mask(geometry=there))}))
    (warning,) = report.warnings
    assert warning.text.startswith("Both label maps a.nii.gz share 5% of their extent")
