"""What is not finite, has no room or no shape: the same result, or one clear error, everywhere.

"Everywhere" is the readable engine in float64, the one that trains on a CPU in float32, and the
GPU's kernels.
"""

from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import ON_GPU
from devices import emulated
from helpers import normal
from test_transforms import TRANSFORMS, near_identity

from ministn import backend
from ministn.backend import to_cpu
from ministn.engines import implementation
from ministn.errors import UserError
from ministn.initializers import Constant
from ministn.layers import Dense, Flatten, Sequential
from ministn.ops.projective_grid import NEAR
from ministn.ops.sampling import BORDERS
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.transformer import SpatialTransformer, regression_layer
from ministn.transformer.samplers import KERNELS, Sampler
from ministn.transformer.transforms import (
    Affine,
    Affine3d,
    General,
    PiecewiseAffine,
    Projective,
    ThinPlateSpline,
)

every = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
borders = pytest.mark.parametrize("border", BORDERS)


class Engine(NamedTuple):
    dtype: type
    device: Any

    def has(self, array):
        """The array on the engine, in its dtype."""
        array = np.asarray(array, self.dtype)
        return array if self.device is None else self.device.to_gpu(array)

    def warp(self, transform, theta, image, size, **options):
        """V, and dimage and dtheta where dy = 1, as NumPy arrays."""
        sampler = Sampler(**options)
        grid, grid_cache = transform.forward(self.has(theta), sampler.grid_size(size))
        y, cache = sampler.forward(self.has(image), grid)
        dimage, dgrid = sampler.backward(self.has(np.ones(y.shape)), cache)
        return [to_cpu(x) for x in (y, dimage, transform.backward(dgrid, grid_cache))]


@pytest.fixture(params=["float64", "float32", "shim", ON_GPU])
def engine(request):
    if request.param == "float64":
        return Engine(np.float64, None)
    make = {"float32": lambda: None, "shim": lambda: emulated(False), "gpu": backend.gpu}
    return Engine(np.float32, make[request.param]())


@pytest.fixture
def run(engine):
    return engine.warp


# ---- theta that is not finite


@every
@borders
def test_theta_that_is_not_finite_gives_nan_for_all_of_its_image(run, transform, border):
    """Whichever parameter it is; and no warning, and nothing of it in another image."""
    theta, image = near_identity(transform, 2), normal(2, 5, 6, 2)
    alone = run(transform, theta[1:], image[1:], (3, 4), border=border)
    for p, value in product(range(theta.shape[1]), (np.nan, np.inf, -np.inf)):
        bad = theta.copy()
        bad[0, p] = value
        y, dimage, dtheta = run(transform, bad, image, (3, 4), border=border)
        assert np.isnan(y[0]).all() and np.isnan(dtheta[0]).all(), (p, value)
        # Points that are not finite belong to the first pixel, but with "zeros", to none.
        first = [] if border == "zeros" else [[0, 0, 0], [0, 0, 1]]
        assert np.argwhere(np.isnan(dimage[0])).tolist() == first
        for got, expected in zip((y, dimage, dtheta), alone, strict=True):
            np.testing.assert_allclose(got[1:], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("supersampling", [1, 2])
def test_so_it_does_with_every_kernel(run, kernel, supersampling):
    theta = np.array([[1, 0, 0, 0, np.nan, 0], [1, 0, 0, 0, 1, 0]])
    y, _, dtheta = run(
        TRANSFORMS["affine"], theta, normal(2, 5, 6, 1), (3, 4),
        kernel=kernel, supersampling=supersampling,
    )  # fmt: skip
    assert np.isnan(y[0]).all() and np.isnan(dtheta[0]).all()
    assert np.isfinite(y[1]).all() and np.isfinite(dtheta[1]).all()


# ---- a projective denominator of zero


@borders
@pytest.mark.parametrize("at", [0.0, NEAR / 4, -NEAR / 4])
def test_a_pixel_on_the_horizon_reads_what_lies_far_outside(run, border, at):
    """d = ``at`` in the last column, u = 1/2 and v = 0 there: x^s = 512 or -512, y^s = 0."""
    theta = np.array([[-0.5, 0, 0, 0, -1, 0, at - 1, 0]])
    image = normal(1, 5, 5, 1)
    y, dimage, dtheta = run(Projective(), theta, image, (3, 5), border=border)
    far = 512 if at >= 0 else -512
    position = 2 * far + 2
    column = {
        "nearest": 4 if far > 0 else 0,
        "mirror": min(position % 8, -position % 8),
        "wrap": position % 5,
    }.get(border)
    expected = 0 if column is None else image[0, 2, column]
    np.testing.assert_allclose(y[0, :, 4], np.broadcast_to(expected, (3, 1)), rtol=1e-6)
    for result in (y, dimage, dtheta):
        assert np.isfinite(result).all()


# ---- control points that determine nothing


@pytest.mark.parametrize("kind", [ThinPlateSpline, PiecewiseAffine])
@pytest.mark.parametrize("layout", [(1, 4), (4, 1), (1, 1), (0, 3), (2, -1), (2.5, 4), ("4", 4)])
def test_degenerate_layouts_are_refused(kind, layout):
    """A regular grid has collinear or coincident points only where it has one row or column."""
    with pytest.raises(ValueError, match=r"^control points must have at least 2 rows and 2 col"):
        kind(*layout)


def test_control_points_sent_to_one_place_read_one_place(run):
    """What is degenerate in theta is not in the layout: all of the output shows the source."""
    for transform in (ThinPlateSpline(3, 3), PiecewiseAffine(3, 3)):
        theta = -transform.points.T.ravel() + np.repeat([0.5, -0.5], 9)
        image = normal(1, 5, 5, 1)
        y, _, dtheta = run(transform, theta[None], image, (4, 6))
        np.testing.assert_allclose(y, np.broadcast_to(image[0, 1, 3], y.shape), 0, 1e-5)
        assert np.isfinite(dtheta).all()


# ---- images and outputs of one pixel


SHAPES = [(1, 1, 1), (1, 1, 2), (1, 7, 1), (5, 1, 1), (5, 7, 1)]  # and supersampling


@every
@pytest.mark.parametrize("kernel", KERNELS)
def test_images_and_outputs_of_one_pixel(run, transform, kernel):
    theta = np.array([transform.identity] * 2)
    image = normal(2, 5, 7, 2)
    for border, (height, width, supersampling) in product(BORDERS, SHAPES):
        small = image[:, :height, :width]
        for size in ((1, 1), (height, width)):
            y, dimage, dtheta = run(
                transform, theta, small, size,
                border=border, kernel=kernel, supersampling=supersampling,
            )  # fmt: skip
            expected = small if size == (height, width) else small[:, height // 2, width // 2]
            np.testing.assert_allclose(y, expected.reshape(y.shape), rtol=0, atol=1e-5)
            assert dimage.sum() == pytest.approx(y.size, rel=1e-5)
            assert np.isfinite(dtheta).all()


@every
def test_an_image_of_one_pixel_teaches_theta_nothing(run, transform):
    theta = near_identity(transform, 2)
    _, _, dtheta = run(transform, theta, normal(2, 1, 1, 3), (4, 3))
    assert dtheta.shape == theta.shape and not dtheta.any()


# ---- no images


@pytest.mark.parametrize(
    "transform",
    [Affine(), ThinPlateSpline(), Affine3d()],
    ids=["affine", "thin plate spline", "volumes"],
)
def test_no_images_are_transformed_to_none(engine, transform):
    volumes = isinstance(transform, Affine3d)
    size, sampler = ((3, 2, 4), Sampler("trilinear")) if volumes else ((3, 4), Sampler())
    localisation = Sequential(
        Flatten("flatten"), regression_layer("theta", 5 * 6 * 2, transform=transform)
    )
    transformer = SpatialTransformer(localisation, size, transform=transform, sampler=sampler)
    buffer = ParameterBuffer(transformer.parameters(), 0, engine.dtype, engine.device)
    x = engine.has(np.ones((0, 5, 6, 2)))
    y, cache = transformer.forward(x, Step(0, 0))
    assert y.shape == ((0, *size) if volumes else (0, *size, 2))
    assert transformer.backward(y, cache).shape == x.shape
    assert not to_cpu(buffer.grad).any()
    assert transformer.warp(x, transformer.theta(x)).shape == y.shape
    (looked,) = transformer.predict(x)[1]
    assert looked.theta.shape == (0, 2, 3)


# ---- one clear error


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (2.5, 4), 4, (1, 2, 3)])
def test_impossible_outputs_are_refused_when_the_transformer_is_made(size):
    with pytest.raises(ValueError, match=r"^size must be (at least \(1, 1\)|two whole numbers)"):
        SpatialTransformer(Sequential(), size)


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf])
def test_fills_that_are_not_finite_are_refused(fill):
    with pytest.raises(ValueError, match=r"^fill must be a finite number, got "):
        Sampler(border="zeros", fill=fill)


def test_errors_are_the_same(run):
    transform, image = TRANSFORMS["projective"], normal(2, 5, 6, 1)
    theta = np.zeros((2, 8))
    for call, message in (
        (lambda: run(transform, theta[:, :6], image, (3, 4)), r"^theta must have shape \(N, 8\)"),
        (lambda: run(transform, theta[:1], image, (3, 4)), r"^grid must have shape \(N=2, "),
        (lambda: run(transform, theta, image[:, :0], (3, 4)), "^image must have at least one"),
        (lambda: run(transform, theta, image, (0, 4)), r"^size must be at least \(1, 1\)"),
        (lambda: run(General("g", ThinPlateSpline(), (3, 4)), theta, image, (4, 4)), "^theta must"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_what_a_gpu_does_not_have_is_one_line(quick_device):
    """Convolution without ReLU is part of conv_block there."""
    x = quick_device.to_gpu(np.ones((1, 4, 5, 1), np.float32))
    with pytest.raises(UserError, match=r"^conv2d does not run on a GPU: use .*$"):
        implementation("conv2d", x)


def test_a_network_that_predicts_nan_warps_to_nan(engine):
    last = Dense("theta", 30, 6, initial=Constant(0.0), initial_bias=Constant(np.nan))
    transformer = SpatialTransformer(Sequential(Flatten("flatten"), last), (3, 4))
    ParameterBuffer(transformer.parameters(), 0, engine.dtype, engine.device)
    y, _ = transformer.forward(engine.has(normal(2, 5, 6, 1)), Step(0, 0))
    assert np.isnan(to_cpu(y)).all()
