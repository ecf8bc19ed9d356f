"""Table I's spread within classes, and Figure 6's line, where the answers are known."""

import numpy as np
import pytest

from ministn import ops
from ministn.data import Digits, Form, as_batch
from ministn.data.digits import load
from ministn.data.distorted import RECIPES, generate
from ministn.metrics.final_pose import (
    angle,
    log2_area,
    orthogonal_regression,
    spread,
    summary,
    turns,
    within_classes,
)
from ministn.models import Placement
from ministn.parameter import ParameterBuffer
from ministn.transformer import Attended, theta_of

rng = np.random.default_rng(5)
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
N, REACH = len(LABELS), (20.0, 10.0)


def poses_of(theta):
    return ops.affine_grid(theta, (4, 4))[0]


def test_angle_and_area_are_those_of_theta_of():
    degrees, scale = rng.uniform(-179, 179, N), rng.uniform(0.2, 5, N)
    theta = theta_of(degrees, scale)
    np.testing.assert_allclose(angle(theta), degrees, rtol=1e-12)
    np.testing.assert_allclose(log2_area(theta), 2 * np.log2(scale), atol=1e-12)
    assert log2_area(np.array([[[0.0, 1, 3], [0.5, 0, 3]]])).tolist() == [-1]  # turned over
    assert log2_area(np.array([[[1.0, 2, 0], [2, 4, 0]]])).tolist() == [-np.inf]


def test_what_is_common_to_a_class_is_no_spread():
    """Each class comes out in a pose of its own, exactly."""
    lies = theta_of(rng.uniform(-60, 60, N), rng.uniform(0.5, 2, N), rng.uniform(-0.5, 0.5, (N, 2)))
    left = {"angle": np.where(LABELS, 30.0, -20), "scale": np.where(LABELS, 0.5, 1.5)}
    theta = lies.copy()
    theta[:, :, :2] @= theta_of(**left)[:, :, :2]
    theta[:, :, 2] += np.where(LABELS, 0.25, -0.5)[:, None]
    found = spread(theta, poses_of(lies), LABELS, REACH)
    np.testing.assert_allclose(found, 0, atol=1e-10)


def test_each_measure_is_the_root_mean_square_about_the_classes_means():
    """What is left differs by +-3 within each class: degrees, then pixels both ways, then log2."""
    sign = np.where(np.arange(N) % 2, 1.0, -1.0)
    lies = theta_of(np.zeros(N), np.full(N, 0.5))
    turned = theta_of(3 * sign, np.full(N, 0.5))
    np.testing.assert_allclose(spread(turned, poses_of(lies), LABELS, REACH), (3, 0, 0), atol=1e-12)
    moved = theta_of(np.zeros(N), np.full(N, 0.5), sign[:, None] * [3 / 20, -4 / 10])
    np.testing.assert_allclose(spread(moved, poses_of(lies), LABELS, REACH), (0, 5, 0), atol=1e-12)
    scaled = theta_of(np.zeros(N), 0.5 * 2 ** (3 * sign))
    np.testing.assert_allclose(spread(scaled, poses_of(lies), LABELS, REACH), (0, 0, 6), atol=1e-12)


def test_without_a_transformer_it_is_the_spread_of_the_distortions():
    """Of made data: the identity leaves each digit as it lies, a perfect theta upright."""
    digits = load()["test"]
    recipe = RECIPES["R"]
    split = generate(recipe, "test", digits, 1000, seed=0)
    identity = np.tile(np.eye(2, 3), (1000, 1, 1))
    found = spread(identity, split.poses, split.labels, (13.5, 13.5))
    assert found.degrees == pytest.approx(180 / 12**0.5, rel=0.05)  # of +-90 degrees, uniform
    assert found.pixels < 1e-4 and found.log2_area < 1e-4
    upright = ops.affine_grid(identity, (4, 4))[0]
    assert np.abs(spread(identity, upright, split.labels, (1, 1))).max() < 1e-12


def test_what_a_record_has():
    """Of a split of turned digits: half of each angle is undone."""
    split = generate(RECIPES["R"], "test", load()["test"], 200, seed=0)
    nothing = split.measure([])
    assert [nothing[name] for name in ("final_degrees", "turn_slope")] == [None, None]
    identity = np.tile(np.eye(2, 3), (200, 1, 1))
    found = summary(identity, split.poses, split.labels, (28, 28))
    assert found["turn_slope"] == 0 and found["final_degrees"] > 40
    points = [[round(float(a)), 0] for a in angle(lies_in(split))]
    assert turns(identity, split.poses) == points
    turned = theta_of(angle(lies_in(split)) / 2)
    half = summary(turned, split.poses, split.labels, (28, 28))
    assert half["turn_slope"] == pytest.approx(0.5, abs=1e-6)
    assert half["final_degrees"] == pytest.approx(found["final_degrees"] / 2, rel=1e-5)
    grid = poses_of(identity).astype(np.float32)
    look = Attended(identity.astype(np.float32), grid, np.ones((200, 2)))
    measured = split.measure([look])
    assert split.shown([look]) == {"turns": points} and split.shown([]) == {"turns": None}
    assert found == pytest.approx({name: measured[name] for name in found})


def test_shifts_of_a_feature_map_are_counted_in_pixels_of_the_image():
    """Of STN-C1 on T: cell i of its map is around pixel 4.5 + 2 i, so a shift of 1 is 25 pixels."""
    network = Placement("C", "T").build(Form((60, 60)))
    ParameterBuffer(network.parameters(), seed=0)
    split = generate(RECIPES["TC"], "test", digits_of_mnists_size(), 40, seed=0)
    _, (look,) = network.predict(as_batch(split.images))
    assert look.field.shape == (40, 2)
    np.testing.assert_allclose(look.field, 25 / 29.5)
    off = split.measure([look])
    shifts = 29.5 * lies_in(split)[:, :, 2]
    about = shifts - [shifts[split.labels == label].mean(axis=0) for label in split.labels]
    assert off["final_pixels"] == pytest.approx(np.sqrt((about**2).sum() / 40), rel=1e-6)
    look.theta[:, :, 2] = shifts / 25
    right = split.measure([look])
    assert right["final_pixels"] < 1e-4 and right["field"] == pytest.approx(25 / 29.5)
    of_the_image = split.measure([look._replace(field=np.ones((40, 2)))])
    assert of_the_image["final_pixels"] == pytest.approx(off["final_pixels"] * 4.5 / 25, rel=1e-5)


def digits_of_mnists_size():
    """Embedded digits in the middle of 28x28 pixels."""
    digits = load()["test"]
    return Digits(np.pad(digits.images, [(0, 0), (6, 6), (6, 6)]), digits.labels)


def test_a_record_has_finite_numbers_only():
    upright = poses_of(np.tile(np.eye(2, 3), (N, 1, 1)))
    found = summary(np.zeros((N, 2, 3)), upright, LABELS, (9, 9))
    assert found["final_log2_area"] is None is found["turn_slope"]
    assert turns(np.zeros((N, 2, 3)), upright) is None
    assert found["final_pixels"] == pytest.approx(0, abs=1e-9)


def lies_in(split):
    """theta (N, 2, 3) of the corners of a pose."""
    across = (split.poses[:, 0, 3] - split.poses[:, 0, 0]) / 2
    down = (split.poses[:, 3, 0] - split.poses[:, 0, 0]) / 2
    return np.stack([across, down, split.poses.mean(axis=(1, 2))], axis=2).astype(np.float64)


def test_pooled_over_all_images_not_over_classes():
    values = np.array([1.0, -1, 1, -1, 3, -3, 3, -3, 3, -3])
    assert within_classes(values, LABELS) == pytest.approx(np.sqrt((4 * 1 + 6 * 9) / 10))
    assert within_classes(values + 100 * LABELS, LABELS) == pytest.approx(np.sqrt(5.8))
    pair = np.stack([values, values], axis=1)
    assert within_classes(pair, LABELS) == pytest.approx(np.sqrt(11.6))


# ---- the line


@pytest.mark.parametrize("slope", [0.5, -2.0, 0.0, 1e3])
def test_points_on_a_line_give_the_line(slope):
    x = rng.normal(size=9)
    found = orthogonal_regression(x, slope * x + 3)
    np.testing.assert_allclose(found, (slope, 3), rtol=1e-9, atol=1e-9)


def test_the_line_is_the_first_principal_axis_and_does_not_prefer_an_axis():
    x = rng.normal(size=200)
    y = 0.7 * x + rng.normal(0, 0.4, 200) + 1
    found, turned = orthogonal_regression(x, y), orthogonal_regression(y, x)
    _, axes = np.linalg.eigh(np.cov(x, y))
    assert found.slope == pytest.approx(axes[1, -1] / axes[0, -1])
    assert found.slope * turned.slope == pytest.approx(1)
    assert found.intercept == pytest.approx(y.mean() - found.slope * x.mean())
    least_squares = np.polyfit(x, y, 1)[0]
    assert found.slope > least_squares


def test_where_there_is_no_slope():
    upright = orthogonal_regression(np.array([2.0, 2, 2]), np.array([0.0, 1, 5]))
    assert upright.slope == np.inf
    corners = orthogonal_regression(np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 0, 1]))
    assert np.isnan(corners.slope)
    assert np.isnan(orthogonal_regression(np.ones(1), np.ones(1)).slope)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: within_classes(np.ones(3), np.arange(2)), ValueError, "there must be values for"),
        (lambda: within_classes(np.ones((0,)), np.arange(0)), ValueError, "values must have shape"),
        (lambda: within_classes(np.ones(2), np.ones(2)), TypeError, "labels must be whole numbers"),
        (lambda: orthogonal_regression(np.ones(3), np.ones(2)), ValueError, r"y must have shape"),
        (lambda: orthogonal_regression(np.ones(0), np.ones(0)), ValueError, "x must have at leas"),
    ],
)
def test_what_is_no_measurement_is_refused(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
