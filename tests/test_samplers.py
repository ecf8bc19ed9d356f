"""Every kernel with every border where the answer is known: scipy's, or a formula for the case."""

from itertools import product

import loops
import numpy as np
import pytest
from helpers import normal
from scipy.ndimage import map_coordinates

from ministn import ops
from ministn.cuda import nearest_sampler
from ministn.gradcheck import KinkError, check_operation
from ministn.ops.sampling import BORDERS
from ministn.transformer.samplers import KERNELS

SCIPY = {"nearest": "nearest", "zeros": "grid-constant", "mirror": "mirror", "wrap": "grid-wrap"}
ORDER = {"nearest": 0, "bilinear": 1}
DTYPES = [np.float32, np.float64]
kernels = pytest.mark.parametrize("kernel", KERNELS)
borders = pytest.mark.parametrize("border", BORDERS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)

# 5 by 9 pixels: half = 2 and 4, so that normalised coordinates and results are exact. The image
# holds whole numbers for the same reason.
H, W = 5, 9
IMAGE = np.random.default_rng(3).integers(-50, 50, (1, H, W, 2)).astype(np.float64)


def forward(kernel, image, grid, **options):
    return getattr(ops, f"{kernel}_sampler")(image, grid, **options)


def backward(kernel, dy, cache):
    return getattr(ops, f"{kernel}_sampler_backward")(dy, cache)


def at(x, y):
    """The grid (1, 1, points, 2) that reads a 5 by 9 image at pixels x and y, which broadcast."""
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    half = np.array([W - 1, H - 1]) / 2
    return (np.stack([x, y], axis=-1).reshape(1, 1, -1, 2) - half) / half


def along(axis, points):
    """(points, C): V at these pixels along an axis of IMAGE, in row or column 2."""
    return at(points, 2) if axis == 0 else at(2, points)


def slopes(kernel, grid, axis, **options):
    """(points, C): dV along the axis, per pixel."""
    found = []
    for channel in range(2):
        y, cache = forward(kernel, IMAGE, grid, **options)
        dy = np.zeros_like(y)
        dy[..., channel] = 1
        _, dgrid = backward(kernel, dy, cache)
        found.append(dgrid[0, 0, :, axis] / ([W - 1, H - 1][axis] / 2))
    return np.stack(found, axis=-1)


# ---- borders


@pytest.mark.parametrize("kernel", ORDER)
@borders
def test_borders_are_scipys(kernel, border):
    x, y = np.random.default_rng(0).uniform(-40, 40, (2, 500))
    fill = 7.0 if border == "zeros" else 0.0
    got, _ = forward(kernel, IMAGE, at(x, y), border=border, fill=fill)
    for c in range(2):
        expected = map_coordinates(
            IMAGE[0, :, :, c], [y, x], order=ORDER[kernel], mode=SCIPY[border], cval=fill
        )
        np.testing.assert_allclose(got[0, 0, :, c], expected, rtol=0, atol=1e-10)


@kernels
@pytest.mark.parametrize(("border", "periods"), [("mirror", (16, 8)), ("wrap", (9, 5))])
def test_folded_images_are_periodic(kernel, border, periods):
    x, y = np.random.default_rng(1).uniform(0, 9, (2, 50))
    once, _ = forward(kernel, IMAGE, at(x, y), border=border)
    for times in (-3, 1, 2):
        moved = at(x + times * periods[0], y - times * periods[1])
        again, _ = forward(kernel, IMAGE, moved, border=border)
        np.testing.assert_allclose(again, once, rtol=0, atol=1e-10)


@kernels
def test_a_mirrored_image_is_seen_from_behind(kernel):
    """Reflected about the centres of the edge pixels, which are there once. Off the ties."""
    x, y = np.random.default_rng(2).uniform(0.01, 0.49, (2, 50)) + np.arange(50) % 4
    inside, _ = forward(kernel, IMAGE, at(x, y), border="mirror")
    for mirrored in (at(-x, y), at(x, -y), at(2 * (W - 1) - x, 2 * (H - 1) - y)):
        outside, _ = forward(kernel, IMAGE, mirrored, border="mirror")
        np.testing.assert_allclose(outside, inside, rtol=0, atol=1e-10)


def test_a_wrapped_image_goes_from_its_last_pixel_to_its_first():
    got, _ = ops.bilinear_sampler(IMAGE, at([W - 0.5, -0.25], 2), border="wrap")
    first, last = IMAGE[0, 2, 0], IMAGE[0, 2, -1]
    np.testing.assert_array_equal(got[0, 0], [(last + first) / 2, 0.75 * first + 0.25 * last])


@kernels
@borders
@dtypes
def test_huge_coordinates(kernel, border, dtype):
    """Whole numbers far beyond all integers: the pixel that exact arithmetic finds."""
    image = IMAGE.astype(dtype)
    values = np.array([-1e30, 1e30, 3e18, -5e9], dtype)
    grid = np.stack(np.meshgrid(values, values), axis=-1)[None]
    y, cache = forward(kernel, image, grid, border=border)
    rows, columns = (
        [int(v * dtype(length - 1) / 2 + dtype(length - 1) / 2) for v in values]
        for length in (H, W)
    )
    for (i, n), (j, m) in product(enumerate(rows), enumerate(columns)):
        if border == "mirror":
            n, m = min(n % 8, -n % 8), min(m % 16, -m % 16)
        elif border == "wrap":
            n, m = n % 5, m % 9
        else:
            n, m = (min(max(p, 0), length - 1) for p, length in ((n, H), (m, W)))
        expected = [0, 0] if border == "zeros" else image[0, n, m]
        np.testing.assert_array_equal(y[0, i, j], expected)
    dimage, dgrid = backward(kernel, np.ones_like(y), cache)
    assert np.isfinite(dgrid).all()
    assert dimage.sum() == (0 if border == "zeros" else y.size)


# ---- bad input


@kernels
@borders
@dtypes
def test_coordinates_that_are_not_finite(kernel, border, dtype):
    """NaN there and nowhere else, and nothing is read outside. The last overflows in pixels."""
    image = IMAGE.astype(dtype)
    bad = [np.nan, np.inf, -np.inf, np.finfo(dtype).max]
    grid = np.zeros((1, 2, len(bad) + 1, 2), dtype)
    grid[0, 0, 1:, 0] = bad
    grid[0, 1, 1:, 1] = bad
    y, cache = forward(kernel, image, grid, border=border)
    assert np.isnan(y[:, :, 1:]).all()
    np.testing.assert_array_equal(y[:, :, :1], image[:, 2:3, 4:5].repeat(2, axis=1))
    dimage, dgrid = backward(kernel, np.ones_like(y), cache)
    assert y.dtype == dimage.dtype == dgrid.dtype == dtype
    assert np.isnan(dgrid[:, :, 1:]).all() and np.isfinite(dgrid[:, :, :1]).all()
    first = [[0, 0, 0, 0], [0, 0, 0, 1]]  # row 0, column 0 of both channels
    assert np.argwhere(np.isnan(dimage)).tolist() == ([] if border == "zeros" else first)


@kernels
@borders
@pytest.mark.parametrize("shape", [(1, 1), (1, W), (H, 1)])
def test_an_axis_of_length_one_has_coordinate_zero(kernel, border, shape):
    image = IMAGE[:, : shape[0], : shape[1]]
    grid = np.random.default_rng(0).uniform(-3, 3, (1, 2, 6, 2))
    y, cache = forward(kernel, image, grid, border=border)
    one = np.array(shape)[::-1] == 1
    still, _ = forward(kernel, image, np.where(one, 0, grid), border=border)
    np.testing.assert_array_equal(y, still)
    _, dgrid = backward(kernel, np.ones_like(y), cache)
    assert not dgrid[..., one].any()
    if shape == (1, 1):
        np.testing.assert_array_equal(y, np.broadcast_to(image, y.shape))


# ---- points on pixels and borders: where V bends or jumps

EVERYWHERE = np.arange(-12, 22)


@pytest.mark.parametrize("axis", [0, 1])
@borders
def test_bilinear_slope_on_a_pixel_is_that_of_the_cell_to_the_right(border, axis):
    """Within a cell V is a straight line, so that slope is V(x + 1) - V(x), wherever x is."""
    here, right = along(axis, EVERYWHERE), along(axis, EVERYWHERE + 1)
    (v, _), (ahead, _) = (ops.bilinear_sampler(IMAGE, g, border=border) for g in (here, right))
    found = slopes("bilinear", here, axis, border=border)
    np.testing.assert_array_equal(found, (ahead - v)[0, 0])


@pytest.mark.parametrize("a", [-0.5, -0.75])
@pytest.mark.parametrize("axis", [0, 1])
@borders
def test_bicubic_slope_on_a_pixel_is_that_of_its_neighbours(border, axis, a):
    left, right = (along(axis, EVERYWHERE + step) for step in (-1, 1))
    (behind, _), (ahead, _) = (
        ops.bicubic_sampler(IMAGE, g, border=border, a=a) for g in (left, right)
    )
    found = slopes("bicubic", along(axis, EVERYWHERE), axis, border=border, a=a)
    np.testing.assert_array_equal(found, -a * (ahead - behind)[0, 0])


@borders
def test_whole_pixels_are_kinks_of_the_bilinear_sampler_only(border):
    """Bicubic V has a slope there: all that bends is the slope, and the check sees some of that."""
    image = normal(1, 4, 6, 2)
    pixels = np.stack(np.meshgrid(np.arange(1, 5.0), np.arange(1, 3.0)), axis=-1)[None]
    grid = pixels / [2.5, 1.5] - 1
    arrays = {"image": image, "grid": grid}
    with pytest.raises(KinkError, match="grid: every place tried is a kink"):
        check_operation(
            lambda **xs: ops.bilinear_sampler(**xs, border=border),
            ops.bilinear_sampler_backward,
            arrays,
        )
    report = check_operation(
        lambda **xs: ops.bicubic_sampler(**xs, border=border),
        ops.bicubic_sampler_backward,
        arrays,
        tolerance=1e-4,  # the slope bends by up to some ten per pixel, the check's eps is 1e-5
    )
    assert report.kinks == ()


def test_nearest_takes_the_right_one_of_two_equally_near_pixels():
    x = np.arange(-3, 12) + 0.5
    got, _ = ops.nearest_sampler(IMAGE, at(x, 2))
    np.testing.assert_array_equal(got[0, 0], IMAGE[0, 2, np.clip(np.arange(-2, 13), 0, W - 1)])
    got, _ = ops.nearest_sampler(IMAGE, at(2, x))
    np.testing.assert_array_equal(got[0, 0], IMAGE[0, np.clip(np.arange(-2, 13), 0, H - 1), 2])
    zeros, _ = ops.nearest_sampler(IMAGE + 100, at([-0.5, -0.501, W - 0.5, W - 0.501], 2),
                                   border="zeros")  # fmt: skip
    assert (zeros[0, 0] != 0).all(axis=1).tolist() == [True, False, False, True]


def half_and_just_below():
    """An image of pixels 0 and 1, and the points 0.5 and 0.49999997, which plus 0.5 is 1."""
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert np.floor(below + np.float32(0.5)) == 1
    image = np.arange(2, dtype=np.float32).reshape(1, 1, 2, 1)  # half = 1/2: pixel = (g + 1) / 2
    grid = np.array([[0, 0], [2 * below - 1, 0]], np.float32).reshape(1, 1, 2, 2)
    assert (grid[0, 0, 1, 0] + np.float32(1)) / 2 == below
    return image, grid


def test_nearest_does_not_round_twice():
    y, _ = ops.nearest_sampler(*half_and_just_below())
    assert y.ravel().tolist() == [1, 0]


def test_nearest_does_not_round_twice_on_a_gpu(device):
    y, _ = nearest_sampler(*map(device.to_gpu, half_and_just_below()))
    assert device.to_cpu(y).ravel().tolist() == [1, 0]


@borders
def test_nearest_gives_the_grid_no_gradient_because_nothing_changes(border):
    rng = np.random.default_rng(4)
    pixels = rng.integers(-5, 12, (2, 40)) + rng.uniform(-0.4, 0.4, (2, 40))
    y, cache = ops.nearest_sampler(IMAGE, at(*pixels), border=border)
    nudged, _ = ops.nearest_sampler(IMAGE, at(*(pixels + 0.05)), border=border)
    np.testing.assert_array_equal(nudged, y)
    dimage, dgrid = ops.nearest_sampler_backward(normal(*y.shape), cache)
    assert dimage.any() and not dgrid.any()


# ---- the bicubic kernel


@pytest.mark.parametrize("seed", range(5))
def test_bicubic_reproduces_parabolas_only_with_keys_constant(seed):
    """Where all pixels that count are inside."""
    rng = np.random.default_rng(seed)
    c = rng.normal(size=6)
    x, y = rng.uniform(1, W - 2, 20), rng.uniform(1, H - 2, 20)
    row, column = np.mgrid[:H, :W]

    def surface(x, y):
        return c[0] + c[1] * x + c[2] * y + c[3] * x * x + c[4] * x * y + c[5] * y * y

    for a in (-0.5, -0.75):
        got, _ = ops.bicubic_sampler(surface(column, row)[None, ..., None], at(x, y), a=a)
        error = abs(got[0, 0, :, 0] - surface(x, y)).max()
        assert error < 1e-12 if a == -0.5 else error > 1e-2


@dtypes
@borders
def test_bicubic_leaves_pixels_alone(dtype, border):
    image = IMAGE.astype(dtype)
    grid, _ = ops.affine_grid(np.array([[[1, 0, 0], [0, 1, 0]]], dtype), (H, W))
    np.testing.assert_array_equal(ops.bicubic_sampler(image, grid, border=border)[0], image)


# ---- output of any size


@kernels
@borders
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (3, 5), (4, 7), (5, 9), (9, 17), (13, 6), (17, 33)], ids=str
)
def test_output_of_any_size(kernel, border, size):
    """The identity, at points a fixed distance apart from the first to the last pixel."""
    grid, _ = ops.affine_grid(np.array([[[1.0, 0, 0], [0, 1, 0]]]), size)
    got, cache = forward(kernel, IMAGE, grid, border=border)
    x, y = (
        np.arange(n) * (length - 1) / (n - 1) if n > 1 else np.array([(length - 1) / 2])
        for n, length in zip(size[::-1], (W, H), strict=True)
    )
    for c in range(2):
        if kernel == "bicubic":
            grid = at(*np.meshgrid(x, y)).reshape(1, *size, 2)
            expected = loops.bicubic_sampler(IMAGE[..., c : c + 1], grid, border)[0, ..., 0]
        else:
            points = np.meshgrid(y, x, indexing="ij")
            expected = map_coordinates(
                IMAGE[0, :, :, c], points, order=ORDER[kernel], mode=SCIPY[border]
            )
        np.testing.assert_allclose(got[0, :, :, c], expected, rtol=0, atol=1e-10)
    dimage, dgrid = backward(kernel, np.ones_like(got), cache)
    assert dimage.shape == IMAGE.shape and dgrid.shape == (1, *size, 2)
    weights, _ = forward(kernel, np.ones_like(IMAGE), at(*np.meshgrid(x, y)), border=border)
    assert dimage.sum() == pytest.approx(weights.sum(), rel=1e-12)
