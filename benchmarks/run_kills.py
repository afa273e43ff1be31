"""kill -9 of preprocessing, and of trainings in two processes, at random moments; used by `kills.py`.

Each is killed at a moment drawn from the whole time that it takes, and started again, until it ends by itself. Cache
and weights must then be those of one that nobody killed, bit for bit. The processes are forked, because starting Python
would take most of the time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors.torch import load_file
from store_kills import forked

from meduniseg_core.images import Image, write_image, write_labels
from meduniseg_core.preprocessing import RawDataset, make_plan, preprocess_dataset
from meduniseg_core.training.checkpoint import has_checkpoint

Make = Callable[[int], tuple[Image, Image]]
CASES = 24
KILLS_A_RUN = 5
_PATIENCE = 1800.0  # seconds; only what stands still takes so long, however busy the machine is
_TOGETHER = 120.0  # seconds for the other process to end (30 on a machine that does nothing else)

CONFIG = """
name = "balls"
datasets = [{datasets}]
output = "run"
cache = "cache"
epochs = 8
iterations_per_dataset = 5
validation_every = 2
validation_cases = 2
device = "cpu"
precision = "fp32"
plan_3d = {{ patch = [16, 32, 32], batch = 2 }}
plan_2d = {{ longest_side = 32, patch = [1, 32, 32], batch = 4 }}

[network]
features = [4, 4, 4]
strides = [[1, 2, 2], [2, 2, 2]]
task_prompt_channels = 4
task_prompt_size = [2, 2, 2]
"""


def kill_preprocessing(home: Path, make: Make, kills: int, rng: np.random.Generator) -> str:
    """Preprocessings of volumes, every other one in two processes, killed ``kills`` times in all."""
    dataset = RawDataset.open(volumes(home / "volumes", make, CASES))
    plan = make_plan(dataset)

    def work(cache: Path, processes: int) -> None:
        preprocess_dataset(dataset, plan, cache, parallel=processes)

    began = time.monotonic()
    calm = home / "calm"
    assert os.waitpid(forked(lambda: work(calm, 1)), 0)[1] == 0
    alone = time.monotonic() - began
    wanted = _files(calm / plan.task)
    done, rounds, counts = 0, 0, Counter[str]()
    while done < kills:
        rounds += 1
        cache, processes = home / f"killed{rounds}", 1 + rounds % 2
        for _ in range(min(KILLS_A_RUN, kills - done)):
            child = forked(lambda cache=cache, processes=processes: work(cache, processes))
            if processes == 2 and rng.random() < 0.7:  # workers take long to start: wait until they are at work
                before = len(_files(cache / plan.task))
                while len(_files(cache / plan.task)) == before and not _has_ended(child):
                    time.sleep(0.01)
            if not _killed(child, float(rng.uniform(0, alone))):
                break
            done += 1
            counts[f"in {processes} process{'es' * (processes > 1)}"] += 1
            counts["half-written"] += any((cache / plan.task).glob(".tmp-*"))
            kept = _files(cache / plan.task)
            whole = [name for name in kept if name.endswith(".json")]
            for record in whole:  # what has a record is complete
                stem = record.removesuffix(".json")
                assert all(kept[name] == wanted[name] for name in (record, f"{stem}.npy", f"{stem}_seg.npy")), record
            counts["entries kept"] += len(whole)
        assert os.waitpid(forked(lambda cache=cache: work(cache, 1)), 0)[1] == 0
        assert _files(cache / plan.task) == wanted, "another cache than that of a calm run"
        assert not list((cache / plan.task).glob(".tmp-*"))
        shutil.rmtree(cache)
    return (
        f"preprocessing of {CASES} cases killed {done} times in {rounds} caches ({counts['in 1 process']} alone, "
        f"{counts['in 2 processes']} with two workers; {counts['half-written']} with a half-written file, "
        f"{counts['entries kept']} finished entries were found and kept): each cache ended with the bytes of the one "
        "that was left alone, and nothing half-written is left"
    )


def kill_together(home: Path, make: Make, kills: int, rng: np.random.Generator) -> str:
    """Trainings in two processes on volumes and slices, of which one or both are killed ``kills`` times in all."""
    calm = training(home / "calm-run", make)
    began = time.monotonic()
    assert _ended(_start(calm, resume=False)) == [0, 0]
    alone = time.monotonic() - began
    wanted, losses = load_file(calm.parent / "run" / "balls.safetensors"), _losses(calm)
    done, rounds, counts, slowest = 0, 0, Counter[str](), 0.0
    while done < kills:
        rounds += 1
        config = training(home / f"killed-run{rounds}", make)
        run = config.parent / "run"
        for _ in range(min(KILLS_A_RUN, kills - done)):
            children = _start(config, resume=has_checkpoint(run))
            time.sleep(float(rng.uniform(0, alone)))
            if any(_has_ended(child) for child in children):
                assert _ended(children) == [0, 0]
                break
            which = [[0], [1], [0, 1]][int(rng.integers(3))]
            for number in which:
                os.kill(children[number], signal.SIGKILL)
            killed_at = time.monotonic()
            if len(which) == 1 and not _ends_itself(children[1 - which[0]]):
                # they had not met: a process that is not there yet is waited for, and the launcher is who knows better
                assert not (config.parent / "rank0.txt").stat().st_size, "a process outlives the one it trained with"
                os.kill(children[1 - which[0]], signal.SIGKILL)
                counts["before they met"] += 1
                which = [0, 1]
            codes = _ended(children)
            if len(which) == 1:
                slowest = max(slowest, time.monotonic() - killed_at)
            assert all(code in ((-signal.SIGKILL,) if number in which else (0, 1)) for number, code in enumerate(codes))
            done += 1
            counts["both" if len(which) == 2 else f"rank {which[0]}"] += 1
            counts["before a checkpoint" if not has_checkpoint(run) else "after one"] += 1
            counts["half-written"] += any(run.rglob(".tmp-*"))
            if 0 in codes:  # it came after the last step
                break
        while not (run / "balls.safetensors").is_file():
            assert _ended(_start(config, resume=has_checkpoint(run))) == [0, 0]
        found = load_file(run / "balls.safetensors")
        assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted), rounds
        assert _losses(config) == losses, rounds
        assert not list(run.rglob(".tmp-*"))
    return (
        f"training in two processes killed {done} times in {rounds} runs (the first {counts['rank 0']}, the second "
        f"{counts['rank 1']}, both {counts['both']} times, of these {counts['before they met']} before they had met; "
        f"{counts['before a checkpoint']} before a checkpoint, "
        f"{counts['after one']} after one; {counts['half-written']} with a half-written file; the other process ended "
        f"within {slowest:.0f} s): each run ended with the {len(wanted)} tensors and the {len(losses)} epochs of loss "
        "of the one that was left alone, bit for bit"
    )


def volumes(folder: Path, make: Make, count: int) -> Path:
    """A data set of volumes."""
    for number in range(count):
        image, labels = make(number)
        for path, write, content in (
            (folder / "imagesTr" / f"ball{number:02}_0000.nii.gz", write_image, image),
            (folder / "labelsTr" / f"ball{number:02}.nii.gz", write_labels, labels),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(content, path)
    _describe(folder, "ball", ".nii.gz")
    return folder


def slices(folder: Path, make: Make, count: int) -> Path:
    """A data set of the volumes' middle slices, as pictures."""
    for number in range(count):
        image, labels = make(100 + number)
        middle = image.array.shape[1] // 2
        grey = np.clip(image.array[0, middle] * 20 + 80, 0, 255).astype(np.uint8)
        from PIL import Image as Picture

        for path, array in (
            (folder / "imagesTr" / f"slice{number:02}_0000.png", grey),
            (folder / "labelsTr" / f"slice{number:02}.png", labels.array[0, middle]),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            Picture.fromarray(array).save(path)
    _describe(folder, "disc", ".png")
    return folder


def training(folder: Path, make: Make) -> Path:
    """The configuration of a training on volumes and slices."""
    sets = [volumes(folder / "Dataset001_Ball", make, 6), slices(folder / "Dataset002_Disc", make, 8)]
    config = folder / "config.toml"
    config.write_text(CONFIG.format(datasets=", ".join(json.dumps(path.name) for path in sets)))
    return config


def _describe(folder: Path, task: str, ending: str) -> None:
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, task: 1}, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps({**content, "modality": "mri", "task": task}))


def _start(config: Path, *, resume: bool) -> list[int]:
    """Two processes that train together; their ids. The first one's output begins when they have met."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank: int) -> None:
        from training_cli.main import main

        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in places.items()})
        said = os.open(config.parent / f"rank{rank}.txt", os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
        for descriptor in (1, 2):
            os.dup2(said, descriptor)
        os._exit(main(["train", str(config), "--progress", "json", *(["--resume"] * resume)]))

    return [forked(lambda rank=rank: work(rank)) for rank in range(2)]


def _ends_itself(child: int) -> bool:
    end = time.monotonic() + _TOGETHER
    while time.monotonic() < end:
        if _has_ended(child):
            return True
        time.sleep(0.05)
    return False


def _has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _ended(children: list[int]) -> list[int]:
    """Wait for them to end; their exit codes."""
    end = time.monotonic() + _PATIENCE
    while not all(_has_ended(child) for child in children):
        assert time.monotonic() < end, "a process does not end"
        time.sleep(0.05)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _killed(child: int, after: float) -> bool:
    """Kill it after so many seconds; whether it was still at work."""
    end = time.monotonic() + after
    while time.monotonic() < end and not _has_ended(child):
        time.sleep(0.002)
    if _has_ended(child):
        assert os.waitpid(child, 0)[1] == 0
        return False
    workers = psutil.Process(child).children(recursive=True)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    _, alive = psutil.wait_procs(workers, timeout=_PATIENCE)  # they end by themselves
    assert not alive, "a worker outlives the process that was killed"
    return True


def _files(folder: Path) -> dict[str, bytes]:
    """The content of a folder's files, without hidden ones."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return {path.name: path.read_bytes() for path in sorted(entries) if not path.name.startswith(".")}


def _losses(config: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (config.parent / "run" / "log.jsonl").read_text().splitlines()]
