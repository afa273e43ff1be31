"""DICOM measurement reports (TID 1500): volume, longest diameter and mean intensity of each segment."""

from __future__ import annotations

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from meduniseg_core.catalog.segment_codes import LOCAL_SCHEME, Code, SegmentCodes
from meduniseg_core.dicom_objects.labelled import LabelledSeries, PlacedLabels
from meduniseg_core.dicom_objects.measures import ClassMeasures, measure_class
from meduniseg_core.dicom_objects.segmentation import coded, completed
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

_LONGEST_3D = Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh")
_LONGEST_2D = Code("103339001", "SCT", "Long axis")
_INTENSITIES = {
    "CT": Code("112031", "DCM", "Attenuation Coefficient"),
    "MR": Code("110852", "DCM", "MR signal intensity"),
}
_SUV = Code("126401", "DCM", "SUVbw")
_SUV_UNIT = Code("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight")
_ANY_INTENSITY = Code("pixel_value", LOCAL_SCHEME, "Value of the pixels")
_DIGITS = 8


def measurement_report(labels: PlacedLabels, source: SourceSeries, segmentation: Dataset) -> Dataset:
    """Make the report of one or more label maps. Of a class that was not found it says the volume 0, and nothing else.

    Args:
        labels: The label maps and what they mean.
        source: The series.
        segmentation: The segmentation of the same labels, which the report refers to.

    Returns:
        The object, with fresh UIDs in a series of its own.

    Raises:
        BadInputError: The image has no size in mm.
    """
    if not labels.image.physical:
        raise BadInputError(f"{labels.image.name} gives no size in mm, so nothing can be measured; save as dicom-seg.")
    groups = []
    for segment, described_as in zip(labels.segments, segmentation.SegmentSequence, strict=True):
        measures = measure_class(labels.mask(segment), labels.image)
        part = labels.of_segment(segment)
        groups.append(_group(part, source, segmentation, described_as, labels.codes(segment), measures))
    content = hd.sr.MeasurementReport(
        observation_context=_observer(labels),
        procedure_reported=coded(Code("363679005", "SCT", "Imaging procedure")),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=_library(source),
    )
    made = hd.sr.ComprehensiveSR(
        evidence=[completed(header) for header in source.objects] + [segmentation],
        content=content[0],
        series_instance_uid=fresh_uid(),
        series_number=series_number(source, 3),
        sop_instance_uid=fresh_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        manufacturer_model_name=PRODUCT,
        software_versions=described(labels.version),
        series_description=described(f"Measurements: {labels.tasks} ({labels.algorithms or 'by hand'})"),
        specific_character_set="ISO_IR 192",
    )
    copy_patient_and_study(source, made)
    return made


def _library(source: SourceSeries) -> list[Dataset] | None:
    """The images that the report lists with their place, as highdicom can: of series of single slices. The evidence
    names all images in any case."""
    single = all("ImagePositionPatient" in header and "PixelSpacing" in header for header in source.objects)
    return [completed(header) for header in source.objects] if single else None


def _observer(labels: PlacedLabels) -> hd.sr.ObservationContext:
    """The program as the observer: who looked at the result is not known here."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=fresh_uid(),
        name=PRODUCT,
        manufacturer_name=MANUFACTURER,
        model_name=described(labels.algorithms) or PRODUCT,
    )
    context = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return hd.sr.ObservationContext(observer_device_context=context)


def _group(
    labelled: LabelledSeries,
    source: SourceSeries,
    segmentation: Dataset,
    described_as: Dataset,
    known: SegmentCodes,
    measures: ClassMeasures | None,
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    algorithm = None
    if labelled.algorithm_type != "MANUAL":
        algorithm = hd.sr.AlgorithmIdentification(
            name=described(labelled.algorithm),
            version=described(labelled.version),
            parameters=[f"sha256={labelled.algorithm_sha256}"],
        )
    sites = None
    if known.region is not None or known.modifier is not None:
        side = known.modifier if known.modifier is not None and known.modifier.meaning in ("Left", "Right") else None
        part = known.modifier if side is None else None
        sites = [hd.sr.FindingSite(coded(known.region or known.type), _coded(side), _coded(part))]
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(described_as.TrackingUID, described_as.TrackingID),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=described_as.SegmentNumber,
            source_series=hd.sr.SourceSeriesForSegmentation(source.origin.series_uid),
        ),
        finding_type=coded(known.type),
        finding_category=coded(known.category),
        algorithm_id=algorithm,
        finding_sites=sites,
        measurements=_measurements(labelled.image, measures),
    )


def _coded(code: Code | None) -> hd.sr.CodedConcept | None:
    return None if code is None else coded(code)


def _measurements(image: Image, measures: ClassMeasures | None) -> list[hd.sr.Measurement]:
    what = (
        (codes.SCT.Area, codes.UCUM.SquareMillimeter) if image.is_2d else (codes.SCT.Volume, codes.UCUM.CubicMillimeter)
    )
    if measures is None:
        return [hd.sr.Measurement(what[0], 0.0, what[1])]
    longest = coded(_LONGEST_2D if image.is_2d else _LONGEST_3D)
    made = [
        hd.sr.Measurement(what[0], _rounded(measures.size), what[1]),
        hd.sr.Measurement(longest, _rounded(measures.longest), codes.UCUM.Millimeter),
    ]
    if image.channels == 1:
        modality = str(image.meta.get("modality"))
        unit = codes.UCUM.HounsfieldUnit if modality == "CT" else codes.UCUM.NoUnits
        name = coded(_INTENSITIES.get(modality, _ANY_INTENSITY))
        if image.meta.get("suv"):
            name, unit = coded(_SUV), coded(_SUV_UNIT)
        made.append(hd.sr.Measurement(name, _rounded(measures.mean[0]), unit, derivation=codes.SCT.Mean))
    return made


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
