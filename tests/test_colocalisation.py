"""Co-localisation: the sets, what a step compares, and when a digit is found."""

from itertools import permutations

import numpy as np
import pytest

from ministn.data import Crops, OneDigit, colocalisation, distorted, sources
from ministn.data.colocalisation import (
    AT_FIRST,
    BLANK,
    CROP,
    FEW,
    FILLED,
    PAIRS,
    SEEN,
    VISIBLE,
    Pairs,
    crops_recipe,
    draw_crops,
    found,
)
from ministn.data.dataset import Digits
from ministn.errors import UserError
from ministn.metrics.attention import quadrilateral
from ministn.transformer.transforms import Attention

SIDE, CANVAS = 28, 84
LABELS = np.tile(np.arange(3, dtype=np.uint8), 60)


def tagged() -> Digits:
    """Every pixel is ink. Brightness tells the class, and the first pixel which digit it is."""
    images = np.broadcast_to(10 + 60 * LABELS[:, None, None], (180, SIDE, SIDE)).copy()
    images[:, 0, 0] = np.arange(180)
    return Digits(images.astype(np.uint8), LABELS)


def test_without_clutter_there_is_one_whole_digit_in_its_box():
    split = colocalisation.generate(tagged(), 1, seed=0, count=60, distractors=0)
    assert split.images.shape == (60, CANVAS, CANVAS) and split.images.dtype == np.uint8
    assert (split.labels == 1).all() and split.boxes.dtype == np.int16
    seen = set()
    corners = split.poses[:, ::3, ::3] * (CANVAS - 1) / 2 + (CANVAS - 1) / 2
    for image, box, pose in zip(split.images, split.boxes.tolist(), corners, strict=True):
        left, top, right, bottom = box
        inside = image[top : bottom + 1, left : right + 1]
        assert inside.shape == (SIDE, SIDE) and np.count_nonzero(image) == inside.size
        np.testing.assert_allclose(pose[0, 0], [left, top], atol=1e-4)
        np.testing.assert_allclose(pose[1, 1], [right, bottom], atol=1e-4)
        seen.add(int(inside[0, 0]))
    assert seen == set(range(1, 180, 3))  # no digit twice


def test_clutter_is_sixteen_patches_of_all_classes():
    split = colocalisation.generate(tagged(), 0, seed=0, count=50)
    ink = (split.images > 0).sum(axis=(1, 2))
    assert ink.max() <= SIDE**2 + 16 * 36 and ink.mean() > SIDE**2 + 10 * 36
    assert {70, 130} <= set(np.unique(split.images).tolist())  # pixels of the other two classes


def test_what_the_set_depends_on():
    split = colocalisation.generate(tagged(), 2, seed=0, count=40)
    few = colocalisation.generate(tagged(), 2, seed=0, count=10)
    for many, some in zip(vars(split).values(), vars(few).values(), strict=True):
        assert np.array_equal(many[:10], some)
    other = colocalisation.generate(tagged(), 2, seed=1, count=40)
    assert (split.boxes != other.boxes).any(axis=1).mean() > 0.9


def test_too_many_images():
    with pytest.raises(UserError, match="count must be at most 60 for the digit 1, got 61"):
        colocalisation.generate(tagged(), 1, seed=0, count=61)
    with pytest.raises(UserError, match="distractors must be at least 0, got -1"):
        colocalisation.generate(tagged(), 1, seed=0, count=6, distractors=-1)


def test_every_pair_of_different_images_is_an_example():
    split = Pairs(**vars(colocalisation.generate(tagged(), 1, seed=0, count=7)))
    assert len(split) == 42
    pairs = split.pairs(np.arange(42))
    assert {tuple(pair) for pair in pairs.tolist()} == set(permutations(range(7), 2))
    assert split.epoch(3) is split


def test_a_batch_has_each_image_of_its_pairs_once():
    split = Pairs(**vars(colocalisation.generate(tagged(), 1, seed=0, count=7)))
    rows = np.array([40, 0, 3, 17, 40])
    images, compared = split.batch(rows)
    assert len(np.unique(images, axis=0)) == len(images) < 7
    n, m = split.pairs(rows).T
    assert compared.pairs.shape == (5, 2) and compared.pairs.dtype == np.int32
    for side, wanted in zip(compared.pairs.T, (n, m), strict=True):
        np.testing.assert_array_equal(images[side], split.images[wanted])
        np.testing.assert_array_equal(compared.boxes[side], split.boxes[wanted])
    assert compared.size == (CANVAS, CANVAS)


def test_what_the_set_is_made_of():
    """All digits of the class but the test's; what is compared is also what is judged."""
    made = OneDigit(7, distractors=0, source="digits").load()
    assert made.valid is None and made.watched is made.test
    assert len(made.train) == OneDigit(7).train_size == PAIRS == 100 * 99
    for trained, judged in zip(vars(made.train).values(), vars(made.test).values(), strict=True):
        assert trained is judged
    assert (made.test.labels == 7).all() and made.test.images.shape == (100, 60, 60)


def test_random_crops_are_half_as_wide_as_a_digit_with_their_centre_anywhere():
    count = 20_000
    theta = draw_crops(count, seed=0, step=0)
    assert theta.dtype == np.float32 and theta.shape == (count, 3)
    affine = (theta @ np.reshape(Attention.matrices[1:], (3, 6))).reshape(-1, 2, 3)
    corners = quadrilateral(affine.astype(np.float32), (CANVAS, CANVAS))
    wide = corners[:, 2] - corners[:, 0]
    np.testing.assert_allclose(wide, (CANVAS - 1) / 3 / 2, rtol=1e-5)
    places = (corners.mean(axis=1) * 5 / (CANVAS - 1)).astype(int)  # in 5x5 parts of the image
    counts = np.zeros((5, 5), int)
    np.add.at(counts, tuple(places.T), 1)
    assert np.abs(counts - count / 25).max() < 5 * np.sqrt(count / 25)
    assert (theta != draw_crops(count, seed=0, step=1)).any()
    assert np.array_equal(theta, draw_crops(count, seed=0, step=0))


def test_what_the_encoder_learns_from():
    """The digit's image is as large as it should be in a crop, and most of it can be seen."""
    recipe = crops_recipe(SIDE)
    split = distorted.generate(recipe, "train", tagged(), 1500, seed=0)
    assert split.images.shape == (1500, CROP, CROP)
    corners = (split.poses[:, [0, -1], [0, -1]].astype(np.float64) + 1) * (CROP - 1) / 2
    width = np.diff(corners[..., 0], axis=1)[:, 0] * SIDE / (SIDE - 1)
    least, greatest = CROP * np.array(SEEN)
    assert least <= width.min() < 1.02 * least and 0.98 * greatest < width.max() <= greatest
    assert (width < (least + greatest) / 2).mean() == pytest.approx(0.5, abs=0.04)
    middle = corners.mean(axis=1)
    off = np.abs(middle - (CROP - 1) / 2).max(axis=1)
    room = np.maximum((CROP - 1) - VISIBLE * width * (SIDE - 1) / SIDE, 0) / 2
    assert (off <= room + 1e-4).all() and (off > 0.9 * room).mean() > 0.1
    # Anti-aliased: the mean brightness follows the digit's area, however small it is.
    small = (width < 0.5 * CROP) & (off + width / 2 < CROP / 2)
    share = split.images[small].mean(axis=(1, 2)) / (10 + 60 * split.labels[small])
    np.testing.assert_allclose(share, (width[small] / CROP) ** 2, rtol=0.15)
    again, _ = distorted.fresh(recipe, "train", tagged(), 1500, seed=0, epoch=0)
    assert np.array_equal(again, split.images)


def test_crops_are_made_for_the_digits_of_their_source():
    made = Crops("digits", train_size=20).load()
    digits = made.train.digits
    expected, labels = distorted.fresh(crops_recipe(20), "train", digits, 20, seed=0, epoch=3)
    images, found_labels = made.train.epoch(3).batch(np.arange(20))
    assert np.array_equal(images, expected) and np.array_equal(found_labels, labels)
    assert made.train.size == Crops().form.size == (CROP, CROP)


def test_crops_among_patches():
    """What can be seen of each digit, and how wide it is; some crops to learn from show none."""
    made = Crops("digits", train_size=1200, side=31, distractors=16).load()
    test = made.test
    assert test.images.shape == (1000, 31, 31)
    labels = sources.load("digits", None)["test"].labels
    assert np.array_equal(test.labels, np.resize(labels, 1000))
    width = (test.boxes[:, 2:] - test.boxes[:, :2]).astype(float)
    filled = width[:, 0] * 59 / (57 * 30)  # between the centres of pixels, whole ones
    (least, greatest), (_, small) = FILLED, AT_FIRST
    assert least < filled.min() and abs(filled.max() - greatest) < 0.03
    assert (filled < small + 0.02).mean() == pytest.approx(FEW + 0.05, abs=0.03)
    assert np.median(filled) > 0.95 * greatest
    seen = np.minimum(test.boxes[:, 2:], 30) - np.maximum(test.boxes[:, :2], 0)
    assert ((seen + 2) / np.minimum(width, 31) > VISIBLE).all()
    images, labels = made.train.epoch(1)
    other = labels != np.resize(made.train.digits.labels, 1200)
    assert other.mean() == pytest.approx(0.9 * BLANK, abs=0.04)
    assert images[other].mean() < 0.7 * images[~other].mean()
    again, _ = made.train.epoch(1)
    assert np.array_equal(images, again) and (images != made.train.epoch(2).images).any()


def test_a_digit_is_found_above_half_of_the_union():
    box = np.array([[20, 30, 47, 57]])
    exact = [[27 / 83, 0, (33.5 - 41.5) / 41.5], [0, 27 / 83, (43.5 - 41.5) / 41.5]]
    theta = np.tile(np.array(exact), (5, 1, 1))
    theta[1, 0, 2] += 8.9 / 41.5  # one third of 27 to the right: IoU is one half
    theta[2, 0, 2] += 9.1 / 41.5
    theta[3, :, :2] *= 1.4  # IoU 1 / 1.96
    theta[4, :, :2] *= 1.43
    assert found(theta, box.repeat(5, axis=0), (CANVAS, CANVAS)).tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]
