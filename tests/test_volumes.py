"""Volumes: the 3-D affine grid and the trilinear sampler where the answer is known otherwise."""

import numpy as np
import pytest
from helpers import compare, normal
from scipy.ndimage import map_coordinates

from ministn import backend, ops
from ministn.gradcheck import KinkError, check_operation
from ministn.layers import AvgPool3d, Dense, Flatten, Projection, Sequential
from ministn.ops.affine_grid import pixel_centres
from ministn.ops.sampling import BORDERS
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.transformer import SpatialTransformer, regression_layer
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import Affine3d

SCIPY = {"nearest": "nearest", "zeros": "grid-constant", "mirror": "mirror", "wrap": "grid-wrap"}
NUMPY = {"nearest": "edge", "zeros": "constant", "mirror": "reflect", "wrap": "wrap"}
DTYPES = [np.float32, np.float64]
borders = pytest.mark.parametrize("border", BORDERS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)

# half = 1, 2 and 4, so that normalised coordinates and results are exact; so are whole numbers.
D, H, W = 3, 5, 9
LENGTHS = np.array([W, H, D])
HALF = (LENGTHS - 1) / 2
VOLUME = np.random.default_rng(3).integers(-50, 50, (1, D, H, W)).astype(np.float64)
IDENTITY = np.eye(3, 4)


def at(x, y, z):
    """The grid (1, 1, 1, points, 3) that reads VOLUME at these voxels, which broadcast."""
    points = np.stack(np.broadcast_arrays(x, y, z), axis=-1).astype(float)
    return (points.reshape(1, 1, 1, -1, 3) - HALF) / HALF


def along(axis, points):
    """The grid of these voxels along an axis of VOLUME, through (2, 2, 1)."""
    return at(*(points if k == axis else place for k, place in enumerate((2, 2, 1))))


def warp(volume, theta, size=None, **options):
    theta = np.array([theta] * len(volume), volume.dtype)
    grid, _ = ops.affine_grid_3d(theta, size or volume.shape[1:])
    return ops.trilinear_sampler(volume, grid, **options)


# ---- the grid


@dtypes
@pytest.mark.parametrize("size", [(3, 5, 9), (60, 42, 7), (1, 6, 4), (5, 1, 1)], ids=str)
def test_identity_is_the_voxel_centres_to_the_last_bit(dtype, size):
    grid, _ = ops.affine_grid_3d(IDENTITY[None].astype(dtype), size)
    z, y, x = np.meshgrid(*(pixel_centres(n, np.dtype(dtype)) for n in size), indexing="ij")
    np.testing.assert_array_equal(grid[0], np.stack([x, y, z], axis=-1))


def test_a_matrix_of_x_and_y_alone_is_the_grid_of_images_in_every_layer():
    theta = normal(2, 2, 3)
    solid = np.zeros((2, 3, 4))
    solid[:, :2, [0, 1, 3]] = theta
    solid[:, 2, 2] = 1
    grid, _ = ops.affine_grid_3d(solid, (4, 5, 6))
    flat, _ = ops.affine_grid(theta, (5, 6))
    np.testing.assert_allclose(grid[..., :2], flat[:, None].repeat(4, axis=1), 0, 1e-15)
    np.testing.assert_allclose(grid[0, :, 2, 3, 2], np.linspace(-1, 1, 4), 0, 1e-15)


# ---- the sampler


@borders
def test_values_are_scipys(border):
    x, y, z = np.random.default_rng(0).uniform(-30, 30, (3, 500))
    fill = 7.0 if border == "zeros" else 0.0
    got, _ = ops.trilinear_sampler(VOLUME, at(x, y, z), border=border, fill=fill)
    expected = map_coordinates(VOLUME[0], [z, y, x], order=1, mode=SCIPY[border], cval=fill)
    np.testing.assert_allclose(got.ravel(), expected, rtol=0, atol=1e-10)


@dtypes
@borders
@pytest.mark.parametrize("seed", range(3))
def test_any_affine_transform_is_scipys(seed, border, dtype):
    """Of volumes that are no cubes, to outputs of any size. Largest difference in float32: 8e-6."""
    rng = np.random.default_rng(seed)
    volume = rng.uniform(-1, 1, (2, 6, 11, 8)).astype(dtype)
    theta = (IDENTITY + rng.normal(0, 0.3, (2, 3, 4))).astype(dtype)
    grid, _ = ops.affine_grid_3d(theta, (4, 5, 7))
    got, _ = ops.trilinear_sampler(volume, grid, border=border)
    target = np.stack(
        np.meshgrid(*(np.linspace(-1, 1, n) for n in (4, 5, 7)), indexing="ij"), axis=-1
    )
    for n in range(2):
        source = target[..., ::-1] @ theta[n, :, :3].T.astype(float) + theta[n, :, 3]
        voxels = np.moveaxis((source[..., ::-1] + 1) * (np.array([6, 11, 8]) - 1) / 2, -1, 0)
        expected = map_coordinates(volume[n].astype(float), voxels, order=1, mode=SCIPY[border])
        tolerance = 3e-5 if dtype == np.float32 else 1e-12
        np.testing.assert_allclose(got[n], expected, rtol=0, atol=tolerance)


@dtypes
@borders
def test_exact_warps(dtype, border):
    """Turns by a quarter about each axis, shifts by whole voxels, and every other voxel."""
    volume = VOLUME.astype(dtype)
    wider, deeper = (
        np.pad(volume, sides, mode=NUMPY[border])
        for sides in ([(0, 0), (0, 0), (0, 0), (0, 3)], [(0, 0), (0, 1), (0, 0), (0, 0)])
    )
    x, y, z, one = np.eye(4)
    cases = {
        "nothing": ([x, y, z], (D, H, W), volume),
        "shift by 3 voxels in x": ([x + 3 / 4 * one, y, z], (D, H, W), wider[..., 3:]),
        "shift by a layer": ([x, y, z + one], (D, H, W), deeper[:, 1:]),
        "about z": ([y, -x, z], (D, W, H), np.rot90(volume, -1, axes=(2, 3))),
        "about z, back": ([-y, x, z], (D, W, H), np.rot90(volume, 1, axes=(2, 3))),
        "about x": ([x, z, -y], (H, D, W), np.rot90(volume, -1, axes=(1, 2))),
        "about y": ([-z, y, x], (W, H, D), np.rot90(volume, 1, axes=(1, 3))),
        "half-way round": ([-x, -y, z], (D, H, W), np.rot90(volume, 2, axes=(2, 3))),
        "x, y, z exchanged": ([z, y, x], (W, H, D), volume.transpose(0, 3, 2, 1)),
        "half the voxels": ([x, y, z], (2, 3, 5), volume[:, ::2, ::2, ::2]),
        "scale 1/2": ([x / 2, y / 2, z], (D, 3, 5), volume[:, :, 1:4, 2:7]),
        "one voxel": ([x, y, z], (1, 1, 1), volume[:, 1:2, 2:3, 4:5]),
    }
    for name, (theta, size, expected) in cases.items():
        got, _ = warp(volume, theta, size, border=border)
        np.testing.assert_array_equal(got, expected, err_msg=name)


@dtypes
def test_identity_on_a_ramp(dtype):
    """Where half is not exact: 4e-6 voxels is the rounding of a float32 coordinate below 64."""
    ramps = np.stack(np.meshgrid(*map(np.arange, (11, 42, 60)), indexing="ij")).astype(dtype)
    got, _ = warp(ramps, IDENTITY)
    np.testing.assert_allclose(got, ramps, 0, 4e-6 if dtype == np.float32 else 1e-13)


def test_the_middle_of_a_cell_is_the_mean_of_its_corners():
    got, _ = ops.trilinear_sampler(VOLUME, at(4.5, 1.5, 0.5))
    assert got.item() == VOLUME[0, :2, 1:3, 4:6].mean()


def test_a_volume_of_equal_layers_is_the_bilinear_sampler():
    image, grid = normal(2, 5, 6, 1), np.concatenate([normal(2, 3, 4, 2), normal(2, 3, 4, 1)], -1)
    volume = image[..., 0][:, None].repeat(3, axis=1)
    got, cache = ops.trilinear_sampler(volume, grid[:, None])
    flat, flat_cache = ops.bilinear_sampler(image, grid[..., :2].copy())
    np.testing.assert_allclose(got[:, 0], flat[..., 0], rtol=0, atol=1e-14)
    dvolume, dgrid = ops.trilinear_sampler_backward(np.ones_like(got), cache)
    dimage, dflat = ops.bilinear_sampler_backward(np.ones_like(flat), flat_cache)
    np.testing.assert_allclose(dvolume.sum(axis=1), dimage[..., 0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(dgrid[:, 0, ..., :2], dflat, rtol=0, atol=1e-13)
    assert not dgrid[..., 2].any()


# ---- kinks, and coordinates that are nowhere


@borders
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slope_on_a_voxel_is_that_of_the_cell_to_the_right(axis, border):
    """Within a cell V is linear along an axis, so that slope is V(x + 1) - V(x)."""
    everywhere = np.arange(-12, 22)
    (v, cache), (ahead, _) = (
        ops.trilinear_sampler(VOLUME, along(axis, points), border=border)
        for points in (everywhere, everywhere + 1)
    )
    _, dgrid = ops.trilinear_sampler_backward(np.ones_like(v), cache)
    np.testing.assert_array_equal(dgrid[..., axis] / HALF[axis], ahead - v)


def test_whole_voxels_are_kinks():
    grid, _ = ops.affine_grid_3d(IDENTITY[None], (3, 4, 5))
    arrays = {"volume": normal(1, 3, 4, 5), "grid": grid}
    with pytest.raises(KinkError, match="grid: every place tried is a kink"):
        check_operation(ops.trilinear_sampler, ops.trilinear_sampler_backward, arrays)
    arrays["grid"] += 0.03
    report = check_operation(ops.trilinear_sampler, ops.trilinear_sampler_backward, arrays)
    assert report.kinks == ()


@borders
@dtypes
def test_coordinates_that_are_not_finite(border, dtype):
    """NaN there and nowhere else, and nothing is read outside. The last overflows in voxels."""
    volume = VOLUME.astype(dtype)
    bad = [np.nan, np.inf, -np.inf, np.finfo(dtype).max]
    grid = np.zeros((1, 2, 1, len(bad) + 1, 3), dtype)
    grid[0, 0, 0, 1:, 0] = bad
    grid[0, 1, 0, 1:, 1] = bad
    y, cache = ops.trilinear_sampler(volume, grid, border=border)
    assert np.isnan(y[..., 1:]).all() and (y[..., 0] == volume[0, 1, 2, 4]).all()
    dvolume, dgrid = ops.trilinear_sampler_backward(np.ones_like(y), cache)
    assert y.dtype == dvolume.dtype == dgrid.dtype == dtype
    assert np.isnan(dgrid[..., 1:, :]).all() and np.isfinite(dgrid[..., 0, :]).all()
    first = [] if border == "zeros" else [[0, 0, 0, 0]]
    assert np.argwhere(np.isnan(dvolume)).tolist() == first


@borders
@dtypes
def test_huge_coordinates(border, dtype):
    """Far beyond all integers there still is a voxel, and no index overflows."""
    grid = np.full((1, 1, 1, 1, 3), 1e30, dtype) * np.array([1, -1, 1], dtype)
    volume = VOLUME.astype(dtype)
    y, cache = ops.trilinear_sampler(volume, grid, border=border)
    if border in ("nearest", "zeros"):
        assert y.item() == (volume[0, -1, 0, -1] if border == "nearest" else 0)
    assert y.item() in [0, *volume.ravel()]
    dvolume, dgrid = ops.trilinear_sampler_backward(np.ones_like(y), cache)
    assert np.isfinite(dgrid).all() and dvolume.sum() == (border != "zeros")


@borders
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, H, W), (D, 1, W), (D, H, 1)], ids=str)
def test_an_axis_of_length_one_has_coordinate_zero(shape, border):
    volume = VOLUME[:, : shape[0], : shape[1], : shape[2]]
    grid = np.random.default_rng(0).uniform(-3, 3, (1, 2, 3, 4, 3))
    y, cache = ops.trilinear_sampler(volume, grid, border=border)
    one = np.array(shape)[::-1] == 1
    still, _ = ops.trilinear_sampler(volume, np.where(one, 0, grid), border=border)
    np.testing.assert_array_equal(y, still)
    _, dgrid = ops.trilinear_sampler_backward(np.ones_like(y), cache)
    assert not dgrid[..., one].any()


def test_no_volumes():
    y, cache = ops.trilinear_sampler(VOLUME[:0], at(1, 1, 1)[:0])
    dvolume, dgrid = ops.trilinear_sampler_backward(y, cache)
    assert (y.shape, dvolume.shape, dgrid.shape) == ((0, 1, 1, 1), (0, D, H, W), (0, 1, 1, 1, 3))


def test_volumes_do_not_mix():
    volume, grid = normal(3, 4, 5, 6), normal(3, 2, 3, 4, 3)
    y, cache = ops.trilinear_sampler(volume, grid)
    dvolume, dgrid = ops.trilinear_sampler_backward(y, cache)
    for n in range(3):
        alone, cache = ops.trilinear_sampler(volume[[n]], grid[[n]])
        np.testing.assert_array_equal(alone[0], y[n])
        found = ops.trilinear_sampler_backward(alone, cache)
        np.testing.assert_array_equal(found[0][0], dvolume[n])
        np.testing.assert_array_equal(found[1][0], dgrid[n])


# ---- layers and transformers


def transformer(sampler, output=(3, 2, 4), volume=(5, 7, 6), dtype=np.float64, device=None):
    transform = Affine3d()
    features = int(np.prod(volume))
    theta = Dense("theta", features, 12)
    localisation = Sequential(Flatten("flatten"), theta)
    layer = SpatialTransformer(localisation, output, transform=transform, sampler=sampler)
    buffer = ParameterBuffer(layer.parameters(), 0, dtype, device)
    backend.assign(theta.bias.data, np.array(transform.identity, dtype))
    return layer, buffer


@borders
@pytest.mark.parametrize("supersampling", [1, 2])
def test_a_transformer_is_its_operations_one_after_another(supersampling, border):
    sampler = Sampler("trilinear", border=border, supersampling=supersampling)
    layer, _ = transformer(sampler)
    x, dy = normal(2, 5, 7, 6) / 10, normal(2, 3, 2, 4)
    y, cache = layer.forward(x, Step(0, 0))
    dx = layer.backward(dy, cache)

    theta = layer.theta(x)
    fine = tuple(supersampling * side for side in (3, 2, 4))
    grid, grid_cache = ops.affine_grid_3d(theta.reshape(2, 3, 4), fine)
    sampled, sampled_cache = ops.trilinear_sampler(x, grid, border=border)
    expected, pool_cache = ops.avg_pool3d(sampled, supersampling)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(layer.warp(x, theta), y)
    dvolume, dgrid = ops.trilinear_sampler_backward(
        ops.avg_pool3d_backward(dy, pool_cache), sampled_cache
    )
    dtheta = ops.affine_grid_3d_backward(dgrid, grid_cache).reshape(2, 12)
    weight, bias = layer.parameters()
    np.testing.assert_allclose(bias.grad, dtheta.sum(axis=0), 1e-12, 1e-12)
    np.testing.assert_allclose(dx, dvolume + (dtheta @ weight.data.T).reshape(x.shape), 1e-12)


def test_gradients_of_a_transformer():
    layer, buffer = transformer(Sampler("trilinear", border="zeros"))
    buffer.data += 0.05 * normal(len(buffer.data))

    def backward(dy, cache):
        buffer.zero_grad()
        return layer.backward(dy, cache), buffer.grad.copy()

    report = check_operation(
        lambda x, values: layer.forward(x, Step(0, 0)),
        backward,
        {"x": normal(2, 5, 7, 6) / 10, "values": buffer.data},
    )
    assert report.error < 1e-8 and not report.kinks


def test_what_is_watched_is_theta_in_the_projection():
    """The affine transform of x and y that is nearest over the output's voxels."""
    theta, size = normal(2, 12), (3, 4, 5)
    grid, _ = Affine3d().forward(theta, size)
    targets = np.stack(
        np.meshgrid(*(np.linspace(-1, 1, n) for n in size), [1], indexing="ij"), axis=-1
    ).reshape(-1, 4)[:, [2, 1, 3]]
    for found, points in zip(Affine3d().affine(theta, grid), grid, strict=True):
        expected, *_ = np.linalg.lstsq(targets, points.reshape(-1, 3)[:, :2], rcond=None)
        np.testing.assert_allclose(found, expected.T, rtol=0, atol=1e-14)


def test_regression_layer_begins_at_the_identity():
    layer = regression_layer("theta", 5, Affine3d())
    ParameterBuffer(layer.parameters(), 0)
    theta, _ = layer.forward(normal(2, 5).astype(np.float32))
    np.testing.assert_array_equal(theta.reshape(2, 3, 4), [IDENTITY] * 2)


def test_theta_that_is_not_finite_gives_nan_there_only():
    volume, theta = normal(2, 3, 4, 5), np.tile(Affine3d.identity, (2, 1))
    good, _ = Affine3d().forward(theta, (2, 3, 4))
    expected, _ = ops.trilinear_sampler(volume, good)
    for p in range(12):
        for value in (np.nan, np.inf):
            bad = theta.copy()
            bad[0, p] = value
            grid, _ = Affine3d().forward(bad, (2, 3, 4))
            y, _ = ops.trilinear_sampler(volume, grid)
            assert np.isnan(y[0]).any(), p
            np.testing.assert_array_equal(y[1], expected[1])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"^theta must have shape \(N, 12\), got \(2, 6\)"):
        Affine3d().forward(np.ones((2, 6)), (2, 3, 4))
    with pytest.raises(ValueError, match=r"^size must be three whole numbers \(d, h, w\), got"):
        Affine3d().forward(np.ones((2, 12)), (3, 4))
    with pytest.raises(ValueError, match=r"^grid must have shape \(N=2, d, h, w, 3\), got"):
        Sampler("trilinear").forward(np.ones((2, 3, 4, 5)), np.ones((2, 3, 4, 2)))
    with pytest.raises(ValueError, match=r"^kernel must be one of .* 'bicubic', 'trilinear', got"):
        Sampler("cubic")


def test_layers_of_volumes():
    x, step = normal(2, 5, 6, 7), Step(0, 0)
    for layer, (y, op_cache), backward in (
        (AvgPool3d("pool", 3), ops.avg_pool3d(x, 3), ops.avg_pool3d_backward),
        (Projection("projection"), ops.projection(x), ops.projection_backward),
    ):
        found, cache = layer.forward(x, step)
        np.testing.assert_array_equal(found, y)
        dx = layer.backward(found, cache)
        np.testing.assert_array_equal(dx, backward(y, op_cache))
        assert layer.backward(found, cache, need_dx=False) is None


@borders
@pytest.mark.parametrize("supersampling", [1, 2])
def test_a_transformer_on_a_gpu_agrees_with_ops(quick_device, supersampling, border):
    """Forward, what is watched, and every gradient.

    Largest difference 3.6e-7 of the largest element.
    """
    found = []
    for device in (None, quick_device):
        sampler = Sampler("trilinear", border=border, supersampling=supersampling)
        layer, buffer = transformer(sampler, dtype=np.float32, device=device)
        arrays = normal(2, 5, 7, 6) / 10, normal(2, 3, 2, 4)
        to_engine, to_cpu = (device.to_gpu, device.to_cpu) if device else (np.asarray,) * 2
        x, dy = (to_engine(array.astype(np.float32)) for array in arrays)
        y, cache = layer.forward(x, Step(0, 0))
        dx = layer.backward(dy, cache)
        seen, (looked,) = layer.predict(x)
        results = y, cache.theta, dx, buffer.grad, seen
        found.append([*map(to_cpu, results), *looked])
    for want, got in zip(*found, strict=True):
        compare("result", got, want, 0, 5e-6 * abs(want).max())
    assert found[0][3].any()
