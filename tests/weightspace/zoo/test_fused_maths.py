"""The kernels' elementary functions against float64, over the whole range where float32 has numbers."""

import numpy as np
import pytest
import torch
from scipy import special

from weightspace.zoo.fused_build import compile_function
from weightspace.zoo.fused_source import HEADER
from weightspace.zoo.fused_tables import make_vectors
from weightspace.zoo.fused_vectors import LANES

NUM_VECTORS = 4096
TEMPLATE = (
    HEADER.replace("import exp_negative", "import log, exp_negative")
    + """
def kernel(x, y, number):
    for i in range(number):
        store(y, i, {call})
"""
)
CALLS = {
    "exp_negative": "exp_negative(load(x, i))",
    "tanh": "tanh(load(x, i))",
    "sigmoid": "sigmoid(load(x, i))",
    "log": "log(load(x, i))",
    "normal_tail": "normal_tail(load(x, i), exp_negative(-0.5 * load(x, i) * load(x, i)))",
}


def compute(name, numbers):
    kernel = compile_function(TEMPLATE.format(call=CALLS[name]), "kernel").call
    x, y = make_vectors(NUM_VECTORS), make_vectors(NUM_VECTORS)
    x[:] = np.resize(numbers, x.shape)
    kernel(x.ctypes.data, y.ctypes.data, NUM_VECTORS)
    return x.ravel()[: len(numbers)], y.ravel()[: len(numbers)]


@pytest.mark.parametrize(
    ("name", "exact", "low", "high", "tolerance"),
    [
        ("exp_negative", np.exp, -86, 0, 1e-7),
        ("tanh", np.tanh, -12, 12, 2e-7),
        ("sigmoid", special.expit, -80, 100, 2.5e-7),
        ("log", np.log, 1.001, 1e4, 2e-7),
        ("normal_tail", special.ndtr, 0, 4, 2e-6),  # most of it from rounding x*x before the exponential
    ],
)
def test_relative_error(name, exact, low, high, tolerance):
    x, y = compute(name, np.linspace(low, high, NUM_VECTORS * LANES))
    expected = exact(-x.astype(float) if name == "normal_tail" else x.astype(float))
    np.testing.assert_allclose(y, expected, rtol=tolerance)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e-3])
def test_tanh_of_small_numbers(scale):
    x, y = compute("tanh", np.linspace(-scale, scale, 1000))
    np.testing.assert_allclose(y, np.tanh(x.astype(float)), rtol=1e-7)


@pytest.mark.parametrize("function", [torch.tanh, torch.sigmoid], ids=lambda function: function.__name__)
def test_saturates_where_torch_does(function):
    x, y = compute(function.__name__, np.linspace(5, 20, NUM_VECTORS * LANES))
    plain = function(torch.from_numpy(x)).numpy()
    assert abs(x[y == 1].min() - x[plain == 1].min()) < 1e-3
    assert (np.diff(y) >= -1e-7).all()


@pytest.mark.parametrize(("name", "limits"), [("tanh", [-1, 1]), ("sigmoid", [0, 1]), ("exp_negative", [0, 1])])
def test_limits_and_not_a_number(name, limits):
    top = 0.0 if name == "exp_negative" else np.inf
    _, y = compute(name, [-np.inf, top, np.nan, -1e30])
    np.testing.assert_array_equal(y, [*limits, np.nan, limits[0]])
