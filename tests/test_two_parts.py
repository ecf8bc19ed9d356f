"""Pictures of two parts: what is drawn where, and by what chance; which parts windows show."""

import numpy as np
import pytest

from ministn.data import Cub, two_parts
from ministn.data.cub import DRAWN
from ministn.errors import UserError
from ministn.metrics import parts
from ministn.transformer import Attended

SIDE = 31


@pytest.fixture(scope="module")
def split():
    return two_parts.generate("train", 1003, SIDE, seed=3)


def test_patterns_differ():
    heads, bodies = two_parts.patterns()
    assert heads.shape == bodies.shape == (4, 9, 9)
    flat = np.concatenate([heads, bodies]).reshape(8, -1)
    differing = (flat[:, None] != flat).sum(axis=-1)
    assert (differing + 99 * np.eye(8) > 20).all()
    np.testing.assert_array_equal(bodies[0], bodies[1].T)
    np.testing.assert_array_equal(bodies[2], bodies[3][::-1])


def test_what_a_picture_shows(split):
    """Its pattern has a part's colour, at its place."""
    for image, label, boxes, found in zip(
        split.images[:50], split.labels, split.boxes, split.parts, strict=False
    ):
        for k, kind in enumerate(divmod(int(label), 4)):
            left, top, right, bottom = boxes[k]
            crop = image[top : bottom + 1, left : right + 1].astype(int)
            ink = two_parts.patterns()[k, kind]
            colours = crop[ink]
            assert (colours == colours[0]).all()
            strongest = (0, 2)[k]
            assert (colours[0, strongest] >= 170) and (np.delete(colours[0], strongest) < 100).all()
            assert not (crop[~ink] == colours[0]).all(axis=-1).any()
            np.testing.assert_array_equal(found[k], [(left + right) / 2, (top + bottom) / 2, 1])


def test_places_and_patterns_are_uniform_and_parts_apart(split):
    corners = split.boxes[..., :2].astype(int)
    assert split.boxes[..., :2].min() == 0 and split.boxes[..., 2:].max() == SIDE - 1
    assert abs(corners[:, 0] - corners[:, 1]).max(axis=1).min() >= two_parts.PART
    for part in np.moveaxis(corners, 1, 0):
        for place in part.T:
            counts = np.bincount(place, minlength=SIDE - 8)
            assert len(counts) == SIDE - 8 and abs(counts - 1003 / (SIDE - 8)).max() < 35
    assert abs(np.bincount(split.labels, minlength=16) - 1003 / 16).max() < 35


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
        ({"side": 25}, "side must be at least 26, got 25"),
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
    still = looking([(15, 15)] * len(split), 0.5, size)
    looks = [Attended(theta, np.zeros((len(split), 4, 4, 2))) for theta in (follows, still)]
    found = split.measure(looks)
    assert found["shows"][0][1] == 1 and found["shows_elsewhere"][0][1] < 0.7
    assert found["shows"][1] == found["shows_elsewhere"][1]
    middles = split.parts[:, 0, :2]
    assert found["shows"][1][0] == pytest.approx((abs(middles - 15) <= 7.5).all(axis=1).mean())
    assert len(found["transformers"]) == 2
    none = split.measure([])
    assert none["shows"] is None and none["shows_elsewhere"] is None


def test_drawn_pictures_as_a_set():
    made = Cub(DRAWN, SIDE, 20, seed=3).load()
    assert (len(made.train), len(made.test), made.valid) == (20, 2000, None)
    np.testing.assert_array_equal(
        made.train.images, two_parts.generate("train", 20, SIDE, seed=3).images
    )
