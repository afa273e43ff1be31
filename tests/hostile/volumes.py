"""Volumes of the corpus: NIfTI, NRRD, MetaImage, DICOM."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
from hostile.file import MB, VOLUME, Hostile


def nifti_of(data: np.ndarray = VOLUME, kind: Any = nib.Nifti1Image, **fields: Any) -> bytes:
    """A NIfTI file of int16 voxels, and header fields that are set whatever they mean."""
    image = kind(data.T, None, dtype=data.dtype)
    image.header.set_qform(np.diag([-2.0, -2, 3, 1]), code=1)
    image.header.set_sform(np.diag([-2.0, -2, 3, 1]), code=1)
    raw = image.to_bytes()
    size = image.header.sizeof_hdr
    header = type(image.header)(raw[:size], check=False)
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock + raw[size:])


def nifti() -> Iterator[Hostile]:
    def bad(name: str, content: bytes, ending: str = ".nii") -> Hostile:
        return Hostile(f"nifti_{name}{ending}", content, "refused")

    def good(name: str, content: bytes, ending: str = ".nii") -> Hostile:
        return Hostile(f"nifti_{name}{ending}", content, "read")

    plain = nifti_of()
    packed = gzip.compress(plain)
    yield good("plain", plain)
    yield good("packed", packed, ".nii.gz")
    yield good("packed_under_a_plain_name", packed)
    yield bad("header_alone", plain[:352])
    yield bad("cut", plain[:-5])
    yield bad("cut_gzip", packed[:-20], ".nii.gz")
    yield bad("wrong_checksum", packed[:-8] + b"abcd" + packed[-4:], ".nii.gz")
    yield bad("wrong_length", packed[:-4] + b"\xff\xff\xff\xff", ".nii.gz")
    yield bad("gzip_and_rubbish", packed + b"rubbish behind it", ".nii.gz")
    yield bad("gzip_for_ever", gzip.compress(plain + bytes(80 * MB), 1), ".nii.gz")
    yield bad("gzip_claims", gzip.compress(nifti_of(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])), ".nii.gz")
    yield bad(
        "gzip_promise", gzip.compress(nifti_of(dim=[3, 600, 600, 600, 1, 1, 1, 1])[:352] + bytes(80 * MB), 9), ".nii.gz"
    )
    yield bad("png_inside", b"\x89PNG\r\n\x1a\n" + bytes(500))
    yield bad("pair", nifti_of(magic=b"ni1"))
    yield bad("no_magic", nifti_of(magic=b""))
    yield bad("analyze", plain[:344] + bytes(4) + plain[348:])
    for name, dims in {
        "rank_0": [0, 8, 7, 6, 1, 1, 1, 1],
        "rank_8": [8, 8, 7, 6, 1, 1, 1, 1],
        "rank_negative": [-3, 8, 7, 6, 1, 1, 1, 1],
        "rank_1": [1, 336, 1, 1, 1, 1, 1, 1],
        "size_0": [3, 8, 0, 6, 1, 1, 1, 1],
        "size_negative": [3, 8, -7, 6, 1, 1, 1, 1],
        "size_absurd": [3, 32767, 32767, 32767, 1, 1, 1, 1],
        "seven_axes": [7, 32767, 32767, 32767, 32767, 32767, 32767, 32767],
        "time": [4, 2, 2, 2, 42, 1, 1, 1],
    }.items():
        yield bad(name, nifti_of(dim=dims))
    yield bad("nifti2_overflow", nifti_of(kind=nib.Nifti2Image, dim=[3, 2**62, 2**62, 4, 1, 1, 1, 1]))
    for name, size in {"0": 0, "nan": np.nan, "inf": np.inf, "1e4": 1e4, "1e30": 1e30, "1e-30": 1e-30}.items():
        yield bad(f"spacing_{name}", nifti_of(pixdim=[1, 2, size, 3, 0, 0, 0, 0]))
    yield bad("sform_nan", nifti_of(srow_x=[np.nan, 0, 0, 0]))
    yield bad("sform_flat", nifti_of(srow_x=[2, 0, 0, 0], srow_y=[2, 0, 0, 0]))
    yield bad("sform_far", nifti_of(srow_x=[2, 0, 0, 1e30]))
    yield bad("sform_huge", nifti_of(srow_x=[1e38, 0, 0, 0]))
    yield bad("code_99", nifti_of(sform_code=99))
    yield bad("quaternion", nifti_of(sform_code=0, quatern_b=0.9, quatern_c=0.9))
    yield bad("quaternion_nan", nifti_of(sform_code=0, quatern_b=np.nan))
    yield bad("qfac_nan", nifti_of(sform_code=0, pixdim=[np.nan, 2, 2, 3, 0, 0, 0, 0]))
    for name, offset in {"nan": np.nan, "negative": -4, "inside": 100, "far": 3e9, "half": 352.5}.items():
        yield bad(f"offset_{name}", nifti_of(vox_offset=offset))
    for code in (0, 1, 32, 1536, 2048, 9999):
        yield bad(f"type_{code}", nifti_of(datatype=code))
    yield bad("units", nifti_of(xyzt_units=7))
    for name, value in {"nan": np.nan, "inf": np.inf, "1e39": 1e39, "1e300": 1e300, "minus_1e308": -1e308}.items():
        data = np.ones((6, 7, 8))
        data[1, 2, 3] = value
        yield bad(f"voxel_{name}", gzip.compress(nifti_of(data)), ".nii.gz")
    nodata = np.ones((6, 7, 8), np.float32)
    nodata[0, 0, 0] = np.finfo(np.float32).min
    yield bad("voxel_lowest_float", nifti_of(nodata))
    yield bad("slope", nifti_of(scl_slope=3e38))
    yield bad("inter_nan", nifti_of(scl_slope=2, scl_inter=np.nan))
    yield good("slope_nan", nifti_of(scl_slope=np.nan, scl_inter=np.nan))
    yield good("codes_0", nifti_of(sform_code=0, qform_code=0))
    yield good("qfac_0", nifti_of(sform_code=0, pixdim=[0, 2, 2, 3, 0, 0, 0, 0]))
    yield good("quaternion_rounded", nifti_of(sform_code=0, quatern_b=0.71, quatern_c=0.71, quatern_d=0))
    yield good("sform_empty", nifti_of(srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4))
    yield good("offset_0", nifti_of(vox_offset=0))
    yield good("further_size_0", nifti_of(dim=[4, 8, 7, 6, 0, 0, 0, 0]))
    yield good("wrong_bitpix", nifti_of(bitpix=3))
    rgb = np.zeros((6, 7, 8), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    yield good("rgb", nifti_of(rgb))


def nrrd() -> Iterator[Hostile]:
    def text(body: bytes = bytes(24), **changes: str | None) -> bytes:
        fields: dict[str, str | None] = {
            "type": "uint8",
            "dimension": "3",
            "sizes": "2 3 4",
            "encoding": "raw",
            "space": "LPS",
            "space directions": "(1,0,0) (0,1,0) (0,0,1)",
        }
        fields |= {key.replace("_", " "): value for key, value in changes.items()}
        lines = ["NRRD0004", *(f"{key}: {value}" for key, value in fields.items() if value is not None)]
        return "\n".join(lines).encode() + b"\n\n" + body

    def bad(name: str, content: bytes, ending: str = ".nrrd", **beside: bytes) -> Hostile:
        return Hostile(
            f"nrrd_{name}{ending}", content, "refused", {key.replace("_", "."): v for key, v in beside.items()}
        )

    yield Hostile("nrrd_plain.nrrd", text(), "read")
    yield Hostile(
        "nrrd_nan_vector.nrrd",
        text(bytes(48), dimension="4", sizes="2 2 3 4", space_directions="(nan,nan,nan) (1,0,0) (0,1,0) (0,0,1)"),
        "read",
    )
    yield Hostile("nrrd_no_space.nrrd", text(space=None), "read")
    yield Hostile("nrrd_no_endian.nrrd", text(bytes(48), type="short"), "read")
    yield bad("empty_header", b"NRRD0004\n\n")
    yield bad("no_newline", b"NRRD0004")
    yield bad("long_line", b"NRRD0004\n" + b"a" * (2 * MB))
    yield bad("many_lines", b"NRRD0004\n" + b"a: b\n" * 20_000)
    yield bad("cut", text(bytes(20)))
    yield bad("gzip_cut", text(zlib.compress(bytes(24))[:-3], encoding="gzip"))
    yield bad("gzip_rubbish", text(b"no gzip at all, that", encoding="gzip"))
    yield bad("gzip_for_ever", text(gzip.compress(bytes(80 * MB), 1), encoding="gzip"))
    yield bad("bzip2_cut", text(bz2.compress(bytes(24))[:-9], encoding="bzip2"))
    yield bad("bzip2_for_ever", text(bz2.compress(bytes(100 * MB)), encoding="bzip2"))
    yield bad("hex", text(b"00" * 24, encoding="hex"))
    for name, changes in {
        "size_absurd": {"sizes": "30000 30000 30000"},
        "size_overflow": {"sizes": f"{2**63} {2**63} 4"},
        "size_negative": {"sizes": "2 -3 4"},
        "size_text": {"sizes": "a b c"},
        "size_missing": {"sizes": None},
        "dimension": {"dimension": "2"},
        "dimension_0": {"dimension": "0", "sizes": ""},
        "sixty_axes": {"dimension": "60", "sizes": "1 " * 60, "space_directions": None},
        "line_skip_empty": {"line_skip": ""},
        "line_skip_absurd": {"line_skip": "999999999999"},
        "byte_skip_empty": {"byte_skip": ""},
        "byte_skip_absurd": {"byte_skip": "99999999999999999999999"},
        "byte_skip_minus_2": {"byte_skip": "-2"},
        "type_block": {"type": "block"},
        "directions_flat": {"space_directions": "(1,0,0) (1,0,0) (0,0,1)"},
        "directions_inf": {"space_directions": "(1,0,0) (0,inf,0) (0,0,1)"},
        "directions_empty": {"space_directions": "() () ()"},
        "directions_few": {"space_directions": "(1,0,0)"},
        "spacing_1e30": {"space_directions": None, "spacings": "1 1 1e30"},
        "units": {"space_units": '"parsec" "parsec" "parsec"'},
    }.items():
        yield bad(name, text(**changes))
    yield bad("names_itself", text(b"", data_file="nrrd_names_itself.nhdr"), ".nhdr")
    yield bad("leaves_its_folder", text(b"", data_file="../../etc/passwd"), ".nhdr")
    yield bad("several_files", text(b"", data_file="LIST"), ".nhdr")
    yield bad("no_data_file", text(b"", data_file="not_there.raw"), ".nhdr")
    for name, pairs, verdict in (
        ("overlap", "Segment0_Name:=a\nSegment0_Layer:=0\nSegment1_Name:=b\nSegment1_Layer:=1", "refused"),
        ("value", "Segment0_Name:=a\nSegment0_LabelValue:=-3", "refused"),
        ("layer", "Segment0_Name:=a\nSegment0_LabelValue:=1\nSegment0_Layer:=99", "refused"),
    ):
        header = text(b"\1" * 48, dimension="4", sizes="2 2 3 4", space_directions="none (1,0,0) (0,1,0) (0,0,1)")
        at = header.index(b"\n\n")
        content = header[:at] + b"\n" + pairs.encode() + header[at:]
        yield Hostile(f"nrrd_{name}.seg.nrrd", content, verdict, labels=True)  # type: ignore[arg-type]


def metaimage() -> Iterator[Hostile]:
    def text(body: bytes = bytes(24), last: str = "LOCAL", **changes: str | None) -> bytes:
        fields: dict[str, str | None] = {
            "NDims": "3",
            "DimSize": "2 3 4",
            "ElementType": "MET_UCHAR",
            "ElementSpacing": "1 1 1",
            "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        }
        fields |= changes
        lines = [f"{key} = {value}" for key, value in fields.items() if value is not None]
        return "\n".join([*lines, f"ElementDataFile = {last}"]).encode() + b"\n" + body

    def bad(name: str, content: bytes, ending: str = ".mha") -> Hostile:
        return Hostile(f"meta_{name}{ending}", content, "refused")

    yield Hostile("meta_plain.mha", text(), "read")
    yield Hostile("meta_no_matrix.mha", text(TransformMatrix=None), "read")
    yield bad("cut", text(bytes(20)))
    yield bad("no_end", b"NDims = 3\n" * 20)
    yield bad("many_lines", b"a = b\n" * 20_000)
    yield bad("zlib_cut", text(zlib.compress(bytes(24))[:-3], CompressedData="True"))
    yield bad("zlib_for_ever", text(zlib.compress(bytes(80 * MB), 1), CompressedData="True"))
    for name, changes in {
        "rank_0": {"NDims": "0", "DimSize": ""},
        "rank_99": {"NDims": "99", "DimSize": "1 " * 99},
        "rank_empty": {"NDims": ""},
        "size_absurd": {"DimSize": "30000 30000 30000"},
        "size_negative": {"DimSize": "2 3 -4"},
        "size_text": {"DimSize": "x y z"},
        "channels_empty": {"ElementNumberOfChannels": ""},
        "channels_absurd": {"ElementNumberOfChannels": "99999999999"},
        "skip_empty": {"HeaderSize": ""},
        "skip_absurd": {"HeaderSize": "99999999999999999999"},
        "spacing_0": {"ElementSpacing": "1 0 1"},
        "spacing_1e30": {"ElementSpacing": "1 1e30 1"},
        "spacing_empty": {"ElementSpacing": ""},
        "matrix_flat": {"TransformMatrix": "1 0 0 1 0 0 0 0 1"},
        "matrix_short": {"TransformMatrix": "1 0 0"},
        "offset_inf": {"Offset": "0 0 inf"},
        "type": {"ElementType": "MET_STRING"},
        "text": {"BinaryData": "False"},
    }.items():
        yield bad(name, text(**changes))
    yield bad("names_itself", text(b"", "meta_names_itself.mhd"), ".mhd")
    yield bad("leaves_its_folder", text(b"", "../x.raw"), ".mhd")
    yield bad("several_files", text(b"", "slice%03d.raw 1 4 1"), ".mhd")
    yield bad("no_name", text(b"", ""), ".mhd")


def dicom_of(syntax: str = "1.2.840.10008.1.2.1", pixels: bytes | None = None, **elements: Any) -> bytes:
    """An X-ray of 16 x 20 pixels, explicit little endian; None removes an element."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import JPEG2000Lossless, RLELossless

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"  # X-ray
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.Modality, data.PhotometricInterpretation = "CR", "MONOCHROME2"
    data.Rows, data.Columns, data.SamplesPerPixel = 16, 20, 1
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelSpacing = [0.5, 0.5]
    data.PixelData = pixels if pixels is not None else np.arange(320, dtype=np.uint16).tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    if syntax in (JPEG2000Lossless, RLELossless):
        data["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def dicom() -> Iterator[Hostile]:
    from pydicom.encaps import encapsulate
    from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

    def bad(name: str, content: bytes) -> Hostile:
        return Hostile(f"dicom_{name}.dcm", content, "refused")

    plain = dicom_of()
    yield Hostile("dicom_plain.dcm", plain, "read")
    yield Hostile("dicom_deflated.dcm", dicom_of(DeflatedExplicitVRLittleEndian), "read")
    yield bad("mark_alone", plain[:132])
    yield bad("cut", plain[:-100])
    yield bad("cut_header", plain[:300])
    yield bad("rows_absurd", dicom_of(Rows=65535, Columns=65535))
    yield bad("rows_0", dicom_of(Rows=0))
    yield bad("frames_absurd", dicom_of(NumberOfFrames=2**31 - 1))
    yield bad("no_rows", dicom_of(Rows=None))
    yield bad("no_pixels", dicom_of(PixelData=None))
    yield bad("spacing_0", dicom_of(PixelSpacing=[0, 0.5]))
    yield bad("spacing_1e30", dicom_of(PixelSpacing=[1e30, 0.5]))
    yield bad("slope_beyond", dicom_of(RescaleSlope="1e38", RescaleIntercept="0"))
    yield bad("bits", dicom_of(BitsAllocated=13))
    yield bad("samples", dicom_of(SamplesPerPixel=99))
    yield bad("j2k_rubbish", dicom_of(JPEG2000Lossless, encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])))
    box = b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\0jp2c"  # a box of length 0
    yield bad("j2k_endless", dicom_of(JPEG2000Lossless, encapsulate([box + bytes(40)])))
    lengths = encapsulate([bytes(40)])
    yield bad(
        "encapsulated_lengths", dicom_of(RLELossless, lengths[:8] + b"\xfe\xff\x00\xe0\xff\xff\xff\x7f" + lengths[16:])
    )
    yield bad("rle_rubbish", dicom_of(RLELossless, encapsulate([bytes(range(200))])))
    bomb = dicom_of(DeflatedExplicitVRLittleEndian)
    at = 132 + 12 + struct.unpack("<I", bomb[140:144])[0]
    inner = zlib.decompress(bomb[at:], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = bomb[:at] + packer.compress(inner + bytes(80 * MB)) + packer.flush()
    yield Hostile("dicom_deflated_bomb.dcm", content, "read")  # what it claims is there; what follows is not unpacked
