"""3D Slicer's segmentations open as labels with their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_meduniseg._reader import get_reader


def test_a_slicer_segmentation_opens_as_labels_with_names_and_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.seg.nrrd"
    lines = ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 4 3 2", "encoding: raw", "space: LPS"]
    lines += ["space directions: (1,0,0) (0,1,0) (0,0,1)", "space origin: (0,0,0)"]
    lines += ["Segment0_Name:=bone", "Segment0_LabelValue:=5", "Segment0_Layer:=0", "Segment0_Color:=0 1 0"]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + bytes([5] * 24))
    read = get_reader(str(path))
    assert read is not None
    ((data, options, kind),) = read(str(path))
    assert kind == "labels"
    assert (data == 5).all()
    assert list(options["features"]["name"]) == ["background", "bone"]
    np.testing.assert_allclose(options["colormap"].color_dict[5], (0, 1, 0, 1))
