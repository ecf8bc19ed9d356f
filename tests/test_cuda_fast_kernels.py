"""What only the fast kernels have: TF32's rounding, and sums split between blocks.

How they agree with ops as convolution blocks is tested in test_cuda_conv.
"""

import numpy as np
import pytest
from helpers import compare, normal, tf32
from test_cuda_conv import Case, arguments, backward, forward, in_other_orders, reference

from ministn import ops
from ministn.cuda import conv_first, conv_tf32, dense_tf32
from ministn.cuda.dense_tf32 import dense, dense_backward

# How far a product of two factors may be off: each was moved by up to half of 2^-10 of itself.
PRODUCT = 2**-10 * (1 + 2**-12)
# Sums of rounded factors, in float32. Largest difference on the shim, which cuts sums off as tensor
# cores do: 3.6e-6 of values of the order of 1, and of sums of many a third of what is allowed.
TOLERANCE = 1e-6, 2e-5


def float32(*shape):
    return normal(*shape).astype(np.float32)


# ---- dense

DENSE = [  # N, D, K
    (5, 7, 3),
    (1, 1, 1),
    (130, 70, 65),  # two tiles in each direction, the last ones nearly empty
    (128, 64, 64),  # whole tiles
    (3, 625, 10),  # rows that begin anywhere
    (7, 1300, 6),  # several slices of terms
    (33, 200, 127),
    (0, 40, 10),
]


def dense_arguments(n, d, k):
    return float32(n, d), float32(d, k) / np.float32(d**0.5), float32(k), float32(n, k, 1)[..., 0]


def run_dense(device, x, weight, bias, dy):
    """y, dx, dweight, dbias."""
    y, cache = dense(*map(device.to_gpu, (x, weight, bias)))
    return [device.to_cpu(a) for a in (y, *dense_backward(device.to_gpu(dy), cache))]


def dense_reference(x, weight, bias, dy):
    """The same from ops in float64."""
    x, weight, bias, dy = (array.astype(np.float64) for array in (x, weight, bias, dy))
    y, cache = ops.dense(x, weight, bias)
    return y, *ops.dense_backward(dy, cache)


@pytest.mark.parametrize("sizes", DENSE, ids=str)
def test_dense_is_that_of_ops_with_rounded_factors(device, sizes):
    x, weight, bias, dy = dense_arguments(*sizes)
    y, dx, dweight, dbias = run_dense(device, x, weight, bias, dy)
    expected = dense_reference(tf32(x), tf32(weight), bias, tf32(dy))
    rtol, atol = TOLERANCE
    longer = max(1, len(x)) ** 0.5
    compare("y", y, expected[0], rtol, atol)
    compare("dx", dx, expected[1], rtol, atol)
    compare("dweight", dweight, expected[2], rtol, atol * longer)
    # Exact but for float32: dy is not rounded here.
    compare("dbias", dbias, dy.astype(np.float64).sum(axis=0), 1e-6, 1e-6 * longer)
    assert all(array.dtype == np.float32 for array in (y, dx, dweight, dbias))


def test_dense_is_as_close_to_unrounded_factors_as_tf32_allows(device):
    x, weight, bias, dy = dense_arguments(20, 150, 70)
    found = run_dense(device, x, weight, bias, dy)
    expected = dense_reference(x, weight, bias, dy)
    sums = dense_reference(abs(x), abs(weight), 0 * bias, abs(dy))
    for got, want, products in zip(found[:3], expected, sums, strict=False):
        error = abs(got - want)
        assert (error <= PRODUCT * products + TOLERANCE[1]).all()
        assert error.max() > 1e-4  # it is TF32


@pytest.mark.parametrize("sizes", [(20, 600, 70)], ids=str)
def test_dense_is_the_same_to_the_last_bit_each_time(device, sizes):
    arrays = dense_arguments(*sizes)
    first = run_dense(device, *arrays)
    for again in in_other_orders(device, lambda: run_dense(device, *arrays)):
        for got, want in zip(again, first, strict=True):
            np.testing.assert_array_equal(got, want)


def test_dense_takes_views_and_arrays_that_begin_anywhere(device):
    arrays = dense_arguments(5, 37, 9)
    expected = run_dense(device, *arrays)

    class Views:
        to_cpu = staticmethod(device.to_cpu)

        @staticmethod
        def to_gpu(array):
            return device.to_gpu(np.repeat(array, 3, axis=-1))[..., 1::3]

    class Shifted(Views):
        @staticmethod
        def to_gpu(array):
            behind_one = np.concatenate([np.zeros(1, np.float32), array.ravel()])
            return device.to_gpu(behind_one)[1:].reshape(array.shape)

    for device_of_views in (Views, Shifted):
        for got, want in zip(run_dense(device_of_views, *arrays), expected, strict=True):
            np.testing.assert_array_equal(got, want)


def test_dense_without_dx(device):
    x, weight, bias, dy = map(device.to_gpu, dense_arguments(5, 7, 3))
    _, cache = dense(x, weight, bias)
    dx, dweight, dbias = dense_backward(dy, cache, need_dx=False)
    assert dx is None and dweight.shape == (7, 3) and dbias.shape == (3,)


def test_nan_reaches_what_it_should_in_dense(device):
    x, weight, bias, dy = dense_arguments(6, 40, 5)
    x[2, 33] = np.nan
    found = run_dense(device, x, weight, bias, dy)
    for got, want in zip(found, dense_reference(x, weight, bias, dy), strict=True):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": (5, 8)}, ValueError, r"^x must have shape \(N, D=7\), got \(5, 8\)"),
        ({"bias": (4,)}, ValueError, r"^bias must have shape \(K=3\), got \(4,\)"),
        ({"x": (5,)}, ValueError, r"^x must have shape \(N, D=7\), got \(5,\)"),
    ],
)
def test_dense_says_what_is_wrong(quick_device, changes, error, message):
    shapes = {"x": (5, 7), "weight": (7, 3), "bias": (3,)} | changes
    with pytest.raises(error, match=message):
        dense(*(quick_device.zeros(shape, np.float32) for shape in shapes.values()))


def test_dense_takes_float32_alone(quick_device):
    with pytest.raises(TypeError, match="float32"):
        dense(*(quick_device.zeros(shape, np.float64) for shape in ((5, 7), (7, 3), (3,))))


@pytest.mark.parametrize("slices", [1, 2, 3, 5])
def test_however_many_slices_dense_is_cut_into(quick_device, monkeypatch, slices):
    monkeypatch.setattr(dense_tf32, "BLOCKS", slices)
    monkeypatch.setattr(dense_tf32, "SHORTEST", 32)
    x, weight, bias, dy = dense_arguments(9, 170, 11)
    y, *_ = run_dense(quick_device, x, weight, bias, dy)
    expected, *_ = dense_reference(tf32(x), tf32(weight), bias, dy)
    compare("y", y, expected, *TOLERANCE)


# ---- convolution blocks


@pytest.mark.parametrize("pool", [True, False])
def test_convolution_is_as_close_to_unrounded_factors_as_tf32_allows(device, pool):
    """Neither the pool nor ReLU makes differences larger."""
    case = Case((1, 7, 9, 32), (3, 3, 32, 32), pool=pool)
    x, weight, bias = arguments(case)
    expected, gate, _, cache = reference(case, x, weight, bias)
    *_, sums, _ = reference(case, abs(x), abs(weight), bias)  # of the sizes of z's products
    y, _ = forward(device, conv_tf32, case, x, weight, bias)
    error = abs(y - expected)
    assert (error <= PRODUCT * sums.max(axis=-1) + TOLERANCE[1]).all()
    assert error.max() > 1e-4  # it is TF32

    dy = float32(*y.shape)
    found = backward(device, conv_tf32, case, x, weight, dy, gate)
    wanted = ops.conv_block_backward(dy.astype(np.float64), cache)
    sizes = (abs(array).astype(np.float64) for array in (x, weight))
    _, convolved = ops.conv2d(*sizes, padding="same")
    cache = cache._replace(convolved=convolved)
    sums = ops.conv_block_backward(abs(dy).astype(np.float64), cache)
    for got, want, products in zip(found[:2], wanted, sums, strict=False):
        error = abs(got - want)
        assert (error <= PRODUCT * products + 2 * TOLERANCE[1]).all()
        assert error.max() > 1e-4


def check_weight_gradient(device, module, case, rounded, atol):
    x, weight, bias = arguments(case)
    y, gate, _, cache = reference(case, rounded(x), rounded(weight), bias)
    # Not x again, which may have this shape: a sum of squares gains nothing from what a tensor core
    # cuts off being now positive, now negative.
    dy = rounded(float32(*y.shape, 1)[..., 0])
    _, dweight, dbias = ops.conv_block_backward(dy.astype(np.float64), cache)
    _, *found = backward(device, module, case, x, weight, dy, gate)
    longer = dy[..., 0].size ** 0.5
    compare("dweight", found[0], dweight, 1e-6, atol * longer)
    compare("dbias", found[1], dbias, 1e-6, atol * longer)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("blocks", [1, 2, 3, 8])
def test_tiles_may_be_more_than_blocks_or_fewer(quick_device, monkeypatch, blocks, pool):
    """Eight tiles: a block sums several of them, in two stages of shared memory."""
    monkeypatch.setattr(conv_tf32, "WEIGHT_BLOCKS", blocks)
    case = Case((2, 10, 18, 32), (3, 3, 32, 32), pool=pool)
    check_weight_gradient(quick_device, conv_tf32, case, tf32, TOLERANCE[1])


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(("partials", "group"), [(1, 1), (2, 2), (3, 1), (1024, 5)])
def test_rows_may_be_more_than_warps_or_fewer(quick_device, monkeypatch, partials, group, pool):
    monkeypatch.setattr(conv_first, "PARTIALS", partials)
    monkeypatch.setattr(conv_first, "GROUP", group)
    case = Case((3, 12, 8, 1), (3, 3, 1, 7), pool=pool)
    check_weight_gradient(quick_device, conv_first, case, np.asarray, 4e-6)


def test_several_tiles_or_rows_do_not_race(device, monkeypatch):
    """The same under the checker: shared memory is filled anew for each."""
    monkeypatch.setattr(conv_tf32, "WEIGHT_BLOCKS", 1)
    case = Case((1, 10, 18, 32), (3, 3, 32, 32))
    check_weight_gradient(device, conv_tf32, case, tf32, TOLERANCE[1])
    monkeypatch.setattr(conv_first, "PARTIALS", 1)
    monkeypatch.setattr(conv_first, "GROUP", 1)
    case = Case((2, 5, 6, 1), (3, 3, 1, 7))
    check_weight_gradient(device, conv_first, case, np.asarray, 4e-6)
