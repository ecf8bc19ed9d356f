"""Images without channels, batches without images: each engine says what ops says."""

import numpy as np
import pytest

from ministn import fast, ops
from ministn.engines import implementation

CASES = {
    "bilinear_sampler": [
        {"image": (2, 4, 5, 0), "grid": (2, 3, 3, 2)},
        {"image": (0, 4, 5, 3), "grid": (0, 3, 3, 2)},
        {"image": (2, 4, 5, 3), "grid": (2, 0, 3, 2)},
        {"image": (2, 1, 1, 3), "grid": (2, 3, 4, 2)},
    ],
    "conv_block": [
        {"x": (0, 4, 5, 3), "weight": (3, 3, 3, 4), "bias": (4,)},
        {"x": (0, 16, 16, 32), "weight": (3, 3, 32, 32), "bias": (32,)},
        {"x": (2, 4, 5, 0), "weight": (3, 3, 0, 4), "bias": (4,)},
        {"x": (2, 4, 5, 3), "weight": (3, 3, 3, 0), "bias": (0,)},
        {"x": (2, 1, 1, 3), "weight": (3, 3, 3, 4), "bias": (4,)},
    ],
    "dense": [
        {"x": (0, 3), "weight": (3, 4), "bias": (4,)},
        {"x": (2, 0), "weight": (0, 4), "bias": (4,)},
        {"x": (2, 3), "weight": (3, 0), "bias": (0,)},
    ],
    "affine_grid": [{"theta": (0, 2, 3)}],
    "relu": [{"x": (0, 3)}, {"x": (2, 0, 3)}],
    "avg_pool2d": [{"x": (0, 4, 5, 3)}, {"x": (2, 4, 5, 0)}],
    "max_pool2d": [{"x": (0, 4, 5, 3)}, {"x": (2, 4, 5, 0)}],
}
OPTIONS = {"affine_grid": {"size": (3, 4)}}
EACH = [(name, shapes) for name, cases in CASES.items() for shapes in cases]
each = pytest.mark.parametrize(("name", "shapes"), EACH, ids=str)


def outcome(forward, backward, arrays, name, placed=lambda a: a, back=lambda a: a):
    """Output and gradients, or the error's class."""
    try:
        y, cache = forward(*(placed(a) for a in arrays.values()), **OPTIONS.get(name, {}))
        dy = np.ones(y.shape, np.float32)
        gradients = backward(placed(dy), cache)
    except (TypeError, ValueError) as error:
        return type(error).__name__
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    return [back(a) for a in (y, *gradients) if a is not None]


def same(found, wanted):
    assert isinstance(found, str) == isinstance(wanted, str), (found, wanted)
    if isinstance(wanted, str):
        assert found == wanted
        return
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def given(shapes):
    rng = np.random.default_rng(0)
    return {k: rng.uniform(-1, 1, shape).astype(np.float32) for k, shape in shapes.items()}


@each
def test_on_the_cpu(name, shapes):
    arrays = given(shapes)
    wanted = outcome(getattr(ops, name), getattr(ops, f"{name}_backward"), arrays, name)
    if hasattr(fast, name):
        pair = getattr(fast, name), getattr(fast, f"{name}_backward")
        same(outcome(*pair, arrays, name), wanted)


@each
def test_on_a_gpu(name, shapes, quick_device):
    arrays = given(shapes)
    wanted = outcome(getattr(ops, name), getattr(ops, f"{name}_backward"), arrays, name)
    first = quick_device.to_gpu(next(iter(arrays.values())))
    pair = implementation(name, first)
    found = outcome(*pair, arrays, name, quick_device.to_gpu, quick_device.to_cpu)
    same(found, wanted)
