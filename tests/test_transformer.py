"""Transforms in use: gradients, bad input, what is watched, spatial transformers, products."""

import numpy as np
import pytest
from helpers import normal
from test_transforms import DTYPES, TRANSFORMS, each_dtype, every, near_identity

from ministn import ops
from ministn.gradcheck import check_operation
from ministn.initializers import Normal
from ministn.layers import Dense, Flatten, Sequential
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.transformer import SpatialTransformer, regression_layer
from ministn.transformer.transforms import Affine, Attention, General, Similarity, regular_grid

STEP = Step(seed=5, number=7)

# ---- gradients


@every
@pytest.mark.parametrize("size", [(4, 5), (1, 3), (1, 1)], ids=str)
def test_gradient_is_that_of_finite_differences(transform, size):
    report = check_operation(
        lambda theta: transform.forward(theta, size),
        transform.backward,
        {"theta": near_identity(transform, 3)},
    )
    assert report.error < 1e-8 and not report.kinks


@every
def test_gradient_in_float32(transform):
    """Largest difference 2.3e-7 of the largest element."""
    dgrid, found = normal(3, 6, 7, 2), {}
    for dtype in DTYPES:
        _, cache = transform.forward(near_identity(transform, 3, dtype), (6, 7))
        found[dtype] = transform.backward(dgrid.astype(dtype), cache)
        assert found[dtype].dtype == dtype
        assert found[dtype].shape == (3, len(transform.identity))
    scale = abs(found[np.float64]).max()
    np.testing.assert_allclose(*found.values(), rtol=0, atol=1e-6 * scale)


@every
def test_images_do_not_mix(transform):
    theta, dgrid = near_identity(transform, 4), normal(4, 3, 5, 2)
    grid, cache = transform.forward(theta, (3, 5))
    dtheta = transform.backward(dgrid, cache)
    for n in range(4):
        alone, cache = transform.forward(theta[[n]], (3, 5))
        np.testing.assert_allclose(alone[0], grid[n], rtol=1e-13, atol=1e-14)
        gradient = transform.backward(dgrid[[n]], cache)
        np.testing.assert_allclose(gradient[0], dtheta[n], rtol=1e-12, atol=1e-13)


# ---- bad input


@every
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@each_dtype
def test_theta_that_is_not_finite_gives_nan_there_only(transform, value, dtype):
    """Whichever of the parameters it is, no warning, and the other image is as it was."""
    theta = near_identity(transform, 2, dtype)
    image = normal(2, 5, 6, 1).astype(dtype)
    good, _ = transform.forward(theta, (3, 4))
    expected, _ = ops.bilinear_sampler(image, good)
    for p in range(theta.shape[1]):
        bad = theta.copy()
        bad[0, p] = value
        grid, cache = transform.forward(bad, (3, 4))
        y, sampler_cache = ops.bilinear_sampler(image, grid)
        assert np.isnan(y[0]).any(), p
        np.testing.assert_array_equal(y[1], expected[1])
        assert not np.isfinite(transform.affine(bad, grid)[0]).all()
        _, dgrid = ops.bilinear_sampler_backward(np.ones_like(y), sampler_cache)
        dtheta = transform.backward(dgrid, cache)
        assert np.isnan(dtheta[0]).any() and np.isfinite(dtheta[1]).all()


@every
def test_wrong_arguments_are_named(transform):
    count = len(transform.identity)
    good = np.ones((2, count), np.float32)
    wanted = rf"^theta must have shape \(N, {count}\), got"
    for shape in [(2, count + 1), (2, count - 1), (count,), (2, count, 1)]:
        with pytest.raises(ValueError, match=wanted):
            transform.forward(np.ones(shape, np.float32), (3, 4))
    with pytest.raises(TypeError, match=r"^theta must be float32 or float64, got int64"):
        transform.forward(good.astype(np.int64), (3, 4))
    with pytest.raises(TypeError, match=r"^theta must be an array, got list"):
        transform.forward(good.tolist(), (3, 4))
    with pytest.raises(ValueError, match=r"^size must be at least \(1, 1\), got \(0, 4\)"):
        transform.forward(good, (0, 4))
    with pytest.raises(ValueError, match=r"^size must be two whole numbers"):
        transform.forward(good, 4)
    grid, cache = transform.forward(good, [3, 4])
    with pytest.raises(ValueError, match=r"^dgrid must have shape"):
        transform.backward(grid[:, :2], cache)


@every
def test_no_images(transform):
    theta = np.ones((0, len(transform.identity)), np.float32)
    grid, cache = transform.forward(theta, (3, 4))
    assert grid.shape == (0, 3, 4, 2)
    assert transform.backward(grid, cache).shape == (0, len(transform.identity))
    assert transform.affine(theta, grid).shape == (0, 2, 3)


# ---- the affine transform nearest to it


def nearest(transform, theta, size):
    theta = np.array(theta)
    return transform.affine(theta, transform.forward(theta, size)[0])


@pytest.mark.parametrize("size", [(5, 9), (2, 2)], ids=str)
def test_nearest_affine_of_what_is_affine(size):
    s, t = 0.6, -0.3
    found = nearest(Attention(), [[s, 0.1, t]], size)
    np.testing.assert_allclose(found, [[[s, 0, 0.1], [0, s, t]]], atol=1e-15)
    found = nearest(Similarity(), [[s, t, 0.1, 0.2]], size)
    np.testing.assert_allclose(found, [[[s, -t, 0.1], [t, s, 0.2]]], atol=1e-15)
    theta = normal(3, 6)
    np.testing.assert_array_equal(nearest(Affine(), theta, size), theta.reshape(3, 2, 3))


@pytest.mark.parametrize("name", ["thin plate spline", "projective", "piecewise affine"])
def test_nearest_affine_is_least_squares(name):
    transform = TRANSFORMS[name]
    theta = near_identity(transform, 3)
    grid, _ = transform.forward(theta, (5, 8))
    targets = np.append(regular_grid((5, 8), np.dtype(float)), np.ones((5, 8, 1)), -1)
    for n in range(3):
        fit, *_ = np.linalg.lstsq(targets.reshape(-1, 3), grid[n].reshape(-1, 2), rcond=None)
        np.testing.assert_allclose(transform.affine(theta, grid)[n], fit.T, atol=1e-13)


def test_nearest_affine_of_one_row_knows_nothing_of_y():
    found = nearest(Attention(), [[0.6, 0.1, -0.3]], (1, 4))
    np.testing.assert_allclose(found, [[[0.6, 0, 0.1], [0, 0, -0.3]]], atol=1e-15)


# ---- in a spatial transformer


def spatial(transform, size, output, initial=None):
    """A transformer of images (*size, 2), and its buffer."""
    features = size[0] * size[1] * 2
    last = regression_layer("theta", features, transform)
    if initial is not None:
        last = Dense("theta", features, len(transform.identity), initial=initial)
    transformer = SpatialTransformer(Sequential(Flatten("flat"), last), output, transform=transform)
    return transformer, ParameterBuffer(transformer.parameters(), 0)


@every
@pytest.mark.parametrize("size", [(7, 9), (1, 5), (1, 1)], ids=str)
def test_a_new_transformer_passes_the_image_on(transform, size):
    transformer, _ = spatial(transform, size, size)
    x = normal(3, *size, 2).astype(np.float32)
    y, cache = transformer.forward(x, STEP)
    # 60 pixels wide it would be 4e-6, the rounding of a coordinate; see tests/test_geometry.py.
    np.testing.assert_allclose(y, x, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(transformer.theta(x), np.float32([transform.identity] * 3))
    if min(size) > 1:
        expected = np.tile([[1, 0, 0], [0, 1, 0]], (3, 1, 1))
        np.testing.assert_allclose(cache.theta, expected, atol=1e-6)


@every
def test_a_transformer_predicts_as_it_goes_forward(transform):
    transformer, buffer = spatial(transform, (6, 5), (4, 7), Normal(0.1))
    x = normal(3, 6, 5, 2).astype(np.float32)
    y, cache = transformer.forward(x, STEP)
    theta = transformer.theta(x)
    seen, (looked,) = transformer.predict(x)
    for other in (seen, transformer.forward(x)[0], transformer.warp(x, theta)):
        np.testing.assert_array_equal(other, y)
    assert looked.theta.shape == (3, 2, 3)
    np.testing.assert_array_equal(looked.theta, cache.theta)
    grid, _ = transform.forward(theta, (4, 4))
    np.testing.assert_array_equal(looked.grid, grid)
    dx = transformer.backward(normal(*y.shape).astype(np.float32), cache)
    assert dx.shape == x.shape and buffer.grad.any()


def test_a_transformer_takes_an_affine_theta_in_either_shape():
    transformer, _ = spatial(Affine(), (6, 5), (4, 7))
    x, theta = normal(3, 6, 5, 2), normal(3, 6)
    flat, matrix = transformer.warp(x, theta), transformer.warp(x, theta.reshape(3, 2, 3))
    np.testing.assert_array_equal(flat, matrix)


def test_a_transformer_learns_its_basis():
    transformer, buffer = spatial(General("transform", Attention(), (3, 4)), (6, 5), (3, 4))
    assert [p.name for p in buffer.parameters] == ["theta/weight", "theta/bias", "transform/basis"]
    y, cache = transformer.forward(normal(3, 6, 5, 2).astype(np.float32), STEP)
    transformer.backward(normal(*y.shape).astype(np.float32), cache)
    assert all(parameter.grad.any() for parameter in buffer.parameters)


# ---- products of affine transforms


def test_a_warp_has_a_theta_for_each_image():
    layer = Sequential(Flatten("flat"), regression_layer("theta", 4))
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (2, 1, 1))
    with pytest.raises(ValueError, match=r"^theta must have shape \(N=3, b, c\), got \(2, 2, 3\)$"):
        SpatialTransformer(layer, (2, 2)).warp(np.zeros((3, 2, 2, 1), np.float32), theta)


def test_composition_is_one_warp_after_the_other():
    """Warping by the left and the result by the right: where the grids lie, exactly."""
    left, right = normal(3, 2, 3), normal(3, 2, 3, 1)[..., 0]
    product, _ = ops.compose(left, right)
    inner, _ = ops.affine_grid(right, (4, 5))
    expected = np.einsum("nab,nhwb->nhwa", left[:, :, :2], inner) + left[:, None, None, :, 2]
    np.testing.assert_allclose(ops.affine_grid(product, (4, 5))[0], expected, atol=1e-14)


def test_composition_with_the_identity_changes_nothing():
    theta, identity = normal(3, 2, 3), np.tile(np.eye(2, 3), (3, 1, 1))
    np.testing.assert_array_equal(ops.compose(theta, identity)[0], theta)
    np.testing.assert_array_equal(ops.compose(identity, theta)[0], theta)
