"""Dice on the validation cases during training, by the same sliding window as inference, on the preprocessed grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from meduniseg_core.evaluation import dice
from meduniseg_core.events import CancelToken
from meduniseg_core.inference.engine import Engine
from meduniseg_core.inference.export import strongest
from meduniseg_core.inference.sliding_window import Output, SlidingWindow
from meduniseg_core.inference.windows import plan_windows
from meduniseg_core.preprocessing import IGNORED, CachedCase, TaskPlan
from meduniseg_core.weights import ModelInfo

OVERLAP = 0.5
_REMEDY = "look at this image, or lower the learning rate or choose the precision fp32, and --resume"


class _LabelSink:
    """Receives finished logits and keeps only their argmax."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.labels = np.zeros(shape, dtype=np.uint8)

    def write(self, first: int, logits: Tensor) -> None:
        self.labels[first : first + logits.shape[1]] = strongest(logits).cpu().numpy()


def validate(
    engine: Engine, info: ModelInfo, plan: TaskPlan, cases: Sequence[CachedCase], cancel: CancelToken | None = None
) -> np.ndarray:
    """Compute the Dice of every case with the sliding window (docs/spec.md section 9); 1 if both masks are empty.

    Args:
        engine: runs the network in training.
        info: describes the model in training.
        plan: the task's plan.
        cases: preprocessed cases.
        cancel: stops between two windows.

    Returns:
        Dice (cases, foreground classes), 0 to 1.

    Raises:
        NonFiniteOutputError: logits are NaN or infinite; the message names the task and the case.
        CancelledError: ``cancel`` was set.
    """
    network = engine.for_tasks([info.task_index(plan.task)], info.modality_index(plan.modality))
    scores = np.zeros((len(cases), plan.class_count - 1))
    for row, case in enumerate(cases):
        image = torch.as_tensor(np.asarray(case.data, dtype=np.float32))
        shape = case.shape
        sink = _LabelSink(shape)
        grid = plan_windows(plan, shape, info.config.total_stride, OVERLAP)
        output = Output(plan.class_count, sink, subject=f"task {plan.task} on {case.case}", remedy=_REMEDY)
        sliding = SlidingWindow(device=engine.device, accumulate_on=engine.device, batch=plan.batch)
        sliding.run(image, grid, network, [output], cancel=cancel)
        reference = case.seg
        sink.labels[reference == IGNORED] = IGNORED  # takes no part
        scores[row] = [dice(sink.labels, reference, label) for label in range(1, plan.class_count)]
    return scores
