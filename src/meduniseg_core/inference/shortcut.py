"""One call from a file to its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.images import Image, read_image
from meduniseg_core.images.boxes import Box
from meduniseg_core.inference.predictor import Predictor
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.weights import DEFAULT_MODEL, Model, Pack, load_model


def segment(
    image: Image | str | Path | Sequence[str | Path],
    task: str,
    modality: str | None = None,
    model: Model | str | Path = DEFAULT_MODEL,
    *,
    device: str = "auto",
    precision: str = "auto",
    packs: Mapping[str, Pack] | None = None,
    tta: bool = False,
    overlap: float = 0.5,
    box: Box | None = None,
    probabilities: bool = False,
    scale: float = 1.0,
    orientation: str | None = None,
    series: str | None = None,
    frame: int | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> Segmentation:
    """Segment one image, or file (or one file per channel, or folder of DICOM), by one task of a model.

    The model is loaded anew in every call: for several images or tasks use :class:`Predictor`, whose ``segment``
    explains the options and the errors. ``series`` and ``frame`` are for a path that holds several images, as
    ``read_image`` takes them.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    loaded.info.plan_of(task)  # before the image is read, which may take long
    picture = image if isinstance(image, Image) else read_image(image, series=series, frame=frame)
    predictor = Predictor(loaded, device, precision, packs=packs)
    return predictor.segment(
        picture,
        [task],
        modality,
        tta=tta,
        overlap=overlap,
        box=box,
        probabilities=probabilities,
        scale=scale,
        orientation=orientation,
        events=events,
        cancel=cancel,
    )[task]
