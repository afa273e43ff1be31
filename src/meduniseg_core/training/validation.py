"""Dice on the validation cases during training, by the same sliding window as inference, on the preprocessed grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from meduniseg_core.errors import CancelledError
from meduniseg_core.evaluation import dice
from meduniseg_core.events import CancelToken
from meduniseg_core.inference.engine import Engine
from meduniseg_core.inference.export import strongest
from meduniseg_core.inference.sliding_window import Output, SlidingWindow
from meduniseg_core.inference.windows import plan_windows
from meduniseg_core.preprocessing import IGNORED, CachedCase, TaskPlan
from meduniseg_core.training.group import Group, asked_to_stop, raise_if_asked
from meduniseg_core.training.prepare import PreparedTask
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


def validate_tasks(
    engine: Engine,
    info: ModelInfo,
    tasks: Sequence[PreparedTask],
    most: int,
    group: Group,
    cancel: CancelToken | None = None,
) -> dict[str, np.ndarray]:
    """Compute the Dice of the validation cases of several tasks, of which each process of a group scores its share.

    Args:
        engine: runs the network in training.
        info: describes the model in training.
        tasks: the tasks with their cases, in the same order in every process.
        most: the number of cases of a task, at most.
        group: the processes that train together.
        cancel: stops between two windows.

    Returns:
        By task, Dice (cases, foreground classes), 0 to 1; the same in every process.

    Raises:
        NonFiniteOutputError: as for :func:`validate`.
        CancelledError: this process, or another one of the group, was asked to stop.
        LostProcessError: another process is gone.
    """
    scores = {task.plan.task: np.zeros((len(task.validation[:most]), len(task.plan.classes))) for task in tasks}
    try:
        for task in tasks:
            cases = task.validation[:most]
            own = group.share_of(len(cases))
            if own:
                part = slice(own.start, own.stop)
                scores[task.plan.task][part] = validate(engine, info, task.plan, cases[part], cancel)
    except CancelledError:
        if group.size == 1:
            raise  # of several, all stop after the exchange
    return scores if group.size == 1 else _exchanged(scores, engine.device, group, cancel)


def _exchanged(
    scores: dict[str, np.ndarray], device: torch.device, group: Group, cancel: CancelToken | None
) -> dict[str, np.ndarray]:
    """The scores of all processes; all raise CancelledError if one was asked to stop."""
    stop, requeue = asked_to_stop(cancel, group)
    flat = [*(own.ravel() for own in scores.values()), np.array([stop, requeue], dtype=np.float64)]
    numbers = torch.from_numpy(np.concatenate(flat)).to(device, torch.float32)
    sums = group.add_up(numbers).double().cpu().numpy()
    raise_if_asked(bool(sums[-2] > 0), bool(sums[-1] > 0))
    found, first = {}, 0
    for name, own in scores.items():
        found[name] = sums[first : first + own.size].reshape(own.shape)
        first += own.size
    return found
