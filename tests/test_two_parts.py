"""Pictures of two parts: what is drawn where, and by what chance; which parts windows show."""

import numpy as np
import pytest

from ministn.data import Cub, two_parts
from ministn.data.cub import DRAWN
from ministn.data.two_parts import MARKS
from ministn.errors import UserError
from ministn.metrics import parts
from ministn.transformer import Attended

SIDE = 43


@pytest.fixture(scope="module")
def split():
    return two_parts.generate("train", 1003, SIDE, seed=3)


def test_colours_and_shapes_differ():
    """By more than they vary, in some channel; heads have no corners."""
    colours = np.concatenate([two_parts.PARTS, two_parts.MARKS, [two_parts.GREEN]])
    away = abs(colours[:, None] - colours).max(axis=-1) + 999 * np.eye(7)
    assert away.min() > 2 * two_parts.VARIATION
    disc, square = two_parts.shapes()
    assert square.all() and not disc[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    np.testing.assert_array_equal(disc, disc[::-1].T)
    assert disc[0].any() and disc[:, 0].any()


def test_what_a_picture_shows(split):
    """A disc and a square at their places, and in their middle the marks of the label."""
    mark = np.zeros((9, 9), bool)
    mark[2:7, 2:7] = True
    for image, label, boxes, found in zip(
        split.images[:50], split.labels, split.boxes, split.parts, strict=False
    ):
        for k, kind in enumerate(divmod(int(label), 4)):
            left, top, right, bottom = boxes[k]
            crop = image[top : bottom + 1, left : right + 1].astype(int)
            shape = two_parts.shapes()[k]
            for where, colour in ((shape & ~mark, two_parts.PARTS[k]), (mark, MARKS[kind])):
                (ink,) = np.unique(crop[where], axis=0)
                assert abs(ink - colour).max() <= two_parts.VARIATION
                assert not (crop[~shape] == ink).all(axis=-1).any()
            np.testing.assert_array_equal(found[k], [(left + right) / 2, (top + bottom) / 2, 1])


def test_places_and_marks_are_uniform_and_parts_apart(split):
    """Heads in the left two thirds of the columns, bodies in the right two."""
    corners = split.boxes[..., :2].astype(int)
    assert split.boxes[..., :2].min() == 0 and split.boxes[..., 2:].max() == SIDE - 1
    assert abs(corners[:, 0] - corners[:, 1]).max(axis=1).min() >= two_parts.PART
    places = SIDE - 8
    columns = round(places * 2 / 3)
    ranges = [(0, columns), (0, places)], [(places - columns, places), (0, places)]
    for part, ranged in zip(np.moveaxis(corners, 1, 0), ranges, strict=True):
        for place, (first, last) in zip(part.T, ranged, strict=True):
            counts = np.bincount(place, minlength=places)
            expected = np.zeros(places)
            expected[first:last] = 1003 / (last - first)
            assert not counts[expected == 0].any() and abs(counts - expected).max() < 27
    assert abs(np.bincount(split.labels, minlength=16) - 1003 / 16).max() < 35


@pytest.mark.parametrize("side", [two_parts.SMALLEST, 43, 60])
def test_parts_never_overlap(side):
    rng = np.random.default_rng(0)
    for _ in range(20):
        head, body = np.moveaxis(two_parts.places_of(rng, side), 1, 0)
        assert abs(head - body).max(axis=1).min() >= two_parts.PART
        assert head.min() == body[:, 1].min() == 0 and body.max() == side - two_parts.PART


def test_fewer_pictures_are_the_first(split):
    few = two_parts.generate("train", 7, SIDE, seed=3)
    for name, array in few.arrays().items():
        np.testing.assert_array_equal(array, split.arrays()[name][:7])
    others = (
        two_parts.generate("train", 7, SIDE, seed=4).images,
        two_parts.generate("test", 7, SIDE, seed=3).images,
        split.images[1000:],
    )
    for images in others:
        assert (images[:3] != few.images[:3]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"count": 0}, "test_size must be at least 1, got 0"),
        ({"side": 41}, "side must be at least 42, got 41"),
        ({"seed": -1}, "data seed must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_drawn(changed, words):
    given = {"count": 3, "side": SIDE, "seed": 0} | changed
    with pytest.raises(UserError, match=f"^{words}$"):
        two_parts.generate("test", **given)


# ---- what windows show


def looking(middles, scale, size):
    """theta (N, 2, 3) of windows whose middles are in pixels."""
    half = (np.array(size[::-1]) - 1) / 2
    theta = np.zeros((len(middles), 2, 3))
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = (np.array(middles) - half) / half
    return theta


def test_what_is_within_a_window():
    """Of 11x7 pixels a half has 5 columns and 3 rows of steps."""
    theta = looking([(5, 3), (2, 1), (5, 3)], 0.5, (7, 11))
    points = np.array([[(2.5, 1.5), (7.5, 4.5), (2.4, 2.4), (5, 4.6)]] * 3)
    found = parts.within(theta, points, (7, 11))
    one, other = [True, True, False, False], [True, False, True, False]
    assert found.tolist() == [one, other, one]
    turned = theta.copy()
    turned[:, :, :2] = [[0, -0.5], [-0.5, 0]]  # the same windows, otherwise round
    np.testing.assert_array_equal(parts.within(turned, points, (7, 11)), found)
    theta[0, 0, 0], theta[2, 1, 2] = 0, np.nan
    assert not parts.within(theta, points, (7, 11))[[0, 2]].any()


def test_shares_are_of_the_pictures_that_have_the_part():
    theta = looking([(5, 3)] * 4, 0.5, (7, 11))
    found = np.zeros((4, 3, 3), np.float32)
    found[:, 0] = (5, 3, 1)
    found[:, 1] = [(5, 3, 1), (0, 0, 1), (5, 3, 0), (0, 0, 0)]
    assert parts.shares(theta, found, (7, 11)) == [1.0, 0.5, None]


def test_a_split_measures_every_window_and_those_of_others(split):
    size = (SIDE, SIDE)
    follows = looking(split.parts[:, 1, :2], 0.5, size)
    still = looking([(21, 21)] * len(split), 0.5, size)
    pose, field = np.zeros((len(split), 4, 4, 2)), np.ones((len(split), 2))
    looks = [Attended(theta, pose, field) for theta in (follows, still)]
    found = split.measure(looks)
    assert found["shows"][0][1] == 1 and found["shows_elsewhere"][0][1] < 0.8
    assert found["shows"][1] == found["shows_elsewhere"][1]
    middles = split.parts[:, 0, :2]
    assert found["shows"][1][0] == pytest.approx((abs(middles - 21) <= 10.5).all(axis=1).mean())
    assert len(found["transformers"]) == 2
    none = split.measure([])
    assert none["shows"] is None and none["shows_elsewhere"] is None


def test_drawn_pictures_as_a_set():
    made = Cub(DRAWN, SIDE, 20, seed=3).load()
    assert (len(made.train), len(made.test), made.valid) == (20, 2000, None)
    np.testing.assert_array_equal(
        made.train.images, two_parts.generate("train", 20, SIDE, seed=3).images
    )
