"""Winograd's convolution: its transforms, its error in float32, and where it is chosen."""

import numpy as np
import pytest
from helpers import block_arguments, check_block, float32, normal

from ministn import fast, ops
from ministn.fast import columns, tiles, winograd
from ministn.fast.conv_block import _convolution
from ministn.fast.winograd import both_sides

# Of the norm of y or a gradient, and of its root mean square for the largest single error.
# Measured over SHAPES: 1.1e-6 and 1.2e-5; columns 3.7e-7 and 6.3e-6.
NORM, LARGEST = 3e-6, 3e-5

# (H, W), C, K
SHAPES = [
    *[((9, 13), channels, 8 - channels) for channels in range(1, 8)],
    ((1, 1), 3, 2),
    ((3, 2), 2, 3),
    ((4, 4), 5, 5),
    ((5, 21), 4, 1),
    ((15, 14), 32, 32),
    ((60, 60), 32, 32),
    ((30, 30), 32, 64),
    ((30, 30), 64, 64),
    ((15, 15), 64, 128),
    ((15, 15), 128, 128),
]


@pytest.fixture
def everywhere(monkeypatch):
    """Winograd for every 3x3 convolution."""
    monkeypatch.setattr(tiles, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(tiles, "LEAST_FULL", 0)


def test_transforms_are_the_published_ones():
    """Lavin & Gray 2016, section 4.1, up to signs that cancel: their points are 0, +-1, +-2."""
    a, b, g = winograd.transforms((0, 1, -1, 2, -2))
    published = [
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
        [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
         [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
        [[6, -4, -4, 1, 1, 0], [0, -4, 4, 2, -2, 0], [0, -4, -4, 4, 4, 24]],
    ]  # fmt: skip
    for got, want in zip((a.T, b.T, 24 * g.T), published, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)


def test_transforms_convolve_one_tile():
    """In float64 exactly the convolution, its points as they are and the textbooks'."""
    d, g, dy = normal(6, 6, 1), normal(3, 3, 1), normal(4, 4, 1)
    y, dg = np.zeros((4, 4)), np.zeros((3, 3))
    for p, q in np.ndindex(3, 3):
        y += g[p, q] * d[p : p + 4, q : q + 4, 0]
        dg[p, q] = (dy * d[p : p + 4, q : q + 4])[..., 0].sum()
    for points in (winograd.POINTS, (0, 1, -1, 2, -2)):
        a, b, g_transform = winograd.transforms(points)
        windows = b.T @ d[..., 0] @ b
        products = g_transform @ g[..., 0] @ g_transform.T * windows
        np.testing.assert_allclose(a.T @ products @ a, y, rtol=0, atol=1e-12)
        dproducts = a @ dy[..., 0] @ a.T * windows
        np.testing.assert_allclose(g_transform.T @ dproducts @ g_transform, dg, rtol=0, atol=1e-12)


def test_a_and_b_are_exact_in_float32():
    a, b, _ = winograd.transforms(winograd.POINTS)
    np.testing.assert_array_equal(winograd.A, a)
    np.testing.assert_array_equal(winograd.B, b)


def test_both_sides_may_overwrite_its_input():
    d, memory = normal(4, 4, 5).astype(np.float32), np.empty(300, np.float32)
    expected = np.einsum("ai,ijm,bj->abm", winograd.A, d, winograd.A)
    memory[: d.size] = d.ravel()
    found = both_sides(winograd.A, winograd.shaped(memory, d.shape), out=memory)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def run(kind, x, weight, dy, margin=(1, 1)):
    """y and dweight of one convolution."""
    convolution = kind(len(x), x.shape[1:], weight, margin)
    y = np.full(dy.shape, np.nan, np.float32)
    for block, n in convolution.blocks(len(x)):
        convolution.image[:n] = x[block]
        convolution.run(n, y=y[block], dy=dy[block])
    return y, convolution.dweight()


def check_errors(name, got, expected):
    """Both may be None."""
    if expected is None:
        assert got is None, name
        return
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    error, size = abs(got - expected), np.linalg.norm(expected)
    assert np.linalg.norm(error) <= NORM * size, name
    assert error.max() <= LARGEST * size / expected.size**0.5, name


@pytest.mark.parametrize(("size", "channels", "kernels"), SHAPES, ids=str)
def test_three_directions_against_float64(size, channels, kernels):
    """dx and its own weight's gradient are those of dz with the flipped kernel."""
    x, weight, _ = block_arguments((3, *size, channels), (3, 3, channels, kernels))
    y, cache = ops.conv2d(x, weight)
    dy = normal(*y.shape)
    dx, dweight, _ = ops.conv2d_backward(dy, cache)
    flipped = weight[::-1, ::-1].transpose(0, 1, 3, 2)

    found, dfound = run(tiles.Tiles, *float32(x, weight, dy))
    check_errors("y", found, y)
    check_errors("dweight", dfound, dweight)
    found, dfound = run(tiles.Tiles, *float32(dy, flipped, x))
    check_errors("dx", found, dx)
    check_errors("dflipped", dfound.transpose(0, 1, 3, 2)[::-1, ::-1], dweight)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize(
    ("size", "channels", "kernels"),
    [((9, 13), 1, 6), ((8, 7), 2, 16), ((6, 5), 7, 3), ((7, 6), 32, 128)],
    ids=str,
)
def test_conv_block_agrees_with_ops(everywhere, size, channels, kernels, pool, padding, need_dx):
    arrays = block_arguments((3, *size, channels), (3, 3, channels, kernels))
    check_block(arrays, need_dx, check_errors, padding=padding, pool=pool)


@pytest.mark.parametrize("activation", ["leaky_relu", None])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pool", [True, False])
def test_conv_block_of_any_kind_agrees_with_ops(everywhere, activation, bias, pool):
    arrays = block_arguments((3, 9, 13, 2), (3, 3, 2, 16))[: 2 + bias]
    check_block(arrays, True, check_errors, pool=pool, activation=activation)


def spied(monkeypatch):
    """The list to which the kind of every convolution made from now on is added, and its C."""
    made = []
    for kind in (tiles.Tiles, columns.Columns):
        initialise = kind.__init__

        def spy(self, batch, shape, *others, initialise=initialise):
            made.append((type(self), shape[2]))
            initialise(self, batch, shape, *others)

        monkeypatch.setattr(kind, "__init__", spy)
    return made


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize(("channels", "kernels"), [(32, 32), (128, 32), (32, 160), (1, 32)])
def test_every_direction_is_chosen_by_shape(monkeypatch, channels, kernels, need_dx):
    """For dx it is dz that is convolved, also with C < K/4: columns would be those of x."""
    made = spied(monkeypatch)
    x, weight, bias = float32(*block_arguments((1, 8, 8, channels), (3, 3, channels, kernels)))
    y, cache = fast.conv_block(x, weight, bias)
    fast.conv_block_backward(y, cache, need_dx)
    kind = columns.Columns if channels == 1 else tiles.Tiles
    by_dz = need_dx and kind is tiles.Tiles
    assert made == [(kind, channels), (kind, kernels if by_dz else channels)]


@pytest.mark.parametrize("block", [1, 30, 70, 150, 10**6])
def test_block_size_does_not_matter(monkeypatch, block):
    """From one row of one image's tiles to all images at once; whole and cut-off tiles."""
    arguments = float32(normal(5, 14, 11, 5), normal(3, 3, 5, 2), normal(5, 14, 11, 2))
    expected = run(tiles.Tiles, *arguments)
    monkeypatch.setattr(tiles, "BLOCK", block)
    convolution = tiles.Tiles(5, (14, 11, 5), arguments[1], (1, 1))
    assert convolution.images == {1: 1, 30: 1, 70: 1, 150: 2, 10**6: 5}[block]
    for got, want in zip(run(tiles.Tiles, *arguments), expected, strict=True):
        check_errors("y or dweight", got, want)


def test_no_images():
    x, dy = np.empty((0, 8, 8, 32), np.float32), np.empty((0, 8, 8, 32), np.float32)
    y, cache = fast.conv_block(x, np.ones((3, 3, 32, 32), np.float32), np.ones(32, np.float32))
    dx, dweight, _ = fast.conv_block_backward(dy, cache)
    assert y.shape == dx.shape == x.shape
    assert not dweight.any()


@pytest.mark.parametrize(
    ("size", "weight", "chosen"),
    [
        ((60, 60), (3, 3, 32, 32), True),
        ((30, 30), (3, 3, 32, 64), True),
        ((30, 30), (3, 3, 64, 64), True),
        ((15, 15), (3, 3, 64, 128), True),
        ((15, 15), (3, 3, 128, 128), True),
        ((7, 7), (3, 3, 128, 128), True),  # the tiles are 49/64 full
        ((9, 9), (3, 3, 128, 128), False),  # 81/144
        ((60, 60), (3, 3, 1, 32), False),
        ((60, 60), (3, 3, 16, 64), False),
        ((60, 60), (3, 3, 64, 16), False),
        ((60, 60), (5, 5, 32, 32), False),
        ((60, 60), (1, 3, 32, 32), False),
    ],
)
def test_choice(size, weight, chosen):
    assert tiles.pays(size, weight) is chosen
    margin = (weight[0] // 2, weight[1] // 2)
    convolution = _convolution(2, (*size, weight[2]), np.ones(weight, np.float32), margin)
    assert type(convolution) is (tiles.Tiles if chosen else columns.Columns)


def patch_on_black(bias):
    """A block's arguments: a bright patch that ends within tiles, and the same bias everywhere."""
    x = np.zeros((1, 20, 20, 32))
    x[:, 6:11, 6:11] = abs(normal(5, 5, 32))
    weight = normal(3, 3, 32, 32) / 17
    return float32(x, weight, np.full(32, bias))


def unseen():
    """True for the pixels whose window is black."""
    black = np.ones((20, 20), bool)
    black[5:12, 5:12] = False
    return black


def test_zero_bias_on_black_is_a_kink():
    """Why whole networks are not compared there: zeros of the columns become +-1e-7."""
    x, weight, bias = patch_on_black(0.0)
    y, cache = fast.conv_block(x, weight, bias)
    exact, exact_cache = ops.conv_block(x, weight, bias)
    check_errors("y", y, exact)
    assert (exact[:, unseen()] == 0).all()
    opened = y[:, unseen()] > 0
    assert opened.sum() > 100
    assert y[:, unseen()].max() < 1e-6

    dy = np.ones_like(y)
    _, _, dbias = fast.conv_block_backward(dy, cache)
    _, _, exact_dbias = ops.conv_block_backward(dy, exact_cache)
    np.testing.assert_array_equal(dbias - exact_dbias, opened.sum(axis=(0, 1)))


@pytest.mark.parametrize("bias", [-0.01, 0.01])
def test_other_biases_on_black_are_not(bias):
    arguments = patch_on_black(bias)
    y, cache = fast.conv_block(*arguments)
    expected, exact_cache = ops.conv_block(*arguments)
    np.testing.assert_array_equal(y > 0, expected > 0)
    dy = normal(*y.shape).astype(np.float32)
    gradients = fast.conv_block_backward(dy, cache), ops.conv_block_backward(dy, exact_cache)
    for got, want in zip(*gradients, strict=True):
        check_errors("gradient", got, want)
