"""Winograd's convolution: its transforms, its error in float32, and where it is chosen."""

from itertools import product

import numpy as np
import pytest
from helpers import block_arguments, check_block, float32, normal

from ministn import fast, ops
from ministn.fast import columns, tiles, ways, winograd
from ministn.fast.ways import Way
from ministn.fast.winograd import both_sides, exact_transforms, transforms

# By the side of a window: of the norm of y or a gradient, and of its root mean square for the
# largest single error. Measured over SHAPES: 1.0e-6 and 8.9e-6 with windows of 6, 1.4e-5 and 1.3e-4
# with those of 8, 3.7e-7 and 6.3e-6 by columns.
BOUNDS = {6: (3e-6, 3e-5), 7: (8e-6, 8e-5), 8: (2e-5, 2e-4)}

KINDS = [(kernel, window) for kernel, windows in ways.WINDOWS.items() for window in windows]

SIDES = [(transforms(*kind).piece, kind[1]) for kind in KINDS]  # of pieces and windows

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


def textbook():
    """Lavin & Gray 2016, section 4.1: points 0, +-1, +-2."""
    return exact_transforms((0, 1, -1, 2, -2), 3)


def test_transforms_are_the_published_ones():
    """Up to signs that cancel."""
    a, b, g = textbook()
    published = [
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
        [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
         [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
        [[6, -4, -4, 1, 1, 0], [0, -4, 4, 2, -2, 0], [0, -4, -4, 4, 4, 24]],
    ]  # fmt: skip
    for got, want in zip((a.T, b.T, 24 * g.T), published, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "exact",
    [*(exact_transforms(winograd.POINTS[n], r) for r, n in SIDES), textbook()],
    ids=lambda exact: f"{exact.piece}-{exact.window}",
)
def test_transforms_convolve_one_tile(exact):
    """In float64 exactly the convolution and its gradients."""
    a, b, g_transform = exact
    n, m, r = exact.window, exact.tile, exact.piece
    d, g, dy = normal(n, n), normal(r, r), normal(m, m)
    y, dd, dg = np.zeros((m, m)), np.zeros((n, n)), np.zeros((r, r))
    for p, q in np.ndindex(r, r):
        window = np.s_[p : p + m, q : q + m]
        y += g[p, q] * d[window]
        dd[window] += g[p, q] * dy
        dg[p, q] = (dy * d[window]).sum()
    windows, kernel = b.T @ d @ b, g_transform @ g @ g_transform.T
    spread = a @ dy @ a.T
    for found, expected in [
        (a.T @ (kernel * windows) @ a, y),
        (b @ (kernel * spread) @ b.T, dd),
        (g_transform.T @ (spread * windows) @ g_transform, dg),
    ]:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("kernel", "window"), SIDES)
def test_a_and_b_are_exact_in_float32(kernel, window):
    exact = exact_transforms(winograd.POINTS[window], kernel)
    np.testing.assert_array_equal(transforms(kernel, window).A, exact.A)
    np.testing.assert_array_equal(transforms(kernel, window).B, exact.B)


def test_both_sides_may_overwrite_its_input():
    a = transforms(3, 6).A
    d, memory = normal(4, 4, 5).astype(np.float32), np.empty(300, np.float32)
    expected = np.einsum("ai,ijm,bj->abm", a, d, a)
    memory[: d.size] = d.ravel()
    found = both_sides(a, winograd.shaped(memory, d.shape), out=memory)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def run(x, weight, dy, margin, window):
    """y, dweight and dx of one convolution by tiles."""
    convolution = tiles.Tiles(len(x), x.shape[1:], weight, margin, window)
    y, dx = np.full(dy.shape, np.nan, np.float32), np.full(x.shape, np.nan, np.float32)
    for block, n in convolution.blocks(len(x)):
        convolution.image[:n] = x[block]
        convolution.backward(n, dy[block][None, None], dx[block])
        y[block] = convolution.forward(n)[0, 0]
    return y, convolution.dweight(), dx


def checking(window):
    """A function that checks errors within the bounds of this window."""
    norm, largest = BOUNDS[window]

    def check_errors(name, got, expected):
        """Both may be None."""
        if expected is None:
            assert got is None, name
            return
        assert got.dtype == np.float32
        assert got.shape == expected.shape
        error, size = abs(got - expected), np.linalg.norm(expected)
        assert np.linalg.norm(error) <= norm * size, name
        assert error.max() <= largest * size / expected.size**0.5, name

    return check_errors


@pytest.mark.parametrize(("kernel", "window"), KINDS)
@pytest.mark.parametrize(("size", "channels", "kernels"), SHAPES, ids=str)
def test_three_directions_against_float64(size, channels, kernels, kernel, window):
    """dx and its own weight's gradient are also those of dz with the flipped kernel."""
    x, weight, _ = block_arguments((2, *size, channels), (kernel, kernel, channels, kernels))
    y, cache = ops.conv2d(x, weight)
    dy = normal(*y.shape)
    dx, dweight, _ = ops.conv2d_backward(dy, cache)
    flipped = weight[::-1, ::-1].transpose(0, 1, 3, 2)
    check, margin = checking(window), (kernel // 2,) * 2

    found = run(*float32(x, weight, dy), margin, window)
    for name, got, want in zip(("y", "dweight", "dx"), found, (y, dweight, dx), strict=True):
        check(name, got, want)
    convolution = tiles.Tiles(len(x), dy.shape[1:], float32(flipped)[0], margin, window)
    dx_found = np.empty(x.shape, np.float32)
    for block, n in convolution.blocks(len(x)):
        convolution.image[:n] = dy[block]
        dx_found[block] = convolution.forward(n, float32(x[block])[0][None, None])[0, 0]
    check("dx", dx_found, dx)
    dflipped = convolution.dweight()
    check("dflipped", dflipped.transpose(0, 1, 3, 2)[::-1, ::-1], dweight)


# -- the block, by every way -----------------------------------------------------------------------

WAYS = [(3, Way()), *((r, Way(n, by_dz)) for (r, n), by_dz in product(KINDS, (False, True)))]


def take(way, monkeypatch):
    """This way in every direction."""
    monkeypatch.setattr(ways, "forward", lambda *_: Way(way.window))
    monkeypatch.setattr(ways, "backward", lambda *_: way)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize(("kernel", "way"), WAYS, ids=str)
@pytest.mark.parametrize(
    ("size", "channels", "kernels"),
    [((9, 14), 1, 6), ((8, 12), 2, 16), ((15, 8), 7, 3), ((9, 9), 7, 5), ((8, 9), 32, 128)],
    ids=str,
)
def test_conv_block_agrees_with_ops(
    monkeypatch, size, channels, kernels, kernel, way, pool, padding, need_dx
):
    take(way, monkeypatch)
    arrays = block_arguments((3, *size, channels), (kernel, kernel, channels, kernels))
    check = checking(way.window or 6)
    check_block(arrays, need_dx, check, padding=padding, pool=pool)


@pytest.mark.parametrize("activation", ["leaky_relu", None])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("by_dz", [True, False])
def test_conv_block_of_any_kind_agrees_with_ops(monkeypatch, activation, bias, pool, by_dz):
    take(Way(8, by_dz), monkeypatch)
    arrays = block_arguments((3, 9, 13, 2), (5, 5, 2, 16))[: 2 + bias]
    check_block(arrays, True, checking(8), pool=pool, activation=activation)


@pytest.mark.parametrize(
    ("block", "images"), [(1, 1), (30, 1), (70, 1), (150, 2), (10**6, 5)], ids=str
)
def test_block_size_does_not_matter(monkeypatch, block, images):
    """From one row of one image's tiles to all images at once; whole and cut-off tiles."""
    arguments = float32(normal(5, 14, 11, 5), normal(3, 3, 5, 2), normal(5, 14, 11, 2))
    expected = run(*arguments, (1, 1), 6)
    monkeypatch.setattr(tiles, "LEAST_TILES", 1)
    monkeypatch.setattr(tiles, "BLOCK", block)
    assert tiles.Tiles(5, (14, 11, 5), arguments[1], (1, 1), 6).images == images
    for got, want in zip(run(*arguments, (1, 1), 6), expected, strict=True):
        checking(6)("y or a gradient", got, want)


def test_a_transformed_weight_is_read_for_many_tiles():
    weight = np.zeros((3, 3, 512, 2), np.float32)
    assert tiles.Tiles(99, (4, 4, 512), weight, (1, 1), 6).images == tiles.LEAST_TILES


def test_no_images():
    x, dy = np.empty((0, 8, 8, 32), np.float32), np.empty((0, 8, 8, 32), np.float32)
    y, cache = fast.conv_block(x, np.ones((3, 3, 32, 32), np.float32), np.ones(32, np.float32))
    dx, dweight, _ = fast.conv_block_backward(dy, cache)
    assert y.shape == dx.shape == x.shape
    assert not dweight.any()


# -- which way -------------------------------------------------------------------------------------


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
    made = spied(monkeypatch)
    x, weight, bias = float32(*block_arguments((1, 24, 24, channels), (3, 3, channels, kernels)))
    y, cache = fast.conv_block(x, weight, bias)
    fast.conv_block_backward(y, cache, need_dx)
    kind = columns.Columns if channels == 1 else tiles.Tiles
    by_dz = need_dx and kind is tiles.Tiles
    assert made == [(kind, channels), (kind, kernels if by_dz else channels)]


@pytest.mark.parametrize(
    ("size", "padding", "weight", "forward", "backward"),
    [
        ((60, 60), "same", (3, 3, 32, 32), Way(8), Way(8, True)),  # Table 3's
        ((15, 15), "same", (3, 3, 64, 128), Way(6), Way(6, True)),
        ((60, 60), "same", (3, 3, 1, 32), Way(), Way()),
        ((32, 32), "same", (5, 5, 48, 64), Way(8), Way(8, True)),  # house numbers
        ((10, 10), "valid", (7, 7, 88, 88), Way(8), Way(8)),  # dz would have 100 pixels, not 16
        ((8, 8), "valid", (5, 5, 20, 20), Way(8), Way(8)),
        ((28, 28), "valid", (9, 9, 1, 88), Way(), Way()),
        ((60, 60), "same", (1, 3, 32, 32), Way(), Way()),
        ((60, 60), "same", (11, 11, 32, 32), Way(), Way()),
        ((60, 60), "same", (3, 3, 64, 4), Way(), Way()),
    ],
    ids=str,
)
def test_ways(size, padding, weight, forward, backward):
    lost = 0 if padding == "same" else weight[0] - 1
    result = size[0] - lost, size[1] - lost
    assert ways.forward(result, weight, 1) == forward
    assert ways.backward(result, size, weight, 1) == backward
    assert ways.forward(result, weight, 2) == ways.backward(result, size, weight, 2) == Way()


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
    checking(8)("y", y, exact)
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
        checking(8)("gradient", got, want)
