"""DICOM segmentations (PS3.3 A.51): one binary segment per class, on the planes of the source series."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.color import CIELabColor
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from meduniseg_core.catalog.segment_codes import LOCAL_SCHEME, Code, SegmentCodes
from meduniseg_core.dicom_objects.joining import join_segmentations
from meduniseg_core.dicom_objects.labelled import PlacedLabels, Segment
from meduniseg_core.dicom_objects.source import (
    MANUFACTURER,
    PRODUCT,
    SourceSeries,
    copy_patient_and_study,
    described,
    fresh_uid,
    series_number,
)
from meduniseg_core.errors import BadInputError
from meduniseg_core.images.image import Image
from meduniseg_core.images.reading import smallest_dtype

_FILLED_IN = ("PatientID", "PatientName", "AccessionNumber", "StudyID")
_CHECKED = ("PatientBirthDate", "StudyDate", "StudyTime", "PatientSex")


def segmentation(labels: PlacedLabels, source: SourceSeries) -> Dataset:
    """Make the segmentation of one or more label maps.

    Planes without a labelled voxel are left out, unless there is none at all. A class that was not found is described
    without frames. Segments of different maps may overlap.

    Args:
        labels: The label maps and what they mean.
        source: The series.

    Returns:
        The object, with fresh UIDs in a series of its own.

    Raises:
        BadInputError: The planes come from several multi-frame objects.
    """
    coded_as = [labels.codes(segment) for segment in labels.segments]
    descriptions = [_described(labels, *both) for both in zip(labels.segments, coded_as, strict=True)]
    local = any(one.type.scheme == LOCAL_SCHEME for one in coded_as)
    schemes = [CodingSchemeIdentificationItem(LOCAL_SCHEME, name=f"class names of {PRODUCT}")] if local else None
    hashes = {part.algorithm_sha256 for part in labels.parts}
    serial = (hashes.pop() if len(hashes) == 1 else None) or described(labels.version)
    found = [number for number, array in enumerate(labels.arrays) if array.any()] or [0]
    made = []
    for number in found:
        headers, pixels = _on_frames(source, _numbered(labels, number))
        made.append(
            hd.seg.Segmentation(
                source_images=[completed(header) for header in headers],
                pixel_array=pixels,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=descriptions,
                series_instance_uid=fresh_uid(),
                series_number=series_number(source, 1),
                sop_instance_uid=fresh_uid(),
                instance_number=1,
                manufacturer=MANUFACTURER,
                manufacturer_model_name=PRODUCT,
                software_versions=described(labels.version),
                device_serial_number=serial,
                transfer_syntax_uid=ExplicitVRLittleEndian,
                pixel_measures=_pixel_measures(labels.image, source),
                omit_empty_frames=True,
                content_label="SEGMENTATION",
                content_description=described(f"{labels.tasks} by {labels.algorithms or 'hand'}"),
                coding_schemes=schemes,
                series_description=described(f"Segmentation: {labels.tasks} ({labels.algorithms or 'by hand'})"),
                specific_character_set="ISO_IR 192",
            )
        )
    whole = join_segmentations(made, overlap=_overlap(labels.arrays))
    copy_patient_and_study(source, whole)
    return whole


def coded(code: Code) -> hd.sr.CodedConcept:
    """Convert one of the catalogue's codes.

    Args:
        code: The code.

    Returns:
        The same as highdicom's.
    """
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _numbered(labels: PlacedLabels, part: int) -> np.ndarray:
    """One of the label maps, with the numbers of the object's segments."""
    own = [segment for segment in labels.segments if segment.part == part]
    table = np.zeros(max(segment.label for segment in own) + 1, smallest_dtype(len(labels.segments)))
    for segment in own:
        table[segment.label] = segment.number
    numbered: np.ndarray = table[labels.arrays[part]]
    return numbered


def _overlap(arrays: Sequence[np.ndarray]) -> bool:
    """Whether a voxel has a label in two of the maps. Plane by plane: the maps can be large."""
    return len(arrays) > 1 and any(
        bool((np.sum([plane != 0 for plane in planes], axis=0, dtype=np.uint8) > 1).any())
        for planes in zip(*arrays, strict=True)
    )


def _on_frames(source: SourceSeries, numbered: np.ndarray) -> tuple[list[Dataset], np.ndarray]:
    """The source objects and an array with a plane for each of their frames, in their order."""
    frames = source.origin.frames
    if all(frame.frame is None for frame in frames):
        return list(source.headers), numbered
    objects = source.objects
    if len(objects) > 1:
        raise BadInputError(
            f"{frames[0].path.name} is one of {len(objects)} multi-frame objects of one volume, which one segmentation "
            "cannot refer to; save as nii.gz instead."
        )
    (header,) = objects
    whole = np.zeros((int(header.NumberOfFrames), *numbered.shape[1:]), numbered.dtype)
    for plane, frame in zip(numbered, frames, strict=True):
        whole[frame.frame or 0] = plane
    return [header], whole


def completed(header: Dataset) -> Dataset:
    """Add to a header every element that highdicom asks for. Values that it could refuse are left out.

    Args:
        header: The header of a source object.

    Returns:
        A copy; `copy_patient_and_study` repeats the header's own values in what is made of it.
    """
    whole = Dataset()
    whole.update({element.tag: element for element in header})
    whole.file_meta = header.file_meta
    for keyword in (*_CHECKED, *(keyword for keyword in _FILLED_IN if keyword not in whole)):
        tag = tag_for_keyword(keyword)
        assert tag is not None
        whole[tag] = DataElement(tag, dictionary_VR(tag), None)  # a new element: the header keeps its own
    return whole


def _pixel_measures(image: Image, source: SourceSeries) -> hd.PixelMeasuresSequence | None:
    """The distance of the planes, for series of single frames: a reader finds by it the planes that are left out."""
    header, geometry = source.first, image.geometry
    if source.origin.frames[0].frame is not None or "ImagePositionPatient" not in header or not image.physical:
        return None
    direction = np.asarray(geometry.direction)
    normal = np.cross(direction[:, 2], direction[:, 1])
    apart = abs(float(direction[:, 0] @ normal)) * geometry.spacing[0]
    thickness = header.get("SliceThickness")
    return hd.PixelMeasuresSequence(
        pixel_spacing=header.get("PixelSpacing") or geometry.spacing[1:],
        slice_thickness=float(thickness) if thickness else apart,
        spacing_between_slices=apart,
    )


def _described(labels: PlacedLabels, segment: Segment, codes_of: SegmentCodes) -> hd.seg.SegmentDescription:
    labelled = labels.of_segment(segment)
    algorithm = None
    if labelled.algorithm_type != "MANUAL":
        parameters = {"task": labelled.task, "sha256": labelled.algorithm_sha256 or "", **labelled.parameters}
        algorithm = hd.AlgorithmIdentificationSequence(
            name=described(labelled.algorithm),
            family=codes.DCM.ArtificialIntelligence,
            version=described(labelled.version),
            source=MANUFACTURER,
            parameters=parameters,
        )
    made = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=described(segment.name) or f"label {segment.label}",
        segmented_property_category=coded(codes_of.category),
        segmented_property_type=coded(codes_of.type),
        algorithm_type=labelled.algorithm_type,
        algorithm_identification=algorithm,
        tracking_uid=fresh_uid(),
        tracking_id=described(f"{labelled.task}: {segment.name}"),
        anatomic_regions=None if codes_of.region is None else [coded(codes_of.region)],
        display_color=CIELabColor.from_rgb(*segment.colour),
    )
    if codes_of.modifier is not None:
        made.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [coded(codes_of.modifier)]
    return made
