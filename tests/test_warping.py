"""Homographies and splines where the exact answer is known, or another formula gives it."""

import numpy as np
from scipy.interpolate import RBFInterpolator

from ministn.data.warping import (
    CENTRES,
    SPLINE,
    as_bytes,
    homography,
    project,
    projective_theta,
    spline,
    spline_inverse,
    spline_theta,
    warp,
)
from ministn.metrics.attention import CORNERS
from ministn.transformer.transforms import AFFINE, Projective

rng = np.random.default_rng(5)
QUADS = CORNERS + rng.normal(0, 0.2, (6, 4, 2))
VALUES = CENTRES + rng.normal(0, 0.08, (6, 16, 2))
POINTS = rng.uniform(-1.2, 1.2, (50, 2))


def centres(h, w):
    """The pixel centres (h w, 2), by rows."""
    return np.stack(np.meshgrid(np.linspace(-1, 1, w), np.linspace(-1, 1, h)), -1).reshape(-1, 2)


# ---- homographies


def equations(source, target):
    """The matrix (3, 3) with 1 at its end: two linear equations for each of four points."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.append(np.linalg.solve(rows, right), 1).reshape(3, 3)


def test_homography_takes_corners_to_corners():
    np.testing.assert_allclose(project(homography(CORNERS, QUADS), CORNERS), QUADS, atol=1e-13)


def test_homography_is_that_of_the_linear_equations():
    for matrix, quad in zip(homography(CORNERS, QUADS), QUADS, strict=True):
        np.testing.assert_allclose(matrix / matrix[2, 2], equations(CORNERS, quad), atol=1e-12)


def test_homography_of_a_parallelogram_is_affine():
    matrix = np.array([[0.7, -0.3, 0.1], [0.2, 0.9, -0.4], [0, 0, 1]])
    (found,) = homography(CORNERS, project(matrix[None], CORNERS))
    np.testing.assert_allclose(found / found[2, 2], matrix, atol=1e-13)


def test_theta_is_the_homography():
    grid, _ = Projective().forward(projective_theta(homography(CORNERS, QUADS)), (3, 5))
    expected = project(homography(CORNERS, QUADS), centres(3, 5)).reshape(6, 3, 5, 2)
    np.testing.assert_allclose(grid, expected, atol=1e-14)


# ---- splines


def test_spline_goes_through_its_values():
    np.testing.assert_allclose(spline(VALUES, CENTRES), VALUES, atol=1e-13)


def test_spline_is_that_of_scipy():
    for values in VALUES:
        expected = RBFInterpolator(CENTRES, values, kernel="thin_plate_spline", degree=1)(POINTS)
        np.testing.assert_allclose(spline(values[None], POINTS)[0], expected, atol=1e-12)


def test_spline_through_an_affine_map_is_that_map():
    matrix, shift = np.array([[0.7, -0.3], [0.2, 0.9]]), [0.1, -0.4]
    values = CENTRES @ matrix + shift
    np.testing.assert_allclose(spline(values[None], POINTS)[0], POINTS @ matrix + shift, atol=1e-13)


def test_theta_is_the_spline():
    grid, _ = SPLINE.forward(spline_theta(VALUES), (4, 7))
    expected = spline(VALUES, centres(4, 7)).reshape(6, 4, 7, 2)
    np.testing.assert_allclose(grid, expected, atol=1e-14)


def test_spline_inverse_undoes_the_spline():
    points = np.broadcast_to(POINTS[:16] * 0.8, (6, 16, 2))
    images = spline(VALUES, points)
    np.testing.assert_allclose(spline_inverse(VALUES, images), points, atol=1e-12)
    assert np.abs(images - points).max() > 0.05


# ---- bytes


def test_bytes_survive_and_halves_are_rounded_up():
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(as_bytes((every / 255).astype(np.float32)), every)
    assert as_bytes(np.float32([0.5 / 255, 0.49 / 255, 1])).tolist() == [1, 0, 255]


def test_warp_leaves_every_byte_at_the_identity_and_is_black_outside():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    identity, _ = AFFINE.forward(np.float32([AFFINE.identity]), (16, 16))
    assert np.array_equal(warp(images, identity), images)
    assert not warp(images, identity + np.float32(4)).any()
