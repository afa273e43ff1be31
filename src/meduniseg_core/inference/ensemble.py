"""Several models as one: the mean of their probabilities on the image's own grid decides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from meduniseg_core.checks.image_checks import in_the_tasks_window, without_nodata
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.images import Image
from meduniseg_core.images.findings import Finding, merge, report
from meduniseg_core.images.oriented import oriented_as_said
from meduniseg_core.images.reading import smallest_dtype
from meduniseg_core.inference.instances import with_instances
from meduniseg_core.inference.postprocessing import finished_result
from meduniseg_core.inference.predictor import Predictor
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.weights import Model, Pack


class Ensemble:
    """Models that have the same tasks, used as `Predictor` is; their architectures and plans may differ.

    Each prepares the image by its own plan. The first one's postprocessing is applied to the common result, which has
    no estimate of its quality: a calibration is of one model.

    Args:
        predictors: two or more.

    Raises:
        UsageError: there are fewer than two, or one is there twice.
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        if len(predictors) < 2:
            raise UsageError("An ensemble has two models at least; name another one.")
        names: dict[object, str] = {}
        for one in predictors:
            same = one.model.sha256, *sorted((task, pack.sha256) for task, pack in one.packs.items())
            if same in names:
                raise UsageError(
                    f"{one.model.info.name} is the same model as {names[same]}, and would count twice in the ensemble; "
                    "name another one."
                )
            names[same] = one.model.info.name
        self._predictors = tuple(predictors)

    @property
    def model(self) -> Model:
        """The first model, which stands for the ensemble's tasks."""
        return self._predictors[0].model

    @property
    def models(self) -> tuple[Model, ...]:
        """All models, in the order in which they were given."""
        return tuple(one.model for one in self._predictors)

    @property
    def packs(self) -> Mapping[str, Pack]:
        """The packs of the first model's tasks."""
        return self._predictors[0].packs

    def check(self, tasks: Sequence[str]) -> None:
        """Refuse tasks that the models do not share.

        Args:
            tasks: the tasks to segment.

        Raises:
            UsageError: a model lacks a task, has other classes for it, or makes overlapping regions of it.
        """
        for task in tasks:
            plans = [(one.model.info.name, one.model.info.plan_of(task)) for one in self._predictors]
            first = plans[0][1]
            for name, plan in plans:
                if plan.classes != first.classes:
                    raise UsageError(
                        f"Task {task} of model {name} has other classes ({', '.join(plan.classes)}) than {plans[0][0]} "
                        f"({', '.join(first.classes)}); give models of the same classes."
                    )
                if plan.region_labels is not None:
                    raise UsageError(f"Task {task} of model {name} has overlapping regions, which are not averaged.")

    def segment(
        self,
        image: Image,
        tasks: str | Sequence[str],
        modality: str | None = None,
        *,
        probabilities: bool = False,
        instances: bool = False,
        events: EventSink = ignore,
        cancel: CancelToken | None = None,
        **settings: Any,
    ) -> dict[str, Segmentation]:
        """Segment an image by every model, and decide by the mean of their probabilities.

        Args:
            image: (C, D, H, W).
            tasks: one or more tasks that all models have.
            modality: as for `Predictor.segment`.
            probabilities: also return the mean probabilities.
            instances: also list the connected pieces of every class, scored by the mean probabilities.
            events: receives progress and messages of each model.
            cancel: stops after the current batch of windows.
            **settings: the other arguments of `Predictor.segment`, the same for all models.

        Returns:
            The segmentation of each task; its JSON names the models under ``settings.ensemble``.

        Raises:
            UsageError: as `check` and `Predictor.segment`.
            BadInputError: as `Predictor.segment`.
            CancelledError: ``cancel`` was set.
        """
        names = [tasks] if isinstance(tasks, str) else list(tasks)
        self.check(names)
        first: dict[str, Segmentation] = {}
        sums: dict[str, np.ndarray] = {}
        findings: dict[str, list[tuple[Finding, ...]]] = {task: [] for task in names}
        for predictor in self._predictors:
            found = predictor.segment(
                image, names, modality, probabilities=True, finish=False, events=events, cancel=cancel, **settings
            )
            for task, one in found.items():
                assert one.probabilities is not None
                own = one.probabilities.array.astype(np.float32)
                findings[task].append(one.findings)
                if task in first:
                    sums[task] += own
                else:
                    first[task], sums[task] = replace(one, probabilities=None), own
            del found
        results = {}
        new = []
        for task in names:
            plan = self.model.info.plan_of(task)
            joined = self._joined(first[task], sums.pop(task), findings[task], probabilities or instances)
            taken = without_nodata(oriented_as_said(image, settings.get("orientation")), [plan])
            whole = settings.get("box") is None
            joined, told = finished_result(joined, in_the_tasks_window(taken, plan), plan, whole=whole)
            new.append(told)
            results[task] = with_instances(joined, plan, keep_probabilities=probabilities) if instances else joined
        report(merge(*new), events)
        return results

    def _joined(
        self, one: Segmentation, total: np.ndarray, findings: Sequence[tuple[Finding, ...]], probabilities: bool
    ) -> Segmentation:
        plan = self.model.info.plan_of(one.task)
        mean = total / len(self._predictors)
        decided = mean.argmax(axis=0)[None].astype(smallest_dtype(len(plan.classes)))
        models = [one.model for one in self._predictors]
        shas = "\n".join(model.sha256 for model in models)
        named = [{"model": model.info.name, "sha256": model.sha256} for model in models]
        return replace(
            one,
            labels=one.labels.with_array(decided),
            probabilities=one.labels.with_array(mean.astype(np.float16)) if probabilities else None,
            model=" + ".join(model.info.name for model in models),
            model_sha256=hashlib.sha256(shas.encode()).hexdigest(),
            settings={**one.settings, "ensemble": named},
            findings=merge(*findings),
            quality=None,
            evidence=None,
        )
