from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from meduniseg_core.editing import unique_labels


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int16, np.int32]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6),
        elements=st.integers(0, 99),
    )
)
def test_it_is_what_sorting_finds(labels: np.ndarray) -> None:
    assert unique_labels(labels) == np.unique(labels).tolist()


@pytest.mark.parametrize("dtype", [np.int8, np.int64])
def test_negative_values_are_found(dtype: type) -> None:
    assert unique_labels(np.array([[3, -1], [0, 3]], dtype)) == [-1, 0, 3]
