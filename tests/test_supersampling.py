"""Sampler, what a transformer reads its input with: options, supersampling, both engines."""

import numpy as np
import pytest
from helpers import normal

from ministn import ops
from ministn.initializers import Constant, Normal
from ministn.layers import Dense, Flatten, Sequential
from ministn.ops.sampling import BORDERS
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.transformer import SpatialTransformer
from ministn.transformer.samplers import KERNELS, Sampler

kernels = pytest.mark.parametrize("kernel", KERNELS)
PYTORCHS = ("bicubic", -0.75)
IDENTITY = [[1, 0, 0], [0, 1, 0]]
CHECKERBOARD = (np.indices((1, 16, 16, 1)).sum(axis=0) % 2).astype(np.float64)


def transformer(theta, size, sampler):
    """Every image gets this theta, and a little of its own."""
    regression = Dense(
        "theta", 16 * 16, 6, initial=Normal(1e-3), initial_bias=Constant(np.ravel(theta))
    )
    return SpatialTransformer(Sequential(Flatten("flat"), regression), size, sampler=sampler)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_supersampling_shrinks_a_fine_checkerboard_to_grey(factor):
    size = (16 // factor, 16 // factor)
    for theta in ([1, 0, 0, 0, 1, 0], [0, -1, 0, 1, 0, 0]):
        grey = Sampler(supersampling=factor)
        grid, _ = ops.affine_grid(np.reshape(theta, (1, 2, 3)) * 1.0, grey.grid_size(size))
        y, _ = grey.forward(CHECKERBOARD, grid)
        np.testing.assert_allclose(y, 0.5, rtol=0, atol=1e-12)
        coarse, _ = ops.affine_grid(np.reshape(theta, (1, 2, 3)) * 1.0, size)
        aliased, _ = Sampler("nearest").forward(CHECKERBOARD, coarse)
        assert abs(aliased - 0.5).min() == 0.5


def test_supersampling_shrinks_a_turned_and_moved_checkerboard_to_grey():
    """Not exactly, as the points do not fall on all pixels alike."""
    angle = 0.3
    theta = 0.6 * np.array(
        [[[np.cos(angle), -np.sin(angle), 0.1], [np.sin(angle), np.cos(angle), 0]]]
    )

    def farthest_from_grey(sampler):
        grid, _ = ops.affine_grid(theta, sampler.grid_size((3, 3)))
        return abs(sampler.forward(CHECKERBOARD, grid)[0] - 0.5).max()

    assert farthest_from_grey(Sampler()) > 0.25
    assert farthest_from_grey(Sampler(supersampling=4)) < 0.05


def test_supersampling_at_the_identity_is_average_pooling():
    image = normal(2, 12, 18, 3)
    sampler = Sampler(supersampling=3)
    grid, _ = ops.affine_grid(np.array([IDENTITY] * 2) * 1.0, sampler.grid_size((4, 6)))
    y, _ = sampler.forward(image, grid)
    np.testing.assert_allclose(y, ops.avg_pool2d(image, 3)[0], rtol=0, atol=1e-12)


@kernels
@pytest.mark.parametrize("supersampling", [1, 2])
def test_a_transformer_with_any_sampler(kernel, supersampling):
    """As the operations one after another; through "nearest" the localisation learns nothing."""
    sampler = Sampler(kernel, border="zeros", fill=0.5, supersampling=supersampling)
    layer = transformer([[0.7, 0.1, 0.2], [-0.2, 0.8, 0.1]], (5, 7), sampler)
    buffer = ParameterBuffer(layer.parameters(), 0, np.float64)
    x, dy = normal(2, 16, 16, 1), normal(2, 5, 7, 1)
    y, cache = layer.forward(x, Step(0, 0))
    layer.backward(dy, cache, need_dx=False)

    fine = (5 * supersampling, 7 * supersampling)
    grid, grid_cache = ops.affine_grid(cache.theta, fine)
    sample, sample_backward = (getattr(ops, f"{kernel}_sampler{way}") for way in ("", "_backward"))
    sampled, sampled_cache = sample(x, grid, border="zeros", fill=0.5)
    expected, pool_cache = ops.avg_pool2d(sampled, supersampling)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    dsampled = ops.avg_pool2d_backward(dy, pool_cache)
    _, dgrid = sample_backward(dsampled, sampled_cache)
    dtheta = ops.affine_grid_backward(dgrid, grid_cache).reshape(2, 6)
    np.testing.assert_allclose(layer.parameters()[1].grad, dtheta.sum(axis=0), 1e-12, 1e-12)
    assert buffer.grad.any() == (kernel != "nearest")


def test_the_constant_of_the_bicubic_kernel_is_the_operations():
    image, grid, dy = normal(2, 6, 5, 3), normal(2, 3, 4, 2), normal(2, 3, 4, 3)
    sampler = Sampler("bicubic", border="zeros", a=-0.75)
    y, cache = sampler.forward(image, grid)
    expected, ops_cache = ops.bicubic_sampler(image, grid, border="zeros", a=-0.75)
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(
        sampler.backward(dy, cache), ops.bicubic_sampler_backward(dy, ops_cache), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kernel": "cubic"},
            "kernel must be one of 'bilinear', 'nearest', 'bicubic', 'trilinear', got 'cubic'",
        ),
        ({"border": "reflect"}, "border must be one of 'nearest', 'zeros', 'mirror', 'wrap', got"),
        ({"fill": 1.0}, "fill needs border 'zeros', got fill 1.0 with border 'nearest'"),
        ({"supersampling": 0}, "supersampling must be a whole number of at least 1, got 0"),
        ({"supersampling": 1.5}, "supersampling must be a whole number of at least 1, got 1.5"),
        ({"supersampling": True}, "supersampling must be a whole number of at least 1, got True"),
        ({"a": -0.75}, "a needs kernel 'bicubic', got a -0.75 with 'bilinear'"),
        ({"kernel": "trilinear", "a": -0.5}, "a needs kernel 'bicubic', got a -0.5 with 'trilinea"),
        (
            {"kernel": "bicubic", "a": -2},
            "a must be a finite number of at least -1",
        ),
    ],
)
def test_impossible_samplers(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Sampler(**options)


# ---- on a GPU


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("kernel", "a"), [*((kernel, None) for kernel in KERNELS), PYTORCHS])
def test_supersampling_on_a_gpu(device, kernel, a, border):
    sampler = Sampler(kernel, border, supersampling=2, a=a)
    image, dy = normal(2, 6, 5, 3).astype(np.float32), normal(2, 3, 4, 3).astype(np.float32)
    grid = np.random.default_rng(0).uniform(-2, 2, (2, 6, 8, 2)).astype(np.float32)
    expected, ops_cache = sampler.forward(image, grid)
    y, cache = sampler.forward(device.to_gpu(image), device.to_gpu(grid))
    np.testing.assert_allclose(device.to_cpu(y), expected, rtol=0, atol=2e-6)
    gradients = sampler.backward(device.to_gpu(dy), cache)
    for got, want in zip(gradients, sampler.backward(dy, ops_cache), strict=True):
        np.testing.assert_allclose(device.to_cpu(got), want, rtol=1e-5, atol=4e-6)
