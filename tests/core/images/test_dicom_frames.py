"""Multi-frame DICOM and pixel sizes: volumes by their frames' places, stacks over time, and what is said of both."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_making import dataset_of, enhanced, frame_item, save, write_stack
from PIL import Image as PillowImage
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, read_image

UNPLACED = {"ImagePositionPatient": None, "ImageOrientationPatient": None}


def codes(image: Image) -> list[str]:
    return [finding.code for finding in image.findings]


def at(height: float, **groups: dict[str, Any]) -> Dataset:
    return frame_item(PlanePosition={"ImagePositionPatient": [-10, 5, height]}, **groups)


def transformed(slope: float, intercept: float) -> dict[str, dict[str, Any]]:
    return {"PixelValueTransformation": {"RescaleSlope": slope, "RescaleIntercept": intercept}}


def test_an_enhanced_file_is_the_volume_of_its_frames_by_position(tmp_path: Path) -> None:
    heights = [4.0, 0.0, 6.0, 2.0]
    planes = np.stack([np.arange(30).reshape(5, 6) + 10 * height for height in heights])
    path = save(enhanced([at(height, **transformed(1, -1024)) for height in heights], planes), tmp_path / "e.dcm")
    image = read_image(path)
    assert image.geometry.shape == (4, 5, 6) and image.geometry.spacing == (2.0, 0.8, 0.6)
    assert image.geometry.origin == (-10.0, 5.0, 0.0)
    assert image.array[0, :, 0, 1].tolist() == [-1023, -1003, -983, -963]
    assert image.array.dtype == np.int16 and image.physical and codes(image) == []
    # the same volume as slices of a folder
    folder = tmp_path / "slices"
    write_stack(folder, [0.0, 2.0, 4.0, 6.0])
    assert np.array_equal(read_image(folder).array, image.array)


def test_every_frame_has_its_own_rescaling(tmp_path: Path) -> None:
    frames = [at(0, **transformed(2, 0)), at(3, **transformed(0.5, 1)), at(6, **transformed(1, -5))]
    image = read_image(save(enhanced(frames, np.full((3, 5, 6), 100)), tmp_path / "pet.dcm"))
    assert image.array.dtype == np.float32
    assert image.array[0, :, 0, 0].tolist() == [200.0, 51.0, 95.0]


def test_frames_missing_from_an_enhanced_file_are_noticed(tmp_path: Path) -> None:
    path = save(enhanced([at(height) for height in (0, 2, 6, 8)], np.zeros((4, 5, 6))), tmp_path / "e.dcm")
    with pytest.raises(BadInputError, match=r"misses about 1 slice\(s\): 4 mm lie between e\.dcm \(frame 2\)"):
        read_image(path)
    path = save(enhanced([at(height) for height in (0, 2)], np.zeros((2, 5, 6)), NumberOfFrames=3), tmp_path / "n.dcm")
    with pytest.raises(BadInputError, match=r"n\.dcm claims to hold 3 frames but describes 2"):
        read_image(path)


def test_a_compressed_enhanced_file_is_read_frame_by_frame(tmp_path: Path) -> None:
    heights = [4.0, 0.0, 2.0]
    planes = np.random.default_rng(0).integers(0, 4000, (3, 5, 6))
    dataset = enhanced([at(height) for height in heights], planes)
    plain = read_image(save(dataset, tmp_path / "plain.dcm")).array
    dataset.compress(RLELossless)
    assert np.array_equal(read_image(save(dataset, tmp_path / "packed.dcm")).array, plain)


def cine(planes: np.ndarray, **elements: Any) -> Any:
    colour = planes.ndim == 4
    return dataset_of(
        UltrasoundMultiFrameImageStorage,
        **{
            "Modality": "US",
            "NumberOfFrames": len(planes),
            "Rows": planes.shape[1],
            "Columns": planes.shape[2],
            "SamplesPerPixel": 3 if colour else 1,
            "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
            "BitsAllocated": 8,
            "BitsStored": 8,
            "HighBit": 7,
            "RescaleSlope": None,
            "RescaleIntercept": None,
            "PixelSpacing": None,
            "SliceThickness": None,
            "FrameTime": 40,
            "PixelData": planes.astype(np.uint8).tobytes(),
            **({"PlanarConfiguration": 0} if colour else {}),
            **elements,
        },
    )


@pytest.mark.parametrize("place", [UNPLACED, {}])
def test_frames_over_time_are_a_stack_in_their_order(place: dict[str, Any], tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (7, 9, 8))
    image = read_image(save(cine(planes, **place), tmp_path / "us"))
    assert np.array_equal(image.array[0], planes)
    assert not image.physical and codes(image) == ["frames_as_stack"]
    assert image.findings[0].text.startswith("us holds 7 frames over time")
    assert image.meta["frames_over_time"]


def test_colour_frames_stay_in_colour(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (3, 9, 8, 3))
    image = read_image(save(cine(planes, **UNPLACED), tmp_path / "us"))
    assert np.array_equal(image.array, np.moveaxis(planes, -1, 0))
    assert image.meta["colour"] == "rgb"


def test_jpeg_frames_in_several_fragments_are_read(tmp_path: Path) -> None:
    planes = np.stack([np.tile(np.arange(64, dtype=np.uint8) * 3 + shift, (40, 1)) for shift in (0, 20, 40)])
    frames = []
    for plane in planes:
        buffer = io.BytesIO()
        PillowImage.fromarray(plane).save(buffer, "JPEG", quality=95)
        frames.append(buffer.getvalue())
    dataset = cine(planes, **UNPLACED)
    dataset.PixelData = encapsulate(frames, fragments_per_frame=2)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    image = read_image(save(dataset, tmp_path / "us"))
    assert np.abs(image.array[0].astype(int) - planes).max() <= 4


def test_compressed_colours_come_out_as_rgb(tmp_path: Path) -> None:
    rgb = np.zeros((40, 64, 3), np.uint8)
    rgb[:20], rgb[20:] = (200, 40, 30), (20, 60, 190)
    buffer = io.BytesIO()
    PillowImage.fromarray(rgb).save(buffer, "JPEG", quality=95, subsampling=0)
    dataset = cine(rgb[None], **UNPLACED, NumberOfFrames=None, PhotometricInterpretation="YBR_FULL")
    dataset.PixelData = encapsulate([buffer.getvalue()])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    image = read_image(save(dataset, tmp_path / "photo.dcm"))
    assert np.abs(image.array[:, 0].astype(int) - np.moveaxis(rgb, -1, 0)).max() <= 6


@pytest.mark.parametrize("space", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("packed", [False, True])
def test_run_lengths_of_colours_are_decoded(packed: bool, space: str, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (2, 9, 8, 3)).astype(np.uint8)
    stored = rgb if space == "RGB" else convert_color_space(rgb, "RGB", space)
    dataset = cine(stored, **UNPLACED, PhotometricInterpretation=space)
    if packed:
        dataset.compress(RLELossless)
    image = read_image(save(dataset, tmp_path / "us"))
    assert np.abs(image.array.astype(int) - np.moveaxis(rgb, -1, 0)).max() <= (0 if space == "RGB" else 2)


def test_palettes_and_planar_colours_become_rgb(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (9, 8, 3)).astype(np.uint8)
    planar = cine(rgb[None], **UNPLACED, NumberOfFrames=None, PlanarConfiguration=1)
    planar.PixelData = np.ascontiguousarray(np.moveaxis(rgb, -1, 0)).tobytes()
    assert np.array_equal(read_image(save(planar, tmp_path / "planar")).array[:, 0], np.moveaxis(rgb, -1, 0))
    indices = np.random.default_rng(1).integers(0, 256, (9, 8)).astype(np.uint8)
    palette = cine(indices[None], **UNPLACED, NumberOfFrames=None, PhotometricInterpretation="PALETTE COLOR")
    tables = np.random.default_rng(2).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(palette, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(palette, f"{name}PaletteColorLookupTableData", table.tobytes())
    image = read_image(save(palette, tmp_path / "palette"))
    colours = image.array[:, 0] >> 8 if image.array.max() > 255 else image.array[:, 0]
    assert np.array_equal(colours, tables[:, indices] >> 8)


def test_bits_beyond_the_stated_ones_are_no_part_of_the_value(tmp_path: Path) -> None:
    values = np.arange(30, dtype=np.uint16) * 2000
    path = save(dataset_of(PixelData=values.tobytes()), tmp_path / "x")
    assert read_image(path).array[0, 0].ravel().tolist() == ((values & 0xFFF).astype(int) - 1024).tolist()


def region(delta: float, units: int = 3, vertical: float | None = None) -> Dataset:
    item = Dataset()
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta, vertical or delta
    return item


@pytest.mark.parametrize(
    ("regions", "spacing", "level"),
    [
        ([region(0.02)], (0.2, 0.2), "info"),
        ([region(0.02, vertical=-0.03), region(-0.02, vertical=0.03)], (0.3, 0.2), "info"),
        ([region(0.02), region(0.03)], None, "warning"),  # two probes' scales
        ([region(0.02), region(0.01, units=4)], None, "warning"),  # an M-mode: seconds
        ([region(0.0)], None, "warning"),
    ],
)
def test_ultrasound_regions_give_the_pixel_size_where_they_agree(
    regions: list[Dataset], spacing: tuple[float, float] | None, level: str, tmp_path: Path
) -> None:
    own = {"Modality": "US", "PixelSpacing": None, "SequenceOfUltrasoundRegions": regions, **UNPLACED}
    image = read_image(save(dataset_of(UltrasoundImageStorage, **own), tmp_path / "us"))
    assert image.physical == (spacing is not None)
    assert image.geometry.spacing[1:] == pytest.approx(spacing or (1.0, 1.0))
    assert [(finding.code, finding.level) for finding in image.findings] == [("spacing_assumed", level)]


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.1]}, True),
        ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.2, 0.1]}, True),
        ({"PixelSpacing": [0.18, 0.09], "ImagerPixelSpacing": [0.2, 0.1]}, False),
        (
            {"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "FIDUCIAL"},
            False,
        ),
        ({"PixelSpacing": [0.2, 0.1]}, False),
        ({"PixelSpacing": None, "NominalScannedPixelSpacing": [0.2, 0.1]}, True),
    ],
)
def test_a_pixel_size_at_the_detector_is_said(elements: dict[str, Any], said: bool, tmp_path: Path) -> None:
    path = save(
        dataset_of(DigitalXRayImageStorageForPresentation, Modality="DX", **UNPLACED, **elements), tmp_path / "x"
    )
    image = read_image(path)
    assert image.physical
    assert codes(image) == (["spacing_assumed"] if said else [])


def test_tiles_of_a_slide_are_not_taken_for_frames(tmp_path: Path) -> None:
    dataset = cine(np.zeros((4, 9, 8)), **UNPLACED, Modality="SM", SOPClassUID=VLWholeSlideMicroscopyImageStorage)
    dataset.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    with pytest.raises(BadInputError, match="holds a slide as 4 tiles"):
        read_image(save(dataset, tmp_path / "slide"))
