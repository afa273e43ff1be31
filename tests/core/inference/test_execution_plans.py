"""Execution plans where memory is short: what leads to the next one, what does not, and what is said."""

from __future__ import annotations

import errno

import pytest
import torch

from meduniseg_core.errors import OutOfMemoryError, is_out_of_memory
from meduniseg_core.events import Event, Message
from meduniseg_core.inference.memory import (
    ExecutionPlan,
    Need,
    activation_bytes,
    fallbacks,
    out_of_memory_means,
    run_with_fallback,
    slab_window,
)
from meduniseg_core.model import ModelConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CPU_TEXT = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


def test_an_accelerators_ladder_goes_from_batch_to_main_memory_to_slabs_to_the_cpu() -> None:
    plans = fallbacks(CUDA, 8)
    assert plans[0] == ExecutionPlan(CUDA, 8, CUDA)
    order = [
        (execution.device.type, execution.batch, execution.accumulate_on.type, execution.slabs) for execution in plans
    ]
    assert order == [
        ("cuda", 8, "cuda", 1),
        ("cuda", 2, "cuda", 1),
        ("cuda", 1, "cuda", 1),
        ("cuda", 1, "cpu", 1),
        ("cuda", 1, "cpu", 2),
        ("cuda", 1, "cpu", 4),
        ("cpu", 1, "cpu", 1),
        ("cpu", 1, "cpu", 2),
        ("cpu", 1, "cpu", 4),
    ]
    assert len({execution.name for execution in plans}) == len(plans)


def test_the_cpus_ladder_ends_in_slabs() -> None:
    assert [(execution.batch, execution.slabs) for execution in fallbacks(CPU, 1)] == [(1, 1), (1, 2), (1, 4)]


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError(CPU_TEXT), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback"), True),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), True),
        (RuntimeError("unable to mmap 8 bytes from file </torch_1>: Cannot allocate memory (12)"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Segmentation fault. "), False),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (RuntimeError("out of memory was not the problem here"), False),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_only_allocators_count_as_out_of_memory(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) is memory


def test_a_real_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_each_failure_goes_one_rung_down_and_says_which_rung_runs() -> None:
    plans = fallbacks(CUDA, 4)
    tried: list[ExecutionPlan] = []
    events: list[Event] = []

    def attempt(execution: ExecutionPlan) -> str:
        tried.append(execution)
        if len(tried) < 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "done"

    result, execution = run_with_fallback(plans, attempt, remedy="do less", events=events.append)
    assert (result, execution) == ("done", plans[3])
    assert tried == plans[:4]
    texts = [event.text for event in events if isinstance(event, Message)]
    assert [execution.name in text for execution, text in zip(plans[1:4], texts, strict=True)] == [True, True, True]


def test_after_the_last_rung_one_sentence_names_the_remedy() -> None:
    def attempt(execution: ExecutionPlan) -> str:
        raise MemoryError

    with pytest.raises(OutOfMemoryError, match="do less") as caught:
        run_with_fallback(fallbacks(CPU, 1), attempt, remedy="do less")
    assert caught.value.exit_code == 4
    assert str(caught.value).count(". ") == 0


def test_another_runtime_error_is_not_hidden() -> None:
    tried: list[ExecutionPlan] = []

    def attempt(execution: ExecutionPlan) -> str:
        tried.append(execution)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        run_with_fallback(fallbacks(CUDA, 4), attempt, remedy="do less")
    assert len(tried) == 1


def test_rungs_that_cannot_fit_are_not_tried() -> None:
    tried: list[ExecutionPlan] = []
    events: list[Event] = []

    def attempt(execution: ExecutionPlan) -> str:
        tried.append(execution)
        return "done"

    def need(execution: ExecutionPlan) -> Need:
        return Need(device=0, main=(1 << 30) * execution.batch // execution.slabs)

    _, execution = run_with_fallback(
        fallbacks(CPU, 4), attempt, need=need, free=lambda device: 600 << 20, remedy="do less", events=events.append
    )
    assert execution.slabs == 2 and tried == [execution]
    assert any(isinstance(event, Message) and "1.0 GiB" in event.text and "600 MiB" in event.text for event in events)


def test_where_nothing_fits_the_bytes_are_named_and_nothing_is_tried() -> None:
    def attempt(execution: ExecutionPlan) -> str:
        raise AssertionError("must not be tried")

    with pytest.raises(OutOfMemoryError, match=r"2\.0 GiB of main memory are needed and 1 MiB are free"):
        run_with_fallback(
            fallbacks(CPU, 1),
            attempt,
            need=lambda execution: Need(0, 2 << 30),
            free=lambda device: 1 << 20,
            remedy="do less",
        )


def test_preparing_an_image_without_memory_is_an_out_of_memory_error() -> None:
    with pytest.raises(OutOfMemoryError, match="do less"), out_of_memory_means("do less"):
        raise MemoryError
    with pytest.raises(RuntimeError, match="a bug"), out_of_memory_means("do less"):
        raise RuntimeError("a bug")


def test_slabs_are_whole_strides_and_never_empty() -> None:
    assert slab_window((64, 192, 192), 2, (16, 32, 32)) == (32, 192, 192)
    assert slab_window((64, 192, 192), 4, (16, 32, 32)) == (16, 192, 192)
    assert slab_window((16, 192, 192), 4, (16, 32, 32)) == (16, 192, 192)
    assert slab_window((1, 512, 512), 2, (16, 32, 32)) == (1, 256, 256)
    assert slab_window((1, 64, 32), 4, (16, 32, 32)) == (1, 64, 32)
    assert slab_window((32, 32, 32), 2, (16, 32, 32)) == (32, 32, 32)


def test_the_estimate_grows_with_window_batch_and_width() -> None:
    config = ModelConfig(features=(16, 32, 64, 128, 160, 160), classes=14)
    one = activation_bytes(config, (64, 192, 192), 1, torch.float32)
    assert activation_bytes(config, (64, 192, 192), 2, torch.float32) == 2 * one
    assert activation_bytes(config, (32, 192, 192), 1, torch.float32) == one // 2
    assert activation_bytes(config, (64, 192, 192), 1, torch.bfloat16) < one
