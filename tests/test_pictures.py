"""Pictures of many sizes as images of one."""

import numpy as np
import pytest

from ministn.data import resized
from ministn.data.pictures import within
from ministn.ops import avg_pool2d, bilinear_sampler
from ministn.transformer.transforms import AFFINE

RNG = np.random.default_rng(0)


def picture(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("axes", [(), (3,)])
def test_each_stands_in_the_middle_in_its_own_proportions(axes):
    """One that fits is as it was; of one k times as large, pixels are means of k x k."""
    size = 6, 9
    same, wide, tall, large = (picture(*n, *axes) for n in ((6, 9), (2, 9), (12, 4), (18, 27)))
    images = resized([same, wide, tall, large], size, fill=7)
    assert images.shape == (4, *size, *axes) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[0], same)
    np.testing.assert_array_equal(images[1][2:4], wide)
    assert (images[1][:2] == 7).all() and (images[1][4:] == 7).all()
    assert (images[2][:, :3] == 7).all() and (images[2][:, 5:] == 7).all()
    x = np.stack([tall[:, :, None], tall[:, :, None]])[:1] if not axes else tall[None]
    half, _ = avg_pool2d(x.reshape(1, 12, 4, -1).astype(np.float64), 2)
    np.testing.assert_array_equal(
        images[2][:, 3:5], np.floor(half[0] + 0.5).reshape(6, 2, *axes).astype(np.uint8)
    )
    third, _ = avg_pool2d(large.reshape(1, 18, 27, -1).astype(np.float64), 3)
    np.testing.assert_allclose(images[3].reshape(6, 9, -1), third[0], atol=0.51)


def test_one_that_is_made_larger_is_what_a_transformer_at_the_identity_shows():
    small = RNG.random((4, 5, 2), np.float32)
    theta = np.float32([[1, 0, 0, 0, 1, 0]])
    expected, _ = bilinear_sampler(small[None], AFFINE.forward(theta, (8, 10))[0])
    images = resized([small], (8, 11))
    assert images.dtype == np.float32 and not images[0, :, 10].any()
    np.testing.assert_allclose(images[0, :, :10], expected[0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (37, 23), (2, 3)])
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (11, 4)])
def test_all_of_it_is_seen_and_nothing_else(shape, size):
    top, left, height, width = within(shape, size)
    assert 0 <= top and 0 <= left and top + height <= size[0] and left + width <= size[1]
    assert height == size[0] or width == size[1]
    image = resized([np.full(shape, 200, np.uint8)], size)[0]
    inside = np.zeros(size, bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(image, np.where(inside, 200, 0))


def test_a_point_of_a_large_picture_is_not_overlooked():
    large = np.zeros((64, 64), np.float32)
    large[13, 45] = 64.0
    image = resized([large], (4, 4))[0]
    assert image[0, 2] > 0.2 and image.sum() == pytest.approx(image[0, 2])


def test_a_photograph_is_the_mean_of_enough_points():
    """Of a 100th each way; the mean of a pixel's 100 x 60 numbers is 127.5, give or take 1."""
    image = resized([picture(600, 1000)], (6, 10))[0]
    np.testing.assert_allclose(image, 127.5, atol=5 * 74 / 16)


@pytest.mark.parametrize(
    ("pictures", "size", "error", "message"),
    [
        ([], (3, 3), ValueError, "^pictures must be a list of at least one, got none"),
        (picture(5, 6, 3), (3, 3), ValueError, "^pictures must be a list of .* got ndarray"),
        ("picture.png", (3, 3), ValueError, "^pictures must be a list of .* got str"),
        ([picture(3, 4), picture(3, 4, 3)], (3, 3), ValueError, r"^pictures\[1\] .*\(h, w\), got"),
        ([picture(3, 4, 3), picture(3, 4, 4)], (3, 3), ValueError, r"\[1\] .*\(h, w, 3\), got"),
        ([picture(3)], (3, 3), ValueError, r"^pictures\[0\] must have shape \(h, w\), got \(3,\)"),
        ([picture(3, 0)], (3, 3), ValueError, r"^pictures\[0\] .* got \(3, 0\)"),
        ([picture(3, 4), np.zeros((3, 4))], (3, 3), TypeError, r"\[1\] must be uint8 or .*float64"),
        ([picture(3, 4)], (3,), ValueError, "^size must be two whole numbers"),
    ],
)
def test_what_is_no_picture_is_named(pictures, size, error, message):
    with pytest.raises(error, match=message):
        resized(pictures, size)


@pytest.mark.parametrize("fill", [-1, 256, np.nan, "black"])
def test_a_fill_is_a_byte(fill):
    with pytest.raises(ValueError, match=r"^fill must be a whole number from 0"):
        resized([picture(3, 4)], (3, 3), fill=fill)
