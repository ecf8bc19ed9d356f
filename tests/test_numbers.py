"""NumPy's numbers are numbers: an option given as one gives the same result, of the same dtype."""

import tempfile

import numpy as np
import pytest

from ministn import fast, ops
from ministn.optimizers import SGD, Adam
from ministn.transformer.samplers import Sampler

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 6, 3)).astype(np.float32)
GRID = RNG.uniform(-1.2, 1.2, (2, 4, 3, 2)).astype(np.float32)
FINE = np.repeat(np.repeat(GRID, 2, axis=1), 2, axis=2)
PAIRS = np.array([[0, 1], [1, 0]])

# What is called, with one option as a Python number.
CALLS = {
    "bilinear fill": (lambda n: ops.bilinear_sampler(X, GRID, border="zeros", fill=n), 0.25),
    "fast bilinear fill": (lambda n: fast.bilinear_sampler(X, GRID, border="zeros", fill=n), 0.25),
    "nearest fill": (lambda n: ops.nearest_sampler(X, GRID, border="zeros", fill=n), 0.25),
    "bicubic a": (lambda n: ops.bicubic_sampler(X, GRID, a=n), -0.75),
    "triplet margin": (lambda n: ops.triplet_hinge(X[0, 0], X[1, 0], PAIRS, n), 0.5),
    "entropy epsilon": (
        lambda n: ops.softmax_cross_entropy(X[0, 0], np.array([0, 1, 2, 0, 1, 2]), n), 0.25
    ),
    "sampler points": (lambda n: Sampler(supersampling=n).forward(X, FINE), 2),
    "sampler a": (lambda n: Sampler("bicubic", a=n).forward(X, GRID), -0.5),
    "grid size": (lambda n: ops.affine_grid(np.ones((1, 2, 3), np.float32), (n, n)), 3),
    "gru steps": (lambda n: ops.gru(X[0, 0], *X[:, :3, :3], X[0, 0, :3], n), 2),
    "average": (lambda n: ops.avg_pool2d(X, n), 2),
}  # fmt: skip


def result(found):
    y = found[0] if isinstance(found, tuple) else found
    return np.asarray(y), type(y)


@pytest.mark.parametrize("name", CALLS)
def test_options(name):
    call, option = CALLS[name]
    kinds = (np.int64, np.int32, np.uint8) if isinstance(option, int) else (np.float64, np.float32)
    wanted, kind = result(call(option))
    for other in kinds:
        found, its_kind = result(call(other(option)))
        assert found.dtype == wanted.dtype and its_kind is kind, other
        np.testing.assert_array_equal(found, wanted)
    nothing = [] if name == "sampler a" else [None]  # there it is the kernel's own
    for impossible in (True, "2", float("nan"), *nothing):
        with pytest.raises((TypeError, ValueError)):
            call(impossible)


def test_plain_arrays_only():
    masked = np.ma.masked_array(X, X > 0)
    for call in (
        lambda: ops.relu(masked),
        lambda: ops.avg_pool2d(masked),
        lambda: ops.bilinear_sampler(masked, GRID),
        lambda: ops.as_batch(np.ma.masked_array(np.zeros((2, 4, 4), np.uint8))),
        lambda: ops.softmax_cross_entropy(X[0, 0], np.ma.masked_array([0, 1, 2, 0, 1, 2])),
    ):
        with pytest.raises(TypeError, match="must be a plain array, got MaskedArray"):
            call()
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, np.float32, "w+", shape=(2, 3))
        np.testing.assert_array_equal(ops.relu(mapped)[0], 0)


def test_rules_refuse_what_cannot_be():
    assert Adam().beta1 == 0.9 and SGD(np.float64(0.5)).momentum == 0.5
