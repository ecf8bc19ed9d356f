"""Every transform, whole: theta -> grid -> samples, against a formula for where each pixel lies.

The formulas share nothing with the package: complex numbers, the textbook's map of a square to a
quadrilateral, scipy's spline, matplotlib's triangles; and map_coordinates reads the image there.
"""

import numpy as np
import pytest
from helpers import normal
from matplotlib.tri import LinearTriInterpolator, Triangulation
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import map_coordinates
from test_samplers import SCIPY
from test_transforms import theta_through

from ministn import ops
from ministn.layers import Sequential
from ministn.ops.sampling import BORDERS
from ministn.transformer import SpatialTransformer
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import (
    Affine,
    Attention,
    General,
    PiecewiseAffine,
    Projective,
    Similarity,
    ThinPlateSpline,
    Translation,
)

IMAGE, OUTPUT = (11, 14), (6, 9)
MATRIX = np.array([[0.8, -0.4, 0.1], [0.3, 1.2, -0.2]])
QUAD = np.array([[-0.7, -1.3], [0.8, -0.6], [0.5, 0.7], [-1.2, 0.4]])
OFFSETS = normal(2, 12) / 5  # of 3 rows of 4 control points
CENTRES = np.stack(np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 3))).reshape(2, 12)

# Pixels are of the order of 1, and in float32 a coordinate of 10 is off by some 1e-6. Largest
# differences: 5.9e-14 and 2.4e-6, on the CPU shim too.
CLOSE = {np.float64: 1e-12, np.float32: 1e-5}


def affine(x, y):
    return np.einsum("ij,jhw->ihw", MATRIX, np.stack([x, y, np.ones_like(x)]))


def similarity(x, y):
    source = 0.7 * np.exp(0.5j) * (x + 1j * y) + 0.2 - 0.1j
    return source.real, source.imag


def quadrilateral(x, y):
    """Heckbert, "Fundamentals of Texture Mapping and Image Warping" (1989), section 2.2.3."""
    u, v = (x + 1) / 2, (y + 1) / 2
    (x0, y0), (x1, y1), _, (x3, y3) = QUAD
    (dx1, dx2, dx3), (dy1, dy2, dy3) = (
        (a1 - a2, a3 - a2, a0 - a1 + a2 - a3) for a0, a1, a2, a3 in QUAD.T
    )
    area = dx1 * dy2 - dx2 * dy1
    g, h = (dx3 * dy2 - dx2 * dy3) / area, (dx1 * dy3 - dx3 * dy1) / area
    divisor = g * u + h * v + 1
    return (
        ((x1 - x0 + g * x1) * u + (x3 - x0 + h * x3) * v + x0) / divisor,
        ((y1 - y0 + g * y1) * u + (y3 - y0 + h * y3) * v + y0) / divisor,
    )


def spline(x, y):
    found = RBFInterpolator(CENTRES.T, (CENTRES + OFFSETS).T, kernel="thin_plate_spline", degree=1)(
        np.column_stack([x.ravel(), y.ravel()])
    )
    return found.T.reshape(2, *x.shape)


def triangles(x, y):
    """Each of the 2 by 3 cells is cut from its upper left to its lower right corner."""
    upper_left = np.array([0, 1, 2, 4, 5, 6])
    corners = [
        np.stack([upper_left, upper_left + right, upper_left + 5], axis=1) for right in (1, 4)
    ]
    mesh = Triangulation(*CENTRES, np.concatenate(corners))
    # Just inside: matplotlib may take points on the outline to lie outside.
    x, y = (1 - 1e-15) * x, (1 - 1e-15) * y
    return [LinearTriInterpolator(mesh, source)(x, y).filled() for source in CENTRES + OFFSETS]


def bent(x, y):
    return x + 0.3 * y**2, y - 0.4 * x**2


def learned(dtype, to_engine=np.asarray):
    """B_0 is the identity, B_1 = (y^2, 0) and B_2 = (0, x^2)."""
    x, y = np.meshgrid(np.linspace(-1, 1, OUTPUT[1]), np.linspace(-1, 1, OUTPUT[0]))
    basis = np.array([[x, y], [y**2, 0 * y], [0 * x, x**2]], dtype).transpose(0, 2, 3, 1)
    transform = General("transform", Translation(), OUTPUT)
    transform.basis.data = to_engine(basis)
    return transform


# name: (transform, theta, where a pixel's source lies); what is learned is made for each dtype
WARPS = {
    "attention": (Attention(), [0.6, 0.3, -0.2], lambda x, y: (0.6 * x + 0.3, 0.6 * y - 0.2)),
    "translation": (Translation(), [0.3, -0.5], lambda x, y: (x + 0.3, y - 0.5)),
    "similarity": (
        Similarity(), [0.7 * np.cos(0.5), 0.7 * np.sin(0.5), 0.2, -0.1], similarity,
    ),
    "affine": (Affine(), MATRIX, affine),
    "projective": (Projective(), theta_through(QUAD), quadrilateral),
    "thin plate spline": (ThinPlateSpline(3, 4), OFFSETS, spline),
    "piecewise affine": (PiecewiseAffine(3, 4), OFFSETS, triangles),
    "general": (None, [0.3, -0.4], bent),
}  # fmt: skip
every = pytest.mark.parametrize("name", WARPS)
borders = pytest.mark.parametrize("border", BORDERS)


def expected(image, sources, border):
    """image (1, H, W, C) read bilinearly at the sources of the output's pixels, by scipy."""
    grid = np.meshgrid(np.linspace(-1, 1, OUTPUT[1]), np.linspace(-1, 1, OUTPUT[0]))
    x, y = sources(*grid)
    at = (np.asarray(y) + 1) * (IMAGE[0] - 1) / 2, (np.asarray(x) + 1) * (IMAGE[1] - 1) / 2
    channels = [
        map_coordinates(image[0, :, :, c], at, order=1, mode=SCIPY[border])
        for c in range(image.shape[3])
    ]
    return np.stack(channels, axis=-1)[None]


def warped(transform, image, theta, border):
    transformer = SpatialTransformer(
        Sequential(), OUTPUT, transform=transform, sampler=Sampler(border=border)
    )
    return transformer.warp(image, theta)


@every
@borders
@pytest.mark.parametrize("dtype", CLOSE)
def test_warps_are_those_of_a_formula(name, border, dtype):
    transform, theta, sources = WARPS[name]
    image = normal(1, *IMAGE, 2)
    got = warped(transform or learned(dtype), image.astype(dtype), np.array([theta], dtype), border)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected(image, sources, border), rtol=0, atol=CLOSE[dtype])


@every
@borders
def test_warps_on_a_gpu_are_those_of_a_formula(quick_device, name, border):
    transform, theta, sources = WARPS[name]
    image = normal(1, *IMAGE, 2)
    transform = transform or learned(np.float32, quick_device.to_gpu)
    arrays = (quick_device.to_gpu(np.float32(array)) for array in (image, [np.ravel(theta)]))
    got = quick_device.to_cpu(warped(transform, *arrays, border))
    np.testing.assert_allclose(
        got, expected(image, sources, border), rtol=0, atol=CLOSE[np.float32]
    )


@borders
def test_a_composed_warp_is_one_formula_after_the_other(border):
    """A later step of alignment multiplies from the right; from the left, in the image's frame."""
    image, later = normal(1, *IMAGE, 2), np.array([[0.9, 0.2, 0.3], [-0.1, 1.1, 0.1]])

    def second(x, y):
        return np.einsum("ij,jhw->ihw", later, np.stack([x, y, np.ones_like(x)]))

    for left, right, sources in (
        (MATRIX, later, lambda x, y: affine(*second(x, y))),
        (later, MATRIX, lambda x, y: second(*affine(x, y))),
    ):
        theta, _ = ops.compose(left[None], right[None])
        got = warped(Affine(), image, theta, border)
        np.testing.assert_allclose(got, expected(image, sources, border), rtol=0, atol=1e-12)
