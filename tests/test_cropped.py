"""Digits cut out by their true boxes: each as the transformer with the right theta shows it."""

import numpy as np
import pytest

from ministn.data import Cluttered, CroppedToDigit, as_batch
from ministn.data.cropped import cropped
from ministn.data.dataset import Split
from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.layers import Dense, Sequential
from ministn.metrics.attention import overlap, quadrilateral
from ministn.transformer import SpatialTransformer


def test_a_crop_is_what_a_transformer_at_the_box_shows():
    """Of a box as wide as high, whose theta has it for its quadrilateral."""
    images = np.random.default_rng(3).integers(0, 256, (2, 23, 31), np.uint8)
    boxes = np.int16([[4, 9, 13, 18], [20, 0, 30, 10]])
    found = cropped(Split(images, np.zeros(2, np.uint8), boxes), 7)
    (left, top), (right, bottom) = boxes.T[:2], boxes.T[2:]
    zero = np.zeros(2)
    theta = np.stack(
        [(right - left) / 30, zero, (left + right) / 30 - 1,
         zero, (bottom - top) / 22, (top + bottom) / 22 - 1], axis=1
    )  # fmt: skip
    assert overlap(quadrilateral(theta.reshape(2, 2, 3), (23, 31)), boxes) == pytest.approx(1)
    shown = SpatialTransformer(Sequential(Dense("theta", 1, 6)), (7, 7)).warp(
        as_batch(images).astype(np.float64), theta
    )
    assert abs(found.images - 255 * shown[..., 0]).max() < 0.51
    assert found.boxes.tolist() == [[0, 0, 6, 6]] * 2


def test_the_longer_side_fills_the_image_and_the_digit_keeps_its_shape():
    image = np.zeros((1, 21, 17), np.uint8)
    image[0, 4:13, 8] = 255  # nine pixels high, one wide
    found = cropped(Split(image, np.zeros(1, np.uint8), np.int16([[8, 4, 8, 12]])), 9)
    np.testing.assert_array_equal(found.images[0], 255 * (np.arange(9) == 4) * np.ones((9, 1)))
    assert found.boxes.tolist() == [[4, 0, 4, 8]]


def test_outside_the_image_it_is_black_and_one_pixel_is_a_square_too():
    image = np.full((1, 8, 8), 200, np.uint8)
    (found,) = cropped(Split(image, np.zeros(1, np.uint8), np.int16([[0, 0, 0, 7]])), 8).images
    assert (found[:, 0] == 0).all() and (found[:, -1] == 200).all()
    assert cropped(Split(image, np.zeros(1, np.uint8), np.int16([[3, 3, 3, 3]])), 4).images.all()


def test_the_images_are_those_of_the_cluttered_set():
    """Their labels, in the same order; the digit's pixels, where nothing has to be interpolated."""
    whole = Cluttered(EMBEDDED, 36, 3, 6, 40).load()
    made = CroppedToDigit(EMBEDDED, 36, 3, 6, 40, side=20).load()
    for name in ("train", "valid", "test"):
        split, of = getattr(made, name), getattr(whole, name)
        np.testing.assert_array_equal(split.labels, of.labels)
        extent = of.boxes[:, 2:] - of.boxes[:, :2]
        (exact,) = np.nonzero((extent.max(axis=1) == 19) & (extent % 2 == 1).all(axis=1))
        assert len(exact)
        for n in exact[:20]:
            (left, top, right, bottom), (x, y, *end) = of.boxes[n], split.boxes[n]
            np.testing.assert_array_equal(np.subtract(end, (x, y)), extent[n])
            cut = split.images[n][y : end[1] + 1, x : end[0] + 1]
            np.testing.assert_array_equal(cut, of.images[n][top : bottom + 1, left : right + 1])


def test_an_impossible_side_is_refused():
    with pytest.raises(UserError, match=r"^side must be at least 2, got 1$"):
        CroppedToDigit(side=1)
