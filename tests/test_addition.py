"""MNIST addition: pairs, their channels and sums."""

import numpy as np
import pytest

from ministn import ops
from ministn.data import addition, distorted
from ministn.data.dataset import Digits
from ministn.errors import UserError

rng = np.random.default_rng(1)
DIGITS = Digits(rng.integers(0, 256, (10, 28, 28)).astype(np.uint8), np.arange(10, dtype=np.uint8))
SHAPE = (42, 42, 2)


def test_each_channel_is_a_digit_of_rts_and_the_label_is_their_sum():
    split = addition.generate("train", DIGITS, 50, seed=2, epoch=3)
    chosen = addition.pairs("train", DIGITS, 50, 2, 3)
    assert split.images.shape == (50, *SHAPE) and split.images.dtype == np.uint8
    assert split.labels.dtype == np.uint8
    first, second = (digits.labels.astype(int) for digits in chosen)
    assert split.labels.tolist() == (first + second).tolist()
    for channel, digits in enumerate(chosen):
        one = distorted.generate(
            distorted.RTS, f"train/addition/{channel}", digits, 50, seed=2, epoch=3
        )
        assert np.array_equal(split.images[..., channel], one.images)
        assert np.array_equal(split.boxes[:, channel], one.boxes)
        assert np.array_equal(split.poses[:, channel], one.poses)
    assert (split.poses[:, 0] != split.poses[:, 1]).any(axis=(1, 2, 3)).all()


def test_every_pair_is_as_likely_as_any_other():
    first, second = addition.pairs("train", DIGITS, 20_000, 0, 1)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (first.labels, second.labels), 1)
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


def test_prefix_epochs_and_splits():
    most = addition.generate("train", DIGITS, 1200, seed=0)
    few = addition.generate("train", DIGITS, 1001, seed=0)
    for many, some in zip(vars(most).values(), vars(few).values(), strict=True):
        assert np.array_equal(many[:1001], some)
    for other in (
        addition.generate("train", DIGITS, 50, seed=1),
        addition.generate("test", DIGITS, 50, seed=0),
        addition.generate("train", DIGITS, 50, seed=0, epoch=1),
    ):
        assert (other.labels != most.labels[:50]).any()
        assert (other.poses != most.poses[:50]).any(axis=(2, 3, 4)).all()


def test_training_gets_the_same_images():
    expected = addition.generate("train", DIGITS, 30, seed=0, epoch=4)
    images, labels = addition.fresh("train", DIGITS, 30, seed=0, epoch=4)
    np.testing.assert_array_equal(images, expected.images)
    np.testing.assert_array_equal(labels, expected.labels)
    assert ops.as_batch(images).shape == (30, *SHAPE)


def test_a_gpu_makes_the_same_images(quick_device):
    options = {"seed": 0, "epoch": 4}
    expected, labels = addition.fresh("train", DIGITS, 30, **options)
    images, same_labels = addition.fresh("train", DIGITS, 30, **options, device=quick_device)
    difference = np.abs(quick_device.to_cpu(images).astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    np.testing.assert_array_equal(labels, same_labels)


def test_impossible_sets():
    with pytest.raises(UserError, match="test_size must be at least 1, got 0"):
        addition.generate("test", DIGITS, 0, seed=0)
