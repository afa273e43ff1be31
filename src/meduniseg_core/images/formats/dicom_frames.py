"""Multi-frame DICOM: each frame's functional groups, presented as the header of a file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import EnhancedUSVolumeStorage, VLWholeSlideMicroscopyImageStorage

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.formats.dicom_source import class_of, one_line

_GROUPS = (
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence"),
    *("PlanePositionVolumeSequence", "PlaneOrientationVolumeSequence"),
    *("FrameContentSequence", "CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence"),
    *("MREchoSequence", "MRDiffusionSequence", "CardiacSynchronizationSequence"),
    *("TemporalPositionSequence", "CTExposureSequence", "MRTimingAndRelatedParametersSequence"),
    *("SegmentIdentificationSequence",),
    *("MRAveragesSequence", "MRMetaboliteMapSequence", "MRImagingModifierSequence", "MRVelocityEncodingSequence"),
)
"""The functional groups that are read."""

_NESTED = ("DiffusionGradientDirectionSequence", "VelocityEncodingAcquisitionSequence")

_PARTS = (
    *("StackID", "FrameType", "ComplexImageComponent", "TemporalPositionIndex", "EffectiveEchoTime", "EchoTime"),
    *("DiffusionBValue", "DiffusionDirectionality", "DiffusionGradientOrientation", "NominalCardiacTriggerDelayTime"),
    "NominalPercentageOfCardiacPhase",
    *("TemporalPositionTimeOffset", "KVP", "MetaboliteMapDescription", "RepetitionTime", "FlipAngle"),
    *("InversionTimes", "MagnetizationTransfer", "VelocityEncodingDirection"),
)
"""Elements that can tell several volumes of one file apart, the most distinctive first."""


_IN_VOLUME = {
    "ImagePositionPatient": "ImagePositionVolume",
    "ImageOrientationPatient": "ImageOrientationVolume",
}
"""Where ultrasound volumes give their frames' places, which are relative to each other and not to the patient."""

_TIMES = frozenset({0x00181063, 0x00181065})  # FrameTime, FrameTimeVector
_MOVING = frozenset({"US", "XA", "RF", "ES", "IVUS", "OP"})  # modalities whose frames follow each other in time
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation")
_MOST = 1 << 16  # frames


class FrameHeader:
    """One frame's elements: those of its own functional groups, then the shared groups', then the file's."""

    def __init__(self, own: Mapping[str, Any], shared: Mapping[str, Any], dataset: Dataset) -> None:
        self._own, self._shared, self._dataset = own, shared, dataset

    def get(self, keyword: str, default: Any = None) -> Any:
        """Look an element up.

        Args:
            keyword: DICOM's keyword.
            default: What to give where the element is absent.

        Returns:
            Its value, or ``default``.
        """
        for table in (self._own, self._shared):
            if keyword in table:
                return table[keyword]
        value = self._dataset.get(keyword)
        if value is None and keyword in _IN_VOLUME:
            value = self._own.get(_IN_VOLUME[keyword], self._shared.get(_IN_VOLUME[keyword]))
        return default if value is None else value

    @property
    def in_volume(self) -> bool:
        """Whether the frame's position is relative to an ultrasound volume and not to the patient."""
        place = "ImagePositionPatient"
        return self._own.get(place) is None and self._own.get(_IN_VOLUME[place]) is not None


def frames_over_time(dataset: Dataset, modality: str) -> bool:
    """Say whether frames without a position follow each other in time: by what the file says, else by its modality.

    Args:
        dataset: The file's header. A distance between frames makes them slices, even if a frame rate is given, too.
        modality: DICOM's code: US, XA, ...

    Returns:
        False where they are slices of a volume, or where nothing suggests time.
    """
    if class_of(dataset) == EnhancedUSVolumeStorage or dataset.get("SpacingBetweenSlices"):
        return False
    pointer = dataset.get("FrameIncrementPointer")
    if pointer:
        tags = pointer if isinstance(pointer, MultiValue) else [pointer]
        return any(int(tag) in _TIMES for tag in tags)
    if any(keyword in dataset for keyword in ("FrameTime", "FrameTimeVector", "CineRate")):
        return True
    return modality in _MOVING and not dataset.get("SliceThickness")


HeaderOfFrame = tuple[Dataset | FrameHeader, int | None, tuple[str, ...]]


def frame_headers(dataset: Dataset, name: str) -> list[HeaderOfFrame]:
    """List the headers of a file's frames.

    Frames at one place are told apart by echo, time, b-value and the like; their volume is named by what differs.

    Args:
        dataset: The file's header.
        name: The file's name, for the message.

    Returns:
        For every frame its header, its number from 0 (None where the file holds a single frame), and the volume it
        belongs to.

    Raises:
        BadInputError: The number of frames is impossible, too large, or not the number described, or the file is a
            tiled whole-slide image.
    """
    frames = int(dataset.get("NumberOfFrames") or 1)
    own = dataset.get("PerFrameFunctionalGroupsSequence")
    if frames < 1:
        raise BadInputError(f"{name} claims to hold {frames} frames; export it again.")
    if frames > 1 and class_of(dataset) == VLWholeSlideMicroscopyImageStorage:
        raise BadInputError(
            f"{name} holds a slide as {frames} tiles, which are not put together here; export a region of it as TIFF."
        )
    if not own:
        if frames == 1:
            return [(dataset, None, ())]
        if frames > _MOST:
            raise BadInputError(f"{name} claims to hold {frames:,} frames, too many to be read; export a part.")
        # a place in the file's own header is that of none or of the first frame
        header = FrameHeader(dict.fromkeys(_PLACE), {}, dataset)
        return [(header, frame, ()) for frame in range(frames)]
    if len(own) != frames:
        raise BadInputError(f"{name} claims to hold {frames} frames but describes {len(own)}; export it again.")
    shared_items = dataset.get("SharedFunctionalGroupsSequence")
    shared = _flat(shared_items[0]) if shared_items else {}
    headers = [FrameHeader(_flat(item), shared, dataset) for item in own]
    parts = _parts(headers)
    return [(header, frame, part) for frame, (header, part) in enumerate(zip(headers, parts, strict=True))]


def _flat(groups: Dataset) -> dict[str, Any]:
    """The elements of the functional groups of one frame, whatever group they stand in."""
    table: dict[str, Any] = {}
    for keyword in _GROUPS:
        items = groups.get(keyword)
        if items:
            table.update(_elements(items[0]))
    return table


def _elements(item: Dataset) -> Iterator[tuple[str, Any]]:
    for element in item:
        if element.VR != "SQ":
            yield element.keyword, element.value
        elif element.keyword in _NESTED and element.value:
            yield from _elements(element.value[0])


def _parts(headers: Sequence[FrameHeader]) -> list[tuple[str, ...]]:
    """For each frame what tells its volume from the file's others: empty where no two frames share a place."""
    places = [str((header.get("ImagePositionPatient"), header.get("ImageOrientationPatient"))) for header in headers]
    parts: list[tuple[str, ...]] = [()] * len(headers)
    if any(header.get("ImagePositionPatient") is None for header in headers):
        return parts
    for keyword in _PARTS:
        if len({*zip(places, parts, strict=True)}) == len(places):
            break
        values = [header.get(keyword) for header in headers]
        if len({str(value) for value in values}) > 1:
            parts = [(*part, f"{keyword} {_text(value)}") for part, value in zip(parts, values, strict=True)]
    return parts


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return one_line(value or "") or "-"
    if hasattr(value, "__iter__"):
        return "/".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
