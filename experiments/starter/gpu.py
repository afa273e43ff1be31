"""The starter's training on a borrowed GPU: what goes there, what runs there, what comes back.

Here, before (``scripts/gpu_session.sh`` is what runs there):

    python experiments/starter/gpu.py pack       # runs/gpu: the packed run, the last checkpoint, wheels that lack there

There: ``table`` measures the networks, ``train`` goes on with the training for the minutes that remain. Here, after:

    python experiments/starter/gpu.py merge FOLDER   # what came back becomes the run's last checkpoint

On the way there the checkpoint holds fp16 weights only (momentum comes back within ten iterations); on the way back the
weights are fp32, their running mean and the momentum fp16, in parts that fit the limits of the transfer.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from meduniseg_core.errors import BadInputError, CancelledError
from meduniseg_core.events import CancelToken, Event, Metric
from meduniseg_core.model import ARCHITECTURES, autocast, build_model
from meduniseg_core.training import TrainingConfig, train
from meduniseg_core.training.checkpoint import LAST, RunState, save_checkpoint
from meduniseg_core.training.optimizer import make_optimizer
from meduniseg_core.training.packed import pack, sizes, unpack
from meduniseg_core.training.prepare import Prepared, prepare

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "runs" / "gpu"
PACK, COMPACT = FOLDER / "starter.pack", FOLDER / "checkpoint.safetensors"
WHEELS = ("monai", "pydantic", "annotated-types", "typing-inspection", "platformdirs", "typing-extensions")
_PLATFORMS = ("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64")
LIMIT = 15 << 20  # bytes of one file on its way back
LOG = logging.getLogger("gpu")


def configuration() -> TrainingConfig:
    """The starter's; what it starts from lies in runs/gpu where that is all that travelled."""
    config = TrainingConfig.from_toml(HERE / "sixteen.toml")
    here = Path(config.pretrained_weights or "")
    there = FOLDER / here.name
    return config if here.is_file() else config.model_copy(update={"pretrained_weights": str(there)})


def pack_all() -> None:
    """Fill runs/gpu."""
    config = configuration()
    FOLDER.mkdir(parents=True, exist_ok=True)
    weights = Path(config.pretrained_weights or "")
    shutil.copyfile(weights, FOLDER / weights.name)
    pack(prepare(config), PACK)
    for task, size in sizes(PACK):
        LOG.info("%s: %.1f MB", task, size / 1e6)
    last = config.output / LAST
    if last.is_file():
        tensors, state = _read(last)
        average = {name: tensors.get(f"optimizer.average.{name}", value) for name, value in _network(tensors).items()}
        save_file({k: v.half().contiguous() for k, v in average.items()}, COMPACT, metadata={"state": state})
    else:
        COMPACT.unlink(missing_ok=True)
    wheels = FOLDER / "wheels"
    versions = ["--python-version", "3.12", *_PLATFORMS, "--only-binary=:all:", "--no-deps"]
    pydantic = version("pydantic_core")
    names = [*WHEELS, f"pydantic-core=={pydantic}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *versions, "-d", str(wheels)]
    subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), *names], check=True)
    total = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    LOG.info("%s: %.1f MB; name it in carry", FOLDER, total / 1e6)


def train_there(output: Path, minutes: float, device: str, workers: int) -> None:
    """Go on for ``minutes``; the checkpoint lies in ``output`` in parts afterwards."""
    base = configuration()
    run = ROOT / "runs" / "gpu-run"
    prepared = unpack(PACK, run / "cache")
    config = base.model_copy(update={"output": run / "out", "device": device, "workers": workers, "threads": None})
    config.output.mkdir(parents=True, exist_ok=True)
    resume = (config.output / LAST).is_file() or _expand(config, prepared)
    token = CancelToken()
    timer = threading.Timer(60 * minutes, token.cancel)
    timer.daemon = True
    timer.start()
    try:
        train(config, resume=resume, prepared=prepared, events=_log, cancel=token)
    except CancelledError:
        LOG.info("stopped after %.1f minutes", minutes)
    finally:
        timer.cancel()
    _split(config.output / LAST, output)


def merge(folder: Path) -> None:
    """Make the run's last checkpoint of the parts in ``folder``; refuses an older state than the one that is there."""
    config = configuration()
    parts = sorted(folder.glob("part*.safetensors"))
    if not parts:
        raise BadInputError(f"{folder}: holds no part*.safetensors; give the folder of what came back.")
    tensors: dict[str, Tensor] = {}
    for part in parts:
        tensors.update(load_file(part))
    with safe_open(parts[0], framework="pt") as stream:
        state = RunState.model_validate_json(stream.metadata()["state"])
    there = config.output / LAST
    if there.is_file() and RunState.model_validate_json(_read(there)[1]).iteration >= state.iteration:
        raise BadInputError(
            f"{there}: stands further than what came back (iteration {state.iteration}); nothing is done."
        )
    _write(config, prepare(config), tensors, state, there)
    LOG.info("%s: epoch %d of %d; train with --resume goes on", there, state.epoch, config.epochs)


def table(output: Path, device: str) -> None:
    """Parameters, peak memory and time of the paper's network and its 2D backbone (docs/spec.md sections 2 and 11)."""
    place, lines = (
        torch.device(device),
        ["| network | parameters | input | precision | ms | peak MiB |", "| --- " * 6 + "|"],
    )
    small = device == "cpu"  # to try it: a fraction of the size
    flat, deep = ((1, 64, 64), (16, 32, 32)) if small else ((1, 512, 512), (64, 192, 192))
    for name, shape in (("backbone-2d", flat[1:]), ("meduniseg", flat), ("meduniseg", deep), ("backbone-3d", deep)):
        network = build_model(ARCHITECTURES[name]).to(place).eval()
        channels = 3 if len(shape) == 2 or name == "backbone-3d" or shape[0] == 1 else 1
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


def _expand(config: TrainingConfig, prepared: Prepared) -> bool:
    """Make a checkpoint of the compact one that was carried here; False where there is none."""
    if not COMPACT.is_file():
        return False
    with safe_open(COMPACT, framework="pt") as stream:
        state = RunState.model_validate_json(stream.metadata()["state"])
    tensors = {f"network.{name}": value for name, value in load_file(COMPACT).items()}
    _write(config, prepared, tensors, state, config.output / LAST)
    return True


def _write(config: TrainingConfig, prepared: Prepared, tensors: dict[str, Tensor], state: RunState, path: Path) -> None:
    if state.config_hash != prepared.config_hash:
        raise BadInputError(
            f"{path.parent}: the checkpoint belongs to another configuration or other data; pack it anew."
        )
    network = build_model(prepared.info.config)
    network.load_state_dict({name: value.float() for name, value in _network(tensors).items()})
    optimizer = make_optimizer(config, network)
    for name, parameter in network.named_parameters():
        average = tensors.get(f"average.{name}")
        optimizer.state[parameter]["average"] = (
            parameter.detach().clone() if average is None else parameter.detach() + average.float()
        )
        if f"momentum.{name}" in tensors:
            optimizer.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].float()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, network, optimizer, state)


def _split(path: Path, output: Path) -> None:
    """The checkpoint in parts below LIMIT: fp32 weights, the running mean as fp16 difference, fp16 momentum."""
    tensors, state = _read(path)
    small: dict[str, Tensor] = {}
    for name, value in _network(tensors).items():
        small[f"network.{name}"] = value
        if f"optimizer.average.{name}" in tensors:
            small[f"average.{name}"] = (tensors[f"optimizer.average.{name}"] - value).half()
        if f"optimizer.momentum_buffer.{name}" in tensors:
            small[f"momentum.{name}"] = tensors[f"optimizer.momentum_buffer.{name}"].half()
    output.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = [{}]
    room = LIMIT
    for name, value in small.items():
        size = value.numel() * value.element_size()
        if size > room and parts[-1]:
            parts.append({})
            room = LIMIT
        parts[-1][name] = value.contiguous()
        room -= size
    for number, part in enumerate(parts):
        save_file(part, output / f"part{number}.safetensors", metadata={"state": state})


def _log(event: Event) -> None:
    if isinstance(event, Metric):
        LOG.info("%s %s = %.4f at iteration %d", event.task or "all", event.name, event.value, event.step)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("pack", "table", "train", "merge"))
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER / "back", help="where results go, or come from")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=12)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if arguments.step == "pack":
        pack_all()
    elif arguments.step == "table":
        table(arguments.folder, arguments.device)
    elif arguments.step == "train":
        train_there(arguments.folder, arguments.minutes, arguments.device, arguments.workers)
    else:
        merge(arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
