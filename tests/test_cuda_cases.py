"""Whatever has a case in test_ops.py and a twin on the GPU: on that case, against ops."""

import numpy as np
import pytest
import test_ops
from helpers import GRADIENT_TOLERANCE, TOLERANCE, Case, as_view, compare, listed, normal

from ministn import cuda, ops

FORWARD, GRADIENT = TOLERANCE[np.float32], GRADIENT_TOLERANCE[np.float32]
CASES = [case for case in test_ops.CASES if hasattr(cuda, case.name)]
FUNCTIONS = [case for case in test_ops.FUNCTIONS if hasattr(cuda, case.name)]
cases = pytest.mark.parametrize("case", CASES, ids=str)


def results(module, case: Case, arrays, dy, options) -> list:
    """y and every gradient."""
    y, cache = getattr(module, case.name)(**arrays, **options)
    backward = getattr(module, f"{case.name}_backward")
    loss = dy.size == 1 and dy.ndim == 0
    return [y, *listed(backward(cache, float(dy)) if loss else backward(dy, cache))]


def on_device(device, case: Case, dtype=np.float32, to_device=None) -> list:
    """The same from the GPU, as NumPy arrays. Whole numbers, as labels are, become int32."""
    to_device = to_device or device.to_gpu
    arrays = {name: to_device(array.astype(dtype)) for name, array in case.arrays.items()}
    options = {
        name: to_device(value.astype(np.int32)) if isinstance(value, np.ndarray) else value
        for name, value in case.options.items()
    }
    dy = incoming(case)
    dy = to_device(dy.astype(dtype)) if dy.ndim else dy
    found = results(cuda, case, arrays, dy, options)
    return [None if array is None else device.to_cpu(array) for array in found]


def incoming(case: Case) -> np.ndarray:
    y, _ = getattr(ops, case.name)(**case.arrays, **case.options)
    return normal(*np.shape(y), 1)[..., 0]


@cases
def test_a_gpu_agrees_with_ops(device, case):
    expected = results(ops, case, case.arrays, incoming(case), case.options)
    y, *gradients = on_device(device, case)
    compare("y", y.reshape(np.shape(expected[0])), expected[0], *FORWARD)  # a loss has shape (1,)
    for number, (got, want) in enumerate(zip(gradients, expected[1:], strict=True)):
        compare(f"gradient {number}", got, want, *GRADIENT)


@cases
def test_same_bits_again_and_from_views(device, case):
    first, again = on_device(device, case), on_device(device, case)
    views = on_device(device, case, to_device=lambda array: as_view(device, array))
    for a, b, c in zip(first, again, views, strict=True):
        np.testing.assert_array_equal(a, b)
        compare("from views", c, a, *FORWARD)  # a matrix product may sum in another order


@pytest.mark.parametrize("name", sorted({case.name for case in CASES}))
def test_float64_is_refused(device, name):
    case = next(case for case in CASES if case.name == name)
    with pytest.raises(TypeError, match=r"must be float32, got float64"):
        on_device(device, case, np.float64)


@pytest.mark.parametrize("case", FUNCTIONS, ids=lambda case: case.name)
def test_a_function_on_a_gpu_agrees_with_ops(device, case):
    arrays = {name: array.astype(np.float32) for name, array in case.arrays.items()}
    expected = getattr(ops, case.name)(**arrays, **case.options)
    given = {name: device.to_gpu(value) for name, value in (arrays | case.options).items()}
    compare("y", device.to_cpu(getattr(cuda, case.name)(**given)), expected, *FORWARD)
