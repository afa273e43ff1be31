"""Makes training samples without the target from images in which it is present.

Collections of a disease hold hardly any image without it, and a network that has seen none finds it everywhere. A
sample without the target is one of: a part of an image that does not hold it, enlarged to a patch ("crop"); a 2D image
whose target-free half is mirrored onto the other ("half": a chest with two healthy lungs); or an image of another task
of the same modality in which the target cannot occur ("other").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from meduniseg_core.errors import UsageError
from meduniseg_core.preprocessing import IGNORED, CachedCase, TaskPlan

_ZOOM = (0.3, 0.75)
_TRIES = 4


class AbsenceSettings(BaseModel):
    """For one 2D task: how many samples lack the target, and how they are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(ge=0, le=1, description="of the task's samples")
    classes: tuple[str, ...] | None = Field(default=None, description="classes that are absent; None: all")
    methods: tuple[Literal["crop", "half", "other"], ...] = ("crop",)
    others: tuple[str, ...] = Field(default=(), description="tasks whose images cannot hold the target")


@dataclass(frozen=True)
class AbsentSample:
    """The source of a patch: data (C, 1, H, W), seg (1, H, W), the patch's centre (voxels) and zoom (None for no
    zoom)."""

    case: str
    data: npt.NDArray[np.floating]
    seg: npt.NDArray[np.integer]
    centre: tuple[int, int, int]
    zoom: float | None


class AbsenceSource:
    """Draws samples of one task that lack its target.

    Args:
        plan: plan of the task, which must be 2D.
        cases: its training cases.
        settings: see :class:`AbsenceSettings`.
        others: the training cases of the tasks that ``settings.others`` names, by task.

    Raises:
        UsageError: the task is 3D, a class or task is unknown, or the images of an other task have another number of
            channels.
    """

    def __init__(
        self,
        plan: TaskPlan,
        cases: Sequence[CachedCase],
        settings: AbsenceSettings,
        others: Mapping[str, Sequence[CachedCase]],
    ) -> None:
        if plan.dimension != 2:
            raise UsageError(f"Task {plan.task} is one of volumes; 'absence' is for 2D tasks.")
        unknown = [name for name in settings.classes or () if name not in plan.classes]
        if unknown:
            raise UsageError(f"'absence' of task {plan.task} names the class '{unknown[0]}', which it does not have.")
        names = plan.classes if settings.classes is None else settings.classes
        self.share = settings.share
        self._plan, self._methods = plan, settings.methods
        self._ids = [plan.classes.index(name) + 1 for name in names]
        self._cases = tuple(cases)
        self._halves = self._free_halves() if "half" in settings.methods else []
        self._foreign: list[CachedCase] = []
        for name in settings.others if "other" in settings.methods else ():
            if name not in others:
                raise UsageError(f"'absence' of task {plan.task} names the task '{name}', which no data set holds.")
            self._foreign += others[name]
        for case in self._foreign[:1]:
            if len(case.data) != len(plan.channels):
                raise UsageError(
                    f"'absence' of task {plan.task} takes images with {len(case.data)} channel(s), and the task has "
                    f"{len(plan.channels)}."
                )

    def draw(self, rng: np.random.Generator) -> AbsentSample | None:
        """Draw one sample without the target.

        Args:
            rng: decides the method, the image and the place.

        Returns:
            The sample; None if none of the images tried has a place without the target.
        """
        method = self._methods[int(rng.integers(len(self._methods)))]
        if method == "half" and self._halves:
            return self._mirrored(*self._halves[int(rng.integers(len(self._halves)))])
        if method == "other" and self._foreign:
            case = self._foreign[int(rng.integers(len(self._foreign)))]
            seg = np.zeros(case.shape, dtype=np.uint8)
            return AbsentSample(case.case, case.data, seg, _middle(case.shape), None)
        return self._crop(rng)

    def _target(self, seg: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        return np.isin(seg, [*self._ids, IGNORED])  # where nobody has looked, the target may be

    def _crop(self, rng: np.random.Generator) -> AbsentSample | None:
        """A window of random size without the target, from a random image."""
        for _ in range(_TRIES):
            case = self._cases[int(rng.integers(len(self._cases)))]
            seg = case.seg
            zoom = float(rng.uniform(*_ZOOM))
            size = [min(n, max(1, round(p * zoom))) for p, n in zip(self._plan.patch[1:], seg.shape[1:], strict=True)]
            free = np.flatnonzero(_window_sums(self._target(seg[0]), size) == 0)
            if len(free):
                rows = seg.shape[1] - size[0] + 1
                columns = seg.shape[2] - size[1] + 1
                y, x = np.unravel_index(free[int(rng.integers(len(free)))], (rows, columns))
                return AbsentSample(case.case, case.data, seg, (0, int(y) + size[0] // 2, int(x) + size[1] // 2), zoom)
        return None

    def _free_halves(self) -> list[tuple[CachedCase, int, bool]]:
        """All target-free halves as (case, first column of its right half, whether the right half is the free one)."""
        found = []
        for case in self._cases:
            seg = case.seg[0]
            columns = np.flatnonzero((seg > 0).any(axis=0))
            if not len(columns):
                continue
            middle = int(columns[0] + columns[-1] + 1) // 2
            target = self._target(seg)
            for right, part in ((False, target[:, :middle]), (True, target[:, middle:])):
                if part.size and not part.any():
                    found.append((case, middle, right))
        return found

    @staticmethod
    def _mirrored(case: CachedCase, middle: int, right: bool) -> AbsentSample:
        part = slice(middle, None) if right else slice(0, middle)
        data, seg = np.asarray(case.data[..., part]), np.asarray(case.seg[..., part])
        pair = (data[..., ::-1], data) if right else (data, data[..., ::-1])
        segs = (seg[..., ::-1], seg) if right else (seg, seg[..., ::-1])
        whole = np.concatenate(segs, axis=-1)
        return AbsentSample(case.case, np.concatenate(pair, axis=-1), whole, _middle(whole.shape), None)


def _window_sums(mask: npt.NDArray[np.bool_], size: Sequence[int]) -> npt.NDArray[np.int64]:
    """The number of voxels of ``mask`` (H, W) in every window of ``size``, by the window's upper left corner."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    h, w = size
    return total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]


def _middle(shape: Sequence[int]) -> tuple[int, int, int]:
    return shape[0] // 2, shape[1] // 2, shape[2] // 2
