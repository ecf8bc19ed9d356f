"""The training engine against the readable one: the same functions, in float32 and blocks."""

import platform
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from helpers import (
    FORWARD,
    GRADIENT,
    block_arguments,
    check_block,
    compare,
    float32,
    normal,
)

from ministn import fast, ops
from ministn.engines import implementation, readable_only
from ministn.fast import columns

# x (N, H, W, C), weight (kh, kw, C, K)
CONVOLUTIONS = [
    ((2, 7, 5, 1), (3, 3, 1, 4)),
    ((1, 9, 7, 1), (5, 5, 1, 3)),  # C > K/4: dx from columns of dz, though C = 1
    ((3, 8, 6, 2), (3, 5, 2, 9)),  # C < K/4: dx from columns of x, though C > 1
    ((1, 9, 8, 3), (5, 5, 3, 2)),
    ((4, 5, 7, 6), (3, 1, 6, 5)),
    ((2, 6, 3, 8), (1, 1, 8, 3)),
    ((2, 5, 6, 3), (3, 3, 3, 1)),
    ((5, 2, 3, 4), (3, 3, 4, 7)),  # smaller than its kernel: never "valid"
]
BLOCKS = [
    (x, weight, padding)
    for x, weight in CONVOLUTIONS
    for padding in ("same", "valid")
    if padding == "same" or x[1] >= weight[0]
]


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(("x", "weight", "padding"), BLOCKS, ids=str)
def test_conv_block_agrees_with_ops(x, weight, padding, pool, need_dx):
    check_block(block_arguments(x, weight), need_dx, padding=padding, pool=pool)


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        ((2, 17, 16, 1), (9, 9, 1, 8)),
        ((3, 9, 11, 2), (3, 5, 2, 3)),
        ((2, 14, 13, 32), (3, 3, 32, 32)),  # by Winograd's transforms if the stride were 1
    ],
    ids=str,
)
def test_conv_block_with_a_stride_agrees_with_ops(x, weight, stride, pool, need_dx):
    check_block(block_arguments(x, weight), need_dx, padding="same", stride=stride, pool=pool)


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(
    "how",
    [
        {"activation": "relu"},
        {"activation": "leaky_relu"},
        {"activation": "leaky_relu", "slope": np.float32(0.1), "stride": np.int64(2)},
        {"activation": "leaky_relu", "slope": 0},
        {"activation": None},
    ],
    ids=str,
)
@pytest.mark.parametrize(("x", "weight"), CONVOLUTIONS[:4], ids=str)
def test_conv_block_of_any_kind_agrees_with_ops(x, weight, how, pool, bias, need_dx):
    check_block(block_arguments(x, weight)[: 2 + bias], need_dx, pool=pool, **how)


@pytest.mark.parametrize("images", [1, 2, 3, 7])
@pytest.mark.parametrize(("channels", "kernels"), [(1, 5), (4, 3)])
def test_block_size_does_not_matter(monkeypatch, images, channels, kernels):
    x, weight, bias = block_arguments((7, 5, 6, channels), (3, 3, channels, kernels))
    largest = max(channels, kernels)  # of the two kinds of columns
    ones = np.ones((3, 3, largest, 1), np.float32)
    monkeypatch.setattr(columns, "BLOCK_BYTES", images * 4 * 5 * 6 * 9 * largest)
    assert columns.Columns(7, (5, 6, largest), ones, (1, 1)).images == images
    check_block((x, weight, bias), pool=True)


def test_ties_go_to_the_first_maximum():
    """Small whole numbers: exact in float32, and most windows have several maxima."""
    rng = np.random.default_rng(0)
    x, weight, bias = (
        rng.integers(0, 2, (3, 9, 12, 2)).astype(np.float64),
        rng.integers(-1, 2, (3, 3, 2, 4)).astype(np.float64),
        np.array([0.0, 1.0, -1.0, 2.0]),
    )
    y, ops_cache = ops.conv_block(x, weight, bias, pool=True)
    dy = rng.integers(1, 9, y.shape).astype(np.float64)
    fast_y, cache = fast.conv_block(*float32(x, weight, bias), pool=True)
    np.testing.assert_array_equal(fast_y, y)
    np.testing.assert_array_equal(cache.winner, ops_cache.pooled.winner[..., 0])
    assert len(np.unique(cache.winner)) == 4
    for got, want in zip(
        fast.conv_block_backward(*float32(dy), cache),
        ops.conv_block_backward(dy, ops_cache),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kernels", [2, 16])
def test_conv_block_takes_views_and_leaves_them_alone(kernels):
    x, weight, bias = float32(*block_arguments((6, 5, 7, 3), (3, 5, 3, kernels)))
    dy = normal(6, 5, 7, kernels).astype(np.float32)
    views = [
        np.asfortranarray(x),
        np.repeat(weight, 2, axis=3)[..., ::2],
        bias[::-1].copy()[::-1],
        dy.transpose(3, 2, 1, 0).copy().transpose(3, 2, 1, 0),
    ]
    assert not any(view.flags.c_contiguous for view in views)
    before = [view.copy() for view in views]
    y, cache = fast.conv_block(*views[:3])
    gradients = fast.conv_block_backward(views[3], cache)
    for view, copy in zip(views, before, strict=True):
        np.testing.assert_array_equal(view, copy)
    expected, cache = fast.conv_block(x, weight, bias)
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(gradients, fast.conv_block_backward(dy, cache), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [
        ((5, 7, 11, 3), 3, 2),
        ((2, 8, 7, 1), 2, None),
        ((3, 9, 5, 2), 2, 3),
        ((1, 6, 4, 40), 3, 1),
        ((2, 1, 5, 2), 1, 2),
        ((1, 40, 37, 1), 17, 3),  # more places than a byte tells apart
        ((0, 4, 4, 2), 2, 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("block_bytes", [1, 2**19])
def test_max_pool_is_that_of_ops(monkeypatch, shape, size, stride, block_bytes):
    """Exactly, ties included: of few different values most windows have several maxima."""
    monkeypatch.setattr(import_module("ministn.fast.max_pool2d"), "BLOCK_BYTES", block_bytes)
    x = np.random.default_rng(shape).integers(-3, 3, shape).astype(np.float32)
    expected, ops_cache = ops.max_pool2d(x, size, stride)
    y, cache = fast.max_pool2d(x, size, stride)
    np.testing.assert_array_equal(y, expected)
    dy = np.arange(y.size, dtype=np.float32).reshape(y.shape)
    dx, expected = fast.max_pool2d_backward(dy, cache), ops.max_pool2d_backward(dy, ops_cache)
    np.testing.assert_array_equal(dx, expected)
    assert y.dtype == dx.dtype == np.float32


def whole_and_half_pixels(N, size, lengths):
    """Points on pixel centres and edges, up to 3 pixels outside: everywhere that V bends."""
    rng = np.random.default_rng([N, *size, *lengths])
    grid = np.zeros((N, *size, len(lengths)), np.float32)
    for axis, length in enumerate(reversed(lengths)):
        pixel = rng.integers(-6, 2 * length + 6, (N, *size)) / 2
        grid[..., axis] = pixel / ((length - 1) / 2) - 1 if length > 1 else pixel
    return grid


def far_outside(N, size, lengths):
    grid = whole_and_half_pixels(N, size, lengths)
    grid[0, 0, ..., :2] = [1e30, -1e30]
    grid[0, :, 0, ..., -2:] = [-1e9, 0.3]
    return grid


def not_finite(N, size, lengths):
    grid = whole_and_half_pixels(N, size, lengths)
    grid[0, 0, ..., :2] = [np.nan, 0.1]
    grid[-1, 1:, 0, ..., -2:] = [0.1, -np.inf]
    grid[-1, 0, -1, ..., :2] = [3e38, 0.1]
    return grid


@pytest.mark.parametrize("grid", [whole_and_half_pixels, far_outside, not_finite])
@pytest.mark.parametrize(
    ("border", "fill"),
    [("nearest", 0.0), ("zeros", 0.0), ("zeros", 1.5), ("mirror", 0.0), ("wrap", 0.0)],
)
@pytest.mark.parametrize(
    ("name", "image", "lengths", "size"),
    [
        ("bilinear_sampler", (3, 7, 5, 1), (7, 5), (6, 4)),
        ("bilinear_sampler", (1, 4, 6, 3), (4, 6), (5, 7)),
        ("bilinear_sampler", (2, 3, 4, 9), (3, 4), (2, 5)),  # by a matrix with any border
        ("bilinear_sampler", (2, 1, 8, 1), (1, 8), (3, 4)),
        ("bilinear_sampler", (2, 5, 1, 2), (5, 1), (4, 3)),
        ("bicubic_sampler", (3, 7, 5, 1), (7, 5), (6, 4)),
        ("bicubic_sampler", (2, 2, 3, 7), (2, 3), (5, 3)),
        ("bicubic_sampler", (2, 1, 8, 2), (1, 8), (3, 4)),
        ("trilinear_sampler", (3, 4, 3, 5), (4, 3, 5), (2, 3, 4)),
        ("trilinear_sampler", (2, 1, 6, 3), (1, 6, 3), (3, 2, 2)),
        ("trilinear_sampler", (1, 3, 1, 1), (3, 1, 1), (2, 3, 1)),
    ],
    ids=str,
)
def test_sampler_agrees_with_ops(name, image, lengths, size, border, fill, grid):
    """Both in float32, so that a point on a kink must be given the same cell."""
    options = {"border": border, "fill": fill}
    arrays = normal(*image).astype(np.float32), grid(image[0], size, lengths)
    expected, ops_cache = getattr(ops, name)(*arrays, **options)
    y, cache = getattr(fast, name)(*arrays, **options)
    compare("y", y, expected, *FORWARD)
    dy = normal(*y.shape).astype(np.float32)
    for need_dimage in (True, False):
        dimage, dgrid = getattr(fast, f"{name}_backward")(dy, cache, need_dimage)
        want = getattr(ops, f"{name}_backward")(dy, ops_cache, need_dimage)
        compare("dimage", dimage, want[0], *GRADIENT)
        compare("dgrid", dgrid, want[1], *GRADIENT)


@pytest.mark.parametrize("width", range(1, 65))
def test_sampler_at_the_identity(width):
    """Every point lies on a pixel: its value comes back, and its slope is the right-hand cell's.

    The generated points are up to an ulp to the right of the pixels, 4e-6 pixels here; neighbours
    differ by up to 5. From a wrong cell, a slope would be off by 1 or so.
    """
    image = np.random.default_rng(width).normal(size=(1, 3, width, 1)).astype(np.float32)
    theta = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)
    grid, _ = ops.affine_grid(theta, (3, width))
    y, cache = fast.bilinear_sampler(image, grid)
    compare("y", y, image, 0, 2e-5)
    slope = np.diff(image, axis=2, append=image[:, :, -1:])
    compare("dV/dx", cache.slopes[0], slope, 0, 4e-5)


def test_sampler_block_size_does_not_matter(monkeypatch):
    arrays = normal(5, 7, 6, 2).astype(np.float32), whole_and_half_pixels(5, (4, 3), (7, 6))
    together, cache = fast.bilinear_sampler(*arrays)
    monkeypatch.setattr("ministn.fast.sampling.BLOCK_POINTS", 2 * 4 * 3)
    y, split_cache = fast.bilinear_sampler(*arrays)
    np.testing.assert_array_equal(y, together)
    np.testing.assert_array_equal(split_cache.slopes, cache.slopes)


GOOD = {
    "conv_block": {"weight": (3, 3, 3, 6), "bias": (6,), "x": (2, 4, 5, 3)},
    "bicubic_sampler": {"image": (2, 4, 5, 3), "grid": (2, 6, 7, 2)},
    "bilinear_sampler": {"image": (2, 4, 5, 3), "grid": (2, 6, 7, 2)},
    "trilinear_sampler": {"volume": (2, 4, 5, 3), "grid": (2, 6, 7, 5, 3)},
    "max_pool2d": {"x": (2, 4, 5, 3)},
}


def call(name, dtype=np.float32, **changes):
    arrays = {argument: np.ones(shape, dtype) for argument, shape in GOOD[name].items()}
    return getattr(fast, name)(**{**arrays, **changes})


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8, np.float16])
def test_float32_only(name, dtype):
    with pytest.raises(TypeError, match=f"^({'|'.join(GOOD[name])}) must be .*float32.* got"):
        call(name, dtype)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("conv_block", {"x": np.ones((2, 4, 5), np.float32)}, r"^x must have shape \(N, H, W, C"),
        ("conv_block", {"bias": np.ones(3, np.float32)}, r"^bias must have shape \(K=6\)"),
        ("conv_block", {"weight": np.ones((2, 3, 3, 6), np.float32)}, "^weight must have an odd"),
        ("conv_block", {"weight": np.ones((7, 3, 3, 6), np.float32), "padding": "valid"},
         "^x must be at least 7 by 3 pixels"),
        ("conv_block", {"x": np.ones((2, 1, 5, 3), np.float32), "pool": True},
         "^x must be at least 2 by 2 pixels"),
        ("conv_block", {"x": np.ones((2, 4, 5, 3), np.float32), "pool": True, "stride": 4},
         "^x must be at least 5 by 5 pixels"),
        ("conv_block", {"stride": 0}, "^stride must be a whole number of at least 1, got 0"),
        ("conv_block", {"padding": "full"}, "^padding must be 'same' or 'valid', got 'full'"),
        ("conv_block", {"pool": 3}, "^pool must be True or False, got 3"),
        ("conv_block", {"activation": "elu"}, "^activation must be 'relu', 'leaky_relu' or None"),
        ("conv_block", {"slope": 1}, "^slope must be at least 0 and below 1, got 1"),
        ("bilinear_sampler", {"grid": np.ones((3, 6, 7, 2), np.float32)}, "^grid must have shape"),
        ("bilinear_sampler", {"image": np.ones((2, 0, 5, 3), np.float32)}, "at least one pixel"),
        ("bilinear_sampler", {"border": "reflect"}, "^border must be one of 'nearest', 'zeros'"),
        ("bilinear_sampler", {"fill": 1.0}, "^fill needs border 'zeros'"),
    ],
)  # fmt: skip
def test_bad_arguments(name, changes, message):
    with pytest.raises(ValueError, match=message):
        call(name, **changes)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("shape", [(2, 4, 5), (1, 4, 5, 3)])
def test_backward_checks_dy(name, shape):
    _, cache = call(name)
    with pytest.raises(ValueError, match=r"^dy must have shape"):
        getattr(fast, f"{name}_backward")(np.ones(shape, np.float32), cache)


def test_float32_takes_the_fast_engine_unless_told_otherwise():
    x = np.ones((1, 2, 3, 1), np.float32)
    assert implementation("conv_block", x)[0] is fast.conv_block
    assert implementation("conv_block", x.astype(np.float64))[0] is ops.conv_block
    assert implementation("dense", x)[0] is ops.dense
    with readable_only():
        assert implementation("conv_block", x)[0] is ops.conv_block


FAULTS = """
import resource
import numpy as np
from ministn.layers import Dense, Sequential
from ministn.models import Network
from ministn.optimizers import Adam, Optimizer
from ministn.parallel import Team
from ministn.parameter import ParameterBuffer
from ministn.tasks import Classification
network = Network(Sequential(Dense("dense", 2, 3)))
optimizer = Optimizer(Adam(), ParameterBuffer(network.parameters(), seed=0))
if {training}:
    Team().ask("replicate", [(lambda: (network, optimizer), Classification())])
for number in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones((100, 2**18), np.float32)  # 100 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is malloc of glibc that is told")
@pytest.mark.parametrize("training", [True, False])
def test_a_process_that_trains_keeps_freed_memory_for_its_next_arrays(training):
    """Pages that the system had to provide for the third array; huge ones are 2 MiB."""
    process = subprocess.run(
        [sys.executable, "-c", FAULTS.format(training=training)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    faults = int(process.stdout)
    assert faults < 10 if training else faults > 40
