"""The measure of how well theta undoes a distortion."""

import numpy as np
import pytest

from ministn import ops
from ministn.metrics import pose

SIZE = 31, 41  # half = 20 pixels in x, 15 in y
HALF = np.array([20.0, 15.0])
rng = np.random.default_rng(2)
THETA = np.tile(np.eye(2, 3), (9, 1, 1)) + rng.normal(0, 0.3, (9, 2, 3))


def grid(theta):
    return ops.affine_grid(np.asarray(theta, np.float64), (4, 4))[0]


def after(theta, first):
    """theta of: first, then theta."""
    both = theta[:, :, :2] @ np.asarray(first, np.float64)
    both[:, :, 2] += theta[:, :, 2]
    return both


def test_the_frame_is_the_pose_of_an_undistorted_image():
    np.testing.assert_array_equal(grid(np.eye(2, 3)[None])[0], pose.FRAME)
    assert pose.FRAME[::3, ::3].tolist() == [[[-1, -1], [1, -1]], [[-1, 1], [1, 1]]]


def test_the_right_theta_is_nowhere_off():
    for measure in (pose.distance, pose.spread):
        assert np.abs(measure(grid(THETA), grid(THETA), SIZE)).max() < 1e-12


def test_distance_of_a_shift_is_its_length_in_pixels():
    moved = THETA.copy()
    moved[:, :, 2] += np.array([3.0, -4.0]) / HALF
    np.testing.assert_allclose(pose.distance(grid(moved), grid(THETA), SIZE), 5)


def test_distance_is_the_mean_over_the_points():
    off = grid(THETA)
    off[:, 2, 1] += np.array([6.0, 8.0]) / HALF
    off[:, 0, 3] -= np.array([6.0, 0.0]) / HALF
    np.testing.assert_allclose(pose.distance(off, grid(THETA), SIZE), 1)


@pytest.mark.parametrize("common", [[[0.5, 0, 0.1], [0, 0.5, 0]], [[0, -1.2, 0], [0.7, 0.3, 0.2]]])
def test_spread_does_not_see_what_is_common_to_all_images(common):
    turned = grid(after(THETA, common))
    assert pose.distance(turned, grid(THETA), SIZE).min() > 3
    assert np.abs(pose.spread(turned, grid(THETA), SIZE)).max() < 1e-12


def test_spread_sees_the_one_image_that_is_off():
    some = after(THETA, [[0.5, 0, 0.1], [0, 0.5, 0]])
    some[4, 0, 2] += 3 / HALF[0]
    found = pose.spread(grid(some), grid(THETA), SIZE)
    np.testing.assert_allclose(found, 3 * (np.arange(9) == 4), atol=1e-12)


def test_not_finite_is_nan_and_only_there():
    off = grid(THETA)
    off[3] = np.nan
    assert np.flatnonzero(np.isnan(pose.distance(off, grid(THETA), SIZE))).tolist() == [3]


def test_summary():
    poses = grid(THETA).astype(np.float32)
    assert pose.summary(None, poses, SIZE) == dict.fromkeys(
        ("pose_distance", "pose_spread", "pose_unmoved")
    )
    still = grid(np.tile(np.eye(2, 3), (9, 1, 1)))
    found = pose.summary(still[:, None], poses, SIZE)
    assert found["pose_spread"] == found["pose_unmoved"] > 2
    assert found["pose_distance"] == pose.distance(still, poses, SIZE).mean()
    undone = pose.summary(poses[:, None], poses, SIZE)
    assert undone["pose_distance"] == undone["pose_spread"] == 0
    assert undone["pose_unmoved"] == found["pose_unmoved"]


def test_of_several_transformers_each_digit_counts_by_the_one_that_follows_it_best():
    first = grid(THETA)
    second = grid(after(THETA[::-1], [[0, -0.5, 0], [0.5, 0, 0]]))
    two_digits = np.stack([first, second], axis=1)
    still = grid(np.tile(np.eye(2, 3), (9, 1, 1)))
    swapped = pose.summary(np.stack([second, first], axis=1), two_digits, SIZE)
    assert swapped["pose_distance"] == swapped["pose_spread"] == 0
    one = pose.summary(np.stack([still, first], axis=1), two_digits, SIZE)
    missed = min(pose.distance(look, second, SIZE).mean() for look in (still, first))
    assert one["pose_distance"] == pytest.approx(missed / 2)
    assert one["pose_unmoved"] == swapped["pose_unmoved"] > 1


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="poses must have shape"):
        pose.distance(grid(THETA), grid(THETA[1:]), SIZE)
    with pytest.raises(ValueError, match="grid must have shape"):
        pose.spread(grid(THETA)[:, 1:], grid(THETA), SIZE)
