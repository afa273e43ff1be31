"""A small disk that is really full: one sentence that names the folder, exit code 3, and what was there is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from meduniseg_core.corrections import Ledger
from meduniseg_core.errors import BadInputError
from meduniseg_core.files import sha256_of
from meduniseg_core.images import Geometry, Image, write_image
from meduniseg_core.training.checkpoint import LAST, RunState, load_checkpoint, save_checkpoint
from meduniseg_core.training.log import RunLog
from meduniseg_core.weights import ModelInfo, Registry, save_model

SIZE = 512 << 10
pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("no tmpfs may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill the disk but for ``leave`` bytes."""
    path = disk / "filling"
    path.write_bytes(b"\1" * max(0, shutil.disk_usage(disk).free - leave))
    return path


def refused(folder: Path, work: Callable[[], object]) -> str:
    """The sentence of an error of ours, which names the folder."""
    with pytest.raises(BadInputError) as caught:
        work()
    said = str(caught.value)
    assert caught.value.exit_code == 3 and str(folder) in said and "no space left" in said.lower(), said
    assert "\n" not in said and said.endswith(".")
    return said


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith((".tmp-", ".incoming", ".pending"))]


def volume(seed: int) -> tuple[Image, Image]:
    array = np.random.default_rng(seed).normal(size=(1, 12, 32, 32)).astype(np.float32)
    image = Image(array, Geometry((12, 32, 32), (2.0, 2.0, 2.0)))
    return image, image.with_array((array > 1).astype(np.uint8))


@pytest.mark.parametrize("leave", [0, 4096, 12288, 16384, 20480, 24576, 28672, 40960])
def test_a_ledger_loses_nothing(disk: Path, leave: int) -> None:
    ledger = Ledger.create(disk / "ledger", task="organ", modality="mri", classes=("liver",), channels=("MRI",))
    first = ledger.accept(*volume(0))
    lines = (ledger.folder / "ledger.jsonl").read_bytes()
    filling = fill(disk, leave)
    with pytest.raises(BadInputError) as kept:  # with its traceback, as a window keeps it: no file in it is open
        ledger.accept(*volume(1))
    assert "no space left" in str(kept.value).lower() and str(ledger.folder) in str(kept.value)
    assert (ledger.folder / "ledger.jsonl").read_bytes() == lines
    assert [entry.case for entry in Ledger.open(ledger.folder).entries()] == [first.case]
    filling.unlink()
    again = Ledger.open(ledger.folder)
    again.accept(*volume(1))
    assert len(again.entries()) == 2 == len(again.dataset.cases("Tr"))
    assert not half_written(ledger.folder)


@pytest.mark.parametrize("leave", [0, 4096, 16384])
def test_a_model_is_installed_whole_or_not_at_all(disk: Path, tmp_path: Path, small: Path, leave: int) -> None:
    registry = Registry(disk / "models", None)
    registry.folder.mkdir()
    filling = fill(disk, leave)
    refused(registry.folder, lambda: registry.install(small))
    assert registry.list() == () and not half_written(registry.folder)
    filling.unlink()
    registry.install(small)
    assert registry.verify("small").recorded
    fill(disk, leave)
    refused(disk, lambda: registry.export("small", disk / "copy.safetensors"))
    assert not (disk / "copy.safetensors").exists() and registry.verify("small").recorded


def test_a_download_says_so_of_the_folder(disk: Path, small: Path) -> None:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(small.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        registry = Registry(disk / "models", None)
        fill(disk, 8192)
        url = f"http://127.0.0.1:{server.server_port}/{small.name}"
        refused(registry.folder, lambda: registry.install(url, sha256_of(small)))
        assert registry.list() == () and not half_written(registry.folder)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha", "tif", "npy"])
def test_nothing_but_the_sentence_is_said_of_an_image(
    disk: Path, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    image = volume(0)[0]
    fill(disk, 8192)  # the header has room, the voxels have not
    with pytest.raises(BadInputError, match="cannot be written to"):
        write_image(image, disk / f"scan.{ending}")
    assert capfd.readouterr().err == ""  # of C libraries, which write past sys.stderr
    assert not half_written(disk)


@pytest.mark.parametrize("leave", [0, 4096])
def test_a_checkpoint_keeps_the_one_before(disk: Path, leave: int) -> None:
    torch.manual_seed(0)
    network = nn.Linear(100, 100)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    run = disk / "run"
    run.mkdir()
    save_checkpoint(run / LAST, network, optimizer, RunState(iteration=50, epoch=1, fingerprint="f"))
    fill(disk, leave)
    state = RunState(iteration=100, epoch=2, fingerprint="f")
    refused(run, lambda: save_checkpoint(run / LAST, network, optimizer, state))
    assert load_checkpoint(run / LAST, network, optimizer, "f").iteration == 50 and not half_written(run)


def test_a_training_s_log_says_so_and_stays_readable(disk: Path) -> None:
    log = RunLog(disk)
    log.append({"epoch": 0})
    fill(disk)
    refused(disk, lambda: [log.append({"epoch": number, "text": "x" * 500}) for number in range(1, 20)])
    assert log.read()[0] == {"epoch": 0}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    from meduniseg_core.model import ModelConfig, build_model
    from meduniseg_core.preprocessing import TaskPlan

    config = ModelConfig(
        features=(4, 4, 4), strides=((1, 2, 2), (2, 2, 2)), classes=2, modalities=1, modal_prompt_length=8, tasks=1,
        task_prompt_channels=4, task_prompt_size=(2, 2, 2),
    )  # fmt: skip
    plan = TaskPlan(
        task="organ", modality="mri", dimension=3, channels=("MRI",), classes=("liver",), spacing=(2.0, 2.0, 2.0),
        patch=(8, 16, 16), normalisation=("zscore",), figures=(None,), crop_to_body=False,
    )  # fmt: skip
    path = tmp_path / "small.safetensors"
    info = ModelInfo(name="small", config=config, tasks=(plan,), modalities=("mri",))
    save_model(path, info, build_model(config).state_dict())
    return path
