"""Standardised uptake values of a PET series: activity per ml over injected activity per gram of body weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.valuerep import TM

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats.dicom_source import naming, read_object

_GRAMS = 1000.0
_DAY = 86400.0
_LONGEST = 12 * 3600.0  # no study waits longer for its tracer


def as_suv(array: np.ndarray, path: Path, name: str) -> tuple[np.ndarray, bool, Finding]:
    """Turn the values of a PET series into SUV, where its headers tell how.

    Args:
        array: The values in the unit of the header, any shape.
        path: A file of the series.
        name: The series' name, for the finding.

    Returns:
        The values (float32 where they were changed), whether they are SUV now, and the finding that says so, or why
        not.
    """
    try:
        with naming(path):
            factor = suv_factor(read_object(path), path)
    except BadInputError as error:
        reason = str(error).split(";")[0].removeprefix(f"{path} ").removeprefix(f"{path.name} ").rstrip(".")
        text = f"{name}: its PET values stay as they are, because they cannot be turned into SUV ({reason})."
        return array, False, Finding("pet_not_suv", text, "warning")
    if factor == 1.0:
        return array, True, Finding("pet_suv", f"{name}: its PET values are SUV (body weight) already.", "info")
    text = f"{name}: its PET values are SUV by body weight (Bq/ml times {factor:.4g})."
    scaled: np.ndarray = np.multiply(array, np.float32(factor), dtype=np.float32)
    return scaled, True, Finding("pet_suv", text, "info")


def suv_factor(header: Dataset, path: Path) -> float:
    """Compute what a PET image in Bq/ml is multiplied with to be SUV (body weight), in g/ml.

    The injected activity is taken at the time to which the image is decay-corrected: the start of the scan, or, where
    the header says ADMIN, the injection.

    Args:
        header: The header of one slice.
        path: Its file, for errors.

    Returns:
        The factor; 1 where the image is in g/ml already.

    Raises:
        BadInputError: An element is missing, the unit is another one, or a number cannot be true.
    """
    units = str(_element(header, "Units", path)).upper()
    if units == "GML":
        return 1.0
    if units != "BQML":
        raise BadInputError(f"{path} is in {units} and SUV can only be computed from BQML; leave that study out.")
    doses = _element(header, "RadiopharmaceuticalInformationSequence", path)
    if len(doses) != 1:
        raise BadInputError(f"{path} lists {len(doses)} radiopharmaceuticals and SUV needs one; leave that study out.")
    dose = doses[0]
    weight = float(_element(header, "PatientWeight", path)) * _GRAMS
    injected = float(_element(dose, "RadionuclideTotalDose", path))
    half_life = float(_element(dose, "RadionuclideHalfLife", path))
    elapsed = 0.0
    if str(header.get("DecayCorrection", "START")).upper() != "ADMIN":
        elapsed = _seconds_since_injection(header, dose, path)
    if not (weight > 0 and injected > 0 and half_life > 0):
        raise BadInputError(f"{path} gives a weight, a dose or a half-life that is not positive; leave that study out.")
    return float(weight / (injected * 2.0 ** (-elapsed / half_life)))


def _seconds_since_injection(header: Dataset, dose: Dataset, path: Path) -> float:
    """From injection to the start of the scan; by the clock alone, because archives shift dates."""
    times = [header.get(keyword) for keyword in ("SeriesTime", "AcquisitionTime")]
    scan = [_of_day(time) for time in times if time not in (None, "")]
    if not scan:
        _element(header, "SeriesTime", path)
    start = dose.get("RadiopharmaceuticalStartTime")
    if start in (None, ""):
        start = str(_element(dose, "RadiopharmaceuticalStartDateTime", path))[8:]
    # the first of the two: a series computed later than it was measured has the later time
    seconds = (min(scan) - _of_day(start)) % _DAY  # past midnight
    if seconds > _LONGEST:
        raise BadInputError(
            f"{path} says that the tracer was injected {seconds / 3600:.3g} hours before the scan; check it."
        )
    return seconds


def _of_day(value: object) -> float:
    time = TM(str(value).split("+")[0])
    return float(time.hour * 3600 + time.minute * 60 + time.second + time.microsecond / 1e6)


def _element(dataset: Dataset, keyword: str, path: Path) -> Any:
    """An element that must be there; BadInputError where it is missing or empty."""
    value = dataset.get(keyword)
    if value is None or value == "":
        raise BadInputError(f"{path} has no {keyword}, which SUV needs; export it again.")
    return value
