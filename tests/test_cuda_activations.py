"""Leaky ReLU, tanh and the logistic function on the GPU, against ops; see also test_cuda_ops.py."""

import numpy as np
import pytest
from helpers import compare, normal

from ministn import ops
from ministn.cuda.leaky_relu import leaky_relu, leaky_relu_backward
from ministn.cuda.sigmoid import sigmoid, sigmoid_backward
from ministn.cuda.tanh import tanh, tanh_backward

SHAPES = [(1,), (256,), (257,), (0, 3), (2, 5, 3, 4), (31, 33)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def float32(*shape):
    return normal(*shape).astype(np.float32)


def run(device, name, x, dy, *options):
    """y and dx."""
    forward, backward = {
        "leaky_relu": (leaky_relu, leaky_relu_backward),
        "tanh": (tanh, tanh_backward),
        "sigmoid": (sigmoid, sigmoid_backward),
    }[name]
    y, cache = forward(device.to_gpu(x), *options)
    return device.to_cpu(y), device.to_cpu(backward(device.to_gpu(dy), cache))


# ---- leaky ReLU: one product, so everything is exact


@shapes
@pytest.mark.parametrize("slope", [1 / 3, 0, np.float32(0.01)])
def test_leaky_relu_is_that_of_ops(device, shape, slope):
    x, dy = float32(*shape), float32(*shape, 1)[..., 0]
    x.ravel()[::5] = 0
    expected, ops_cache = ops.leaky_relu(x, slope)
    y, dx = run(device, "leaky_relu", x, dy, slope)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(dx, ops.leaky_relu_backward(dy, ops_cache))


def test_leaky_relu_keeps_nan_and_gives_it_the_slope_as_in_ops(device):
    x = np.array([np.nan, -np.inf, np.inf, -0.0, 1e-30, -1e-30], np.float32)
    y, dx = run(device, "leaky_relu", x, np.full(6, 8, np.float32), 0.5)
    np.testing.assert_array_equal(y, ops.leaky_relu(x, 0.5)[0])
    np.testing.assert_array_equal(dx, [4, 4, 8, 4, 8, 4])


def test_leaky_relu_refuses_what_ops_refuses(device):
    x = device.to_gpu(float32(2, 5))
    for slope in (1, -0.5, np.nan, "0.1", None):
        with pytest.raises(ValueError, match=r"^slope must be at least 0 and below 1, got"):
            leaky_relu(x, slope)
    with pytest.raises(ValueError, match=r"^dy must have shape"):
        leaky_relu_backward(x[0], leaky_relu(x)[1])


# ---- those that squash


@shapes
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_what_squashes_agrees_with_ops(device, name, shape):
    x, dy = 5 * float32(*shape), float32(*shape, 1)[..., 0]
    expected, ops_cache = getattr(ops, name)(x.astype(np.float64))
    y, dx = run(device, name, x, dy)
    compare("y", y, expected, 0, 2e-7)  # a few roundings of numbers below 1
    wanted = getattr(ops, f"{name}_backward")(dy.astype(np.float64), ops_cache)
    compare("dx", dx, wanted, 0, 1e-6)


def test_sigmoid_overflows_nowhere(device):
    x = np.float32([-np.inf, -1e30, -200, 0, 200, 1e30, np.inf, np.nan])
    y, dx = run(device, "sigmoid", x, np.ones(8, np.float32))
    np.testing.assert_array_equal(y, np.float32([0, 0, 0, 0.5, 1, 1, 1, np.nan]))
    np.testing.assert_array_equal(dx, [0, 0, 0, 0.25, 0, 0, 0, np.nan])


def test_both_tails_of_a_sigmoid_are_right(device):
    x = np.float32([-80, -40, -20, -10, 10, 20, 40, 80])
    y, dx = run(device, "sigmoid", x, np.ones(8, np.float32))
    e = np.exp(-abs(x.astype(np.float64)))
    np.testing.assert_allclose(y, np.where(x > 0, 1, e) / (1 + e), rtol=1e-6)
    np.testing.assert_allclose(dx, e / (1 + e) ** 2, rtol=1e-6)


def test_tanh_at_its_ends(device):
    x = np.float32([-np.inf, -1e30, -100, 0, 100, 1e30, np.inf, np.nan])
    y, dx = run(device, "tanh", x, np.ones(8, np.float32))
    np.testing.assert_array_equal(y, np.float32([-1, -1, -1, 0, 1, 1, 1, np.nan]))
    np.testing.assert_array_equal(dx, [0, 0, 0, 1, 0, 0, 0, np.nan])
