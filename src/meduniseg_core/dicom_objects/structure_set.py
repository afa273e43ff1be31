"""DICOM structure sets (PS3.3 A.19): closed planar contours of each class, on the planes of the source series."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from meduniseg_core.dicom_objects.labelled import LabelledSeries, PlacedLabels, Segment
from meduniseg_core.dicom_objects.outlines import outlines
from meduniseg_core.dicom_objects.source import (
    MANUFACTURER,
    PRODUCT,
    SourceSeries,
    copy_patient_and_study,
    described,
    fresh_uid,
    now,
    series_number,
)
from meduniseg_core.images.formats.dicom_origin import SourceFrame

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, which the sequence names by tradition
_DIGITS = 10  # significant ones; a decimal string has 16 characters


def structure_set(labels: PlacedLabels, source: SourceSeries) -> Dataset:
    """Make the structure set of one or more label maps. It needs no library but pydicom.

    Holes are joined to their outline by a channel (the keyhole technique), so that every reader understands them.
    Regions of a single label map have the numbers of their labels, of several maps those of the segments. A class that
    was not found is named without contours.

    Args:
        labels: The label maps and what they mean.
        source: The series.

    Returns:
        The object, with fresh UIDs in a series of its own.
    """
    made = _empty(labels, source)
    made.ReferencedFrameOfReferenceSequence = [_references(source)]
    made.StructureSetROISequence = [_region(labels, segment, source) for segment in labels.segments]
    made.ROIContourSequence = [_contours(labels, segment, source) for segment in labels.segments]
    made.RTROIObservationsSequence = [_observation(_number(labels, segment)) for segment in labels.segments]
    copy_patient_and_study(source, made)
    return made


def _number(labels: PlacedLabels, segment: Segment) -> int:
    return segment.label if len(labels.parts) == 1 else segment.number


def _empty(labels: PlacedLabels, source: SourceSeries) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = fresh_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    time = now()
    made.InstanceCreationDate = made.StructureSetDate = time.strftime("%Y%m%d")
    made.InstanceCreationTime = made.StructureSetTime = time.strftime("%H%M%S")
    made.Modality = "RTSTRUCT"
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, PRODUCT
    made.SoftwareVersions = described(labels.version)
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = fresh_uid(), series_number(source, 2), 1
    made.OperatorsName = None
    made.SeriesDescription = described(f"Contours: {labels.tasks} ({labels.algorithms or 'by hand'})")
    made.StructureSetLabel = described(labels.tasks)[:16].strip() or "contours"
    made.StructureSetName = described(labels.tasks)
    made.StructureSetDescription = "; ".join(dict.fromkeys(map(_maker, labels.parts)))
    made.ApprovalStatus = "UNAPPROVED"
    made.FrameOfReferenceUID = source.origin.reference_uid
    made.PositionReferenceIndicator = source.first.get("PositionReferenceIndicator")
    return made


def _maker(labelled: LabelledSeries) -> str:
    if labelled.algorithm_type == "MANUAL":
        return f"{PRODUCT} {labelled.version}: drawn by hand"
    edited = ", corrected by hand" if labelled.algorithm_type == "SEMIAUTOMATIC" else ""
    return f"{PRODUCT} {labelled.version}: model {labelled.algorithm}, sha256 {labelled.algorithm_sha256}{edited}"


def _references(source: SourceSeries) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source.origin.series_uid
    series.ContourImageSequence = _images(source.origin.frames)
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, source.origin.study_uid
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = source.origin.reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _images(frames: Iterable[SourceFrame]) -> list[Dataset]:
    items = []
    for frame in frames:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.class_uid, frame.instance_uid
        if frame.frame is not None:
            item.ReferencedFrameNumber = frame.frame + 1
        items.append(item)
    return items


def _region(labels: PlacedLabels, segment: Segment, source: SourceSeries) -> Dataset:
    labelled = labels.of_segment(segment)
    item = Dataset()
    item.ROINumber = _number(labels, segment)
    item.ReferencedFrameOfReferenceUID = source.origin.reference_uid
    item.ROIName = described(segment.name)
    item.ROIGenerationAlgorithm = labelled.algorithm_type
    if labelled.algorithm_type != "MANUAL":
        item.ROIGenerationDescription = described(labelled.algorithm)
    return item


def _contours(labels: PlacedLabels, segment: Segment, source: SourceSeries) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(segment.colour)
    item.ReferencedROINumber = _number(labels, segment)
    placed = labels.arrays[segment.part]
    affine = labels.image.geometry.affine
    contours = []
    for plane in np.flatnonzero((placed == segment.label).any(axis=(1, 2))):
        for polygon in outlines(placed[plane] == segment.label):
            index = np.column_stack([np.full(len(polygon), float(plane)), polygon])
            points = index @ affine[:3, :3].T + affine[:3, 3]
            contour = Dataset()
            contour.ContourImageSequence = _images([source.origin.frames[plane]])
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.{_DIGITS}g}" for value in points.ravel()]
            contours.append(contour)
    if contours:
        item.ContourSequence = contours
    return item


def _observation(number: int) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIInterpretedType = None
    item.ROIInterpreter = None
    return item
