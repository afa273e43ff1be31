"""Runs one function over many cases, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

from meduniseg_core.events import CancelToken
from meduniseg_core.processes import end_with_parent

_JobT = TypeVar("_JobT")
_AnswerT = TypeVar("_AnswerT")


def over_cases(
    work: Callable[[_JobT], _AnswerT], jobs: Sequence[_JobT], processes: int, cancel: CancelToken | None = None
) -> Iterator[tuple[_JobT, _AnswerT]]:
    """Run a function on every job.

    Args:
        work: a function of a module; with several processes jobs and answers are pickled.
        jobs: what to do.
        processes: how many; 1 does everything here, in order.
        cancel: ends the work between two jobs.

    Yields:
        Each job with its answer, as they become ready.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    if processes <= 1 or len(jobs) < 2:
        for job in jobs:
            if cancel is not None:
                cancel.raise_if_cancelled()
            yield job, work(job)
        return
    # spawn: a forked child of a process that has used torch's threads can hang
    with ProcessPoolExecutor(
        min(processes, len(jobs)), mp_context=get_context("spawn"), initializer=_begin_worker
    ) as pool:
        waiting: dict[Future[_AnswerT], _JobT] = {pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(waiting):
                if cancel is not None:
                    cancel.raise_if_cancelled()
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _begin_worker() -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)
