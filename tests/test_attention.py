"""Attention measured against hand answers, a rasterised count and hostile input."""

import numpy as np
import pytest

from ministn.metrics.attention import (
    IDENTITY,
    correlation,
    inside,
    overlap,
    quadrilateral,
    summary,
    wander,
)
from ministn.ops.left_image import left_image

SIZE = (40, 60)  # H, W: not square, so that a swap shows
WHOLE = [0, 0, 59, 39]


def rectangle(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def array(values):
    return np.array(values, np.float64)[None]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        (IDENTITY, rectangle(0, 0, 59, 39)),
        ([[0.5, 0, 0], [0, 0.5, 0]], rectangle(14.75, 9.75, 44.25, 29.25)),
        ([[1, 0, 2], [0, 1, 0]], rectangle(59, 0, 118, 39)),
        ([[-1, 0, 0], [0, 1, 0]], rectangle(59, 0, 0, 39)),
        ([[0, 1, 0], [-1, 0, 0]], [[0, 39], [0, 0], [59, 0], [59, 39]]),
    ],
    ids=["identity", "half", "shifted", "mirrored", "turned"],
)
def test_quadrilateral(theta, expected, dtype):
    quad = quadrilateral(array(theta).astype(dtype), SIZE)
    assert quad.shape == (1, 4, 2) and quad.dtype == np.float64
    np.testing.assert_allclose(quad[0], expected, atol=1e-12)


# A square with diagonals of 20 along the axes: area 200. Its corners are cut off by the square of
# side 10 around its centre nowhere (|x| + |y| <= 10 there), by that of side 16 with 4 triangles of
# legs 6.
DIAMOND = [[30, 10], [40, 20], [30, 30], [20, 20]]


@pytest.mark.parametrize(
    ("quad", "box", "expected"),
    [
        (rectangle(0, 0, 59, 39), WHOLE, 1),
        (rectangle(0, 0, 59, 39), [10, 10, 20, 30], 200 / (59 * 39)),
        (rectangle(0, 0, 10, 10), [5, 0, 15, 10], 50 / 150),
        (rectangle(0, 0, 10, 10), [5, 5, 15, 15], 25 / 175),
        (rectangle(0, 0, 10, 10), [10, 0, 20, 10], 0),
        (rectangle(0, 0, 10, 10), [30, 30, 40, 35], 0),
        (rectangle(0, 0, 10, 10)[::-1], [5, 0, 15, 10], 50 / 150),
        (rectangle(10, 0, 0, 10), [5, 0, 15, 10], 50 / 150),
        (DIAMOND, [25, 15, 35, 25], 100 / 200),
        (DIAMOND[::-1], [25, 15, 35, 25], 100 / 200),
        (DIAMOND, [22, 12, 38, 28], (256 - 72) / 272),
        (DIAMOND, [30, 10, 40, 20], 50 / 250),
        ([[0, 0], [20, 0], [30, 10], [10, 10]], [0, 0, 20, 10], 150 / 250),
        (rectangle(7, 7, 7, 7), WHOLE, 0),
        (rectangle(0, 7, 59, 7), WHOLE, 0),
        ([[0, 0], [50, 30], [50, 30], [0, 0]], WHOLE, 0),
        (rectangle(7, 7, 7, 7), [7, 7, 7, 7], 0),
        (rectangle(0, 0, 59, 39), [20, 10, 20, 30], 0),
        (rectangle(-1e6, -1e6, 1e6, 1e6), WHOLE, 59 * 39 / 4e12),
        ([[-1e9, -1], [1e9, -1], [1e9, 1], [-1e9, 1]], [0, 0, 10, 1], 10 / 4e9),
        ([[0, -1e9], [10, -1e9], [10, 5], [0, 5]], [0, 0, 10, 10], 50 / (1e10 + 100)),
        ([[5, 0], [5 + 1e-300, 1e9], [50, 1e9], [50, 0]], [0, 0, 3, 9], 0),
        (rectangle(-1e300, -1e300, 1e300, 1e300), WHOLE, 0),
        ([[np.nan, 0], [1, 0], [1, 1], [0, 1]], WHOLE, 0),
        (rectangle(0, 0, np.inf, 10), WHOLE, 0),
    ],
)
def test_overlap_by_hand(quad, box, expected):
    result = overlap(array(quad), array(box))
    assert result.shape == (1,)
    np.testing.assert_allclose(result[0], expected, rtol=1e-12, atol=1e-15)


def test_overlap_against_a_rasterised_count():
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 0.3, (40, 2, 3)) + 0.4 * np.array(IDENTITY)
    quad = quadrilateral(theta, SIZE)
    left, top = rng.integers(5, 30, 40), rng.integers(0, 15, 40)
    boxes = np.stack([left, top, left + rng.integers(9, 25, 40), top + rng.integers(9, 20, 40)], 1)
    exact = overlap(quad, boxes)
    for index in range(40):
        low = np.minimum(quad[index].min(axis=0), boxes[index, :2])
        high = np.maximum(quad[index].max(axis=0), boxes[index, 2:])
        axes = [
            np.linspace(a, b, 801)[:-1] + (b - a) / 1600 for a, b in zip(low, high, strict=True)
        ]
        x, y = np.meshgrid(*axes)
        in_box = (x > boxes[index, 0]) & (x < boxes[index, 2])
        in_box &= (y > boxes[index, 1]) & (y < boxes[index, 3])
        # Back through the affine transform, where the quadrilateral is the square [-1, 1]^2.
        pixels = np.stack([x.ravel() / 29.5 - 1, y.ravel() / 19.5 - 1]) - theta[index, :, 2:]
        output = np.linalg.solve(theta[index, :, :2], pixels)
        in_quad = (np.abs(output) <= 1).all(axis=0).reshape(x.shape)
        counted = (in_box & in_quad).sum() / (in_box | in_quad).sum()
        # Of the 800 x 800 points, those in cells that an outline crosses (under 1 %) can be
        # miscounted, half of them either way; the largest difference measured is 4.7e-4.
        assert abs(counted - exact[index]) < 1e-3
    assert np.ptp(exact) > 0.4


def test_overlap_ignores_where_the_corners_start_and_which_way_round():
    rng = np.random.default_rng(1)
    quad = quadrilateral(rng.normal(0, 0.5, (50, 2, 3)) + IDENTITY, SIZE)
    boxes = np.tile([12, 9, 33, 30], (50, 1))
    reference = overlap(quad, boxes)
    for other in (np.roll(quad, 1, axis=1), quad[:, ::-1]):
        np.testing.assert_allclose(overlap(other, boxes), reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("quad", "box", "expected"),
    [
        (rectangle(0, 0, 59, 39), WHOLE, True),
        (rectangle(59, 0, 0, 39), WHOLE, True),
        (rectangle(0.0005, 0, 59, 39), WHOLE, True),
        (rectangle(0.01, 0, 59, 39), WHOLE, False),
        (rectangle(0, 0, 58.9, 39), WHOLE, False),
        (DIAMOND, [25, 15, 35, 25], True),
        (DIAMOND[::-1], [25, 15, 35, 25], True),
        (DIAMOND, [24, 15, 35, 25], False),
        (rectangle(0, 0, 10, 10), [30, 30, 35, 35], False),
        (rectangle(-1e6, -1e6, 1e6, 1e6), WHOLE, True),
        (rectangle(20, 20, 20, 20), [20, 20, 20, 20], False),
        (rectangle(0, 20, 59, 20), [10, 20, 20, 20], False),
        ([[np.nan, 0], [1, 0], [1, 1], [0, 1]], WHOLE, False),
        (rectangle(0, 0, np.inf, 39), WHOLE, False),
    ],
)
def test_inside(quad, box, expected):
    assert inside(array(quad), array(box)).tolist() == [expected]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_identity_contains_every_box(dtype):
    for size in [(1, 1), (7, 13), (60, 60), (97, 101)]:
        quad = quadrilateral(array(IDENTITY).astype(dtype), size)
        assert inside(quad, array([0, 0, size[1] - 1, size[0] - 1])).item() == (size != (1, 1))


@pytest.mark.parametrize(
    ("theta", "left"),
    [
        (IDENTITY, False),
        ([[-1, 0, 0], [0, 1, 0]], False),
        ([[0.2, 0, 0.9], [0, 0.2, -0.9]], False),
        ([[1, 0, 1], [0, 1, 1]], False),  # centred on a corner: 4 x 4 of 64 points
        ([[1, 0, 1.9], [0, 1, 0]], False),  # one column of 8
        ([[1, 0, 1.9], [0, 1, 1.9]], True),  # one point
        ([[1, 0, 0], [0, 1, -3]], True),
        ([[0.1, 0, 1.2], [0, 0.1, 0]], True),
        ([[2.3, 0, 0], [0, 2.3, 0]], False),  # 4 x 4 of 64
        ([[4, 0, 0], [0, 4, 0]], True),  # 2 x 2 of 64
        ([[138, 0, 0], [0, 138, 0]], True),
        ([[0, 0, 0], [0, 0, 0]], False),  # all at the centre: blind, but inside
        ([[0, 0, 1.01], [0, 0, 0]], True),
        ([[np.nan, 0, 0], [0, 1, 0]], True),
        ([[1, 0, 0], [0, 1, np.inf]], True),
        ([[3e38, 3e38, -3e38], [0, 1, 0]], True),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_left_image(theta, left, dtype):
    assert left_image(array(theta).astype(dtype)).tolist() == [left]


def test_left_image_takes_another_threshold():
    theta = array([[1, 0, 1], [0, 1, 1]])  # a quarter of the points
    assert [left_image(theta, share).item() for share in (0.25, 0.26)] == [False, True]


def masked(*shape):
    return np.ma.masked_array(np.zeros(shape), True)


def test_images_do_not_influence_each_other():
    theta = np.concatenate([array(IDENTITY), np.full((1, 2, 3), np.nan), array(IDENTITY) * 0.5])
    boxes = np.tile(WHOLE, (3, 1))
    quad = quadrilateral(theta, SIZE)
    assert overlap(quad, boxes).tolist() == [1, 0, 0.25]
    assert inside(quad, boxes).tolist() == [True, False, False]
    assert left_image(theta).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: quadrilateral(np.zeros((2, 6)), SIZE), ValueError, "theta must have shape"),
        (lambda: quadrilateral(np.zeros((2, 2, 3), int), SIZE), TypeError, "theta must be float"),
        (lambda: left_image(np.zeros((2, 3, 2))), ValueError, "theta must have shape"),
        (lambda: overlap(np.zeros((2, 4, 2)), np.zeros((3, 4))), ValueError, "boxes must have"),
        (lambda: inside(np.zeros((2, 4, 3)), np.zeros((2, 4))), ValueError, "quad must have"),
        (lambda: overlap(np.zeros((2, 4, 2)), masked(2, 4)), TypeError, "boxes must be a plain"),
        (lambda: inside(masked(2, 4, 2), np.zeros((2, 4))), TypeError, "quad must be a plain"),
        (lambda: correlation(np.zeros((2, 2, 3)), masked(2, 4)), TypeError, "boxes must be a pl"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_summary_of_the_identity_has_not_moved():
    theta = np.tile(IDENTITY.astype(np.float32), (3, 1, 1))
    found = summary(theta, np.array([[0, 0, 9, 4]] * 3), (5, 10))
    expected = {"overlap": 1, "inside": 1, "left_image": 0, "moved": 0, "spread": 0}
    expected |= dict.fromkeys(("correlation", "wander_in", "wander_out"), 0)
    assert found == expected | {"widths_in": 0, "widths_out": 0, "overlap_in": 1}


def test_summary_tells_moving_from_following_the_image():
    box = np.array([[0, 0, 9, 9]] * 2)
    together = np.stack([IDENTITY + 0.6, IDENTITY + 0.6])
    apart = np.stack([IDENTITY + 0.6, IDENTITY - 0.6])
    for theta, spread in ((together, 0), (apart, 0.6)):
        found = summary(theta, box, (10, 10))
        np.testing.assert_allclose([found["moved"], found["spread"]], [0.6, spread], atol=1e-15)
    away = IDENTITY[None] + [[0, 0, 9], [0, 0, 0]]  # a sixth of its entries has moved by 9
    found = summary(np.concatenate([away, away]), box, (10, 10))
    assert (found["left_image"], found["moved"], found["spread"]) == (1, 1.5, 0)
    assert set(summary(None, box, (10, 10)).values()) == {None}


def scattered(count=400, seed=5):
    """Boxes of 8x18 pixels in images of 41x61, and their centres from -1 to 1."""
    size, rng = (41, 61), np.random.default_rng(seed)
    corner = rng.integers(0, (54, 24), (count, 2))
    boxes = np.concatenate([corner, np.add(corner, [7, 17])], axis=1)
    half = np.array([30.0, 20.0])
    return boxes, (np.add(corner, [3.5, 8.5]) - half) / half, size


def looking(place, matrix=((1.0, 0.0), (0.0, 1.0))):
    """theta with its centre at each place."""
    linear = np.broadcast_to(np.array(matrix), (len(place), 2, 2))
    return np.concatenate([linear, place[..., None]], axis=2)


def test_centring_without_zooming_follows_the_digit_and_halves_what_it_wanders():
    boxes, place, size = scattered()
    still, half_way, turned = (summary(looking(place * s), boxes, size) for s in (0, 0.5, -0.5))
    assert still["correlation"] == 0 and still["wander_out"] == still["wander_in"]
    np.testing.assert_allclose(half_way["correlation"], 1, rtol=1e-12)
    np.testing.assert_allclose(turned["correlation"], -1, rtol=1e-12)
    np.testing.assert_allclose(half_way["wander_out"], still["wander_in"] / 2, rtol=1e-12)
    np.testing.assert_allclose(turned["wander_out"], still["wander_in"] * 1.5, rtol=1e-12)
    np.testing.assert_allclose(still["wander_in"], np.sqrt((place.var(0) * [900, 400]).mean()))
    assert half_way["widths_in"] == still["widths_in"] == still["wander_in"] / 12  # of 8x18 pixels
    np.testing.assert_allclose(half_way["overlap"], still["overlap"])  # which cannot see it
    zoomed = summary(looking(place, np.eye(2) / 2), boxes, size)
    assert zoomed["overlap"] > 2 * still["overlap"] == 2 * zoomed["overlap_in"]


def test_wander_is_seen_in_the_attended_frame():
    boxes, place, size = scattered()
    before = wander(looking(0 * place), boxes, size)
    zoomed = wander(looking(0 * place, ((0.5, 0), (0, 0.5))), boxes, size)  # twice as large
    np.testing.assert_allclose(zoomed, (2 * before[0], before[1]), rtol=1e-12)
    bent = ((0.3, -0.5), (0.7, 0.2))
    np.testing.assert_allclose(wander(looking(place, bent), boxes, size), 0, atol=1e-12)
    image = (place - looking(0.3 * place)[..., 2]) @ np.linalg.inv(np.array(bent)).T * [30, 20]
    found, _ = wander(looking(0.3 * place, bent), boxes, size)
    np.testing.assert_allclose(found, np.sqrt(image.var(axis=0).mean()), rtol=1e-12)


def test_a_theta_without_area_counts_like_a_digit_beside_the_frame():
    boxes, place, size = scattered()
    theta = looking(place)
    theta[0] = 0
    pixels, widths = wander(theta, boxes, size)
    assert 0 < pixels < 6 and np.isfinite(widths)
    assert correlation(theta, boxes) > 0.98
    nowhere = wander(0 * theta, boxes, size)
    assert np.isfinite(nowhere).all()


def test_correlation_is_the_mean_along_x_and_y():
    boxes, place, _ = scattered()
    theta = looking(place * [1, 0] + np.random.default_rng(0).normal(0, 0.2, place.shape))
    expected = [np.corrcoef(theta[:, axis, 2], place[:, axis])[0, 1] for axis in (0, 1)]
    np.testing.assert_allclose(correlation(theta, boxes), np.mean(expected), rtol=1e-12)
    with pytest.raises(ValueError, match="boxes must have"):
        correlation(theta, boxes[:3])
