"""A batch that is spread over processes or passes the network in parts is the same batch."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from meduniseg_core.errors import CancelledError, RequeueError
from meduniseg_core.events import CancelToken, EventSink
from meduniseg_core.model import MedUniSeg, ModelConfig
from meduniseg_core.training import NetworkSettings, TrainingConfig, loop, train
from meduniseg_core.training.batches import BatchSource, batches_by_task
from meduniseg_core.training.checkpoint import LAST
from meduniseg_core.training.group import ALONE, Group
from meduniseg_core.training.losses import deep_supervision_loss, deep_supervision_weights
from meduniseg_core.training.partial_losses import WholeBatch, partial_loss, pooled
from meduniseg_core.weights import load_model
from tests.stopping import StopAfter


class _Meeting:
    """Where the threads of a test exchange what processes would."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=120)
        self.slots: list[object] = [None] * size


_mine = threading.local()


class Thread(Group):
    """A process of a training, played by a thread."""

    def __init__(self, rank: int, meeting: _Meeting) -> None:
        self.rank, self.size, self._meeting = rank, len(meeting.slots), meeting

    def _exchange(self, own: object) -> list[object]:
        self._meeting.slots[self.rank] = own
        self._meeting.barrier.wait()
        found = list(self._meeting.slots)
        self._meeting.barrier.wait()
        return found

    def add_up(self, tensor: Tensor) -> Tensor:
        parts = [part for part in self._exchange(tensor.clone()) if isinstance(part, Tensor)]
        return tensor.copy_(torch.stack(parts).sum(0))

    def take_over(self, tensors: Iterable[Tensor]) -> None:
        own = list(tensors)
        first = self._exchange([tensor.clone() for tensor in own])[0]
        assert isinstance(first, list)
        for tensor, theirs in zip(own, first, strict=True):
            tensor.copy_(theirs)

    def all_of(self, text: str) -> list[str]:
        return [str(said) for said in self._exchange(text)]

    def told(self, name: str, text: str | None) -> str:
        return str(self._exchange(text)[0])

    def leave(self) -> None:
        self._meeting.barrier.wait()


def run_together(
    config: TrainingConfig, size: int, *, resume: bool = False, tokens: dict[int, StopAfter] | None = None
) -> list[BaseException]:
    """Train in threads; returns what they raised."""
    meeting, raised = _Meeting(size), []

    def one(rank: int) -> None:
        _mine.meeting = meeting
        token = (tokens or {}).get(rank)
        events: EventSink = token.listen if token is not None else lambda event: None
        try:
            train(config, resume=resume, group=Thread(rank, meeting), events=events, cancel=token or CancelToken())
        except Exception as error:
            if not isinstance(error, CancelledError):
                meeting.barrier.abort()
            raised.append(error)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def weights_of(config: TrainingConfig) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_model(config.output / f"{config.name}.safetensors").network.state_dict()
    return weights


def log_of(config: TrainingConfig) -> list[dict[str, object]]:
    return [
        {key: value for key, value in json.loads(line).items() if key != "seconds"}
        for line in (config.output / "log.jsonl").read_text().splitlines()
    ]


def named(config: TrainingConfig, name: str, **changes: object) -> TrainingConfig:
    return config.model_copy(update={"output": config.output.parent / name, **changes})


def assert_same(first: TrainingConfig, second: TrainingConfig) -> None:
    ours, theirs = weights_of(first), weights_of(second)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5, rtol=0) for name in ours)
    for line, other in zip(log_of(first), log_of(second), strict=True):
        assert line.keys() == other.keys()
        assert line["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert line["task_gradient"] == pytest.approx(other["task_gradient"], rel=1e-3)


@pytest.fixture(autouse=True)
def one_generator_for_each(monkeypatch: pytest.MonkeyPatch, config: TrainingConfig) -> None:
    """Processes have a random generator each, threads have one: they take turns at it."""
    build, lock = loop.build_model, threading.Lock()

    def built(architecture: ModelConfig) -> MedUniSeg:
        meeting = getattr(_mine, "meeting", None)
        if meeting is not None:
            meeting.barrier.wait()  # nobody seeds any more
        with lock:
            torch.manual_seed(config.seed)
            return build(architecture)

    monkeypatch.setattr(loop, "build_model", built)


@pytest.fixture
def twenty(config: TrainingConfig) -> TrainingConfig:
    """20 steps of two tasks, 2D in batches of 3 and 3D in batches of 2.

    No features are a single voxel wide: InstanceNorm makes a large number of the rounding there.
    """
    network = NetworkSettings(
        features=(4, 6, 8),
        strides=((1, 2, 2), (2, 2, 2)),
        task_prompt_channels=4,
        task_prompt_size=(4, 6, 6),
        modal_prompt_length=16,
    )
    return config.model_copy(update={"epochs": 2, "iterations_per_dataset": 5, "batch_dice": True, "network": network})


def test_several_processes_train_what_one_trains_whichever_number_resumes(twenty: TrainingConfig) -> None:
    train(twenty)
    both = named(twenty, "both")
    assert run_together(both, 2) == []
    assert_same(twenty, both)
    # from two processes to three, which a batch of two leaves one of without a sample, and on to one
    moved = named(twenty, "moved")
    for size, steps in ((2, 7), (3, 6)):
        raised = run_together(moved, size, resume=size == 3, tokens={1: StopAfter(0), 0: StopAfter(steps)})
        assert [type(error) for error in raised] == [CancelledError] * size
        assert (moved.output / LAST).is_file()
    train(moved, resume=True)
    assert_same(twenty, moved)


def test_a_batch_in_parts_trains_the_same_and_may_change_on_resume(twenty: TrainingConfig) -> None:
    train(twenty)
    parts = named(twenty, "parts", micro_batch=1, activation_checkpointing=True)
    token = StopAfter(7)
    with pytest.raises(CancelledError):
        train(parts, events=token.listen, cancel=token)
    train(parts.model_copy(update={"micro_batch": 2}), resume=True)
    assert_same(twenty, parts)


def test_recomputed_activations_give_the_same_weights_to_the_bit(config: TrainingConfig) -> None:
    train(config)
    again = named(config, "again", activation_checkpointing=True)
    train(again)
    ours, theirs = weights_of(config), weights_of(again)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_one_process_that_is_asked_to_make_room_stops_all(config: TrainingConfig) -> None:
    token = CancelToken()
    token.cancel(requeue=True)
    with pytest.raises(RequeueError):
        train(config, cancel=token)
    waiting = StopAfter(1)
    waiting.cancel(requeue=True)
    raised = run_together(named(config, "both"), 2, tokens={1: waiting})
    assert [type(error) for error in raised] == [RequeueError] * 2


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", [(1, 3), (2, 0, 2)])
@pytest.mark.parametrize("binary", [False, True])
def test_the_losses_and_gradients_of_parts_add_up(
    batch_dice: bool, weighted: bool, sizes: tuple[int, ...], binary: bool
) -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = ((4, 5, 6, 8, 10), (4, 5, 3, 4, 5))
    outputs = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    labels = torch.randint(0, 3, (4, 6, 8, 10), generator=generator)
    weights = torch.rand(labels.shape, generator=generator) * 3 if weighted else None
    levels = deep_supervision_weights(3)[:2]
    whole = deep_supervision_loss(
        outputs, labels, 3, weights=levels, batch_dice=batch_dice, voxel_weights=weights, binary=binary
    )
    wanted = torch.autograd.grad(whole, outputs)
    ends = np.cumsum([0, *sizes])
    parts = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends) if a < b]

    def cut(part: slice) -> tuple[list[Tensor], Tensor, Tensor | None]:
        return [level[part] for level in outputs], labels[part], None if weights is None else weights[part]

    def pooled_in(part: slice) -> Tensor:
        logits, here, seen = cut(part)
        return pooled(logits, here, 3, seen, binary=binary)

    batch = WholeBatch(4, torch.stack([pooled_in(part) for part in parts]).sum(0))
    total = torch.zeros(())
    for part in parts:
        logits, here, seen = cut(part)
        loss = partial_loss(
            logits, here, 3, batch, level_weights=levels, batch_dice=batch_dice, weights=seen, binary=binary
        )
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    assert float(total) == pytest.approx(float(whole.detach()), abs=1e-6)
    for level, gradient in zip(outputs, wanted, strict=True):
        assert level.grad is not None
        assert torch.allclose(level.grad, gradient, atol=1e-8, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_shares_are_disjoint_and_complete(count: int) -> None:
    meeting = _Meeting(5)
    shares = [list(Thread(rank, meeting).share_of(count)) for rank in range(5)]
    assert [one for share in shares for one in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert list(ALONE.share_of(count)) == list(range(count))


def test_batches_by_size_of_the_data_sets() -> None:
    assert batches_by_task([1, 1, 1], 50) == [50, 50, 50]
    by_case = batches_by_task([10, 30, 60], 50)
    assert sum(by_case) == 150 and by_case == [16, 45, 89]
    root = batches_by_task([1, 10], 50)
    assert sum(root) == 100 and root == [10, 90]
    assert min(batches_by_task([1, 100_000], 2)) == 1


def test_sampling_by_size_keeps_the_length_of_an_epoch(config: TrainingConfig, tmp_path: Path) -> None:
    run = config.model_copy(update={"task_sampling_power": 1.0, "iterations_per_dataset": 5, "epochs": 1})
    source_of: list[BatchSource] = []

    def watch(self: BatchSource, iteration: int) -> int:
        source_of.append(self)
        return task_of(self, iteration)

    task_of = BatchSource.task_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchSource, "task_of", watch)
        train(run)
    tasks = [task_of(source_of[0], iteration) for iteration in range(10)]
    assert tasks.count(0) > tasks.count(1) > 0  # four discs, three balls in training
    text = (run.output / "log.jsonl").read_text()
    assert set(json.loads(text)["task_cut"]) == {"disc", "ball"}


def test_tasks_whose_gradients_are_cut_to_one_length_are_counted(config: TrainingConfig) -> None:
    run = config.model_copy(update={"task_gradient_length": 1e-3, "epochs": 1, "validation_every": 1})
    train(run)
    line = json.loads((run.output / "log.jsonl").read_text())
    assert line["task_cut"] == {"disc": 1.0, "ball": 1.0}
    assert min(line["task_gradient"].values()) > 1e-3
    assert run.longest_gradient == 1e-3 and config.longest_gradient == 12.0
    page = (run.output / "curves.html").read_text()
    assert page.count("<svg") == 6 and "disc" in page and "0.001" in page
