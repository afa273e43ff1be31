"""Photographs that are stored turned (EXIF orientation): read upright, labels on the file's own pixels, masks met."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from PIL import ImageOps

from meduniseg_core.corrections import Ledger
from meduniseg_core.corrections.voxels import labels_on
from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import evaluate_case
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image, write_labels
from meduniseg_core.images.upright import meet

ALL = range(1, 9)
TURNED = range(2, 9)


def pixels(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8)


def exif(orientation: object) -> PillowImage.Exif:
    found = PillowImage.Exif()
    found[0x0112] = orientation
    return found


def photo(path: Path, orientation: int | None, stored: np.ndarray | None = None) -> Path:
    """A file with these stored pixels; JPEG and PNG in EXIF, TIFF in its own field."""
    stored = pixels() if stored is None else stored
    if path.suffix in (".tif", ".tiff"):
        extra = [] if orientation is None else [(0x0112, "H", 1, orientation, True)]
        tifffile.imwrite(path, stored, photometric="rgb" if stored.ndim == 3 else "minisblack", extratags=extra)
        return path
    options = {} if orientation is None else {"exif": exif(orientation)}
    PillowImage.fromarray(stored).save(path, **options)
    return path


def shown(path: Path) -> np.ndarray:
    """(H, W, 3) as viewers show it: Pillow's own rule is the reference."""
    with PillowImage.open(path) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))


@pytest.mark.parametrize("orientation", ALL)
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_a_photograph_is_read_as_it_is_shown(ending: str, orientation: int, tmp_path: Path) -> None:
    path = photo(tmp_path / f"p{ending}", orientation)
    image = read_image(path)
    reference = photo(tmp_path / "same.png", orientation) if ending == ".tif" else path
    assert np.array_equal(np.moveaxis(image.array[:, 0], 0, -1), shown(reference))
    assert image.geometry.shape == (1, *shown(reference).shape[:2])
    codes = [finding.code for finding in image.findings]
    assert codes == ([] if orientation == 1 else ["orientation_applied"])
    for finding in image.findings:
        assert finding.text.startswith(f"p{ending} is stored turned (EXIF orientation {orientation})")


@pytest.mark.parametrize("orientation", ALL)
@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp", ".npy", ".nii.gz", ".nrrd", ".mha"])
def test_labels_lie_on_the_files_own_pixels(ending: str, orientation: int, tmp_path: Path) -> None:
    stored = pixels()
    image = read_image(photo(tmp_path / "p.png", orientation, stored))
    # the label of a pixel is a function of its colour: wherever it is turned to, both must go together
    ids = (image.array[0:1].astype(int) % 5).astype(np.uint8)
    path = tmp_path / f"l{ending}"
    write_labels(image.with_array(ids), path, like=image)
    if ending in (".png", ".bmp"):
        with PillowImage.open(path) as picture:
            raw = np.array(picture)
    elif ending == ".tif":
        raw = tifffile.imread(path)
    else:
        raw = read_image(path).array[0, 0]
    assert np.array_equal(raw, stored[..., 0] % 5)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_label_file_with_an_orientation_of_its_own_is_turned_with_it(
    ending: str, orientation: int, tmp_path: Path
) -> None:
    image = read_image(photo(tmp_path / "p.jpg", orientation))
    ids = (image.array[0:1].astype(int) % 5).astype(np.uint8)
    write_labels(image.with_array(ids), tmp_path / f"l{ending}", like=image)
    again = read_labels(tmp_path / f"l{ending}")
    assert np.array_equal(again.array, ids)
    assert np.array_equal(labels_on(image, again, "abcde").array, ids)
    write_labels(again, tmp_path / f"m{ending}")  # written again it stays where it is
    assert np.array_equal(read_labels(tmp_path / f"m{ending}").array, ids)
    if ending == ".png":
        with PillowImage.open(tmp_path / "l.png") as picture:
            assert np.array_equal(np.array(ImageOps.exif_transpose(picture)), ids[0, 0])


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("drawn_on", ["stored", "shown"])
def test_a_mask_of_either_make_meets_the_photograph_or_is_refused(
    drawn_on: str, orientation: int, tmp_path: Path
) -> None:
    stored = pixels()
    image = read_image(photo(tmp_path / "p.png", orientation, stored))
    upright = image.array[0, 0] % 5
    mask = stored[..., 0] % 5 if drawn_on == "stored" else upright
    PillowImage.fromarray(np.ascontiguousarray(mask)).save(tmp_path / "m.png")
    answered = meet(read_labels(tmp_path / "m.png"), image, drawn_on)  # type: ignore[arg-type]
    assert np.array_equal(answered.array[0, 0], upright)
    assert np.array_equal(labels_on(image, answered, "abcde").array[0, 0], upright)  # the answer is remembered
    if orientation >= 5:  # a quarter turn: the size tells
        assert np.array_equal(meet(read_labels(tmp_path / "m.png"), image).array[0, 0], upright)
        assert np.array_equal(labels_on(image, read_labels(tmp_path / "m.png"), "abcde").array[0, 0], upright)
    else:
        with pytest.raises(BadInputError, match=r"p\.png is stored turned .* and m\.png does not say whether"):
            meet(read_labels(tmp_path / "m.png"), image)
        with pytest.raises(BadInputError, match="does not say whether"):
            labels_on(image, read_labels(tmp_path / "m.png"), "abcde")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_square_photograph_has_no_size_that_tells(orientation: int, tmp_path: Path) -> None:
    image = read_image(photo(tmp_path / "p.png", orientation, pixels(6, 6)))
    mask = np.arange(36, dtype=np.uint8).reshape(6, 6) % 3
    PillowImage.fromarray(mask).save(tmp_path / "m.png")
    with pytest.raises(BadInputError, match="does not say whether"):
        meet(read_labels(tmp_path / "m.png"), image)
    PillowImage.fromarray(np.ones((6, 6), np.uint8)).save(tmp_path / "same.png")  # the same either way round
    assert (meet(read_labels(tmp_path / "same.png"), image).array == 1).all()


def test_a_mask_that_fits_neither_way_is_refused_as_another_grid(tmp_path: Path) -> None:
    image = read_image(photo(tmp_path / "p.png", 6))
    PillowImage.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(BadInputError, match="another grid"):
        labels_on(image, meet(read_labels(tmp_path / "m.png"), image), "a")


def test_labels_of_memory_lie_as_their_array_does(tmp_path: Path) -> None:
    image = read_image(photo(tmp_path / "p.png", 3))
    labels = Image(image.array[0:1] % 2, image.geometry, physical=False)
    assert np.array_equal(labels_on(image, labels, "a").array, labels.array)


def test_a_mask_says_that_it_is_upright_by_an_orientation_of_one(tmp_path: Path) -> None:
    image = read_image(photo(tmp_path / "p.png", 3))
    mask = np.ascontiguousarray(image.array[0, 0] % 2)
    PillowImage.fromarray(mask).save(tmp_path / "m.png", exif=exif(1))
    assert np.array_equal(meet(read_labels(tmp_path / "m.png"), image).array[0, 0], mask)


@pytest.mark.parametrize("orientation", TURNED)
def test_a_tiff_stack_keeps_its_voxel_size_along_its_axes(orientation: int, tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 4, 5), dtype=np.uint8)
    tifffile.imwrite(
        tmp_path / "s.tif",
        stack,
        imagej=True,
        resolution=(1 / 0.5, 1 / 0.25),  # 0.5 mm wide, 0.25 mm high
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "mm"},
        extratags=[(0x0112, "H", 1, orientation, False)],
    )
    image = read_image(tmp_path / "s.tif")
    swapped = orientation >= 5
    assert image.geometry.spacing == pytest.approx((2.0, 0.5, 0.25) if swapped else (2.0, 0.25, 0.5))
    write_labels(image, tmp_path / "l.tif", like=image)
    assert np.array_equal(tifffile.imread(tmp_path / "l.tif"), stack)
    again = read_labels(tmp_path / "l.tif")
    assert np.array_equal(again.array, image.array)
    assert again.geometry.spacing == pytest.approx(image.geometry.spacing)


@pytest.mark.parametrize(("wrong", "kind"), [(9, 3), (255, 3), (6, 7), (6, 2)])  # 7 and 2: bytes and text
def test_an_orientation_that_does_not_exist_is_refused(wrong: int, kind: int, tmp_path: Path) -> None:
    raw = photo(tmp_path / "p.jpg", wrong).read_bytes()
    field = struct.Struct("<HHI" if b"Exif\0\0II" in raw else ">HHI")
    assert raw.count(field.pack(0x0112, 3, 1)) == 1
    (tmp_path / "p.jpg").write_bytes(raw.replace(field.pack(0x0112, 3, 1), field.pack(0x0112, kind, 1)))
    with pytest.raises(BadInputError, match=r"p\.jpg .*turned in a way that does not exist"):
        read_image(tmp_path / "p.jpg")


def test_orientation_zero_means_none(tmp_path: Path) -> None:
    PillowImage.fromarray(pixels()).save(tmp_path / "p.png", exif=exif(0))
    image = read_image(tmp_path / "p.png")
    assert image.findings == ()
    assert np.array_equal(np.moveaxis(image.array[:, 0], 0, -1), pixels())


def test_an_image_is_written_upright_unless_its_file_is_the_model(tmp_path: Path) -> None:
    image = read_image(photo(tmp_path / "p.png", 6))
    write_image(image, tmp_path / "alone.png")
    write_image(image, tmp_path / "like.png", like=image)
    assert np.array_equal(shown(tmp_path / "alone.png"), np.moveaxis(image.array[:, 0], 0, -1))
    with PillowImage.open(tmp_path / "alone.png") as alone, PillowImage.open(tmp_path / "like.png") as like:
        assert 0x0112 not in alone.getexif()
        assert like.getexif()[0x0112] == 6
        assert np.array_equal(np.array(like), pixels())
    assert np.array_equal(read_image(tmp_path / "like.png").array, image.array)


@pytest.mark.parametrize("orientation", TURNED)
def test_evaluation_never_compares_turned_with_upright(orientation: int, tmp_path: Path) -> None:
    stored = pixels(8, 12)
    image = read_image(photo(tmp_path / "p.jpg", orientation, stored))
    truth = np.zeros(image.geometry.shape[1:], np.uint8)
    truth[1:4, 1:4] = 1
    write_labels(image.with_array(truth[None, None]), tmp_path / "p.png", like=image)
    PillowImage.fromarray(truth).save(tmp_path / "drawn.png")
    prediction, reference = read_labels(tmp_path / "p.png"), read_labels(tmp_path / "drawn.png")
    for first, second in ((prediction, reference), (reference, prediction)):
        if orientation >= 5:
            assert evaluate_case(first, second).dice == 1.0
        else:
            with pytest.raises(BadInputError, match="does not say whether"):
                evaluate_case(first, second)
        assert evaluate_case(meet(first, second, "shown"), meet(second, first, "shown")).dice == 1.0
    both = read_labels(tmp_path / "p.png")
    assert evaluate_case(both, prediction).dice == 1.0


@pytest.mark.parametrize("orientation", TURNED)
def test_the_ledger_keeps_photograph_and_labels_upright(orientation: int, tmp_path: Path) -> None:
    image = read_image(photo(tmp_path / "p.jpg", orientation))
    ids = image.array[0:1] % 2
    ledger = Ledger.create(
        tmp_path / "ledger",
        task="lesion",
        modality="dermoscopy",
        classes=["lesion"],
        channels=["R", "G", "B"],
        file_ending=".png",
    )
    entry = ledger.accept(image, image.with_array(ids))
    (case,) = ledger.dataset.cases("Tr")
    with PillowImage.open(case.images[0]) as kept, PillowImage.open(case.label) as label:
        assert np.array_equal(np.moveaxis(np.array(kept), -1, 0), image.array[:, 0])
        assert np.array_equal(np.array(label), ids[0, 0])
        assert 0x0112 not in kept.getexif()
    assert ledger.accept(read_image(case.images), image.with_array(ids)).case == entry.case


def test_a_new_format_without_the_field_is_told_by_the_json(tmp_path: Path) -> None:
    image = read_image(photo(tmp_path / "p.jpg", 3))
    ids = image.array[0:1] % 2
    for ending in (".npy", ".nii.gz", ".bmp"):
        write_labels(image.with_array(ids), tmp_path / f"l{ending}", like=image)
        (tmp_path / "l.json").write_text('{"task": "t", "model": "m", "classes": {"1": "a"}, "exif_orientation": 3}')
        assert np.array_equal(meet(read_labels(tmp_path / f"l{ending}"), image).array, ids)
        (tmp_path / "l.json").unlink()
        with pytest.raises(BadInputError, match="does not say whether"):
            meet(read_labels(tmp_path / f"l{ending}"), image)


def test_a_picture_with_a_broken_exif_block_is_refused_in_one_sentence(tmp_path: Path) -> None:
    photo(tmp_path / "p.jpg", 6)
    raw = bytearray((tmp_path / "p.jpg").read_bytes())
    at = raw.index(b"Exif\0\0") + 6
    raw[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFF0) if raw[at : at + 2] == b"II" else struct.pack(">I", 0xFFFFFFF0)
    (tmp_path / "p.jpg").write_bytes(raw)
    try:
        image = read_image(tmp_path / "p.jpg")
    except BadInputError as error:
        assert "p.jpg" in str(error)
    else:
        assert image.geometry == Geometry((1, 5, 7), (1.0, 1.0, 1.0))
