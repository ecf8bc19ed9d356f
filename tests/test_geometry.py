"""The grid and the sampler where the exact answer is known, and where the printed equations err."""

from fractions import Fraction

import loops
import numpy as np
import pytest

from ministn import ops
from ministn.ops.affine_grid import pixel_centres

DTYPES = [np.float32, np.float64]
BORDERS = ["nearest", "zeros"]
IDENTITY = [[1, 0, 0], [0, 1, 0]]

# 5 by 9 pixels: half = 2 and 4, so that normalised coordinates and results are exact. The images
# hold whole numbers for the same reason.
H, W = 5, 9
IMAGE = np.random.default_rng(3).integers(-50, 50, (1, H, W, 2)).astype(np.float64)


def warp(image, theta, size=None, **options):
    theta = np.array([theta] * len(image), image.dtype)
    grid, _ = ops.affine_grid(theta, size or image.shape[1:3])
    return ops.bilinear_sampler(image, grid, **options)


def at(*pixels, dtype=np.float64):
    """The grid (1, 1, number of points, 2) that reads a 5 by 9 image at points (x, y) in pixels."""
    half = np.array([W - 1, H - 1], dtype) / 2
    return (np.array(pixels, dtype).reshape(1, 1, -1, 2) - half) / half


def sample(image, *pixels, **options):
    y, _ = ops.bilinear_sampler(image, at(*pixels, dtype=image.dtype), **options)
    return y[0, 0]


def slopes(image, *pixels, **options):
    """(points, 2): what dy = 1 in every channel gives in x and y, per pixel and not normalised."""
    y, cache = ops.bilinear_sampler(image, at(*pixels), **options)
    _, dgrid = ops.bilinear_sampler_backward(np.ones_like(y), cache)
    return dgrid[0, 0] / [(W - 1) / 2, (H - 1) / 2]


# ---- identity


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("border", BORDERS)
def test_identity_on_a_ramp_at_every_width(dtype, border):
    """Values, cells and slopes. 4e-6 pixels is the rounding of a float32 coordinate below 64."""
    for width in range(1, 65):
        height = (7 * width) % 61 + 1
        column, row = np.meshgrid(np.arange(width), np.arange(height))
        ramp = np.stack([column, row], axis=-1)[None].astype(dtype)
        y, cache = warp(ramp, IDENTITY, border=border)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, ramp, 0, 4e-6 if dtype == np.float32 else 1e-14)
        np.testing.assert_array_equal(np.floor(cache.xs[0]), column)
        np.testing.assert_array_equal(np.floor(cache.ys[0]), row)

        only_x = np.zeros_like(y)
        only_x[..., 0] = 1  # the ramp along x rises by 1 per pixel, which is half per unit
        _, dgrid = ops.bilinear_sampler_backward(only_x, cache)
        inner = dgrid[0, :-1, :-1]  # the last row and column have their right cell outside
        np.testing.assert_allclose(inner[..., 0], (width - 1) / 2, 1e-4)
        np.testing.assert_allclose(inner[..., 1], 0, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pixel_centres_fall_into_their_own_cell(dtype):
    for length in range(2, 257):
        centres = pixel_centres(length, np.dtype(dtype))
        assert centres.dtype == dtype
        assert centres[0] == -1 and centres[-1] == 1
        half = (length - 1) / 2
        np.testing.assert_array_equal(np.floor(centres * half + half), np.arange(length))
        exact = [float(Fraction(2 * pixel, length - 1) - 1) for pixel in range(length)]
        np.testing.assert_allclose(centres, exact, rtol=0, atol=np.finfo(dtype).eps)
    assert pixel_centres(1, np.dtype(dtype)).tolist() == [0]


def test_rounding_alone_would_miss_cells():
    """Why pixel_centres corrects: rounded to nearest, 381 of 32,895 pixels fall one cell short."""
    missed = 0
    for length in range(2, 257):
        pixel, half = np.arange(length, dtype=np.float32), (length - 1) / 2
        missed += (np.floor((pixel - half) / half * half + half) != pixel).sum()
    assert missed == 381


# ---- whole images


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("border", BORDERS)
def test_exact_warps(dtype, border):
    image = IMAGE.astype(dtype)
    right, down = np.roll(image, -3, axis=2), np.roll(image, -2, axis=1)
    right[:, :, -3:] = image[:, :, -1:] if border == "nearest" else 0
    down[:, -2:] = image[:, -1:] if border == "nearest" else 0
    half_pixel = (image[:, :, :-1] + image[:, :, 1:]) / 2
    zoomed = image[:, 1:4, 2:7]  # scale 1/2: the middle of the input, enlarged or not
    cases = {
        "shift by 3 pixels in x": ([[1, 0, 3 / 4], [0, 1, 0]], None, right),
        "shift by 2 pixels in y": ([[1, 0, 0], [0, 1, 2 / 2]], None, down),
        "flip in x": ([[-1, 0, 0], [0, 1, 0]], None, image[:, :, ::-1]),
        "flip in y": ([[1, 0, 0], [0, -1, 0]], None, image[:, ::-1]),
        "transpose": ([[0, 1, 0], [1, 0, 0]], (W, H), image.transpose(0, 2, 1, 3)),
        "turn right": ([[0, 1, 0], [-1, 0, 0]], (W, H), np.rot90(image, -1, axes=(1, 2))),
        "turn left": ([[0, -1, 0], [1, 0, 0]], (W, H), np.rot90(image, 1, axes=(1, 2))),
        "turn twice": ([[-1, 0, 0], [0, -1, 0]], None, np.rot90(image, 2, axes=(1, 2))),
        "scale 1/2": ([[0.5, 0, 0], [0, 0.5, 0]], (3, 5), zoomed),
        "half the pixels": (IDENTITY, (3, 5), image[:, ::2, ::2]),
        "one pixel": (IDENTITY, (1, 1), image[:, 2:3, 4:5]),
    }
    for name, (theta, size, expected) in cases.items():
        y, _ = warp(image, theta, size, border=border)
        np.testing.assert_array_equal(y, expected, err_msg=name)
    y, _ = warp(image, [[1, 0, 0.5 / 4], [0, 1, 0]], border=border)
    np.testing.assert_array_equal(y[:, :, :-1], half_pixel)


# ---- outside the image


def test_zeros_blend_within_one_pixel_of_the_edge():
    image = np.ones((1, H, W, 1))
    points = {
        (-0.5, -0.5): 1 / 4,
        (W - 0.5, H - 0.5): 1 / 4,
        (W - 0.5, -0.5): 1 / 4,
        (-0.5, 2): 1 / 2,
        (W - 0.5, 2): 1 / 2,
        (3, -0.5): 1 / 2,
        (3, H - 0.5): 1 / 2,
        (-0.25, 2): 3 / 4,
        (0, 0): 1,
        (W - 1, H - 1): 1,
        (-1, 2): 0,
        (W, H): 0,
        (3, 100): 0,
    }
    y = sample(image, *points, border="zeros")
    assert y[:, 0].tolist() == list(points.values())
    filled = sample(image, *points, border="zeros", fill=5.0)
    assert filled[:, 0].tolist() == [5 - 4 * inside for inside in points.values()]
    assert sample(image, *points)[:, 0].tolist() == [1] * len(points)


def test_nearest_reads_the_nearest_pixel():
    x, y = np.random.default_rng(0).uniform(-20, 20, (2, 50))
    inside = np.clip(x, 0, W - 1), np.clip(y, 0, H - 1)
    np.testing.assert_allclose(
        sample(IMAGE, *zip(x, y, strict=True)), sample(IMAGE, *zip(*inside, strict=True)), 1e-12
    )


def test_nothing_outside_pulls_at_the_point_with_nearest():
    assert not slopes(IMAGE, (-0.5, -2), (W - 1, H - 1), (W + 3.5, H)).any()


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_coordinates(border, dtype):
    image = IMAGE.astype(dtype)
    grid = np.array([[-1e30, -1e30], [1e30, -1e30], [-1e30, 1e30], [1e30, 1e30]], dtype)
    y, cache = ops.bilinear_sampler(image, grid.reshape(1, 2, 2, 2), border=border)
    corners = image[:, :: H - 1, :: W - 1]
    np.testing.assert_array_equal(y, corners if border == "nearest" else np.zeros_like(corners))
    _, dgrid = ops.bilinear_sampler_backward(np.ones_like(y), cache)
    assert not dgrid.any()


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_coordinates_that_are_not_finite(border, dtype):
    """NaN out, there and nowhere else. 3e38 is finite in float32 until it is scaled to pixels."""
    image = IMAGE.astype(dtype)
    overflow = np.finfo(dtype).max
    bad = [np.nan, np.inf, -np.inf, overflow]
    grid = np.zeros((1, 2, len(bad) + 1, 2), dtype)
    grid[0, 0, 1:, 0] = bad
    grid[0, 1, 1:, 1] = bad
    y, cache = ops.bilinear_sampler(image, grid, border=border)
    assert np.isnan(y[:, :, 1:]).all()
    np.testing.assert_array_equal(y[:, :, :1], image[:, 2:3, 4:5].repeat(2, axis=1))
    dimage, dgrid = ops.bilinear_sampler_backward(np.ones_like(y), cache)
    assert np.isnan(dgrid[:, :, 1:]).all() and np.isfinite(dgrid[:, :, :1]).all()
    first = [[0, 0, 0, 0], [0, 0, 0, 1]]  # row 0, column 0 of both channels
    assert np.argwhere(np.isnan(dimage)).tolist() == (first if border == "nearest" else [])


def test_an_axis_of_length_one_has_coordinate_zero():
    column = IMAGE[:, :, :1]
    grid = np.zeros((1, 1, 3, 2))
    grid[..., 0] = [-1, 0.3, 7]
    for border in BORDERS:
        y, cache = ops.bilinear_sampler(column, grid, border=border)
        np.testing.assert_array_equal(y, column[:, [2, 2, 2]].transpose(0, 2, 1, 3))
        _, dgrid = ops.bilinear_sampler_backward(np.ones_like(y), cache)
        assert not dgrid[..., 0].any()


# ---- where the printed equations of STN mislead

X, Y = 3.25, 1.5  # a point inside, away from whole numbers
U = IMAGE[0, :, :, 0]
ROWS, COLUMNS = range(H), range(W)


def v(x, y, u=U):
    """STN (5) in pixels, one point and one channel."""
    return sum(u[n, m] * loops.kernel(x - m) * loops.kernel(y - n) for n in ROWS for m in COLUMNS)


def equation_7_as_printed(x, y):
    def cases(m):
        if abs(m - x) >= 1:
            return 0
        return 1 if m >= x else -1

    return sum(U[n, m] * loops.kernel(y - n) * cases(m) for n in ROWS for m in COLUMNS)


def test_equation_6_has_one_sum_too_many():
    """Its right side is the sum of all weights, 1 for every pixel; the derivative is one weight."""
    as_printed = sum(loops.kernel(X - m) * loops.kernel(Y - n) for n in ROWS for m in COLUMNS)
    weights = np.array([[loops.kernel(X - m) * loops.kernel(Y - n) for m in COLUMNS] for n in ROWS])
    assert as_printed == 1

    true = np.zeros((H, W))  # (5) is linear in U: changing a pixel by 1 shows its derivative
    for n, m in np.ndindex(H, W):
        changed = U.copy()
        changed[n, m] += 1
        true[n, m] = v(X, Y, changed) - v(X, Y)
    np.testing.assert_allclose(weights, true, atol=1e-12)
    assert np.count_nonzero(true) == 4 and as_printed not in true

    y, cache = ops.bilinear_sampler(U[None, ..., None], at((X, Y)))
    dimage, _ = ops.bilinear_sampler_backward(np.ones_like(y), cache)
    np.testing.assert_array_equal(dimage[0, :, :, 0], weights)


def test_equation_7_is_wrong_at_whole_numbers():
    """Printed, a pixel at exactly x counts +1 and no neighbour -1: the result is V, not a slope."""
    x, step = 3.0, 2**-10
    right, left = (v(x + step, Y) - v(x, Y)) / step, (v(x, Y) - v(x - step, Y)) / step
    assert equation_7_as_printed(x, Y) == v(x, Y)
    assert equation_7_as_printed(x, Y) not in (left, right)
    assert left != right

    found = slopes(IMAGE[..., :1], (x, Y))[0, 0]
    assert found == right == np.mean(U[1:3, 4] - U[1:3, 3])  # Y lies half-way between rows 1 and 2


def test_equation_7_holds_between_whole_numbers():
    step = 2**-10
    true = (v(X + step, Y) - v(X - step, Y)) / (2 * step)
    assert equation_7_as_printed(X, Y) == true == slopes(IMAGE[..., :1], (X, Y))[0, 0]


def test_equation_7_lacks_the_width_of_a_pixel():
    """The grid is normalised, and one unit of it is (W-1)/2 pixels, which (7) does not say."""
    step = 2**-10
    image, grid = IMAGE[..., :1], at((X, Y))
    ahead, behind = (
        ops.bilinear_sampler(image, grid + np.array([sign * step, 0]))[0].item() for sign in (1, -1)
    )
    true = (ahead - behind) / (2 * step)
    y, cache = ops.bilinear_sampler(image, grid)
    _, dgrid = ops.bilinear_sampler_backward(np.ones_like(y), cache)
    assert dgrid[0, 0, 0, 0] == true == equation_7_as_printed(X, Y) * (W - 1) / 2


def test_slope_at_whole_numbers_is_that_of_the_cell_to_the_right_and_below():
    points = [(m, n) for n in range(H - 1) for m in range(W - 1)]
    found = slopes(IMAGE[..., :1], *points)
    np.testing.assert_array_equal(found[:, 0], np.diff(U, axis=1)[:-1].ravel())
    np.testing.assert_array_equal(found[:, 1], np.diff(U, axis=0)[:, :-1].ravel())
    edge = slopes(IMAGE[..., :1], (W - 1, 2), border="zeros")
    assert edge[0, 0] == -U[2, W - 1]  # the cell to the right falls to 0
