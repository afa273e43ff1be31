"""kill -9 of a fine-tuning at any moment: while it starts, preprocesses, trains, writes a checkpoint, compares.

`kills.py` runs this.

Short trainings (small network, synthetic balls) are killed again and again; each goes on from its last checkpoint, or
from the start where there was none, and must end with the very weights and losses of one that nobody killed, and with
nothing half-written anywhere. The processes are forked, so that many moments can be tried; about every tenth is started
as the viewer does it.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from store_kills import forked

from meduniseg_core.adaptation import worker
from meduniseg_core.adaptation.jobs import finetune_job
from meduniseg_core.adaptation.run import Run
from meduniseg_core.training.checkpoint import LAST, RunState

EPOCHS = 6
KILLS_A_RUN = 10
MOMENTS = ("any", "any", "epoch", "writing", "end")
_PATIENCE = 1200.0  # seconds; only a run that stands still takes so long, however busy the machine is


def kill_training(dataset: Path, kills: int, rng: np.random.Generator) -> str:
    """Trainings on the ledger ``dataset`` killed ``kills`` times in all, against one that was left alone."""
    calm = _new_run(dataset, "calm")
    assert os.waitpid(_start(calm), 0)[1] == 0 and calm.standing().phase == "finished", calm.standing()
    wanted, losses = load_file(calm.model_file), [line["loss"] for line in calm.log()]
    done, number, counts = 0, 0, Counter[str]()
    while done < kills:
        number += 1
        run = _new_run(dataset, f"troubled{number}")
        done += _kill_one(run, min(KILLS_A_RUN, kills - done), rng, counts)
        assert run.standing().phase == "finished", run.standing()
        found = load_file(run.model_file)
        assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted), number
        assert [line["loss"] for line in run.log()] == losses, number
        left = [path for path in run.folder.rglob("*") if path.name.startswith(".tmp-") or path.name.endswith(".tmp")]
        assert not left, left
    moments = ", ".join(f"{counts[key]} {key}" for key in ("before a checkpoint", "after one", "after the last"))
    return (
        f"fine-tuning killed {done} times in {number} runs ({moments}; {counts['half-written']} with a half-written "
        f"file, {counts['real']} started as the viewer does): each run ended with the {len(wanted)} tensors and the "
        f"{len(losses)} epochs of loss of the one that was left alone, bit for bit, and nothing half-written is left"
    )


def _kill_one(run: Run, kills: int, rng: np.random.Generator, counts: Counter[str]) -> int:
    """Kill the run until it was killed so often, or was quicker; let it end. Returns how often it was killed."""
    done, reached = 0, -1
    while done < kills:
        real = bool(rng.random() < 0.1)
        if real:
            run.start()
            process = run.process()
            pid = 0 if process is None else process.pid
        else:
            pid = _start(run)
        ended = _wait_for_a_moment(run, pid, MOMENTS[int(rng.integers(len(MOMENTS)))], rng)
        if ended:
            assert run.standing().phase == "finished", run.standing()
            return done
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        done += 1
        standing = run.standing()
        if standing.phase == "finished":  # between its answer and its end
            return done
        assert standing.phase == "stopped", standing
        counts["real"] += real
        counts["half-written"] += any(run.folder.rglob(".tmp-*"))
        now = _iteration(run)
        assert now >= reached, "a checkpoint was lost"
        reached = now
        counts["before a checkpoint" if now < 0 else "after one" if len(run.log()) < EPOCHS else "after the last"] += 1
    assert os.waitpid(_start(run), 0)[1] == 0, run.standing()
    return done


def _wait_for_a_moment(run: Run, pid: int, moment: str, rng: np.random.Generator) -> bool:
    """Wait until it is to be killed; True where it has ended by itself before."""
    epochs = len(run.log())
    ready: dict[str, Callable[[], object]] = {
        "any": lambda: True,
        "epoch": lambda: len(run.log()) > epochs,
        "writing": lambda: any(run.folder.rglob(".tmp-*")),
        "end": lambda: run.model_file.exists() or len(run.log()) >= min(epochs + 3, EPOCHS),
    }
    after = 0.0 if moment == "writing" else float(rng.uniform(0.0, 2.0 if moment == "any" else 0.6))
    end = time.monotonic() + _PATIENCE
    while not ready[moment]():
        assert time.monotonic() < end, "it takes too long"
        if _ended(pid):
            return True
        time.sleep(0.001)
    until = time.monotonic() + after
    while time.monotonic() < until:
        if _ended(pid):
            return True
        time.sleep(0.005)
    return False


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _iteration(run: Run) -> int:
    """How far the last checkpoint stands; -1 where there is none. It must be whole."""
    if not (run.output / LAST).exists():
        return -1
    with safe_open(run.output / LAST, framework="pt") as stream:
        return RunState.model_validate_json(stream.metadata()["state"]).iteration


def _start(run: Run) -> int:
    """Start it, or go on with it, in a process that has everything loaded already."""
    return forked(lambda: _work(run.folder))


def _work(folder: Path) -> None:
    for descriptor, path in ((1, Path(os.devnull)), (2, folder / "events.jsonl")):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), descriptor)
    if worker.main([str(folder)]) != 0:
        raise SystemExit("the run failed")


def _new_run(dataset: Path, name: str) -> Run:
    return Run.create(finetune_job(dataset, name, "base", iterations=50 * EPOCHS, device="cpu", precision="fp32"))
