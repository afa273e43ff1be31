"""The sliding window against the same thing done naively."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from meduniseg_core.errors import CancelledError
from meduniseg_core.events import CancelToken, Event, Progress
from meduniseg_core.images.boxes import Box
from meduniseg_core.inference.sliding_window import BACKGROUND_LOGIT, Output, SlidingWindow, passes_of
from meduniseg_core.inference.windows import WindowGrid, gaussian


class Keep:
    """A sink that keeps all, and checks that planes come in order."""

    def __init__(self) -> None:
        self.pieces: list[Tensor] = []
        self.planes = 0

    def write(self, first: int, logits: Tensor) -> None:
        assert first == self.planes
        self.planes += logits.shape[1]
        self.pieces.append(logits.clone())

    @property
    def logits(self) -> Tensor:
        return torch.cat(self.pieces, dim=1)


class Local:
    """A stand-in for the network: logits depend on the voxel, its neighbours and its place in the window."""

    def __init__(self, classes: Sequence[int]) -> None:
        torch.manual_seed(1)
        self.convs = [torch.nn.Conv3d(1, count, 3, padding=1).requires_grad_(False) for count in classes]
        self.largest = 0

    def __call__(self, images: Tensor, outputs: Sequence[int]) -> list[Tensor]:
        self.largest = max(self.largest, images.shape[0])
        ramp = torch.linspace(0, 1, images.shape[-1])
        return [self.convs[position](images) + ramp for position in outputs]


def naive(image: Tensor, grid: WindowGrid, network: Local, position: int, flips: list[tuple[int, ...]]) -> Tensor:
    """Pad, add up weighted windows and weights in double precision over the whole image, divide, crop."""
    margin = 40
    padded = torch.nn.functional.pad(image, (margin,) * 6)
    logits: Tensor | None = None
    weights = torch.zeros(padded.shape[1:], dtype=torch.float64)
    g = [gaussian(size).double() for size in grid.window]
    weight = g[0][:, None, None] * g[1][None, :, None] * g[2]
    for start in grid.starts():
        where = tuple(slice(s + margin, s + margin + size) for s, size in zip(start, grid.window, strict=True))
        window = padded[(slice(None), *where)][None]
        total = torch.zeros(())
        for axes in flips:
            dims = [axis + 2 for axis in axes]
            total = total + network(window.flip(dims), [position])[0].flip(dims) / len(flips)
        if logits is None:
            logits = torch.zeros((total.shape[1], *padded.shape[1:]), dtype=torch.float64)
        logits[(slice(None), *where)] += total[0].double() * weight
        weights[where] += weight
    assert logits is not None
    blended = logits / weights.clamp_min(1e-300)
    inside = tuple(slice(low + margin, high + margin) for low, high in grid.region)
    return blended[(slice(None), *inside)].float()


SHAPES = [
    ((40, 30, 50), (16, 16, 32)),
    ((5, 30, 20), (16, 16, 32)),
    ((1, 70, 33), (1, 32, 32)),
    ((12, 12, 12), (12, 12, 12)),
]
REGIONS: list[Callable[[tuple[int, int, int]], Box | None]] = [
    lambda shape: None,
    lambda shape: ((shape[0] // 3, shape[0]), (0, shape[1] // 2), (shape[2] // 4, shape[2])),
]


@pytest.mark.parametrize(("shape", "window"), SHAPES)
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_streamed_slabs_equal_the_naive_whole_accumulator(
    shape: tuple[int, int, int],
    window: tuple[int, int, int],
    region: Callable[[tuple[int, int, int]], Box | None],
    batch: int,
) -> None:
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    grid = WindowGrid.over(shape, window, 0.5, region(shape))
    network, sink = Local([3]), Keep()
    ran = SlidingWindow(batch=batch).run(image, grid, network, [Output(3, sink)])
    assert ran == len(grid)
    assert network.largest == min(batch, len(grid))
    torch.testing.assert_close(sink.logits, naive(image, grid, network, 0, [()]), atol=2e-5, rtol=1e-4)


def test_one_window_gives_the_networks_own_logits() -> None:
    image = torch.randn(1, 8, 16, 16)
    network, sink = Local([2]), Keep()
    SlidingWindow().run(image, WindowGrid.over((8, 16, 16), (8, 16, 16), 0.5), network, [Output(2, sink)])
    torch.testing.assert_close(sink.logits, network(image[None], [0])[0][0])


def test_the_band_is_as_deep_as_a_window_however_deep_the_image() -> None:
    image = torch.randn(1, 200, 8, 8)
    sink = Keep()
    SlidingWindow().run(image, WindowGrid.over((200, 8, 8), (16, 8, 8), 0.5), Local([2]), [Output(2, sink)])
    assert sink.planes == 200
    assert max(piece.shape[1] for piece in sink.pieces) <= 16
    assert len(sink.pieces) > 15


def test_mirroring_averages_over_the_outputs_own_axes_only() -> None:
    image = torch.randn(1, 20, 16, 40)
    grid = WindowGrid.over((20, 16, 40), (16, 16, 32), 0.5)
    network, all_axes, one_axis, none = Local([2, 3, 2]), Keep(), Keep(), Keep()
    outputs = [Output(2, all_axes, (0, 1, 2)), Output(3, one_axis, (1,)), Output(2, none, ())]
    SlidingWindow(tta=True).run(image, grid, network, outputs)
    every = [axes for n in range(4) for axes in itertools.combinations((0, 1, 2), n)]
    for sink, position, flips in ((all_axes, 0, every), (one_axis, 1, [(), (1,)]), (none, 2, [()])):
        expected = naive(image, grid, network, position, flips)
        torch.testing.assert_close(sink.logits, expected, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(naive(image, grid, network, 0, [()]), all_axes.logits, atol=1e-3)


def test_an_axis_of_one_voxel_is_not_mirrored() -> None:
    assert passes_of([(0, 1, 2)], (1, 32, 32)) == 4
    assert passes_of([(0,), (1, 2)], (8, 8, 8)) == 5


@pytest.mark.parametrize("batch", [1, 4])
def test_skipped_windows_are_background_and_leave_the_others_as_they_were(batch: int) -> None:
    shape, window = (60, 24, 24), (16, 16, 16)
    image = torch.zeros(1, *shape)
    image[:, 20:28] = torch.randn(1, 8, 24, 24)
    image[:, 58:] = 1.0
    grid = WindowGrid.over(shape, window, 0.5)
    network, sink = Local([3]), Keep()
    skip = SlidingWindow(batch=batch, is_empty=lambda data, where: not data[(slice(None), *where)].any())
    ran = skip.run(image, grid, network, [Output(3, sink)])
    assert 0 < ran < len(grid)
    kept = {start for start in grid.starts() if image[:, max(0, start[0]) : start[0] + 16].any()}
    planes = torch.zeros(60, dtype=torch.bool)
    for start in kept:
        planes[start[0] : start[0] + 16] = True
    background = torch.tensor([BACKGROUND_LOGIT, 0.0, 0.0])
    assert torch.equal(sink.logits[:, ~planes], background[:, None, None, None].expand(3, int((~planes).sum()), 24, 24))
    # planes that only kept windows touch are what they are without skipping
    skipped = [start for start in grid.starts() if start not in kept]
    untouched = planes.clone()
    for start in skipped:
        untouched[start[0] : start[0] + 16] = False
    assert untouched.any()
    whole = Keep()
    SlidingWindow(batch=batch).run(image, grid, network, [Output(3, whole)])
    torch.testing.assert_close(sink.logits[:, untouched], whole.logits[:, untouched], atol=1e-5, rtol=1e-4)


def test_an_image_of_air_alone_is_background_without_running_the_network() -> None:
    sink = Keep()
    network = Local([2])
    ran = SlidingWindow(is_empty=lambda data, where: True).run(
        torch.zeros(1, 40, 8, 8), WindowGrid.over((40, 8, 8), (16, 8, 8), 0.5), network, [Output(2, sink)]
    )
    assert ran == 0 and network.largest == 0
    assert sink.planes == 40
    assert (sink.logits.argmax(dim=0) == 0).all()


def test_cancelling_stops_before_the_next_window() -> None:
    token = CancelToken()
    seen: list[int] = []

    def sink_events(event: Event) -> None:
        if isinstance(event, Progress):
            seen.append(event.done)
            if event.done == 2:
                token.cancel()

    sink = Keep()
    with pytest.raises(CancelledError):
        SlidingWindow().run(
            torch.randn(1, 64, 8, 8),
            WindowGrid.over((64, 8, 8), (16, 8, 8), 0.5),
            Local([2]),
            [Output(2, sink)],
            events=sink_events,
            cancel=token,
        )
    assert seen == [0, 1, 2]
    assert sink.planes < 64


def test_progress_counts_every_window_once() -> None:
    events: list[Event] = []
    grid = WindowGrid.over((64, 8, 8), (16, 8, 8), 0.5)
    SlidingWindow(batch=3).run(torch.randn(1, 64, 8, 8), grid, Local([2]), [Output(2, Keep())], events=events.append)
    done = [event.done for event in events if isinstance(event, Progress)]
    assert done == [0, 3, 6, 7]
    assert len(grid) == 7
