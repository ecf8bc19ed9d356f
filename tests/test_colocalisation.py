"""Co-localisation: the sets, what a step compares, and when a digit is found."""

import numpy as np
import pytest

from ministn import ops
from ministn.data import colocalisation
from ministn.data.colocalisation import CANVAS, draw_crops, draw_pairs, found
from ministn.data.dataset import Digits
from ministn.errors import UserError

SIDE = 28
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


def test_pairs_are_of_two_images_and_all_as_likely():
    pairs = np.concatenate([draw_pairs(100, 5, seed=0, step=step) for step in range(80)])
    assert pairs.shape == (8000, 2)
    counts = np.zeros((5, 5), int)
    np.add.at(counts, tuple(pairs.T), 1)
    assert not counts.diagonal().any()
    assert np.abs(counts[~np.eye(5, dtype=bool)] - 400).max() < 5 * np.sqrt(400)
    again = draw_pairs(100, 5, seed=0, step=79)
    assert np.array_equal(again, pairs[-100:]) and not np.array_equal(again, pairs[:100])


def test_crops_are_whole_pixels_at_every_place():
    count = 20_000
    theta = draw_crops(count, 80, seed=0, step=0)
    assert theta.dtype == np.float32
    places = np.rint((theta[:, :, 2] * (CANVAS - 1) - 80 + CANVAS) / 2).astype(int)
    counts = np.zeros((5, 5), int)
    np.add.at(counts, tuple(places.T), 1)
    assert np.abs(counts - count / 25).max() < 5 * np.sqrt(count / 25)

    image = np.random.default_rng(0).random((1, CANVAS, CANVAS, 1), np.float32)
    grid, _ = ops.affine_grid(theta[:30], (80, 80))
    crops, _ = ops.bilinear_sampler(np.repeat(image, 30, axis=0), grid, border="zeros")
    for crop, (x, y) in zip(crops, places[:30], strict=True):
        np.testing.assert_allclose(crop, image[0, y : y + 80, x : x + 80], atol=1e-4)
    assert (theta != draw_crops(count, 80, seed=0, step=1)).any()


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
