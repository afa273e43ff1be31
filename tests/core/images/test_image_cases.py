"""Cases of a folder, and channels stacked from files."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Case, find_cases, read_image
from meduniseg_core.images.cases import folder_cases, group_files, images_left_out
from meduniseg_core.images.formats import format_of


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def found(folder: Path, ending: str | None = None) -> dict[str, list[str]]:
    return {case: [path.name for path in paths] for case, paths in find_cases(folder, ending).items()}


def test_channels_are_grouped_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b_0001.nii.gz", "b_0000.nii.gz", "a.b_0000.NII.GZ", "c.nii.gz", "notes.txt", ".hidden_0000.nii.gz")
    touch(tmp_path, "x_12345.png", "dataset.json")
    assert found(tmp_path) == {
        "a.b": ["a.b_0000.NII.GZ"],
        "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
        "c": ["c.nii.gz"],
        "x_12345": ["x_12345.png"],
    }
    assert list(find_cases(tmp_path)) == ["a.b", "b", "c", "x_12345"]
    assert list(found(tmp_path, ".nii.gz")) == ["a.b", "b", "c"]
    assert list(found(tmp_path, ".png")) == ["x_12345"]


def test_detached_voxels_are_no_case_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.mhd", "a_0000.raw", "a_0000.zraw")
    assert found(tmp_path) == {"a": ["a_0000.mhd"]}


def test_a_cameras_numbers_are_no_channels(tmp_path: Path) -> None:
    touch(tmp_path, "IMG_0001.jpg", "IMG_0002.jpg", "IMG_0417.jpg")
    assert list(found(tmp_path)) == ["IMG_0001", "IMG_0002", "IMG_0417"]


PATIENTS = ["pat_0000.nii.gz", "pat_0001.nii.gz"]


@pytest.mark.parametrize(
    ("names", "channels", "cases"),
    [
        (["amos_0001.nii.gz", "amos_0002.nii.gz", "amos_0005.nii.gz"], None, ["amos_0001", "amos_0002", "amos_0005"]),
        (["amos_0001.nii.gz"], 1, ["amos_0001"]),
        (["amos_0001.nii.gz", "amos_0002.nii.gz"], 2, ["amos_0001", "amos_0002"]),
        (PATIENTS, 1, ["pat_0000", "pat_0001"]),
        (PATIENTS, 2, ["pat"]),
        (PATIENTS, None, ["pat"]),
        (["pat_0000.nii.gz", "pat_0002.nii.gz"], 1, ["pat_0000", "pat_0002"]),  # a gap among patients is none
        (["pat_0000.nii.gz", "pat_0001.nrrd"], 1, ["pat_0000", "pat_0001"]),
        (["pat_0000.nii.gz"], 1, ["pat"]),  # alone: nnU-Net's mark of the only channel
        (["a_0001_0000.nii.gz", "a_0002_0000.nii.gz"], 1, ["a_0001", "a_0002"]),
        (["a_0001_0000.nii.gz", "a_0001_0001.nii.gz", "a_0002_0000.nii.gz"], 2, ["a_0001", "a_0002"]),
        (["IMG_0000.jpg", "IMG_0001.jpg"], 1, ["IMG_0000", "IMG_0001"]),
        (["pat.nii.gz", *PATIENTS], 1, ["pat", "pat_0000", "pat_0001"]),
    ],
)
def test_numbers_are_channels_only_where_the_task_has_channels(
    names: list[str], channels: int | None, cases: list[str], tmp_path: Path
) -> None:
    touch(tmp_path, *names)
    assert list(find_cases(tmp_path, channels=channels)) == cases
    assert [case.name for case in group_files([tmp_path / name for name in names], channels)] == cases


@pytest.mark.parametrize(
    ("names", "channels", "reason"),
    [
        (["a_0000.nii.gz", "a_0001.nii.gz"], 3, r"Case a has no channel 0002 \(.*a_0002\.nii\.gz is missing\)"),
        (["a_0000.nii.gz", "a_0002.nii.gz"], 2, "Case a has no channel 0001"),
        (["a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz"], 2, "are 3 files, and a case has 2 channels"),
    ],
)
def test_channels_that_do_not_fit_the_task_cost_their_own_case(
    names: list[str], channels: int, reason: str, tmp_path: Path
) -> None:
    touch(tmp_path, *names, "b_0001.nii.gz")
    broken, sound = folder_cases(tmp_path, channels=channels)
    assert broken.fault is not None and re.search(reason, str(broken.fault))
    assert sound == Case("b_0001", (tmp_path / "b_0001.nii.gz",)) and sound.fault is None
    with pytest.raises(BadInputError, match=reason):
        find_cases(tmp_path, channels=channels)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a_0000.nii.gz", "a_0002.nii.gz"], "Case a has no channel 0001"),
        (["a_0000.nii.gz", "a_0001.nrrd"], "several formats"),
        (["a_0000.nii.gz", "a_0000.nrrd"], "more than once"),
        (["a.nii.gz", "a_0000.nii.gz"], "more than once"),
        (["a.nii.gz", "a.png"], "more than once"),
        (["a.txt"], "holds no known image files"),
    ],
)
def test_unclear_folders_are_refused(names: list[str], reason: str, tmp_path: Path) -> None:
    touch(tmp_path, *names)
    with pytest.raises(BadInputError, match=reason):
        find_cases(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="gone is not a folder"):
        find_cases(tmp_path / "gone")


def channel(
    path: Path, value: float, dtype: str = "int16", shift: float = 0.0, shape: tuple[int, ...] = (6, 5, 4)
) -> Path:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(np.full(shape, value, dtype), affine), path)
    return path


def test_one_file_per_channel_is_stacked_in_the_given_order(tmp_path: Path) -> None:
    paths = [channel(tmp_path / f"a_000{number}.nii.gz", number + 1) for number in range(3)]
    image = read_image(paths[::-1])
    assert image.array.shape == (3, 4, 5, 6)
    assert image.array.dtype == np.int16
    assert image.array[:, 0, 0, 0].tolist() == [3, 2, 1]
    assert image.source == paths[2]
    assert read_image([str(paths[0])]).array.shape == (1, 4, 5, 6)


def test_mixed_types_become_float32(tmp_path: Path) -> None:
    mixed = read_image([channel(tmp_path / "a.nii", 1, "int32"), channel(tmp_path / "b.nii", 0.5, "float32")])
    assert mixed.array.dtype == np.float32
    ints = read_image([channel(tmp_path / "a.nii", 1, "uint16"), channel(tmp_path / "c.nii", 1, "int16")])
    assert ints.array.dtype == np.int32


def test_channels_on_different_grids_are_refused(tmp_path: Path) -> None:
    first = channel(tmp_path / "a.nii", 1)
    for other in (channel(tmp_path / "b.nii", 1, shift=0.2), channel(tmp_path / "c.nii", 1, shape=(6, 5, 3))):
        with pytest.raises(BadInputError, match=rf"{other.name} does not lie on the grid of a\.nii"):
            read_image([first, other])
    nearly = channel(tmp_path / "d.nii", 1, shift=0.04)  # a scanner's rounding: micrometres, here 1/50 of a voxel
    assert read_image([first, nearly]).channels == 2


def test_colour_pictures_are_not_stacked_and_no_path_is_refused(tmp_path: Path) -> None:
    PillowImage.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(BadInputError, match=r"a\.png has 3 channels"):
        read_image([tmp_path / "a.png", tmp_path / "a.png"])
    with pytest.raises(BadInputError, match="No file"):
        read_image([])


def test_images_that_lie_deeper_are_said_where(tmp_path: Path) -> None:
    deep = tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"x")
    with pytest.raises(
        BadInputError, match=r"there are images below it, in sub-01.anat: give that folder, or a wildcard"
    ):
        find_cases(tmp_path)
    with pytest.raises(BadInputError, match=r"holds no \.nrrd files; check the folder"):
        find_cases(tmp_path, ".nrrd")


def test_an_ending_that_is_not_read_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"a\.webp has an ending that is not read here") as caught:
        format_of(tmp_path / "a.webp")
    assert "zarr" not in str(caught.value) and ".nii.gz" in str(caught.value)


def test_images_that_a_folder_holds_and_that_are_no_cases_are_named(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "results").mkdir()
    for name in ("a.png", "b.webp", "c.JFIF", "d.gif", "e.pgm", "notes.txt", "below/f.png", "results/a.png"):
        (tmp_path / name).write_bytes(b"x")
    files, folders = images_left_out(tmp_path, lambda path: path.parent.name == "results")
    assert files.level == "warning" and "b.webp, c.JFIF, d.gif and 1 more; convert them" in files.text
    assert folders.level == "info" and "(below)" in folders.text
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.png").write_bytes(b"x")
    assert images_left_out(tmp_path / "plain") == []
