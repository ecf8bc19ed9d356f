"""Operations on volumes on the GPU, against ops: grid, trilinear sampler, pooling, projection."""

import numpy as np
import pytest
from helpers import GRADIENT_TOLERANCE, TOLERANCE, as_view, compare, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cuda_sampler import check_order_does_not_matter

from ministn import cuda, ops
from ministn.ops.affine_grid import pixel_centres
from ministn.transformer.transforms import Affine3d

FORWARD, GRADIENT = TOLERANCE[np.float32], GRADIENT_TOLERANCE[np.float32]
quick = settings(max_examples=15, deadline=None, derandomize=True, database=None)
BORDERS = [("nearest", 0.0), ("zeros", 0.0), ("zeros", 1.5), ("mirror", 0.0), ("wrap", 0.0)]


def float32(*shape):
    return normal(*shape).astype(np.float32)


# ---- grid generator

GRIDS = [
    (3, (3, 5, 2)),
    (1, (1, 6, 4)),
    (2, (4, 1, 1)),
    (3, (1, 1, 1)),
    (2, (7, 9, 11)),
    (0, (3, 4, 2)),
]
grids = pytest.mark.parametrize(("n", "size"), GRIDS, ids=str)


@grids
def test_affine_grid_3d_is_numpys_to_the_last_bit(device, n, size):
    theta = float32(n, 3, 4)
    grid, _ = cuda.affine_grid_3d(device.to_gpu(theta), size)
    np.testing.assert_array_equal(device.to_cpu(grid), ops.affine_grid_3d(theta, size)[0])


@grids
def test_affine_grid_3d_backward_agrees_with_ops(device, n, size):
    """Largest difference 3.8e-6, from a sum of 693 terms whose magnitudes add up to 595."""
    theta, dgrid = float32(n, 3, 4), float32(n, *size, 3)
    _, ops_cache = ops.affine_grid_3d(theta.astype(np.float64), size)
    _, cache = cuda.affine_grid_3d(device.to_gpu(theta), size)
    dtheta = cuda.affine_grid_3d_backward(device.to_gpu(dgrid), cache)
    expected = ops.affine_grid_3d_backward(dgrid.astype(np.float64), ops_cache)
    compare("dtheta", device.to_cpu(dtheta), expected, 1e-6, 1e-5)


def test_the_transform_agrees_with_ops(device):
    """Its identity to the last bit, what is watched of it, and what a projection shows of it."""
    transform = Affine3d()
    grid, _ = transform.forward(device.to_gpu(np.float32([transform.identity] * 2)), (5, 9, 60))
    centres = [pixel_centres(length, np.dtype(np.float32)) for length in (5, 9, 60)]
    z, y, x = np.meshgrid(*centres, indexing="ij")
    np.testing.assert_array_equal(device.to_cpu(grid), [np.stack([x, y, z], axis=-1)] * 2)
    theta = float32(4, 12)
    expected, _ = transform.forward(theta, (2, 3, 4))
    on_device = device.to_gpu(theta)
    grid, _ = transform.forward(on_device, (2, 3, 4))
    affine = transform.affine(on_device, grid)
    assert affine.flags.c_contiguous
    np.testing.assert_array_equal(device.to_cpu(affine), transform.affine(theta, expected))
    seen = transform.resized(on_device, grid, (4, 3))
    np.testing.assert_array_equal(device.to_cpu(seen), transform.resized(theta, expected, (4, 3)))


# ---- sampler


def whole_and_half_voxels(n, size, lengths):
    """Points on centres and faces of voxels, up to 3 outside: everywhere that V bends."""
    rng = np.random.default_rng([n, *size, *lengths])
    grid = np.zeros((n, *size, 3), np.float32)
    for axis, length in enumerate(reversed(lengths)):
        voxel = rng.integers(-6, 2 * length + 6, grid.shape[:-1]) / 2
        grid[..., axis] = voxel / ((length - 1) / 2) - 1 if length > 1 else voxel
    return grid


def far_outside(n, size, lengths):
    grid = whole_and_half_voxels(n, size, lengths)
    grid[0, 0] = [1e30, -1e30, 1e30]
    grid[0, :, 0] = [-1e9, 0.3, 1e9]
    return grid


def not_finite(n, size, lengths):
    grid = whole_and_half_voxels(n, size, lengths)
    grid[0, 0, 0] = [np.nan, 0.1, 0.2]
    grid[-1, 1:, 0] = [0.1, -np.inf, 0.2]
    grid[-1, 0, -1] = [0.1, 0.2, 3e38]
    return grid


VOLUMES = [  # volume, size of the output
    ((2, 4, 7, 5), (3, 4, 2)),
    ((1, 6, 3, 8), (7, 6, 8)),  # 2 blocks
    ((2, 1, 5, 4), (2, 3, 4)),
    ((2, 4, 1, 3), (3, 2, 4)),
    ((1, 3, 5, 1), (2, 4, 3)),
    ((2, 1, 1, 1), (2, 3, 2)),
]


def check_sampler(device, volume, grid, dtype=np.float32, **options):
    """Against ops in a dtype: in float32, where points on a kink must be given the same cell."""
    dy = np.random.default_rng(5).normal(size=grid.shape[:-1]).astype(np.float32)
    reference = [array.astype(dtype) for array in (volume, grid, dy)]
    expected, ops_cache = ops.trilinear_sampler(*reference[:2], **options)
    y, cache = cuda.trilinear_sampler(device.to_gpu(volume), device.to_gpu(grid), **options)
    compare("y", device.to_cpu(y), expected, *FORWARD)
    want_dvolume, want_dgrid = ops.trilinear_sampler_backward(reference[2], ops_cache)
    dvolume, dgrid = cuda.trilinear_sampler_backward(device.to_gpu(dy), cache)
    compare("dvolume", device.to_cpu(dvolume), want_dvolume, *GRADIENT)
    compare("dgrid", device.to_cpu(dgrid), want_dgrid, *GRADIENT)
    nothing, alone = cuda.trilinear_sampler_backward(device.to_gpu(dy), cache, False)
    assert nothing is None
    np.testing.assert_array_equal(device.to_cpu(alone), device.to_cpu(dgrid))


@pytest.mark.parametrize("grid", [whole_and_half_voxels, far_outside, not_finite])
@pytest.mark.parametrize(("border", "fill"), BORDERS)
@pytest.mark.parametrize(("volume", "size"), VOLUMES, ids=str)
def test_trilinear_sampler_agrees_with_ops(device, volume, size, border, fill, grid):
    points = grid(volume[0], size, volume[1:])
    check_sampler(device, float32(*volume), points, border=border, fill=fill)


@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), *[st.integers(1, 6)] * 3),
    size=st.tuples(*[st.integers(1, 6)] * 3),
    border=st.sampled_from(BORDERS),
)
def test_trilinear_sampler_agrees_with_ops_in_float64_at_any_shape(
    device, seed, shape, size, border
):
    """Points up to 3 voxels outside, and at least 0.1 from where V bends."""
    rng = np.random.default_rng(seed)
    grid = np.zeros((shape[0], *size, 3), np.float32)
    for axis, length in enumerate(shape[:0:-1]):
        voxel = rng.integers(-3, length + 2, grid.shape[:-1])
        voxel = voxel + rng.uniform(0.1, 0.9, grid.shape[:-1])
        grid[..., axis] = voxel / ((length - 1) / 2) - 1 if length > 1 else voxel
    volume = rng.normal(size=shape).astype(np.float32)
    check_sampler(device, volume, grid, np.float64, border=border[0], fill=border[1])


@pytest.mark.parametrize(("volume", "size"), [((0, 3, 4, 5), (2, 3, 2)), ((2, 3, 4, 5), (0, 3, 2))])
def test_trilinear_sampler_of_nothing(device, volume, size):
    check_sampler(device, float32(*volume), np.zeros((volume[0], *size, 3), np.float32))


def test_trilinear_sampler_reads_nan_and_inf_only_where_they_are(device):
    """A voxel without weight counts as in ops: 0 inf is NaN."""
    volume = float32(2, 4, 5, 6)
    volume[0, 1, 2, 0], volume[0, 3, 3, 1], volume[1, 3, 4, 5] = np.nan, np.inf, -np.inf
    grid = whole_and_half_voxels(2, (4, 5, 6), (4, 5, 6))
    with np.errstate(invalid="ignore"):
        for border, _ in BORDERS:
            check_sampler(device, volume, grid, border=border)


@pytest.mark.parametrize("size", [(5, 43, 2), (3, 4, 60), (37, 2, 3)], ids=str)
def test_the_identity_lies_in_the_cells_of_ops(device, size):
    """Every point is on a voxel, where a last bit decides whose slope it gets."""
    grid, _ = ops.affine_grid_3d(np.eye(3, 4, dtype=np.float32)[None], size)
    check_sampler(device, float32(1, *size), grid)


# ---- the gradient of the volume


def volume_gradient(device, shape, grid, dy, **options):
    arrays = device.zeros(shape, np.float32), device.to_gpu(grid)
    _, cache = cuda.trilinear_sampler(*arrays, **options)
    return device.to_cpu(cuda.trilinear_sampler_backward(device.to_gpu(dy), cache)[0])


def scattered(n):
    """A grid up to a little outside, and dy."""
    grid = np.random.default_rng(n).uniform(-1.1, 1.1, (n, 6, 7, 5, 3)).astype(np.float32)
    return grid, float32(n, 6, 7, 5)


@pytest.mark.parametrize("scale", [1, 2.0**100, 2.0**-100])
def test_volume_gradient_is_within_the_bound(device, scale):
    """Against the exact sum of what each point adds, which ops finds one point at a time."""
    grid, dy = scattered(1)
    dy *= np.float32(scale)
    grid = np.round(grid * 16) / 16  # on eighths of voxels all weights are exact
    got = volume_gradient(device, (1, 5, 5, 5), grid, dy, border="zeros")
    points = dy.size
    apart = np.zeros((points, 5, 5, 5), np.float32), grid.reshape(points, 1, 1, 1, 3)
    _, cache = ops.trilinear_sampler(*apart, border="zeros")
    parts, _ = ops.trilinear_sampler_backward(dy.reshape(points, 1, 1, 1), cache)
    exact = parts.sum(axis=0, dtype=np.float64)
    bound = 4 * max(points**2 * float(abs(dy).max()) * 2.0**-60, points * 2.0**-126)
    error = abs(got[0].astype(np.float64) - exact)
    assert (error <= np.spacing(abs(got[0])).astype(np.float64) / 2 + bound).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [(1, 1, 1), (8, 8, 4), (8, 8, 5)])
def test_largest_sum_there_can_be(device, size, sign):
    """All points in one voxel, with the largest dy."""
    value = sign * np.nextafter(np.float32(2), np.float32(0))
    grid, dy = np.full((1, *size, 3), -1.5, np.float32), np.full((1, *size), value, np.float32)
    got = volume_gradient(device, (1, 3, 3, 3), grid, dy)
    assert got[0, 0, 0, 0] / (value * np.prod(size)) == pytest.approx(1, abs=2e-7)
    assert np.count_nonzero(got) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_volume_gradient_of_a_gradient_that_is_not_finite(device, value):
    """All of that volume, and nothing of the others, whose sums are not even rounded otherwise."""
    grid, dy = scattered(3)
    expected = volume_gradient(device, (3, 4, 5, 3), grid, dy)
    dy[1, 2, 3, 0] = value
    expected[1] = np.nan
    got = volume_gradient(device, (3, 4, 5, 3), grid, dy)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("volumes", [1, 2])
def test_volumes_at_a_time_do_not_matter(device, monkeypatch, volumes):
    shape, (grid, dy) = (5, 4, 5, 3), scattered(5)
    grid[3, 1, 1], dy[1, 0, 0, 2] = np.nan, 1e10
    together = volume_gradient(device, shape, grid, dy)
    monkeypatch.setattr("ministn.cuda.sampling.SUMS_BYTES", volumes * 8 * 4 * 5 * 3 + 1)
    np.testing.assert_array_equal(volume_gradient(device, shape, grid, dy), together)


# ---- pooling and projection

POOLS = [
    ((2, 5, 7, 9), 2),
    ((1, 4, 4, 4), 4),
    ((2, 9, 3, 5), 3),
    ((2, 3, 2, 4), 1),
    ((0, 4, 4, 5), 2),
]


@pytest.mark.parametrize(("shape", "size"), POOLS, ids=str)
def test_avg_pool3d_is_that_of_ops(device, shape, size):
    """Forward but for rounding, as the sum is made in another order: largest difference 6e-8."""
    x = float32(*shape)
    expected, ops_cache = ops.avg_pool3d(x, size)
    y, cache = cuda.avg_pool3d(device.to_gpu(x), size)
    compare("y", device.to_cpu(y), expected, 1e-6, 1e-6)
    dy = float32(*expected.shape, 1)[..., 0]
    dx = cuda.avg_pool3d_backward(device.to_gpu(dy), cache)
    np.testing.assert_array_equal(device.to_cpu(dx), ops.avg_pool3d_backward(dy, ops_cache))


@pytest.mark.parametrize(
    "shape", [(2, 5, 7, 9), (3, 1, 4, 5), (2, 13, 1, 3), (0, 4, 4, 5)], ids=str
)
def test_projection_is_that_of_ops(device, shape):
    x = float32(*shape)
    expected, ops_cache = ops.projection(x)
    y, cache = cuda.projection(device.to_gpu(x))
    np.testing.assert_array_equal(device.to_cpu(y), expected)
    dy = float32(*expected.shape, 1)[..., 0]
    dx = cuda.projection_backward(device.to_gpu(dy), cache)
    np.testing.assert_array_equal(device.to_cpu(dx), ops.projection_backward(dy, ops_cache))


# ---- all of it


def everything(device, to_device):
    """Every result, forward and backward, as NumPy arrays."""
    theta = to_device(float32(3, 3, 4) / 2)
    grid, grid_cache = cuda.affine_grid_3d(theta, (5, 9, 7))
    results = [grid]
    for border in ("nearest", "zeros"):
        y, cache = cuda.trilinear_sampler(to_device(float32(3, 4, 5, 6)), grid, border=border)
        dvolume, dgrid = cuda.trilinear_sampler_backward(to_device(float32(3, 5, 9, 7)), cache)
        results += [y, dvolume, dgrid, cuda.affine_grid_3d_backward(dgrid, grid_cache)]
    for name, shape in (("avg_pool3d", (3, 2, 4, 3)), ("projection", (3, 9, 7, 1))):
        forward, backward = getattr(cuda, name), getattr(cuda, f"{name}_backward")
        y, cache = forward(to_device(float32(3, 5, 9, 7)))
        results += [y, backward(to_device(float32(*shape, 2)[..., 0]), cache)]
    return [device.to_cpu(result) for result in results]


def test_same_bits_again(device):
    first = everything(device, device.to_gpu)
    for got, expected in zip(everything(device, device.to_gpu), first, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_views_give_the_results_of_their_copies(device):
    copies = everything(device, device.to_gpu)
    views = everything(device, lambda array: as_view(device, array))
    for got, expected in zip(views, copies, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("order", [1, 2])
def test_order_of_blocks_and_threads_does_not_matter(monkeypatch, order):
    check_order_does_not_matter(monkeypatch, order, everything)


def test_bad_arguments(device):
    volume, grid, theta, two = (
        device.to_gpu(float32(*shape))
        for shape in ((2, 4, 5, 3), (2, 6, 7, 3, 3), (2, 3, 4), (2, 6, 7, 2))
    )
    _, sampled = cuda.trilinear_sampler(volume, grid)
    for call, message in (
        (lambda: cuda.affine_grid_3d(theta[0], (3, 4, 2)), "^theta must have shape"),
        (lambda: cuda.affine_grid_3d(theta, (3, 4)), "^size must be three whole numbers"),
        (
            lambda: cuda.affine_grid_3d_backward(grid, cuda.affine_grid_3d(theta, (6, 6, 3))[1]),
            "^dgrid must have shape",
        ),
        (lambda: cuda.trilinear_sampler(volume, grid[:1]), "^grid must have shape"),
        (lambda: cuda.trilinear_sampler(volume, two), "^grid must have shape"),
        (lambda: cuda.trilinear_sampler(volume, grid, border="reflect"), "^border must be one of"),
        (lambda: cuda.trilinear_sampler(volume, grid, fill=1.0), "^fill needs border 'zeros'"),
        (lambda: cuda.trilinear_sampler(volume[:, :0], grid), "^volume must have at least one"),
        (lambda: cuda.trilinear_sampler_backward(volume, sampled), "^dy must have shape"),
        (lambda: cuda.avg_pool3d(volume, 0), "^size must be a whole number of at least 1"),
        (lambda: cuda.avg_pool3d(volume, 4), "^x must be at least 4 voxels long each way"),
        (lambda: cuda.avg_pool3d_backward(volume, cuda.avg_pool3d(volume)[1]), "^dy must have"),
        (lambda: cuda.projection(grid), "^x must have shape"),
        (lambda: cuda.projection(volume[:, :0]), "^x must have at least one layer"),
        (lambda: cuda.projection_backward(volume, cuda.projection(volume)[1]), "^dy must have"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_float64_is_refused(device):
    volume, grid, theta = (
        device.to_gpu(normal(*shape)) for shape in ((2, 4, 5, 3), (2, 6, 7, 3, 3), (2, 3, 4))
    )
    for call in (
        lambda: cuda.affine_grid_3d(theta, (3, 4, 2)),
        lambda: cuda.trilinear_sampler(volume, grid),
        lambda: cuda.avg_pool3d(volume),
        lambda: cuda.projection(volume),
    ):
        with pytest.raises(TypeError, match="must be float32, got float64"):
            call()
