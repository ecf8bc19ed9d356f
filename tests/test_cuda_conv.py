"""The families of convolution blocks on the GPU, one interface, against ops in float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import compare, normal, tf32

from ministn import ops
from ministn.cuda import conv_exact, conv_first, conv_tf32
from ministn.cuda.conv_block import conv_block, conv_block_backward
from ministn.cuda.reduce import sum_partials
from ministn.ops.conv2d import checked_margin

CLOSED = 4  # a gate through which no gradient goes


class Case(NamedTuple):
    """A convolution block: shapes of x (N, H, W, C) and weight (kh, kw, C, K)."""

    x: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    padding: str = "same"
    pool: bool = False

    @property
    def margin(self):
        sizes = dict(zip("NHW", self.x[:3], strict=True)) | dict(kh=self.weight[0])
        return checked_margin(sizes | dict(kw=self.weight[1]), self.padding, 1 + self.pool)

    def exists(self):
        try:
            return bool(self.margin)
        except ValueError:  # x is too small
            return False

    def __str__(self):
        return f"{self.x}-{self.weight}-{self.padding}{'-pool' * self.pool}".replace(" ", "")


def in_thirty_twos(case):
    kh, kw, channels, kernels = case.weight
    return (kh, kw, channels % 32, kernels % 32, case.padding) == (3, 3, 0, 0, "same")


class Family(NamedTuple):
    """A module, the cases that it takes, and how exact it is.

    rounded: what it makes of every factor. rtol, atol: what its sums may add to that, for values of
    the order of 1. aligned: x, dy and gate must begin at multiples of 16 bytes, as they do where
    they are arrays of their own, or some of the images of one. most_values: of x in the cases
    below, so that the shim's checker does not take minutes over other families' tiles.
    """

    module: Any
    takes: Callable[[Case], bool]
    rtol: float
    atol: float
    rounded: Callable[[np.ndarray], np.ndarray] = np.asarray
    aligned: bool = False
    most_values: float = np.inf

    def __str__(self):
        return self.module.__name__.split(".")[-1]


FAMILIES = [
    # More than rtol allows: 3.0e-6 in y and 1.7e-6 in dx, of up to 7 and 16; in the other gradients
    # 1.0e-6 times the square root of the number of pixels.
    Family(conv_exact, lambda case: True, 1e-6, 6e-6, most_values=2000),
    Family(conv_first, lambda case: case.weight[:3] == (3, 3, 1), 1e-6, 4e-6),
    # On the shim at most 5.4e-6 in y; a tensor core cuts off what the shim rounds.
    Family(conv_tf32, in_thirty_twos, 1e-6, 4e-5, tf32, aligned=True),
]

SHAPES = [
    # Channels and kernels that are and are not read in fours; kernels of all shapes.
    ((2, 7, 5, 1), (3, 3, 1, 4)),
    ((1, 9, 8, 3), (5, 5, 3, 2)),
    ((2, 8, 6, 2), (3, 5, 2, 9)),
    ((3, 5, 7, 6), (3, 1, 6, 5)),
    ((2, 6, 3, 8), (1, 1, 8, 36)),
    ((2, 5, 4, 7), (1, 3, 7, 1)),
    # Smaller than the kernel, or without an image.
    ((5, 2, 3, 4), (3, 3, 4, 7)),
    ((2, 1, 9, 4), (3, 3, 4, 8)),
    ((2, 1, 1, 3), (5, 3, 3, 3)),
    ((0, 4, 4, 2), (3, 3, 2, 3)),
    # Several tiles: of pixels, of kernels, of channels; gradients of weights in several slices.
    ((3, 11, 13, 1), (3, 3, 1, 12)),
    ((1, 4, 5, 5), (1, 3, 5, 70)),
    ((1, 3, 4, 68), (1, 1, 68, 5)),
    # Strips of one-channel images in pieces, their gradient in tiles.
    ((1, 35, 67, 1), (3, 3, 1, 33)),
    ((1, 5, 131, 1), (3, 3, 1, 3)),
    # Tensor cores' tiles: several, whole and in part; one and two halves of outputs; stages.
    ((1, 13, 17, 32), (3, 3, 32, 64)),
    ((2, 7, 5, 96), (3, 3, 96, 32)),
    ((1, 16, 16, 64), (3, 3, 64, 96)),
    ((0, 4, 4, 32), (3, 3, 32, 64)),
    # Those of the networks, fewer pixels.
    ((2, 6, 5, 32), (3, 3, 32, 64)),
    ((1, 7, 7, 32), (3, 3, 32, 32)),
]
CASES = [
    case
    for shapes in SHAPES
    for padding, pool in (("same", False), ("same", True), ("valid", True))
    if (case := Case(*shapes, padding, pool)).exists()
]
EACH = [
    pytest.param(family, case, id=f"{family}-{case}")
    for family in FAMILIES
    for case in CASES
    if family.takes(case) and np.prod(case.x) <= family.most_values
]
each = pytest.mark.parametrize(("family", "case"), EACH)
each_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


def taken(family, *shapes, **options):
    """The first of the cases that the family takes."""
    cases = [Case(*shape, **options) for shape in shapes]
    return next(case for case in cases if family.takes(case))


def float32(*shape):
    return normal(*shape).astype(np.float32)


def arguments(case):
    """x, weight and bias of the order of 1, and weights that leave z there."""
    weight = float32(*case.weight) / np.float32(np.prod(case.weight[:-1]) ** 0.5)
    return float32(*case.x), weight, float32(case.weight[-1])


def reference(case, x, weight, bias):
    """y, gate and z's windows (N, h, w, K, 1 or 4) from ops in float64."""
    x, weight, bias = (array.astype(np.float64) for array in (x, weight, bias))
    y, cache = ops.conv_block(x, weight, bias, padding=case.padding, pool=case.pool)
    winner = cache.pooled.winner[..., 0] if case.pool else np.zeros(y.shape)
    z, _ = ops.conv2d(x, weight, padding=case.padding)
    n, h, w, k = y.shape
    side = 2 if case.pool else 1
    z = z[:, : side * h, : side * w].reshape(n, h, side, w, side, k).transpose(0, 1, 3, 5, 2, 4)
    gate = np.where(y > 0, winner, CLOSED).astype(np.uint8)
    return y, gate, z.reshape(n, h, w, k, side * side), cache


def forward(device, module, case, *arrays):
    y, gate = module.forward(*map(device.to_gpu, arrays), case.margin, case.pool)
    return device.to_cpu(y), device.to_cpu(gate)


def backward(device, module, case, x, weight, dy, gate):
    """dx, dweight, dbias."""
    x, weight, dy, gate = map(device.to_gpu, (x, weight, dy, gate))
    dx = module.input_gradient(dy, gate, weight, case.margin, case.x[1:3], case.pool)
    gradients = module.weight_gradient(x, dy, gate, case.weight[:2], case.margin, case.pool)
    return [device.to_cpu(gradient) for gradient in (dx, *gradients)]


@each
def test_forward_agrees_with_ops(device, family, case):
    x, weight, bias = arguments(case)
    y, gate = forward(device, family.module, case, x, weight, bias)
    expected, expected_gate, z, _ = reference(case, family.rounded(x), family.rounded(weight), bias)
    assert y.dtype == np.float32 and gate.dtype == np.uint8
    compare("y", y, expected, family.rtol, family.atol)
    # Where rounding may turn the winner or the sign, the gate need only fit y.
    second = np.sort(z)[..., -2] if case.pool else -np.inf
    doubt = 2 * (family.atol + family.rtol * abs(z).max(initial=0))
    decided = (expected == 0) | (z.max(axis=-1) - second > doubt)
    decided &= abs(z.max(axis=-1) + bias) > doubt
    assert decided.sum() >= 0.97 * decided.size
    np.testing.assert_array_equal(gate[decided], expected_gate[decided])
    np.testing.assert_array_equal(gate == CLOSED, y <= 0)
    assert gate.max(initial=0) <= CLOSED


@each
def test_gradients_agree_with_ops(device, family, case):
    x, weight, bias = arguments(case)
    rounded = family.rounded
    y, gate, _, cache = reference(case, rounded(x), rounded(weight), bias)
    dy = float32(*y.shape)
    dx, dweight, _ = ops.conv_block_backward(rounded(dy).astype(np.float64), cache)
    dbias = np.where(gate == CLOSED, 0, dy.astype(np.float64)).sum(axis=(0, 1, 2))
    found = backward(device, family.module, case, x, weight, dy, gate)
    # The sums over pixels have as many terms as there are, and grow as their square root.
    longer = max(1, dy[..., 0].size) ** 0.5
    for name, got, expected, scale in (
        ("dx", found[0], dx, 1),
        ("dweight", found[1], dweight, longer),
        ("dbias", found[2], dbias, longer),
    ):
        assert got.dtype == np.float32
        compare(name, got, expected, family.rtol, family.atol * scale)


def windows_with_ties(family, pool=True):
    """Small whole numbers: all sums are exact, and most windows have several maxima."""
    shapes = [((2, 7, 9, c), (3, 3, c, k)) for c, k in ((3, 5), (1, 5), (32, 32))]
    case = taken(family, *shapes, pool=pool)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, case.x).astype(np.float32)
    weight = rng.integers(-1, 2, case.weight) * (rng.random(case.weight) < 3 / case.x[3])
    bias = rng.integers(-3, 2, case.weight[-1])
    return case, x, weight.astype(np.float32), bias.astype(np.float32)


@each_family
@pytest.mark.parametrize("pool", [True, False])
def test_ties_go_to_the_first_maximum(device, family, pool):
    case, *arrays = windows_with_ties(family, pool)
    expected, expected_gate, _, cache = reference(case, *arrays)
    y, gate = forward(device, family.module, case, *arrays)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(gate, expected_gate)
    assert set(np.unique(gate)) == ({0, 1, 2, 3, CLOSED} if pool else {0, CLOSED})
    dy = np.random.default_rng(1).integers(1, 9, y.shape).astype(np.float32)
    found = backward(device, family.module, case, *arrays[:2], dy, gate)
    for got, want in zip(found, ops.conv_block_backward(dy.astype(float), cache), strict=True):
        np.testing.assert_array_equal(got, want)


@each_family
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("channels", [3, 4])
def test_nan_reaches_y_and_the_gradients_as_in_ops(device, family, channels, pool):
    shapes = [((2, 7, 9, c), (3, 3, c, k)) for c, k in ((channels, 5), (1, 5), (32, 32))]
    case = taken(family, *shapes, pool=pool)
    x, weight, bias = arguments(case)
    x[1, 4, 3, 0] = np.nan  # where a tap after the last one would find it, to multiply it by 0
    expected, expected_gate, _, cache = reference(case, x, weight, bias)
    y, gate = forward(device, family.module, case, x, weight, bias)
    assert np.isnan(y).any()
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert (gate[np.isnan(y)] == CLOSED).all()
    dy = float32(*y.shape)
    found = backward(device, family.module, case, x, weight, dy, expected_gate)
    dx, dweight, dbias = ops.conv_block_backward(dy.astype(float), cache)
    np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(dx))
    np.testing.assert_array_equal(np.isnan(found[2]), np.isnan(dbias))
    # Pixels that no gradient reaches may be left out: NaN times 0 need not be calculated.
    assert np.isnan(found[1]).any() and np.isnan(dweight[np.isnan(found[1])]).all()


@each_family
def test_arrays_may_begin_anywhere(device, family):
    """Parameters lie one behind the other in one array, not at multiples of 16 bytes."""
    shapes = [((1, 5, 6, c), (3, 3, c, k)) for c, k in ((4, 8), (1, 8), (32, 32))]
    case = taken(family, *shapes)
    x, weight, bias = arguments(case)
    y, gate = forward(device, family.module, case, x, weight, bias)
    dy = float32(*y.shape)
    gradients = backward(device, family.module, case, x, weight, dy, gate)

    class Shifted:
        to_cpu = staticmethod(device.to_cpu)

        @staticmethod
        def to_gpu(array):
            if family.aligned and array.ndim == 4 and array is not weight:
                return device.to_gpu(array)
            behind_one = np.concatenate([np.zeros(1, array.dtype), array.ravel()])
            return device.to_gpu(behind_one)[1:].reshape(array.shape)

    np.testing.assert_array_equal(forward(Shifted, family.module, case, x, weight, bias)[0], y)
    shifted = backward(Shifted, family.module, case, x, weight, dy, gate)
    for got, want in zip(shifted, gradients, strict=True):
        np.testing.assert_array_equal(got, want)


@each_family
@pytest.mark.parametrize("pool", [True, False])
def test_results_are_the_same_to_the_last_bit_each_time(device, family, pool):
    shapes = [((2, 9, 8, c), (kh, 3, c, k)) for kh, c, k in ((1, 3, 33), (3, 1, 33), (3, 32, 32))]
    case = taken(family, *shapes, pool=pool)
    x, weight, bias = arguments(case)

    def everything():
        y, gate = forward(device, family.module, case, x, weight, bias)
        return y, gate, *backward(device, family.module, case, x, weight, float32(*y.shape), gate)

    first = everything()
    for again in (everything(), *in_other_orders(device, everything)):
        for got, want in zip(again, first, strict=True):
            np.testing.assert_array_equal(got, want)


def in_other_orders(device, work):
    """What the work returns with the shim's threads and blocks in reverse and in random order."""
    modules = getattr(device, "_modules", {}).values()
    for order in (1, 7) if modules else ():
        for module in modules:
            module.config(order=order, threads=1)
        yield work()
    for module in modules:
        module.config(order=0, threads=1)


@each_family
@pytest.mark.parametrize("pool", [True, False])
def test_a_layer_of_the_networks(quick_device, family, pool):
    """32 to 64 kernels at 30 by 30: several blocks in every direction."""
    case = taken(family, ((2, 30, 30, 32), (3, 3, 32, 64)), ((2, 60, 60, 1), (3, 3, 1, 32)))
    case = case._replace(pool=pool)
    test_forward_agrees_with_ops(quick_device, family, case)
    test_gradients_agree_with_ops(quick_device, family, case)


def test_the_last_slice_of_a_weight_gradient_may_be_short(quick_device):
    family = FAMILIES[0]
    for width in (255, 256, 257, 513):
        case = Case((1, 1, width, 2), (1, 3, 2, 3))
        test_gradients_agree_with_ops(quick_device, family, case)


@pytest.mark.parametrize("shape", [(1, 5), (3, 127), (16, 128), (17, 2, 3, 43), (40, 1), (2, 0)])
def test_partials_are_summed_in_order(device, shape):
    partials = float32(*shape)
    expected = np.zeros(shape[1:], np.float32)
    for partial in partials:
        expected = expected + partial  # float32, one after the other
    y = device.to_cpu(sum_partials(device.to_gpu(partials)))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("stride", [2, 3, 5])
@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize(
    "case",
    [
        Case((2, 17, 14, 1), (9, 9, 1, 8), "valid"),  # the shape of co-localisation
        Case((2, 21, 22, 1), (3, 3, 1, 5), "same", pool=True),
        Case((1, 13, 16, 3), (5, 3, 3, 2), "valid", pool=True),
    ],
    ids=str,
)
def test_a_stride_agrees_with_ops(device, case, stride, need_dx):
    x, weight, bias = arguments(case)
    options = {"padding": case.padding, "stride": stride, "pool": case.pool}
    exact = [array.astype(np.float64) for array in (x, weight, bias)]
    expected, ops_cache = ops.conv_block(*exact, **options)
    y, cache = conv_block(*map(device.to_gpu, (x, weight, bias)), **options)
    compare("y", device.to_cpu(y), expected, 1e-6, 6e-6)
    dy = float32(*expected.shape)
    found = conv_block_backward(device.to_gpu(dy), cache, need_dx)
    wanted = ops.conv_block_backward(dy.astype(np.float64), ops_cache, need_dx)
    for name, got, want in zip(("dx", "dweight", "dbias"), found, wanted, strict=True):
        compare(name, None if got is None else device.to_cpu(got), want, 1e-6, 2e-5)
