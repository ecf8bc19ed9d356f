"""Sequences of digits among clutter: where everything is placed, and what it is made of."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_distorted import strokes

from ministn.data import Sequences, sequences, sources
from ministn.data.cluttered import CHUNK
from ministn.data.dataset import Digits
from ministn.data.sequences import Drawn, along_line, compose, cut_patches, draw
from ministn.data.sources import EMBEDDED, MNIST, Sizes
from ministn.errors import UserError
from ministn.transformer import Attended

SIDE, CANVAS, PATCH = 28, 100, 9
DIGITS = strokes()
POOL = cut_patches(DIGITS, PATCH, seed=3, count=50)
BLACK = np.zeros((1, PATCH, PATCH), np.uint8)


def make(count, name="train", *, digits=DIGITS, pool=POOL, seed=3, slope=0.5, map=map):
    options = {"seed": seed, "canvas": CANVAS, "slope": slope, "map": map}
    return sequences.generate(name, digits, pool, count, **options)


def many(slope=0.5, chunks=20):
    """What is drawn for thousands of images."""
    options = {"seed": 1, "canvas": CANVAS, "slope": slope}
    made = [draw("train", DIGITS.images, POOL, n, CHUNK, **options) for n in range(chunks)]
    return Drawn(*(np.concatenate(parts) for parts in zip(*made, strict=True)))


def same(a, b, rows):
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return [np.array_equal(one[:rows], other[:rows]) for one, other in pairs]


# ---- where


@pytest.mark.parametrize(
    ("left", "top", "rise", "expected"),
    [
        (0, 0, 0, [[0, 0], [28, 0], [56, 0]]),
        (15, 10, 13, [[15, 10], [43, 23], [71, 36]]),
        (7, 20, -14, [[7, 20], [35, 6], [63, 0]]),  # the last would begin at -8
        (3, 60, 8, [[3, 60], [31, 68], [59, 72]]),  # at 76
        (3, 99, -14, [[3, 72], [31, 72], [59, 71]]),  # at 99, 85 and 71
        (3, 99, 13, [[3, 72], [31, 72], [59, 72]]),
    ],
)
def test_each_digit_that_a_line_leads_out_is_moved_back_by_itself(left, top, rise, expected):
    numbers = (np.array([number]) for number in (left, top, rise))
    assert along_line(*numbers, SIDE, CANVAS).tolist() == [expected]


@pytest.mark.parametrize(("slope", "low", "high"), [(0.5, -14, 13), (1, -28, 27), (0.04, -1, 0)])
def test_columns_rows_and_slopes_are_uniform(slope, low, high):
    x, y = np.moveaxis(many(slope).corners, 2, 0)
    check_uniform(x[:, 0], 0, 15)
    assert (np.diff(x, axis=1) == SIDE).all()
    check_uniform(y[y[:, 0] < 72, 0], 0, 71)
    at_the_bottom = (y[:, 0] == 72).mean()
    assert abs(at_the_bottom - 28 / 100) < 5 * np.sqrt(0.28 * 0.72 / len(y))
    free = y[(y[:, 0] >= 28) & (y[:, 0] <= 44)]  # whose second digit is never moved back
    rise = free[:, 1] - free[:, 0]
    check_uniform(rise, low, high)
    np.testing.assert_array_equal(free[:, 2], (free[:, 0] + 2 * rise).clip(0, 72))


def test_digits_and_clutter_are_uniform_and_with_replacement():
    drawn = many()
    for column in drawn.digits.T:
        check_uniform(column, 0, len(DIGITS) - 1)
    check_uniform(drawn.patches, 0, len(POOL) - 1)
    for axis in drawn.places.reshape(-1, 2).T:
        check_uniform(axis, 0, 90)
    again = (drawn.digits[:, 0] == drawn.digits[:, 1]).mean()
    assert abs(again - 1 / 7) < 5 * np.sqrt(1 / 7 * 6 / 7 / len(drawn.digits))


def test_what_is_drawn_is_not_correlated():
    drawn = many()
    x, y = np.moveaxis(drawn.corners, 2, 0)
    columns = [x[:, 0], y[:, 0], *drawn.digits.T, *drawn.patches.T, *drawn.places.reshape(-1, 16).T]
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlation).max() < 5 / np.sqrt(len(x))


def check_uniform(values, low, high):
    """No count is 5 standard deviations from what is expected."""
    counts = np.bincount(np.ravel(values) - low, minlength=high - low + 1)
    expected = values.size / (high - low + 1)
    assert len(counts) == high - low + 1 and np.abs(counts - expected).max() < 5 * expected**0.5


# ---- of what


def test_images_are_clutter_written_one_over_another_plus_digits_clipped():
    """Pixel by pixel, on odd sizes, with digits and patches full of ink."""
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 256, (4, 5, 5)).astype(np.uint8)
    pool = rng.integers(0, 256, (6, 3, 3)).astype(np.uint8)
    drawn = draw("train", digits, pool, 2, 9, seed=5, canvas=19, slope=0.7)
    images = compose(digits, pool, 19, drawn)
    assert images.shape == (9, 19, 19) and images.dtype == np.uint8
    clipped = 0
    for image, numbers, corners, patches, places in zip(images, *drawn, strict=True):
        expected = np.zeros((19, 19), int)
        for number, (x, y) in zip(patches, places, strict=True):
            expected[y : y + 3, x : x + 3] = pool[number]
        for number, (x, y) in zip(numbers, corners, strict=True):
            expected[y : y + 5, x : x + 5] += digits[number]
        clipped += (expected > 255).sum()
        np.testing.assert_array_equal(image, expected.clip(max=255))
    assert clipped > 50


@pytest.mark.parametrize("slope", [0.5, 1])
def test_boxes_hold_the_ink_of_each_digit_and_nothing_else(slope):
    split = make(1200, pool=BLACK, slope=slope)
    assert split.labels.shape == (1200, 3) and split.labels.dtype == np.uint8
    assert split.boxes.shape == (1200, 3, 4) and split.boxes.dtype == np.int16
    assert split.boxes.min() >= 0 and split.boxes.max() < CANVAS
    for image, labels, boxes in zip(split.images, split.labels, split.boxes, strict=True):
        rest = image.copy()
        for label, (left, top, right, bottom) in zip(labels, boxes, strict=True):
            ink = rest[top : bottom + 1, left : right + 1]
            for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
                assert edge.any()
            own = DIGITS.images[label]  # its label is its number
            rows, columns = np.nonzero(own)
            whole = own[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            np.testing.assert_array_equal(ink, whole)
            ink[...] = 0
        assert not rest.any()


def test_patches_are_cut_out_of_all_digits_at_all_places_but_the_last():
    """Of images in which every pixel says where it is."""
    rows, columns = np.mgrid[:12, :12]
    images = np.stack([16 * rows + columns, 16 * columns + rows]).astype(np.uint8)
    pool = cut_patches(Digits(images, np.arange(2, dtype=np.uint8)), 5, seed=0, count=3000)
    assert pool.shape == (3000, 5, 5) and pool.dtype == np.uint8
    across = pool[:, 0, 1].astype(int) - pool[:, 0, 0] == 1
    high, low = np.divmod(pool[:, 0, 0].astype(int), 16)
    y, x = np.where(across, high, low), np.where(across, low, high)
    check_uniform(across.astype(int), 0, 1)
    check_uniform(y, 0, 6)
    check_uniform(x, 0, 6)
    for patch, of_first, i, j in zip(pool, across, y, x, strict=True):
        whole = images[0 if of_first else 1]
        np.testing.assert_array_equal(patch, whole[i : i + 5, j : j + 5])


def test_clutter_of_all_splits_is_from_the_digits_to_train_and_to_validate(monkeypatch):
    """Each split's digits have one brightness of their own."""
    levels = {"train": 16, "valid": 24, "test": 100}
    digits = {
        name: Digits(np.where(DIGITS.images > 0, level, 0).astype(np.uint8), DIGITS.labels)
        for name, level in levels.items()
    }
    monkeypatch.setattr(sources, "load", lambda source, folder: digits)
    monkeypatch.setitem(sequences.SIZES, MNIST, Sizes(60_000, 300, 400))
    made = Sequences(train_size=500).load()
    assert [len(split) for split in (made.train, made.valid, made.test)] == [500, 300, 400]
    for name, level in levels.items():
        clutter = {0, 16, 24}
        found = set(np.unique(getattr(made, name).images).tolist())
        assert found == clutter | {level + each for each in clutter}


# ---- the same again, and others


def test_fewer_images_are_the_first_of_more_whoever_makes_them():
    most = make(2 * CHUNK + 50)
    with ThreadPoolExecutor(2) as executor:
        assert all(same(most, make(2 * CHUNK + 50, map=executor.map), None))
    for count in (1, CHUNK, CHUNK + 1):
        few = make(count)
        assert len(few) == count and all(same(most, few, count))
    assert not np.array_equal(most.images[:50], most.images[CHUNK : CHUNK + 50])


@pytest.mark.parametrize("other", [{"name": "test"}, {"seed": 4}])
def test_splits_and_seeds_share_no_image(other):
    assert not any(same(make(500), make(500, **other), 500))
    images = np.concatenate([make(500).images, make(500, **other).images])
    assert len(np.unique(images.reshape(1000, -1), axis=0)) == 1000


def test_the_pool_is_the_seeds():
    again, other = (cut_patches(DIGITS, PATCH, seed=seed, count=50) for seed in (3, 4))
    assert np.array_equal(again, POOL) and not np.array_equal(other, POOL)
    assert Sequences(EMBEDDED, train_size=1, seed=1).load().sha256 != sha256(seed=0)
    assert sha256(seed=0) == sha256(seed=0) != sha256(seed=0, slope=1)


def sha256(**fields):
    return Sequences(EMBEDDED, train_size=1, **fields).load().sha256


# ---- what cannot be


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "train_size must be at least 1, got 0"),
        ({"seed": -1}, "data seed must be at least 0, got -1"),
        ({"canvas": 84}, "canvas must be above 84, the width of 3 digits, got 84"),
        ({"slope": 0}, "slope must be from 1/28 to 1, got 0"),
        ({"slope": float("nan")}, "slope must be a number from 0 up, got nan"),
    ],
)
def test_impossible_sets(options, message):
    given = {"count": 9, "seed": 0, "canvas": CANVAS, "slope": 0.5} | options
    with pytest.raises(UserError, match=f"^{message}$"):
        sequences.generate("train", DIGITS, POOL, **given)


# ---- attention -----------------------------------------------------------------------------------


def looks_at(boxes):
    """Thetas (N, 2, 3) whose quadrilaterals are these boxes (N, 4) in 100x100 pixels, as looks."""
    low, high = (boxes[:, :2] - 49.5) / 49.5, (boxes[:, 2:] - 49.5) / 49.5
    theta = np.zeros((len(boxes), 2, 3), np.float32)
    theta[:, [0, 1], [0, 1]], theta[:, :, 2] = (high - low) / 2, (low + high) / 2
    count = len(boxes)
    return Attended(theta, np.zeros((count, 4, 4, 2), np.float32), np.ones((count, 2)))


def test_each_glimpse_is_measured_against_the_digit_that_it_reads():
    split = make(7)
    first, second, third = (looks_at(split.boxes[:, k]) for k in range(3))
    found = split.measure([first, second, third])
    assert found["overlap"] == pytest.approx(1) and found["correlation"] == pytest.approx(1)
    assert [each["overlaps_most"] for each in found["glimpses"]] == np.eye(3).tolist()
    exchanged = split.measure([second, first, third])
    assert exchanged["overlap"] == pytest.approx(1 / 3, abs=0.05)
    assert [each["overlap"] for each in exchanged["glimpses"]][2] == pytest.approx(1)
    most = [each["overlaps_most"] for each in exchanged["glimpses"]]
    assert most == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_glimpse_that_sees_no_digit_overlaps_none_most():
    split = make(7)
    away = looks_at(np.tile([200, 200, 210, 210], (7, 1)))
    found = split.measure([away] * 3)
    assert found["glimpses"][1]["overlaps_most"] == [0, 0, 0] and found["left_image"] == 1


def test_one_look_is_measured_against_the_box_round_all_digits():
    split = make(7)
    corners = split.boxes.reshape(7, 3, 2, 2)
    around = np.concatenate([corners.min((1, 2)), corners.max((1, 2))], axis=1)
    found = split.measure([looks_at(around)])
    assert found["overlap"] == pytest.approx(1) and "glimpses" not in found
    assert split.measure([])["overlap"] is None
