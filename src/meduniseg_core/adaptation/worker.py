"""The process that works on a run: ``python -m meduniseg_core.adaptation.worker RUN_FOLDER``.

The run's folder has all it needs: the job, a checkpoint to resume from, whether to finish. It reports its events on
stderr, one JSON object per line. SIGTERM ends it at the next safe point.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meduniseg_core.adaptation.execution import execute, training_config
from meduniseg_core.adaptation.run import Run
from meduniseg_core.errors import MedUniSegError, explain
from meduniseg_core.events import CancelToken, Event, cancelled_by_signals, error_record, event_record
from meduniseg_core.weights import load_model


def work_on(folder: Path, cancel: CancelToken) -> None:
    """Carry out the job of a run, or resume it; the result is written into the run's folder.

    Args:
        folder: the run's folder.
        cancel: stops the work at the next safe point.

    Raises:
        MedUniSegError: the run cannot be opened, another process works on it, or its job fails.
    """
    run = Run.at(folder)
    run.taken_up()
    base = load_model(run.job.base)
    config = training_config(run.job, base, run.folder)
    finish = run.to_finish
    resume = run.has_checkpoint and not finish
    result = execute(run, base, config, resume=resume, finish=finish, events=_say_event, cancel=cancel)
    run.answered(result.answer(run.job))


def main(arguments: Sequence[str]) -> int:
    """Work on a run. Errors are reported as events, not raised.

    Args:
        arguments: the run's folder.

    Returns:
        The exit code, as the ``meduniseg`` command has it.
    """
    try:
        cancel = CancelToken()
        with cancelled_by_signals(cancel):
            work_on(Path(*arguments), cancel)
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = explain(error)
        if code == MedUniSegError.exit_code:  # a bug of ours: the traceback for the report
            traceback.print_exception(error)
        _say(error_record(sentence, code))
        return code
    return 0


def _say_event(event: Event) -> None:
    _say(event_record(event))


def _say(record: Mapping[str, Any]) -> None:
    print(json.dumps(record), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
