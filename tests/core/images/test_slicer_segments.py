"""3D Slicer's .seg.nrrd: names and values from the header, layers joined where segments do not overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import evaluate_folders
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_labels


def seg(path: Path, layers: np.ndarray, *pairs: str) -> Path:
    """``layers`` (L, D, H, W), or (D, H, W) for a file of one layer."""
    sizes = " ".join(str(size) for size in reversed(layers.shape))
    directions = "(1,0,0) (0,2,0) (0,0,3)"
    kinds = "domain domain domain"
    if layers.ndim == 4:  # Slicer's layers run fastest
        layers = np.moveaxis(layers, 0, -1)
        sizes = " ".join(str(size) for size in reversed(layers.shape))
        directions, kinds = f"none {directions}", f"list {kinds}"
    header = [
        "NRRD0004",
        "type: uchar",
        f"dimension: {layers.ndim}",
        "space: left-posterior-superior",
        f"sizes: {sizes}",
        f"space directions: {directions}",
        f"kinds: {kinds}",
        "encoding: raw",
        "space origin: (0,0,0)",
        *pairs,
    ]
    path.write_bytes("\n".join(header).encode() + b"\n\n" + np.ascontiguousarray(layers, np.uint8).tobytes())
    return path


def segment(number: int, name: str, value: int | None, layer: int | None, colour: str | None = None) -> list[str]:
    lines = [f"Segment{number}_ID:=id_{number}", f"Segment{number}_Name:={name}"]
    lines += [] if value is None else [f"Segment{number}_LabelValue:={value}"]
    lines += [] if layer is None else [f"Segment{number}_Layer:={layer}"]
    return lines + ([] if colour is None else [f"Segment{number}_Color:={colour}"])


def test_names_values_and_colours_come_from_the_header(tmp_path: Path) -> None:
    array = np.zeros((3, 4, 5), np.uint8)
    array[0, 1, 2], array[1, 1, 1] = 3, 7
    path = seg(
        tmp_path / "a.seg.nrrd", array, *segment(0, "left kidney", 3, 0, "1 0 0.5"), *segment(1, "right kidney", 7, 0)
    )
    labels = read_labels(path)
    assert np.array_equal(labels.array[0], array)
    assert labels.meta["class_names"] == {3: "left kidney", 7: "right kidney"}
    assert labels.meta["class_colours"] == {3: (255, 0, 128)}
    assert labels.findings == ()
    assert "class_names" not in read_image(path).meta


def test_layers_that_do_not_overlap_become_one_map_with_their_own_values(tmp_path: Path) -> None:
    layers = np.zeros((2, 3, 4, 5), np.uint8)
    layers[0, 0], layers[1, 1] = 1, 2
    labels = read_labels(seg(tmp_path / "a.seg.nrrd", layers, *segment(0, "a", 1, 0), *segment(1, "b", 2, 1)))
    expected = np.zeros((3, 4, 5))
    expected[0], expected[1] = 1, 2
    assert np.array_equal(labels.array[0], expected)
    assert labels.geometry.spacing == (3.0, 2.0, 1.0)
    assert labels.findings == ()


def test_values_that_layers_share_are_numbered_anew_and_said(tmp_path: Path) -> None:
    layers = np.zeros((6, 3, 4, 5), np.uint8)  # more layers than an image may have channels
    for layer in range(6):
        layers[layer, layer % 3, layer // 3] = 1
    lines = [line for n in range(6) for line in segment(n, f"s{n}", 1, n)]
    labels = read_labels(seg(tmp_path / "a.seg.nrrd", layers, *lines))
    for layer in range(6):
        assert (labels.array[0, layer % 3, layer // 3] == layer + 1).all()
    assert labels.meta["class_names"] == {n + 1: f"s{n}" for n in range(6)}
    (finding,) = labels.findings
    assert finding.code == "labels_renumbered"
    assert "1 s0, 2 s1" in finding.text


def test_before_slicer_4_11_a_segment_was_a_layer(tmp_path: Path) -> None:
    layers = np.zeros((2, 3, 4, 5), np.uint8)
    layers[0, 0], layers[1, 1] = 1, 1
    labels = read_labels(
        seg(tmp_path / "a.seg.nrrd", layers, *segment(0, "a", None, None), *segment(1, "b", None, None))
    )
    assert labels.meta["class_names"] == {1: "a", 2: "b"}
    assert (labels.array[0, 1] == 2).all()


def test_segments_that_overlap_are_refused_by_their_names(tmp_path: Path) -> None:
    layers = np.ones((2, 3, 4, 5), np.uint8)
    path = seg(tmp_path / "a.seg.nrrd", layers, *segment(0, "tumour", 1, 0), *segment(1, "liver", 1, 1))
    with pytest.raises(BadInputError, match=r"a\.seg\.nrrd has segments that overlap \(tumour and liver\)"):
        read_labels(path)


@pytest.mark.parametrize(
    ("value", "layer", "reason"),
    [("x", 0, "unreadable label value"), ("0", 0, "label value 0"), ("1", 4, "more layers"), ("99999", 0, "99999")],
)
def test_headers_that_cannot_be_are_refused(value: str, layer: int, reason: str, tmp_path: Path) -> None:
    lines = ["Segment0_Name:=a", f"Segment0_LabelValue:={value}", f"Segment0_Layer:={layer}"]
    with pytest.raises(BadInputError, match=rf"a\.seg\.nrrd .*{reason}"):
        read_labels(seg(tmp_path / "a.seg.nrrd", np.ones((3, 4, 5), np.uint8), *lines))


def test_evaluation_uses_the_names_that_files_carry(tmp_path: Path) -> None:
    array = np.zeros((3, 4, 5), np.uint8)
    array[1] = 1
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        seg(tmp_path / folder / "case.seg.nrrd", array, *segment(0, "bone", 1, 0))
    report = evaluate_folders(tmp_path / "a", tmp_path / "b", pictures=False)
    assert [entry.name for entry in report.cases[0].classes] == ["bone"]


def test_a_label_map_is_written_with_names_and_colours(tmp_path: Path) -> None:
    array = np.zeros((1, 3, 4, 5), np.uint16)
    array[0, 1, 1:3, 2:4], array[0, 2, 0, 0] = 300, 2
    labels = Image(array, Geometry((3, 4, 5), (2.5, 0.9, 0.7), (1.0, -2.0, 3.5)))
    names, colours = {1: "not found", 2: "Größe := 1", 300: "left\nkidney"}, {2: (10, 20, 30), 300: (250, 128, 0)}
    write_labels(labels, tmp_path / "case.seg.nrrd", names=names, colours=colours)
    back = read_labels(tmp_path / "case.seg.nrrd")
    assert np.array_equal(back.array, array)
    assert back.geometry.is_close(labels.geometry)
    assert back.meta["class_names"] == {1: "not found", 2: "Größe := 1", 300: "left kidney"}
    assert back.meta["class_colours"] == {1: (230, 25, 75), **colours}
