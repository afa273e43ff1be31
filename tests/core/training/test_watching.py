"""Processes that train together: texts of any length, and an end when another process is gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from meduniseg_core.model import build_model
from meduniseg_core.training import TrainingConfig, watch
from meduniseg_core.training.batches import Batch
from meduniseg_core.training.group import Group
from meduniseg_core.training.place import Place
from meduniseg_core.training.prepare import prepare
from meduniseg_core.training.processes import Joined
from meduniseg_core.training.step import Step

PATIENCE = 120.0


class Frozen:
    """A store whose machine does not answer any more."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_arguments: time.sleep(PATIENCE)


class Ended:
    """What a process is told when it must end."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.answers: list[tuple[str, int]] = []

    def __call__(self, sentence: str, code: int) -> None:
        self.answers.append((sentence, code))
        self.event.set()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[Joined], list[Ended]]]:
    """Two processes, played by threads, with a store between them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(watch, "BEFORE_BLAME", 0.2)
    ended, joined = [Ended(), Ended()], {}

    def join(rank: int) -> None:
        joined[rank] = Joined(Place(rank, rank, 2), ended[rank])

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    yield [joined[0], joined[1]], ended
    for one in joined.values():
        one._watch.stop()


def test_a_long_text_arrives_whole(pair: tuple[list[Joined], list[Ended]]) -> None:
    (first, second), ended = pair
    text = "äx" * (5 << 20)  # 15 MiB; the store takes no value above 8
    assert first.told("preparation", text) == text
    assert second.told("preparation", None) == text
    assert first.told("nothing", "") == "" == second.told("nothing", None)
    assert not ended[0].answers and not ended[1].answers


def test_a_store_that_does_not_answer_ends_the_process(
    pair: tuple[list[Joined], list[Ended]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, second), ended = pair
    monkeypatch.setattr(watch, "SILENT_SECONDS", 1.0)
    second._watch._store = Frozen()  # type: ignore[assignment]
    assert ended[1].event.wait(PATIENCE)
    sentence, code = ended[1].answers[0]
    assert "Process 0 of the 2" in sentence and "--resume" in sentence and code == 1


def test_a_checkpoint_is_written_to_its_end_before_the_process_ends(pair: tuple[list[Joined], list[Ended]]) -> None:
    (first, second), ended = pair
    with first.uninterrupted():
        assert second.failed("The disk is full.", 3)
        assert not ended[0].event.wait(2.0)  # ten times as long as it would take
    assert ended[0].event.wait(PATIENCE)
    assert ended[0].answers == [("", 3)]  # the other process has printed it


class _Others(Group):
    """Stands for two processes that have all samples; this one has none."""

    rank, size = 2, 3

    def add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.add_(0.25)


def test_a_process_without_samples_makes_scaled_steps(config: TrainingConfig) -> None:
    prepared = prepare(config)
    network = build_model(prepared.info.universal_config)
    step = Step(config, prepared, network, network, torch.float32, _Others())
    step.scaler = torch.amp.GradScaler("cpu")
    plan = prepared.tasks[0].plan
    images = torch.zeros((0, len(plan.channels), *plan.patch))
    figures = step.run(Batch(0, images, torch.zeros((0, *plan.patch), dtype=torch.int64), ()), 0)
    assert figures.loss == 0.25 and figures.gradient > 0
