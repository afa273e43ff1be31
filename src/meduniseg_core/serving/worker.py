"""The work of one job: unpack, read, segment, write into the job's own folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from meduniseg_core.dicom_objects import dicom_format_of
from meduniseg_core.dicom_objects.formats import result_ending
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, Event, ignore
from meduniseg_core.images import Image, read_image
from meduniseg_core.images.cases import folder_cases
from meduniseg_core.images.formats import stem_of
from meduniseg_core.images.formats.ome_zarr import OME_ZARR_ENDING
from meduniseg_core.inference import Predictor, Segmentation
from meduniseg_core.inference.run_times import WholeProgress
from meduniseg_core.inference.together import save_together
from meduniseg_core.provenance import provenance_path
from meduniseg_core.serving.jobs import Job, ResultFile
from meduniseg_core.serving.limits import Limits
from meduniseg_core.serving.orders import JobOrder
from meduniseg_core.serving.packed_image import ENDING, read_packed
from meduniseg_core.serving.unpack import unpack_upload
from meduniseg_core.weights import PackRegistry, load_model
from meduniseg_core.weights.load import find_model
from meduniseg_core.weights.offer import Offer, offer_in_use, offer_of


class NetworkWorker:
    """Segments jobs; the models that were used last stay loaded.

    Args:
        limits: of archives.
        model: the model for all tasks; None for what is in use for each.
        device: where the network runs.
        precision: of the network.
    """

    def __init__(self, limits: Limits, model: str | None = None, device: str = "auto", precision: str = "auto") -> None:
        self._limits, self._model, self._device, self._precision = limits, model, device, precision
        self._predictors: dict[tuple[str, bool], tuple[tuple[object, ...], Predictor]] = {}

    def offer(self) -> Offer:
        """List what can be asked for now.

        Returns:
            The tasks and their models.

        Raises:
            BadInputError: a model's file, or what is in use, cannot be read.
        """
        return offer_of(self._model) if self._model is not None else offer_in_use(ignore)

    def check(self, order: JobOrder) -> list[str]:
        """Check an order, before anything is sent.

        Args:
            order: what is asked for.

        Returns:
            Its tasks.

        Raises:
            UsageError: there is no such task or format.
        """
        offer = self.offer()
        tasks = list(dict.fromkeys(name.strip() for name in order.task.split(",") if name.strip()))
        for task in tasks:
            if task not in offer.models:
                raise UsageError(f"There is no task '{task[:60]}' here; there are: {', '.join(offer.models)}.")
        if not tasks:
            raise UsageError("No task is named.")
        if order.format is not None and result_ending(order.format) == OME_ZARR_ENDING:
            raise UsageError("A server sends files, and OME-Zarr is a folder; choose another format.")
        return tasks

    def __call__(self, job: Job, events: Callable[[Event], None], cancel: CancelToken) -> list[ResultFile]:
        """Do a job.

        Args:
            job: the job, with its upload.
            events: receives progress (stage "segment", of all tasks) and messages.
            cancel: stops after the current batch of windows.

        Returns:
            The files that were made.

        Raises:
            MedUniSegError: as `Predictor.segment` and `read_image`.
        """
        order = job.order
        tasks, offer = self.check(order), self.offer()
        name, image = self._image(job)
        cancel.raise_if_cancelled()
        by_model = offer.by_model(tasks)
        predictors = {model: self._predictor(model, order.packs == "in-use") for model in by_model}
        costs = [
            cost
            for model, own in by_model.items()
            for cost in predictors[model].pass_costs(image, own, overlap=order.overlap, scale=order.scale)
        ]
        whole = WholeProgress(costs, events)
        results: dict[str, Segmentation] = {}
        for model, own in by_model.items():
            results |= predictors[model].segment(
                image,
                own,
                order.modality,
                tta=order.tta,
                overlap=order.overlap,
                box=order.part,
                scale=order.scale,
                orientation=order.orientation,
                review_below=order.review_below,
                events=whole,
                cancel=cancel,
            )
        cancel.raise_if_cancelled()
        return _saved(job.folder / "results", name, image, [results[task] for task in tasks], order.format)

    def _image(self, job: Job) -> tuple[str, Image]:
        """The image of an upload, and its case's name."""
        order, upload = job.order, job.upload
        if upload.suffix == ENDING:
            return stem_of(upload.with_suffix(".npy")), read_packed(upload, self._limits.unpacked_bytes)
        if upload.suffix.lower() != ".zip":
            return stem_of(upload), read_image(upload, series=order.series, frame=order.frame)
        folder = upload.parent / "unpacked"
        unpack_upload(upload, folder, self._limits)
        upload.unlink()
        cases = folder_cases(folder)
        if len(cases) != 1:
            listed = ", ".join(case.name for case in cases[:5]) + (", ..." if len(cases) > 5 else "")
            raise BadInputError(f"{upload.name} holds {len(cases)} images ({listed}); send one at a time.")
        (case,) = cases
        if case.fault is not None:
            raise case.fault
        image = read_image(case.source, series=order.series, frame=order.frame).with_findings(*case.findings)
        return upload.stem, image

    def _predictor(self, model: str, with_packs: bool) -> Predictor:
        """A model ready to run, with the packs in use on it; loaded again where its file or its packs changed."""
        file, packs = find_model(model)[0].stat(), PackRegistry()
        known = self._predictors.pop((model, with_packs), None)
        if known is None or known[0] != _state(file, known[1].model.sha256, packs, with_packs):
            known = None  # frees the memory of the one before
            loaded = load_model(model)
            used = packs.active_packs(loaded) if with_packs else {}
            known = (
                _state(file, loaded.sha256, packs, with_packs),
                Predictor(loaded, self._device, self._precision, packs=used),
            )
        self._predictors[model, with_packs] = known
        return known[1]


def _state(file: os.stat_result, sha256: str, packs: PackRegistry, with_packs: bool) -> tuple[object, ...]:
    used = packs.active(sha256) if with_packs else {}
    return (file.st_mtime_ns, file.st_size, *used.items(), *(packs.recorded(name) for name in used.values()))


def _saved(
    folder: Path, name: str, image: Image, results: list[Segmentation], format_name: str | None
) -> list[ResultFile]:
    chosen = None if format_name is None else result_ending(format_name)
    ending = chosen or (".png" if image.is_2d else ".nii.gz")
    together = len(results) > 1 and dicom_format_of(Path(f"case{ending}")) is not None
    files: list[ResultFile] = []
    for group in [results] if together else [[result] for result in results]:
        task = ",".join(result.task for result in group)
        place = folder / str(len(files))
        place.mkdir(parents=True)
        path = place / f"{name}{ending}"
        if together:
            save_together(group, path)
        else:
            group[0].save(path)
        files.append(ResultFile(task, "labels", path))
        files.append(ResultFile(task, "record", provenance_path(path)))
        beside = sorted(other for other in place.iterdir() if other not in (path, provenance_path(path)))
        files += [ResultFile(task, "beside", other) for other in beside if not other.name.startswith(".")]
    return files
