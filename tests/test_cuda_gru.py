"""The GRU on the GPU, against ops; see also test_cuda_cases.py."""

import numpy as np
import pytest
from helpers import compare, normal

from ministn import cuda, ops
from ministn.cuda import choice

# N, D, K and T; three rows of 86 states are two more than a block has threads.
SIZES = [(1, 1, 1, 1), (3, 5, 86, 3), (2, 40, 33, 5), (0, 3, 2, 2), (4, 3, 64, 1)]


def arguments(n, d, k):
    """x, weight_x, weight_h and bias: the gates' sums are of the order of 1."""
    return normal(n, d), normal(d, 3, k) / d**0.5, normal(k, 3, k) / k**0.5, normal(3, k)


def run(engine, arrays, steps, dy):
    """y and all gradients."""
    y, cache = engine.gru(*arrays, steps)
    return [y, *engine.gru_backward(dy, cache)]


def both(device, arrays, steps):
    """From the device in float32, and from ops in float64."""
    dy = normal(len(arrays[0]), steps, arrays[3].shape[1])
    given = [device.to_gpu(array.astype(np.float32)) for array in (*arrays, dy)]
    found = run(cuda, given[:4], steps, given[4])
    return [device.to_cpu(array) for array in found], run(ops, arrays, steps, dy)


def check(found, expected, tolerance):
    """Each to within a part of its own largest value."""
    for name, got, want in zip(("y", "dx", "dW_x", "dW_h", "dbias"), found, expected, strict=True):
        compare(name, got, want, 0, tolerance * abs(want).max(initial=0))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_gpu_agrees_with_ops(device, size):
    *shape, steps = size
    check(*both(device, arguments(*shape), steps), 2e-6)


def test_saturated_gates_are_those_of_ops(device):
    """Neither overflows: r and u shut or open by the bias, each with each."""
    arrays = arguments(3, 5, 4)
    arrays[3][:2] = 1e4 * np.array([[-1, 1, -1, 1], [-1, -1, 1, 1]])
    found, expected = both(device, arrays, 3)
    check(found, expected, 2e-6)
    assert not found[0][..., :2].any() and abs(found[0][..., 2:]).min() > 0


def test_products_on_tensor_cores(device):
    """As near as products of factors with 11 bits are; the gates are in float32."""
    if device.capability < choice.TF32_CAPABILITY:
        pytest.skip("no tensor cores for TF32")
    with choice.precision("tf32"):
        found, expected = both(device, arguments(9, 33, 40), 3)
    check(found, expected, 3e-3)
    with pytest.raises(AssertionError):
        check(found, expected, 2e-6)
