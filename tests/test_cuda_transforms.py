"""The transforms on the GPU, against ops: the grids of their kernels and what is made of them."""

import numpy as np
import pytest
from helpers import as_view, compare, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from test_transforms import TRANSFORMS, near_identity

from ministn import cuda, ops
from ministn.initializers import Normal
from ministn.layers import Dense, Flatten, Sequential
from ministn.ops.projective_grid import NEAR
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.transformer import SpatialTransformer
from ministn.transformer.transforms import Attention, General, ThinPlateSpline, regular_grid

quick = settings(max_examples=20, deadline=None, derandomize=True, database=None)
every = pytest.mark.parametrize("name", TRANSFORMS)

# Sums of up to 33 and 1802 terms of the order of 1: largest differences from float64 5.3e-6 and
# 1.5e-5.
GRID, SUMS = (1e-6, 1e-5), (1e-6, 4e-5)


def float32(*shape):
    return normal(*shape).astype(np.float32)


def in_float64(*arrays):
    return [array.astype(np.float64) for array in arrays]


# ---- linear in theta

BASES = [  # N, P, size
    (3, 4, (3, 5)),
    (8, 8, (1, 6)),
    (9, 33, (4, 1)),  # one more than a block takes, of images and of parameters
    (1, 1, (1, 1)),
    (5, 9, (17, 53)),
    (4, 0, (3, 4)),
    (0, 3, (3, 4)),
    (12, 32, (2, 64)),
]


@pytest.mark.parametrize(("n", "parameters", "size"), BASES, ids=str)
def test_basis_grid_agrees_with_ops(device, n, parameters, size):
    theta, basis = float32(n, parameters), float32(parameters + 1, *size, 2)
    dgrid = float32(n, *size, 2)
    expected, ops_cache = ops.basis_grid(*in_float64(theta, basis))
    grid, cache = cuda.basis_grid(device.to_gpu(theta), device.to_gpu(basis))
    compare("grid", device.to_cpu(grid), expected, *GRID)
    gradients = cuda.basis_grid_backward(device.to_gpu(dgrid), cache)
    wanted = ops.basis_grid_backward(dgrid.astype(np.float64), ops_cache)
    for key, got, want in zip(("dtheta", "dbasis"), gradients, wanted, strict=True):
        compare(key, device.to_cpu(got), want, *SUMS)
    alone, nothing = cuda.basis_grid_backward(device.to_gpu(dgrid), cache, need_dbasis=False)
    assert nothing is None
    np.testing.assert_array_equal(device.to_cpu(alone), device.to_cpu(gradients[0]))


def test_basis_grid_keeps_images_with_nan_apart(device):
    theta, basis = float32(10, 5), float32(6, 3, 4, 2)
    expected = device.to_cpu(cuda.basis_grid(device.to_gpu(theta), device.to_gpu(basis))[0])
    theta[[0, 6], [2, 4]] = np.nan, np.inf
    grid, _ = cuda.basis_grid(device.to_gpu(theta), device.to_gpu(basis))
    finite = np.isfinite(device.to_cpu(grid)).all(axis=(1, 2, 3))
    assert np.flatnonzero(~finite).tolist() == [0, 6]
    np.testing.assert_array_equal(device.to_cpu(grid)[finite], expected[finite])


# ---- projective

GRIDS = [(4, (3, 5)), (1, (1, 6)), (2, (4, 1)), (3, (1, 1)), (5, (17, 31)), (0, (3, 4))]


def homographies(seed, n, size):
    """theta (n, 8) whose pixels stay away from the horizon, where any rounding is a large one."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(n, 8)) / 3
    for row in theta:
        while abs(ops.projective_grid(row[None], size)[1].divisor).min() < 0.1:
            row[:] = rng.normal(size=8) / 3
    return theta.astype(np.float32)


def check_projective(device, theta, size, sums=SUMS):
    """The grid to the last bit, the gradient against float64."""
    expected, _ = ops.projective_grid(theta, size)
    grid, cache = cuda.projective_grid(device.to_gpu(theta), size)
    np.testing.assert_array_equal(device.to_cpu(grid), expected)
    dgrid = float32(*expected.shape)
    _, ops_cache = ops.projective_grid(theta.astype(np.float64), size)
    want = ops.projective_grid_backward(dgrid.astype(np.float64), ops_cache)
    got = cuda.projective_grid_backward(device.to_gpu(dgrid), cache)
    scale = abs(want).max(initial=1)
    compare("dtheta", device.to_cpu(got) / scale, want / scale, *sums)


@pytest.mark.parametrize(("n", "size"), GRIDS, ids=str)
def test_projective_grid_agrees_with_ops(device, n, size):
    check_projective(device, homographies(1, n, size), size)


@quick
@given(seed=st.integers(0, 2**32 - 1), h=st.integers(1, 9), w=st.integers(1, 9))
def test_projective_grid_agrees_with_ops_at_any_size(device, seed, h, w):
    check_projective(device, homographies(seed, 2, (h, w)), (h, w))


@pytest.mark.parametrize("at", [0.0, NEAR / 2, -NEAR / 2, NEAR, -NEAR, 2 * NEAR])
def test_the_horizon_is_that_of_ops(device, at):
    """d = ``at`` in the last column."""
    theta = np.float32([[0.3, 0.1, -0.2, 0.4, 0, 0.6, at - 1, 0]])
    check_projective(device, theta, (3, 5))


def test_the_horizon_is_on_the_same_side_when_nearly_zero(device):
    """d of a last bit, of either sign, and exactly 0."""
    theta = np.zeros((3, 8), np.float32)
    theta[:, 6] = np.nextafter(np.float32(-1), np.float32([0, -1, -2]))
    expected, _ = ops.projective_grid(theta, (2, 3))
    assert np.sign(expected[:, 0, 2, 0]).tolist() == [1, 1, -1]
    grid, _ = cuda.projective_grid(device.to_gpu(theta), (2, 3))
    np.testing.assert_array_equal(device.to_cpu(grid), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_projective_theta_that_is_not_finite_is_as_in_ops(device, value):
    theta = np.tile(homographies(2, 1, (4, 5)), (9, 1))
    np.fill_diagonal(theta, value)  # the last image is as it was
    expected, _ = ops.projective_grid(theta, (4, 5))
    grid, cache = cuda.projective_grid(device.to_gpu(theta), (4, 5))
    np.testing.assert_array_equal(device.to_cpu(grid), expected)
    dtheta = device.to_cpu(cuda.projective_grid_backward(device.to_gpu(float32(9, 4, 5, 2)), cache))
    assert np.isfinite(dtheta[8]).all()


# ---- every transform


@every
@pytest.mark.parametrize("size", [(5, 9), (60, 47), (1, 1)], ids=str)
def test_identity_is_the_pixel_centres_to_the_last_bit(device, name, size):
    transform = TRANSFORMS[name]
    grid, _ = transform.forward(device.to_gpu(np.float32([transform.identity] * 2)), size)
    expected = regular_grid(size, np.dtype(np.float32))
    np.testing.assert_array_equal(device.to_cpu(grid), [expected] * 2)


@every
def test_a_transform_agrees_with_ops(device, name):
    transform = TRANSFORMS[name]
    theta, dgrid = near_identity(transform, 9, np.float32), float32(9, 6, 7, 2)
    expected, ops_cache = transform.forward(theta, (6, 7))
    grid, cache = transform.forward(device.to_gpu(theta), (6, 7))
    compare("grid", device.to_cpu(grid), expected, *GRID)
    dtheta = transform.backward(device.to_gpu(dgrid), cache)
    want = transform.backward(dgrid, ops_cache)
    compare("dtheta", device.to_cpu(dtheta), want, 1e-5, 1e-5 * abs(want).max())
    affine = transform.affine(device.to_gpu(theta), grid)
    compare("affine", device.to_cpu(affine), transform.affine(theta, expected), *GRID)
    assert affine.shape == (9, 2, 3) and affine.flags.c_contiguous


def results(device, name, to_device):
    """Grid, gradient and nearest affine transform, as NumPy arrays."""
    transform = TRANSFORMS[name]
    theta = to_device(near_identity(transform, 5, np.float32))
    grid, cache = transform.forward(theta, (6, 7))
    dtheta = transform.backward(to_device(float32(5, 6, 7, 2)), cache)
    return [device.to_cpu(x) for x in (grid, dtheta, transform.affine(theta, grid))]


@every
def test_same_bits_again_and_from_views(device, name):
    first = results(device, name, device.to_gpu)
    again = results(device, name, device.to_gpu)
    views = results(device, name, lambda array: as_view(device, array))
    for a, b, c in zip(first, again, views, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@every
def test_float64_and_wrong_shapes_are_refused(device, name):
    transform = TRANSFORMS[name]
    count = len(transform.identity)
    with pytest.raises(TypeError, match=r"must be float32, got float64"):
        transform.forward(device.to_gpu(near_identity(transform, 2)), (3, 4))
    with pytest.raises(ValueError, match=rf"^theta must have shape \(N, {count}\)"):
        transform.forward(device.to_gpu(float32(2, count + 1)), (3, 4))
    theta = device.to_gpu(near_identity(transform, 2, np.float32))
    with pytest.raises(ValueError, match=r"^size must be at least"):
        transform.forward(theta, (3, 0))
    _, cache = transform.forward(theta, (3, 4))
    with pytest.raises(ValueError, match=r"^dgrid must have shape"):
        transform.backward(device.to_gpu(float32(2, 4, 3, 2)), cache)


# ---- in a spatial transformer


@pytest.mark.parametrize("start", [ThinPlateSpline(), None, TRANSFORMS["projective"]])
def test_a_spatial_transformer_agrees_with_ops(quick_device, start):
    """Forward, what is watched, and every gradient; None: B is learned.

    Largest difference 5.9e-7 of the largest element.
    """
    device, found = quick_device, []
    for place in (None, device):
        transform = start or General("transform", Attention(), (4, 7))
        count = len(transform.identity)
        localisation = Sequential(Flatten("flat"), Dense("theta", 60, count, initial=Normal(0.02)))
        transformer = SpatialTransformer(localisation, (4, 7), transform=transform)
        buffer = ParameterBuffer(transformer.parameters(), 0, device=place)
        arrays = [float32(3, 6, 5, 2), float32(3, 4, 7, 2)]
        x, dy = arrays if place is None else [device.to_gpu(array) for array in arrays]
        y, cache = transformer.forward(x, Step(1, 2))
        dx = transformer.backward(dy, cache)
        seen, (looked,) = transformer.predict(x)
        on_cpu = device.to_cpu if place else lambda array: array
        arrays = [on_cpu(a) for a in (y, cache.theta, dx, buffer.grad, seen)]
        found.append([*arrays, *looked])
    for want, got in zip(*found, strict=True):
        compare("result", got, want, 0, 5e-6 * abs(want).max())
    assert found[0][3].any()


# ---- products of affine transforms


@pytest.mark.parametrize("n", [0, 1, 3, 43])
def test_compose_agrees_with_ops(device, n):
    left, right, dy = (float32(n, 2, 3, k)[..., 0] for k in (1, 2, 3))
    expected, ops_cache = ops.compose(left, right)
    y, cache = cuda.compose(device.to_gpu(left), device.to_gpu(right))
    compare("y", device.to_cpu(y), expected, 1e-6, 1e-6)
    gradients = cuda.compose_backward(device.to_gpu(dy), cache)
    for got, want in zip(gradients, ops.compose_backward(dy, ops_cache), strict=True):
        compare("gradient", device.to_cpu(got), want, 1e-6, 1e-6)


def test_compose_with_the_identity_changes_no_bit(device):
    theta, identity = (
        device.to_gpu(array)
        for array in (float32(5, 2, 3), np.tile(np.eye(2, 3, dtype="f"), (5, 1, 1)))
    )
    for product, _ in (cuda.compose(theta, identity), cuda.compose(identity, theta)):
        np.testing.assert_array_equal(device.to_cpu(product), float32(5, 2, 3))


def test_compose_refuses_what_lies_elsewhere(device):
    with pytest.raises(TypeError, match="left must be an array on a GPU, got ndarray"):
        cuda.compose(float32(3, 2, 3), device.to_gpu(float32(3, 2, 3)))
