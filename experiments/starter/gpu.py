"""The starter's training on a borrowed GPU: what goes there, what runs there, what comes back.

Here, before (``scripts/gpu_session.sh`` is what runs there):

    python experiments/starter/gpu.py pack       # runs/gpu: packed images, trainings, checkpoint, wheels

There: ``table`` measures the networks, ``jobs`` runs the trainings of ``gpu_jobs.py`` side by side, ``collect`` puts
the next finished ones, and the checkpoints of unfinished starters, into the folder that is sent back. Collect often and
call again at once: what has not been sent when the machine goes back is lost. Here, after:

    python experiments/starter/gpu.py merge FOLDER   # finished models and the checkpoint, to where they belong

Both ways a checkpoint is the running mean of the weights as fp16 and the run's state: momentum comes back within ten
iterations. Files come in parts that fit the limits of the transfer.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from gpu_jobs import ROOT, Job, Jobs, jobs_here, run_jobs
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path, write_text
from meduniseg_core.model import ARCHITECTURES, autocast, build_model
from meduniseg_core.training import TrainingConfig
from meduniseg_core.training.checkpoint import LAST, RunState, save_checkpoint
from meduniseg_core.training.optimizer import make_optimizer
from meduniseg_core.training.packed import pack, sizes, unpack
from meduniseg_core.training.prepare import Prepared, prepare
from meduniseg_core.weights import load_model, save_model

HERE = Path(__file__).resolve().parent
FOLDER = ROOT / "runs" / "gpu"
PACK, NOW, STATE, JOBS = (FOLDER / n for n in ("starter.pack", "checkpoint.safetensors", "state.json", "jobs.json"))
THERE = ROOT / "runs" / "gpu-run"
WHEELS = ("monai", "pydantic", "annotated-types", "typing-inspection", "platformdirs", "typing-extensions")
_PLATFORMS = ("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64")
PART = 15 << 20  # bytes of one file on its way back
ROOM = 62 << 20  # and of all files of one call
FILES = 8
LOG = logging.getLogger("gpu")


def configuration() -> TrainingConfig:
    """The starter's."""
    return TrainingConfig.from_toml(HERE / "sixteen.toml")


def pack_all() -> None:
    """Fill runs/gpu."""
    config = configuration()
    FOLDER.mkdir(parents=True, exist_ok=True)
    prepared = prepare(config)
    pack(prepared, PACK)
    for task, size in sizes(PACK):
        LOG.info("%s: %.1f MB", task, size / 1e6)
    last = config.output / LAST
    if not last.is_file():
        raise BadInputError(f"{last}: is missing; train at least one epoch here first.")
    tensors, state = _read(last)
    save_model(NOW, prepared.info, _mean(tensors), "fp16")
    write_text(STATE, state)
    write_text(JOBS, jobs_here(config, NOW).model_dump_json(exclude_unset=True))  # presets ask what was set
    wheels = FOLDER / "wheels"
    versions = ["--python-version", "3.12", *_PLATFORMS, "--only-binary=:all:", "--no-deps"]
    pydantic = version("pydantic_core")
    names = [*WHEELS, f"pydantic-core=={pydantic}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *versions, "-d", str(wheels)]
    subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), *names], check=True)
    total = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    LOG.info("%s: %.1f MB; name it in carry", FOLDER, total / 1e6)


def train_there(minutes: float, device: str, slots: int) -> None:
    """Run the trainings for ``minutes``, ``slots`` at a time."""
    jobs = Jobs.model_validate_json(JOBS.read_text("utf-8"))
    prepared = unpack(PACK, THERE / "cache")
    LOG.info("unpacked")
    while not (THERE / "go").is_file():  # the table is measured on an idle device
        time.sleep(0.2)
    if pipe := (THERE / "go").read_text("utf-8").strip():
        os.environ["CUDA_MPS_PIPE_DIRECTORY"] = pipe
    run_jobs(jobs, prepared, THERE, minutes=minutes, device=device, slots=slots, before=_expand)


def collect(output: Path, minutes: float) -> None:
    """Put the starters' checkpoints into ``output``, then finished models until it is full or ``minutes`` are over."""
    end = time.monotonic() + 60 * minutes
    output.mkdir(parents=True, exist_ok=True)
    starters = [folder.parent for folder in sorted(THERE.glob(f"starter*/{LAST}"))]
    room, files = ROOM - PART * len(starters), FILES - 1 - len(starters)
    while room > PART and files:
        ended = (THERE / "ended").is_file()  # asked first: nothing is finished after it
        for path in sorted((THERE / "done").glob("*.safetensors"), key=lambda path: path.stat().st_mtime):
            size = path.stat().st_size
            parts = -(-size // PART)
            if size < room and parts <= files:
                room, files = room - size, files - parts
                _cut(path, output)
                path.rename(path.with_suffix(".sent"))
        if ended or time.monotonic() > end:
            break
        time.sleep(0.5)
    for folder in starters:
        if not list((THERE / "done").glob(f"{folder.name}.s*")):
            tensors, state = _read(folder / LAST)
            save_file(_mean(tensors), output / f"checkpoint-{folder.name}.safetensors", metadata={"state": state})
    logs = sorted(THERE.glob("*/log.jsonl"))
    write_text(output / "logs.txt", "".join(f"== {log.parent.name}\n{log.read_text('utf-8')}" for log in logs))
    for log in sorted(THERE.glob("*.log")):
        lines = log.read_text("utf-8").splitlines()
        print(log.name, *lines[-1 if len(lines) > 1 else 0 :], sep="\n  ")


def _cut(path: Path, output: Path) -> None:
    raw = path.read_bytes()
    for number, first in enumerate(range(0, len(raw), PART)):
        (output / f"{path.name}.{number}").write_bytes(raw[first : first + PART])


def merge(folder: Path) -> None:
    """Put finished models where run.py expects them, and a checkpoint that came back into the run's folder."""
    config = configuration()
    names = sorted({path.name.rpartition(".")[0] for path in folder.glob("*.safetensors.*")})
    for name in names:
        job = name.removesuffix(".safetensors")
        place = _place(config, job)
        with atomic_path(place) as temporary:
            temporary.write_bytes(b"".join(part.read_bytes() for part in sorted(folder.glob(f"{name}.*"))))
            load_model(temporary)
        LOG.info("%s", place)
    back = folder / "checkpoint-starter.safetensors"
    if not back.is_file():
        if not names:
            raise BadInputError(f"{folder}: holds no models and no checkpoint; give the folder of what came back.")
        return
    with safe_open(back, framework="pt") as stream:
        state = RunState.model_validate_json(stream.metadata()["state"])
    there = config.output / LAST
    if there.is_file() and RunState.model_validate_json(_read(there)[1]).iteration >= state.iteration:
        raise BadInputError(
            f"{there}: stands further than what came back (iteration {state.iteration}); nothing is done."
        )
    _write(config, prepare(config), load_file(back), state, there)
    LOG.info("%s: epoch %d of %d; train with --resume goes on", there, state.epoch, config.epochs)


def _place(config: TrainingConfig, job: str) -> Path:
    """Where the model of a training belongs."""
    kind, _, name = job.partition("-")
    if job == "starter":
        return config.output / "starter.safetensors"
    folders = {"single": "singles", "sources": "sources", "starter": "starters"}
    return config.output.parent / folders[kind] / name / f"{job}.safetensors"


def table(output: Path, device: str) -> None:
    """Parameters, peak memory and time of the paper's network and its 2D backbone (docs/spec.md sections 2 and 11)."""
    place, lines = (
        torch.device(device),
        ["| network | parameters | input | precision | ms | peak MiB |", "| --- " * 6 + "|"],
    )
    small = device == "cpu"  # to try it: a fraction of the size
    flat, deep = ((1, 64, 64), (16, 32, 32)) if small else ((1, 512, 512), (64, 192, 192))
    for name, shape in (("backbone-2d", flat), ("meduniseg", flat), ("meduniseg", deep), ("backbone-3d", deep)):
        network = build_model(ARCHITECTURES[name]).to(place).eval()
        channels = max(ARCHITECTURES[name].stems) if name != "meduniseg" else 3 if shape[0] == 1 else 1
        for dtype in (torch.float32, torch.bfloat16):
            image = torch.randn(1, channels, *shape, device=place)
            index = torch.zeros(1, dtype=torch.long, device=place)
            seconds = []
            if place.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            with torch.inference_mode(), autocast(place, dtype):
                for _ in range(2 if small else 12):
                    _wait(place)
                    began = time.perf_counter()
                    network(image, index, index, levels=1) if name == "meduniseg" else network(image, levels=1)
                    _wait(place)
                    seconds.append(time.perf_counter() - began)
            peak = torch.cuda.max_memory_allocated() / 2**20 if place.type == "cuda" else float("nan")
            count = sum(p.numel() for p in network.parameters())
            size = "x".join(map(str, shape))
            kind = str(dtype).removeprefix("torch.")
            lines.append(
                f"| {name} | {count:,} | {channels}x{size} | {kind} | {1000 * min(seconds):.1f} | {peak:.0f} |"
            )
        del network
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


def _wait(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize()


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    with safe_open(path, framework="pt") as stream:
        return load_file(path), (stream.metadata() or {})["state"]


def _network(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}


def _mean(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The running mean of a checkpoint's weights, as fp16."""
    network = _network(tensors)
    return {k: tensors.get(f"optimizer.average.{k}", value).half().contiguous() for k, value in network.items()}


def _expand(job: Job, config: TrainingConfig, prepared: Prepared) -> bool:
    """Make a checkpoint of the one that was carried here; False for trainings that start anew."""
    if job.name != "starter":
        return False
    state = RunState.model_validate_json(STATE.read_text("utf-8"))
    weights = load_model(NOW).universal_network.state_dict()
    _write(config, prepared, weights, state, config.output / LAST)
    return True


def _write(config: TrainingConfig, prepared: Prepared, weights: dict[str, Tensor], state: RunState, path: Path) -> None:
    if state.config_hash != prepared.config_hash:
        raise BadInputError(
            f"{path.parent}: the checkpoint belongs to another configuration or other data; pack it anew."
        )
    network = build_model(prepared.info.config)
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    optimizer = make_optimizer(config, network)
    for parameter in network.parameters():
        optimizer.state[parameter]["average"] = parameter.detach().clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, network, optimizer, state)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("pack", "table", "jobs", "collect", "merge"))
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER / "back", help="where results go, or come from")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--slots", type=int, default=9, help="trainings at a time")
    parser.add_argument(
        "--last", action="store_true", help="collect: the starter's checkpoint, too, if it has not ended"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if arguments.step == "pack":
        pack_all()
    elif arguments.step == "table":
        table(arguments.folder, arguments.device)
    elif arguments.step == "jobs":
        train_there(arguments.minutes, arguments.device, arguments.slots)
    elif arguments.step == "collect":
        collect(arguments.folder, arguments.minutes)
    else:
        merge(arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
