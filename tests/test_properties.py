"""What must hold whatever the numbers are: linearity, adjointness, bounds, composition, shapes."""

import numpy as np
import pytest
from helpers import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from ministn import ops
from ministn.ops.sampling import BORDERS
from ministn.randomness import Step

quick = settings(max_examples=25, deadline=None, derandomize=True, database=None)
CLOSE = {"rtol": 1e-10, "atol": 1e-11}

seeds = st.integers(0, 2**32 - 1)
small = st.integers(1, 6)
borders = st.sampled_from(BORDERS)


def dot(a, b):
    return float((a * b).sum())


@st.composite
def images_and_grids(draw):
    """An image (N, H, W, C) of any small shape and a grid that reaches beyond it on all sides."""
    rng = np.random.default_rng(draw(seeds))
    n, height, width, channels, h, w = (draw(small) for _ in range(6))
    scale = draw(st.sampled_from([0.1, 1, 3, 1e6]))
    image = rng.normal(size=(n, height, width, channels))
    return image, rng.uniform(-scale, scale, (n, h, w, 2))


@quick
@given(images_and_grids(), borders)
def test_sampler_is_linear_in_the_image_and_backward_is_its_transpose(pair, border):
    image, grid = pair
    other = image[..., ::-1] + 1
    y, cache = ops.bilinear_sampler(image, grid, border=border)
    z, _ = ops.bilinear_sampler(other, grid, border=border)
    both, _ = ops.bilinear_sampler(2 * image - 3 * other, grid, border=border)
    np.testing.assert_allclose(both, 2 * y - 3 * z, **CLOSE)

    dy = np.cos(np.arange(y.size)).reshape(y.shape)
    dimage, dgrid = ops.bilinear_sampler_backward(dy, cache)
    assert dimage.shape == image.shape and dgrid.shape == grid.shape
    np.testing.assert_allclose(dot(dy, y), dot(dimage, image), **CLOSE)


@quick
@given(images_and_grids(), borders, st.floats(-2, 2))
def test_sampled_values_lie_between_the_image_and_the_fill(pair, border, fill):
    image, grid = pair
    options = {"border": border, "fill": fill} if border == "zeros" else {"border": border}
    y, _ = ops.bilinear_sampler(image, grid, **options)
    values = [image.min(), image.max()] + ([fill] if border == "zeros" else [])
    assert min(values) - 1e-12 <= y.min() and y.max() <= max(values) + 1e-12


@quick
@given(images_and_grids(), borders)
def test_weights_sum_to_one(pair, border):
    """A constant image stays constant, and gives the grid no gradient."""
    _, grid = pair
    image = np.full((len(grid), 3, 5, 2), 0.7)
    options = {"border": border, "fill": 0.7} if border == "zeros" else {"border": border}
    y, cache = ops.bilinear_sampler(image, grid, **options)
    np.testing.assert_allclose(y, 0.7, **CLOSE)
    _, dgrid = ops.bilinear_sampler_backward(np.ones_like(y), cache)
    np.testing.assert_allclose(dgrid, 0, atol=1e-12)


@quick
@given(images_and_grids(), st.permutations(range(6)))
def test_images_and_channels_do_not_mix(pair, order):
    image, grid = pair
    order = [i for i in order if i < len(image)]
    y, _ = ops.bilinear_sampler(image, grid)
    np.testing.assert_array_equal(ops.bilinear_sampler(image[order], grid[order])[0], y[order])
    one = ops.bilinear_sampler(image[..., :1], grid)[0]
    np.testing.assert_array_equal(one, y[..., :1])


@quick
@given(seeds, small, small, small)
def test_grids_compose_like_matrices(seed, n, h, w):
    """The grid of A B is A applied to the points of the grid of B: outer map first."""
    a, b = np.random.default_rng(seed).normal(size=(2, n, 2, 3))
    bottom = np.broadcast_to([[[0.0, 0, 1]]], (n, 1, 3))
    product = a @ np.concatenate([b, bottom], axis=1)
    inner, _ = ops.affine_grid(b, (h, w))
    expected = np.einsum("nrc,nhwc->nhwr", a[:, :, :2], inner) + a[:, None, None, :, 2]
    grid, _ = ops.affine_grid(product, (h, w))
    assert grid.shape == (n, h, w, 2)
    np.testing.assert_allclose(grid, expected, **CLOSE)


@quick
@given(seeds, st.floats(-3, 3), st.floats(-3, 3))
def test_translation_moves_the_grid(seed, tx, ty):
    theta = np.random.default_rng(seed).normal(size=(2, 2, 3))
    grid, _ = ops.affine_grid(theta, (3, 4))
    moved, _ = ops.affine_grid(theta + np.array([[0, 0, tx], [0, 0, ty]]), (3, 4))
    np.testing.assert_allclose(moved, grid + np.array([tx, ty]), **CLOSE)


@quick
@given(
    seeds,
    st.tuples(small, small, small, small, small),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([1, 3]),
    st.sampled_from(["same", "valid"]),
)
def test_convolution_is_linear_and_backward_is_its_transpose(seed, sizes, kh, kw, padding):
    n, height, width, channels, kernels = sizes
    if padding == "valid":
        height, width = height + kh - 1, width + kw - 1
    rng = np.random.default_rng(seed)
    x, other = rng.normal(size=(2, n, height, width, channels))
    weight, tilted = rng.normal(size=(2, kh, kw, channels, kernels))

    def conv(x, weight):
        return ops.conv2d(x, weight, padding=padding)[0]

    y, cache = ops.conv2d(x, weight, padding=padding)
    np.testing.assert_allclose(conv(2 * x - other, weight), 2 * y - conv(other, weight), **CLOSE)
    np.testing.assert_allclose(conv(x, 2 * weight - tilted), 2 * y - conv(x, tilted), **CLOSE)
    dy = rng.normal(size=y.shape)
    dx, dweight, dbias = ops.conv2d_backward(dy, cache)
    assert dbias is None
    np.testing.assert_allclose(dot(dx, x), dot(dy, y), **CLOSE)
    np.testing.assert_allclose(dot(dweight, weight), dot(dy, y), **CLOSE)


@pytest.mark.parametrize("shift", [(0, 1), (2, 0), (-1, 2)])
def test_convolution_moves_with_its_input(shift):
    x = np.zeros((2, 9, 11, 3))
    x[:, 3:6, 3:8] = normal(2, 3, 5, 3)
    weight = normal(3, 3, 3, 4)
    moved, _ = ops.conv2d(np.roll(x, shift, axis=(1, 2)), weight)
    np.testing.assert_array_equal(moved, np.roll(ops.conv2d(x, weight)[0], shift, axis=(1, 2)))


@quick
@given(
    seeds,
    st.sampled_from(
        [
            ("max_pool2d", (2, 5, 7, 3), {}),
            ("max_pool2d", (1, 7, 6, 2), {"size": 3}),
            ("max_pool2d", (2, 7, 6, 2), {"size": 3, "stride": 2}),
            ("relu", (2, 5, 3), {}),
            ("leaky_relu", (2, 5, 3), {}),
            ("dropout", (5, 3), {"rate": 0.4, "step": Step(1, 2), "stream": 3}),
            ("dropout", (5, 3, 2), {"rate": 0.4, "step": Step(1, 2), "stream": 3}),
        ]
    ),
    st.floats(0.1, 10),
)
def test_operations_that_scale_with_their_input(seed, case, factor):
    """f(a x) = a f(x) for a > 0, so <dx, x> = <dy, f(x)> (Euler), and relu(pool) = pool(relu)."""
    name, shape, options = case
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    y, cache = getattr(ops, name)(x, **options)
    scaled, _ = getattr(ops, name)(factor * x, **options)
    np.testing.assert_allclose(scaled, factor * y, **CLOSE)
    dy = rng.normal(size=y.shape)
    dx = getattr(ops, f"{name}_backward")(dy, cache)
    np.testing.assert_allclose(dot(dx, x), dot(dy, y), **CLOSE)


@quick
@given(seeds, small, small, st.booleans())
def test_block_is_pool_of_relu_of_convolution(seed, channels, kernels, pool):
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=(2, 5, 7, channels)), rng.normal(size=(3, 3, channels, kernels))
    bias = rng.normal(size=kernels)
    y, _ = ops.conv_block(x, weight, bias, pool=pool)
    expected = ops.relu(ops.conv2d(x, weight, bias)[0])[0]
    if pool:
        expected = ops.max_pool2d(expected)[0]
    np.testing.assert_allclose(y, expected, **CLOSE)


@quick
@given(seeds, small, st.integers(2, 9), st.floats(-100, 100))
def test_loss_ignores_a_common_shift_of_the_logits(seed, n, classes, shift):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(n, classes)), rng.integers(0, classes, n)
    loss, cache = ops.softmax_cross_entropy(logits, labels)
    assert loss > 0
    assert abs(ops.softmax_cross_entropy(logits + shift, labels)[0] - loss) < 1e-11
    dlogits = ops.softmax_cross_entropy_backward(cache)
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-14)
    assert ops.softmax_cross_entropy(logits - 0.1 * dlogits, labels)[0] < loss
