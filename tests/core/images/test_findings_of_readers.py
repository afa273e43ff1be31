"""What readers find out and the user must hear: unknown orientation, mended headers, sizes from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, read_image, read_labels, write_labels

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -20.5], [0, 0, 4.0, 7.25], [0, 0, 0, 1]])
DATA = np.random.default_rng(1).integers(0, 100, (6, 5, 4)).astype(np.int16)

STACK = np.random.default_rng(1).integers(0, 100, (5, 6, 7)).astype(np.uint16)


def codes(image: Image) -> list[str]:
    return [finding.code for finding in image.findings]


def nifti(path: Path, kind: Any = nib.Nifti1Image, **fields: Any) -> Path:
    """A .nii with a qform of ``AFFINE`` and these header fields, past nibabel's repairs."""
    image = kind(DATA, None)
    image.header.set_qform(AFFINE, code=1)
    nib.save(image, path)
    raw = path.read_bytes()
    size = image.header.sizeof_hdr
    header = type(image.header)(raw[:size], check=False)
    for field, value in fields.items():
        header[field] = value
    path.write_bytes(header.binaryblock + raw[size:])
    return path


def nrrd(path: Path, *lines: str, body: bytes = bytes(24), kind: str = "uint8", sizes: str = "2 3 4") -> Path:
    rank = len(sizes.split())
    fields = ["NRRD0004", f"type: {kind}", f"dimension: {rank}", f"sizes: {sizes}", "encoding: raw", *lines]
    path.write_bytes("\n".join(fields).encode() + b"\n\n" + body)
    return path


def meta(path: Path, *lines: str) -> Path:
    own = {line.split(" = ")[0] for line in lines}
    fields = ["NDims = 3", "DimSize = 2 3 4", "ElementType = MET_UCHAR", "ElementSpacing = 1 1 1"]
    fields = [*(field for field in fields if field.split(" = ")[0] not in own), *lines]
    path.write_bytes("\n".join([*fields, "ElementDataFile = LOCAL"]).encode() + b"\n" + bytes(24))
    return path


class TestOrientation:
    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    def test_a_nifti_with_both_codes_0_does_not_say_left_from_right(self, kind: Any, tmp_path: Path) -> None:
        (finding,) = read_image(nifti(tmp_path / "a.nii", kind, qform_code=0)).findings
        assert (finding.code, finding.level) == ("orientation_unknown", "warning")
        assert finding.text.startswith("a.nii does not say how it lies in the patient")
        assert "left and right may be swapped" in finding.text
        assert codes(read_image(nifti(tmp_path / "b.nii", kind))) == []

    @pytest.mark.parametrize("space", [None, "space dimension: 3", "space: scanner-xyz"])
    def test_an_nrrd_needs_a_space_of_the_patient(self, space: str | None, tmp_path: Path) -> None:
        lines = ["space directions: (1,0,0) (0,1,0) (0,0,1)"] + ([space] if space else [])
        assert codes(read_image(nrrd(tmp_path / "a.nrrd", *lines))) == ["orientation_unknown"]
        known = nrrd(tmp_path / "b.nrrd", "space: LPS", "space directions: (1,0,0) (0,1,0) (0,0,1)")
        assert codes(read_image(known)) == []
        assert codes(read_image(nrrd(tmp_path / "c.nrrd", "spacings: 1 1 1"))) == ["orientation_unknown"]

    def test_a_metaimage_needs_a_transform_matrix(self, tmp_path: Path) -> None:
        assert codes(read_image(meta(tmp_path / "a.mha"))) == ["orientation_unknown"]
        assert codes(read_image(meta(tmp_path / "b.mha", "TransformMatrix = 1 0 0 0 1 0 0 0 1"))) == []
        assert codes(read_image(meta(tmp_path / "c.mha", "Orientation = 1 0 0 0 1 0 0 0 1"))) == []

    def test_a_tiff_volume_in_mm_has_none_and_a_picture_needs_none(self, tmp_path: Path) -> None:
        stack, about = STACK, {"axes": "ZYX", "spacing": 2.0, "unit": "mm"}
        tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(1, 1), metadata=about)
        assert codes(read_image(tmp_path / "a.tif")) == ["orientation_unknown"]
        tifffile.imwrite(tmp_path / "b.tif", stack[0], imagej=True, resolution=(1, 1), metadata={"unit": "mm"})
        assert codes(read_image(tmp_path / "b.tif")) == []

    @pytest.mark.real
    def test_the_case_of_the_issue(self, shared_data: Path) -> None:
        case = shared_data.parent / "cases" / "02-no-orientation-codes" / "no_codes.nii.gz"
        if not case.is_file():
            pytest.skip("the cases are not here")
        assert codes(read_image(case)) == ["orientation_unknown"]


class TestMending:
    @pytest.mark.parametrize("quaternion", [(0.71, 0.71, 0.0), (0.58, 0.58, 0.58), (0.0, 1.0001, 0.0)])
    def test_rounding_in_a_quaternion_is_mended_as_itk_does(
        self, quaternion: tuple[float, float, float], tmp_path: Path
    ) -> None:
        import SimpleITK as sitk  # noqa: N813 - its usual name

        fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), quaternion, strict=True))
        image = read_image(nifti(tmp_path / "q.nii", **fields))
        (finding,) = image.findings
        assert (finding.code, finding.level) == ("header_mended", "info")
        reference = sitk.ReadImage(str(tmp_path / "q.nii"))
        for index in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (0, 0, 5)):
            place = reference.TransformIndexToPhysicalPoint(index[::-1])
            np.testing.assert_allclose((image.geometry.affine @ [*index, 1])[:3], place, atol=1e-4)
        write_labels(image, tmp_path / "l.nii.gz", like=image)
        assert np.array_equal(nib.load(tmp_path / "l.nii.gz").affine, nib.load(tmp_path / "l.nii.gz").get_qform())
        np.testing.assert_allclose(read_labels(tmp_path / "l.nii.gz").geometry.affine, image.geometry.affine, atol=1e-6)

    def test_a_quaternion_that_is_no_rounding_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match=r"q\.nii has an invalid qform"):
            read_image(nifti(tmp_path / "q.nii", quatern_b=0.9, quatern_c=0.9, quatern_d=0.0))

    @pytest.mark.parametrize(("stored", "used"), [(0.0, 1.0), (2.0, 1.0), (-3.0, -1.0)])
    def test_the_sign_of_qfac_counts_and_0_is_1(self, stored: float, used: float, tmp_path: Path) -> None:
        pixdim = [stored, 2, 1.5, 4, 0, 0, 0, 0]
        image = read_image(nifti(tmp_path / "f.nii", pixdim=pixdim))
        assert codes(image) == ["header_mended"]
        expected = read_image(nifti(tmp_path / "g.nii", pixdim=[used, *pixdim[1:]]))
        assert codes(expected) == []
        assert np.array_equal(image.geometry.affine, expected.geometry.affine)
        write_labels(image, tmp_path / "l.nii.gz", like=image)
        np.testing.assert_allclose(read_labels(tmp_path / "l.nii.gz").geometry.affine, image.geometry.affine)

    def test_a_qfac_that_is_not_used_is_left_alone(self, tmp_path: Path) -> None:
        affine = {field: AFFINE[row] for row, field in enumerate(("srow_x", "srow_y", "srow_z"))}
        path = nifti(tmp_path / "f.nii", pixdim=[0, 2, 1.5, 4, 0, 0, 0, 0], qform_code=0, sform_code=1, **affine)
        assert codes(read_image(path)) == []

    def test_an_empty_sform_beside_a_qform_does_not_count(self, tmp_path: Path) -> None:
        nothing = {field: np.zeros(4) for field in ("srow_x", "srow_y", "srow_z")}
        image = read_image(nifti(tmp_path / "s.nii", sform_code=1, **nothing))
        assert codes(image) == ["header_mended"]
        assert image.geometry.spacing == pytest.approx((4.0, 1.5, 2.0))
        with pytest.raises(BadInputError, match=r"s\.nii"):
            read_image(nifti(tmp_path / "s.nii", sform_code=1, qform_code=0, **nothing))

    def test_further_axes_of_size_0_are_1_and_axes_of_space_are_not(self, tmp_path: Path) -> None:
        image = read_image(nifti(tmp_path / "d.nii", dim=[5, 6, 5, 4, 0, 0, 0, 0]))
        assert codes(image) == ["header_mended"]
        assert np.array_equal(image.array[0], DATA.T)
        with pytest.raises(BadInputError, match="impossible sizes"):
            read_image(nifti(tmp_path / "d.nii", dim=[3, 6, 5, 0, 1, 1, 1, 1]))

    def test_voxels_at_byte_0_follow_the_header_where_every_byte_is_accounted_for(self, tmp_path: Path) -> None:
        path = nifti(tmp_path / "o.nii", vox_offset=0)
        image = read_image(path)
        assert codes(image) == ["header_mended"]
        assert np.array_equal(image.array[0], DATA.T)
        path.write_bytes(path.read_bytes() + b"\0")
        with pytest.raises(BadInputError, match=r"o\.nii"):
            read_image(path)

    def test_an_nrrd_without_byte_order_is_little_endian(self, tmp_path: Path) -> None:
        body = np.arange(24, dtype="<i2").tobytes()
        image = read_image(nrrd(tmp_path / "e.nrrd", "space: LPS", "spacings: 1 1 1", body=body, kind="short"))
        assert "header_mended" in codes(image)
        assert np.array_equal(image.array.ravel(), np.arange(24))


class TestSpacing:
    @pytest.mark.parametrize("size", [1e4, 1e10, 1e30, 2e3, 1e-7, 1e-30])
    @pytest.mark.parametrize("form", ["nifti", "nrrd", "metaimage"])
    def test_a_voxel_size_that_no_image_has_is_refused(self, form: str, size: float, tmp_path: Path) -> None:
        if form == "nifti":
            path = nifti(tmp_path / "a.nii", pixdim=[1, 1, size, 1, 0, 0, 0, 0])
        elif form == "nrrd":
            path = nrrd(tmp_path / "a.nrrd", f"spacings: 1 {size:g} 1")
        else:
            path = meta(tmp_path / "a.mha", f"ElementSpacing = 1 {size:g} 1")
        with pytest.raises(BadInputError, match=r"a\.(nii|nrrd|mha) (gives a voxel size|has an unreadable)"):
            read_image(path)

    @pytest.mark.parametrize("size", [4e-6, 2.5e-4, 0.9, 50.0, 1000.0])
    def test_electron_microscopes_and_thick_slices_pass(self, size: float, tmp_path: Path) -> None:
        image = read_image(nifti(tmp_path / "a.nii", pixdim=[1, size, size, size, 0, 0, 0, 0]))
        assert image.geometry.spacing == pytest.approx((size,) * 3)

    def test_an_origin_kilometres_away_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match="mm from its scanner's centre"):
            read_image(nifti(tmp_path / "a.nii", qoffset_x=1e30))

    @pytest.mark.parametrize("name", ["stack.json", "stack_0000.json"])
    def test_nnunets_json_beside_a_tiff_gives_its_spacing(self, name: str, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "stack_0000.tif", STACK)
        assert not read_image(tmp_path / "stack_0000.tif").physical
        (tmp_path / name).write_text(json.dumps({"spacing": [3.0, 0.5, 0.25]}))
        image = read_image(tmp_path / "stack_0000.tif")
        assert image.physical
        assert image.geometry.spacing == (3.0, 0.5, 0.25)
        assert codes(image) == ["spacing_assumed", "orientation_unknown"]
        assert image.findings[0].level == "info"

    def test_a_json_that_contradicts_the_file_is_taken_with_a_warning(self, tmp_path: Path) -> None:
        about = {"axes": "ZYX", "spacing": 2.0, "unit": "mm"}
        tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(1, 1), metadata=about)
        (tmp_path / "a.json").write_text('{"spacing": [2.0, 1.0, 1.0]}')
        assert read_image(tmp_path / "a.tif").findings[0].level == "info"
        (tmp_path / "a.json").write_text('{"spacing": [5.0, 1.0, 1.0]}')
        image = read_image(tmp_path / "a.tif")
        assert image.geometry.spacing[0] == 5.0
        assert image.findings[0].level == "warning"
        assert "not the 2 x 1 x 1 mm that the file itself states" in image.findings[0].text

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{"spacing": [1, 2]}', "not three numbers"),
            ('{"spacing": "1 1 1"}', "not three numbers"),
            ('{"spacing": [0, 1, 1]}', "voxel size"),
            ('{"spacing": [1e999, 1, 1]}', "voxel size"),
        ],
    )
    def test_a_spacing_that_cannot_be_is_refused(self, text: str, reason: str, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", STACK)
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(BadInputError, match=rf"a\.json.*{reason}"):
            read_image(tmp_path / "a.tif")

    @pytest.mark.parametrize("text", ["{}", "[1]", "not json", '{"task": "x"}'])
    def test_other_jsons_beside_a_tiff_are_none_of_its_business(self, text: str, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", STACK)
        (tmp_path / "a.json").write_text(text)
        assert read_image(tmp_path / "a.tif").findings == ()


def two_places(path: Path, sform: np.ndarray, qform: np.ndarray, **fields: Any) -> Path:
    """A .nii whose sform and qform are given separately."""
    image = nib.Nifti1Image(DATA, None)
    image.header.set_qform(qform, code=1)
    image.header.set_sform(sform, code=1)
    image.header["vox_offset"] = 352
    for field, value in fields.items():
        image.header[field] = value
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + DATA.tobytes(order="F"))
    return path


def moved(millimetres: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += millimetres
    return affine


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return rotation @ AFFINE


@pytest.mark.parametrize(
    ("qform", "level", "said"),
    [
        (AFFINE @ np.diag([-1.0, 1, 1, 1]), "warning", "the orientation LAS by its sform and RAS by its qform"),
        (
            AFFINE[:, [1, 0, 2, 3]],
            "warning",
            "voxel sizes of 2 x 1.5 x 4 by its sform and of 1.5 x 2 x 4 by its pixdim",
        ),
        (AFFINE @ np.diag([3.0, 1, 1, 1]), "warning", "voxel sizes of 2 x 1.5 x 4 by its sform and of 6 x 1.5 x 4"),
        (moved(30), "info", "two places, by its sform and its qform, up to 30 mm apart"),
        (turned(10), "info", "two places"),
    ],
)
def test_an_sform_and_a_qform_that_disagree_are_said(qform: np.ndarray, level: str, said: str, tmp_path: Path) -> None:
    image = read_image(two_places(tmp_path / "two.nii", AFFINE, qform))
    (finding,) = image.findings
    assert (finding.code, finding.level) == ("places_differ", level) and said in finding.text
    assert np.allclose(
        image.geometry.affine, read_image(two_places(tmp_path / "one.nii", AFFINE, AFFINE)).geometry.affine
    )


@pytest.mark.parametrize("qform", [AFFINE, moved(0.02), turned(0.05)])
def test_rounding_is_no_second_place(qform: np.ndarray, tmp_path: Path) -> None:
    assert codes(read_image(two_places(tmp_path / "a.nii", AFFINE, qform))) == []
    assert codes(read_image(two_places(tmp_path / "b.nii", AFFINE, moved(50), qform_code=0))) == []


def test_voxel_sizes_beside_an_sform_alone_are_compared_too(tmp_path: Path) -> None:
    doubled = AFFINE @ np.diag([2.0, 2, 2, 1])
    assert codes(read_image(two_places(tmp_path / "a.nii", AFFINE, doubled, qform_code=0))) == ["places_differ"]
