"""The Kolmogorov-Arnold layer: its splines and its sum of functions."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import BSpline

from meduniseg_core.model.peers.kan import KANLayer, splines


def test_splines_are_scipy_s_and_add_up_to_1() -> None:
    x = np.linspace(-3, 3, 601)
    knots = -1 + 0.4 * np.arange(-3, 9)
    expected = np.stack(
        [np.nan_to_num(BSpline(knots, np.eye(8)[index], 3, extrapolate=False)(x)) for index in range(8)], axis=1
    )
    # between -1 and 1 all of the grid's splines that are not 0 are there
    inside = np.abs(x) <= 1
    found = splines(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-12)
    np.testing.assert_allclose(found[inside].sum(1), 1, atol=1e-12)
    assert not found[np.abs(x) > 2.2 + 1e-9].any()


def test_a_layer_adds_one_function_of_each_input() -> None:
    torch.manual_seed(0)
    layer, tokens = KANLayer(3, 2).double(), torch.randn(5, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.coefficients.mul_(50)
        values, basis = layer(tokens), splines(tokens)
        for sample in range(5):
            for output in range(2):
                total = 0.0
                for index in range(3):
                    x = tokens[sample, index]
                    curve = (layer.coefficients[output, index] * basis[sample, index]).sum()
                    total += float(layer.base[output, index] * x * x.sigmoid() + layer.scale[output, index] * curve)
                assert abs(float(values[sample, output]) - total) < 1e-12
