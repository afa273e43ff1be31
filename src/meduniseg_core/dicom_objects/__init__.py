"""Results as DICOM objects for archives and viewers of hospitals: segmentations, contours, measurement reports.

They belong to the study of their source series: patient and study are taken over from its headers, nothing is invented.
Reading them back is in `meduniseg_core.images.formats`.
"""

from meduniseg_core.dicom_objects.formats import DICOM_FORMATS, DicomFormat, dicom_format_of, dicom_writers
from meduniseg_core.dicom_objects.labelled import LabelledSeries

__all__ = ["DICOM_FORMATS", "DicomFormat", "LabelledSeries", "dicom_format_of", "dicom_writers"]
