"""Clutter of the set S: where patches lie, how large they are, and what they show."""

import numpy as np
import pytest
from scipy.ndimage import zoom
from test_sequences import check_uniform

from ministn.data.cluttered import add, bilinear, draw_enlarged
from ministn.data.dataset import Digits

CANVAS, PATCH, LARGEST = 112, 6, 9
WHITE = Digits(np.full((3, 28, 28), 255, np.uint8), np.arange(3, dtype=np.uint8))


def made(digits=WHITE, number=0, n=1000, *, name="S", seed=3, **sizes):
    usual = {"canvas": CANVAS, "distractors": 1, "patch": PATCH, "largest": LARGEST}
    return draw_enlarged(name, digits, number, n, seed=seed, **(usual | sizes))


@pytest.mark.parametrize(
    ("length", "size", "expected"),
    [
        (3, 3, np.eye(3)),
        (2, 4, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]),
        (6, 2, np.eye(6)[[1, 4]]),
        (3, 1, [[0, 1, 0]]),
    ],
)
def test_weights(length, size, expected):
    np.testing.assert_allclose(bilinear(length, size), expected, atol=1e-15)


@pytest.mark.parametrize("size", [8, 12, 18])
def test_a_patch_is_resized_as_scipy_does_it(size):
    image = np.random.default_rng(size).uniform(size=(PATCH, PATCH))
    weights = bilinear(PATCH, size)
    expected = zoom(image, size / PATCH, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(weights @ image @ weights.T, expected, atol=1e-12)


def squares(images):
    """Middles (n, 2), (x, y) as edges of pixels, and halved sides (n,) of one white square each."""
    across, down = images.any(axis=1), images.any(axis=2)
    x, y = (some.argmax(axis=1) for some in (across, down))
    width, height = (some.sum(axis=1) for some in (across, down))
    np.testing.assert_array_equal(width, height)
    np.testing.assert_array_equal(images.sum(axis=(1, 2), dtype=int), 255 * width * height)
    return np.stack([x, y], axis=1) + width[:, None] / 2, width / 2


def test_patches_lie_anywhere_and_fit():
    middles, halves = squares(np.concatenate([made(number=number) for number in range(20)]))
    check_uniform(middles.astype(int)[:, 0], 2, 109)
    check_uniform(middles.astype(int)[:, 1], 2, 109)
    room = np.minimum(middles, CANVAS - middles).min(axis=1)
    assert (halves <= np.minimum(room, LARGEST)).all()
    check_uniform(halves[room >= LARGEST].astype(int), 1, LARGEST)
    # Where it is tight, all that would be larger are as large as fits.
    for limit in (2, 5, 8):
        share = (halves[room == limit] == limit).mean()
        expected = (LARGEST - limit + 1) / LARGEST
        assert abs(share - expected) < 5 * (0.25 / (room == limit).sum()) ** 0.5


def test_patches_of_that_size_are_pieces_of_the_digits():
    """Of images in which every pixel says where it is, from 1."""
    rows, columns = np.mgrid[:15, :15]
    digits = Digits((15 * rows + columns + 1).astype(np.uint8)[None], np.zeros(1, np.uint8))
    images = made(digits, n=600, largest=3)
    seen = set()
    for image in images[(images > 0).sum(axis=(1, 2)) == PATCH**2]:
        y, x = (axis.min() for axis in np.nonzero(image))
        row, column = divmod(int(image[y, x]) - 1, 15)
        expected = digits.images[0, row : row + PATCH, column : column + PATCH]
        np.testing.assert_array_equal(image[y : y + PATCH, x : x + PATCH], expected)
        seen |= {(row, column)}
    assert len(seen) > 75 and np.max([*seen], axis=0).tolist() == [9, 9]


def test_several_are_added_and_clipped():
    digits = Digits(np.full((1, 9, 9), 100, np.uint8), np.zeros(1, np.uint8))
    images = made(digits, n=300, canvas=24, distractors=6, largest=9)
    assert np.unique(images).tolist() == [0, 100, 200, 255]


def test_fewer_are_a_prefix_and_all_depends_on_seed_name_and_chunk():
    whole = made(distractors=3)
    np.testing.assert_array_equal(made(n=7, distractors=3), whole[:7])
    for other in ({"seed": 4}, {"name": "R"}, {"number": 1}):
        assert (made(n=50, distractors=3, **other) != whole[:50]).any(axis=(1, 2)).mean() > 0.9


def test_adding_to_some_images():
    canvas = np.full((4, 5, 6), 200, np.uint8)
    add(
        canvas,
        np.full((2, 2, 3), 60, np.uint8),
        np.array([1, 3]),
        np.array([0, 2]),
        np.array([3, 1]),
    )
    expected = np.full((4, 5, 6), 200)
    expected[3, 1:3, :3] = expected[1, 3:, 2:5] = 255
    np.testing.assert_array_equal(canvas, expected)
