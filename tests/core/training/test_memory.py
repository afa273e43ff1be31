"""Patches and batches that fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meduniseg_core.training.memory import SHARE, fitting, step_bytes

PATCH, STRIDE = (48, 192, 192), (16, 32, 32)


def test_what_fits_is_left_alone_and_what_does_not_loses_samples_first() -> None:
    need = step_bytes(PATCH, 2, 32)
    assert fitting(PATCH, 2, 32, STRIDE, int(need / SHARE) + 1) == (PATCH, 2)
    assert fitting(PATCH, 2, 32, STRIDE, int(need / SHARE) - 1) == (PATCH, 1)
    patch, batch = fitting(PATCH, 2, 32, STRIDE, int(need / SHARE / 3))
    assert batch == 1 and patch == (48, 192, 96)


@given(
    free=st.integers(0, 10**11),
    batch=st.integers(1, 16),
    scale=st.tuples(st.integers(1, 8), st.integers(1, 16), st.integers(1, 16)),
)
def test_the_result_fits_or_is_the_smallest_there_is(free: int, batch: int, scale: tuple[int, int, int]) -> None:
    patch = (16 * scale[0], 32 * scale[1], 32 * scale[2])
    found, count = fitting(patch, batch, 32, STRIDE, free)
    assert all(f <= p and f % s == 0 and f >= s for f, p, s in zip(found, patch, STRIDE, strict=True))
    assert 1 <= count <= batch
    assert step_bytes(found, count, 32) <= SHARE * free or (found == STRIDE and count == 1)


def test_a_slice_stays_a_slice() -> None:
    assert fitting((1, 512, 512), 8, 32, (1, 32, 32), 10**8)[0][0] == 1
