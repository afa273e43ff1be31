"""Dice on the validation cases during training, by the same sliding window as inference, on the preprocessed grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from meduniseg_core.evaluation import dice
from meduniseg_core.events import CancelToken
from meduniseg_core.inference.sliding_window import Output, SlidingWindow
from meduniseg_core.inference.windows import WindowGrid
from meduniseg_core.model import MedUniSeg, autocast
from meduniseg_core.preprocessing import IGNORED, CachedCase, TaskPlan

OVERLAP = 0.5
_REMEDY = "look at this image, or lower the learning rate or choose the precision fp32, and --resume"


class _LabelSink:
    """Receives finished logits and keeps only their argmax."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.labels = np.zeros(shape, dtype=np.uint8)

    def write(self, first: int, logits: Tensor) -> None:
        self.labels[first : first + logits.shape[1]] = logits.argmax(0).to(torch.uint8).cpu().numpy()


class TaskNetwork:
    """Presents the network in training to the sliding window, as a network of one task."""

    def __init__(self, network: MedUniSeg, task: int, modality: int, device: torch.device, dtype: torch.dtype) -> None:
        self._network, self._task, self._modality = network, task, modality
        self._device, self._dtype = device, dtype

    def __call__(self, images: Tensor, outputs: Sequence[int]) -> list[Tensor]:
        """Finest logits for windows (B, C, D, H, W)."""
        images = images.to(self._device)
        task = torch.full((len(images),), self._task, device=self._device)
        modality = torch.full((len(images),), self._modality, device=self._device)
        with autocast(self._device, self._dtype):
            logits = self._network(images, task, modality, levels=1)[0].float()
        return [logits for _ in outputs]


def validate(
    network: TaskNetwork, plan: TaskPlan, cases: Sequence[CachedCase], cancel: CancelToken | None = None
) -> np.ndarray:
    """Compute the Dice of every case with the sliding window (docs/spec.md section 9); 1 if both masks are empty.

    Args:
        network: the network in training, for one task.
        plan: the task's plan.
        cases: preprocessed cases.
        cancel: stops between two windows.

    Returns:
        Dice (cases, foreground classes), 0 to 1.

    Raises:
        NonFiniteOutputError: logits are NaN or infinite; the message names the task and the case.
        CancelledError: ``cancel`` was set.
    """
    scores = np.zeros((len(cases), plan.class_count - 1))
    for row, case in enumerate(cases):
        image = torch.as_tensor(np.asarray(case.data, dtype=np.float32))
        shape = case.shape
        sink = _LabelSink(shape)
        window = (min(plan.patch[0], max(shape[0], 1)) if plan.dimension == 2 else plan.patch[0], *plan.patch[1:])
        grid = WindowGrid.over(shape, (window[0], window[1], window[2]), OVERLAP)
        output = Output(plan.class_count, sink, subject=f"task {plan.task} on {case.case}", remedy=_REMEDY)
        SlidingWindow(batch=plan.batch).run(image, grid, network, [output], cancel=cancel)
        reference = case.seg
        sink.labels[reference == IGNORED] = IGNORED  # takes no part
        scores[row] = [dice(sink.labels, reference, label) for label in range(1, plan.class_count)]
    return scores
