"""One call from an image file to its labels."""

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
    instances: bool = False,
    scale: float = 1.0,
    orientation: str | None = None,
    series: str | None = None,
    frame: int | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> Segmentation:
    """Segment one image for one task of a model.

    The model is loaded in every call. For several images or tasks use :class:`Predictor`.

    Args:
        image: an image, a file, a folder of DICOM, or a list of files with one channel each.
        task: a task of the model.
        modality: as for :meth:`Predictor.segment`.
        model: a model, its name or its file.
        device: as for :class:`Predictor`.
        precision: as for :class:`Predictor`.
        packs: as for :class:`Predictor`.
        tta: as for :meth:`Predictor.segment`.
        overlap: as for :meth:`Predictor.segment`.
        box: as for :meth:`Predictor.segment`.
        probabilities: as for :meth:`Predictor.segment`.
        instances: as for :meth:`Predictor.segment`.
        scale: as for :meth:`Predictor.segment`.
        orientation: as for :meth:`Predictor.segment`.
        series: which series of a path that holds several, as for ``read_image``.
        frame: which frame of a path that holds several, as for ``read_image``.
        events: as for :meth:`Predictor.segment`.
        cancel: as for :meth:`Predictor.segment`.

    Returns:
        The segmentation.

    Raises:
        UsageError: the model or task is unknown, or an option is not valid.
        BadInputError: the model or the image cannot be read, or the task cannot take the image.
        OutOfMemoryError: memory does not suffice for the cheapest execution plan.
        NonFiniteOutputError: the network's logits are NaN or infinite.
        CancelledError: ``cancel`` was set.
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
        instances=instances,
        scale=scale,
        orientation=orientation,
        events=events,
        cancel=cancel,
    )[task]
