"""The clutter generator, the embedded digits, and the sets made of them."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ministn.data import CLUTTERED, Cluttered, DataSet, cluttered, digits, mnist
from ministn.data.dataset import Digits, Split
from ministn.data.sources import EMBEDDED, MNIST
from ministn.errors import UserError
from ministn.kinds import from_json, to_json

HEIGHT, WIDTH, PATCH, CANVAS = 5, 4, 3, 11
REAL = Path(os.environ.get("MINISTN_DATA", "")) / "mnist"
SETTINGS = {"seed": 3, "canvas": CANVAS, "distractors": 1, "patch": PATCH}


def tagged(count: int = 6) -> Digits:
    """Digits whose every pixel tells which digit and which pixel it is, and is ink."""
    pixels = 1 + np.arange(count * HEIGHT * WIDTH, dtype=np.uint8)
    return Digits(pixels.reshape(count, HEIGHT, WIDTH), np.arange(count, dtype=np.uint8))


def make(count: int, source: Digits | None = None, name: str = "train", **settings: int) -> Split:
    return cluttered.generate(name, source or tagged(), count, **(SETTINGS | settings))


def same(a: Split, b: Split, rows: int) -> bool:
    return all(
        np.array_equal(p[:rows], q[:rows])
        for p, q in zip(vars(a).values(), vars(b).values(), strict=True)
    )


def test_every_image_is_one_window_of_a_digit_plus_one_whole_digit():
    source, split = tagged(), make(7000)
    windows, places, corners = [], [], []
    for image, label, (left, top, right, bottom) in zip(*vars(split).values(), strict=True):
        rest = image.astype(int)
        assert (bottom - top + 1, right - left + 1) == (HEIGHT, WIDTH)
        rest[top : bottom + 1, left : right + 1] -= source.images[label]
        assert rest.min() == 0
        rows, columns = np.nonzero(rest)
        row, column = rows[0], columns[0]
        assert len(rows) == PATCH**2
        digit, y, x = np.unravel_index(rest[row, column] - 1, source.images.shape)
        window = source.images[digit, y : y + PATCH, x : x + PATCH]
        assert np.array_equal(rest[row : row + PATCH, column : column + PATCH], window)
        windows.append((digit, y, x))
        places.append((row, column))
        corners.append((top, left))
    for drawn, sizes in [
        (windows, (len(source), HEIGHT - PATCH + 1, WIDTH - PATCH + 1)),
        (places, (CANVAS - PATCH + 1, CANVAS - PATCH + 1)),
        (corners, (CANVAS - HEIGHT + 1, CANVAS - WIDTH + 1)),
    ]:
        counts = np.zeros(sizes, int)
        np.add.at(counts, tuple(np.transpose(drawn)), 1)
        expected = len(drawn) / counts.size
        # Every place is used, both ends too, and none more often than a uniform draw explains.
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_sums_are_clipped_to_white():
    white = Digits(np.full((2, HEIGHT, WIDTH), 100, np.uint8), np.zeros(2, np.uint8))
    images = make(2000, white, distractors=4).images
    assert np.unique(images).tolist() == [0, 100, 200, 255]


def test_each_digit_is_used_once_per_pass():
    labels = make(6 * 40).labels.reshape(40, 6)
    assert np.array_equal(np.sort(labels), np.tile(np.arange(6), (40, 1)))
    assert len(np.unique(labels, axis=0)) > 30


def test_no_distractors_leaves_the_digit_alone_at_its_box():
    ink = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    ink[0, 1:3, 2] = 7, 255
    split = make(50, Digits(ink, np.zeros(1, np.uint8)), distractors=0)
    for image, (left, top, right, bottom) in zip(split.images, split.boxes, strict=True):
        assert (right, bottom) == (left, top + 1)
        assert image[top, left] == 7 and image[bottom, right] == 255
        assert np.count_nonzero(image) == 2


def test_fewer_images_are_a_prefix_of_more():
    many = make(2300)
    assert many.images.shape == (2300, CANVAS, CANVAS) and many.images.dtype == np.uint8
    assert many.labels.dtype == np.uint8 and many.boxes.dtype == np.int16
    for count in (1, 999, 1000, 1001, 2300):
        few = make(count)
        assert len(few) == count and same(few, many, count)


def test_everything_depends_on_seed_and_split():
    first = make(1000)
    for other in (make(1000, seed=4), make(1000, name="valid")):
        assert (first.labels != other.labels).any()
        assert (first.boxes != other.boxes).any()
    chunks = make(2000).boxes.reshape(2, 1000, 4)
    assert (chunks[0] != chunks[1]).any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"canvas": 4}, "canvas must be at least 5, the digits have 5x4 pixels, got 4"),
        ({"patch": 5}, "patch must be at most 4, .* got 5"),
        ({"patch": 0}, "patch must be at least 1, got 0"),
        ({"distractors": -1}, "distractors must be at least 0, got -1"),
        ({"seed": -1}, "data seed must be at least 0, got -1"),
        ({"count": 0}, "train_size must be at least 1, got 0"),
    ],
)
def test_impossible_settings(settings, words):
    with pytest.raises(UserError, match=words) as caught:
        make(**({"count": 3} | settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "cifar"}, "unknown kind 'cifar'; known are .*, cluttered, .*, distorted, "),
        ({"source": "cifar"}, "source must be mnist or digits, got 'cifar'"),
        ({"train_size": 50_001}, "train_size must be at most 50000, got 50001"),
        ({"source": "digits", "train_size": 0}, "train_size must be at least 1, got 0"),
        ({"seed": -1}, r"data_seed must be from 0 to 2\^64 - 1, got -1"),
        ({"seed": 2**64}, "data_seed must be from 0 to .* got 18446744073709551616"),
        ({"canvas": 0}, "canvas must be at least 1, got 0"),
        ({"distractors": -1}, "distractors must be at least 0, got -1"),
        ({"patch": 0}, "patch must be at least 1, got 0"),
        ({"recipe": "RTS"}, "cluttered has no recipe; it has source, canvas, "),
    ],
    ids=str,
)
def test_impossible_data_sets(fields, words):
    with pytest.raises(UserError, match=words):
        from_json({"kind": "cluttered", **fields})


def test_what_need_not_be_refused():
    """More images than there are digits, of which each is among other clutter; no patches."""
    assert Cluttered(EMBEDDED, train_size=100_000).train_size == 100_000
    assert Cluttered(distractors=0, patch=0).patch == 0


def test_the_embedded_digits_have_no_folder():
    with pytest.raises(UserError, match="need no data_dir"):
        CLUTTERED[EMBEDDED].load("somewhere")


def test_enlarging_is_exact():
    images = np.random.default_rng(5).integers(0, 17, (3, 8, 8))
    assert np.array_equal(digits.enlarge(images, 8), np.rint(images * 255 / 16))
    larger = digits.enlarge(images, 15)
    assert np.array_equal(larger[:, ::2, ::2], np.rint(images * 255 / 16))
    middle = images[:, :, :-1] + images[:, :, 1:]
    assert np.array_equal(larger[:, ::2, 1::2], np.floor(middle * 255 / 32 + 0.5))
    assert (digits.enlarge(np.full((1, 8, 8), 16), 20) == 255).all()


def test_no_embedded_digit_is_in_two_splits():
    from sklearn.datasets import load_digits

    splits = digits.load()
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 1197,
        "valid": 300,
        "test": 300,
    }
    # Every image of scikit-learn's appears once, with its label.
    bunch = load_digits()
    expected = digits.enlarge(bunch.images.astype(int), digits.SIDE)
    key = [(image.tobytes(), label) for image, label in zip(expected, bunch.target, strict=True)]
    found = [
        (image.tobytes(), label)
        for split in splits.values()
        for image, label in zip(split.images, split.labels, strict=True)
    ]
    assert sorted(found) == sorted(key)
    assert len({image for image, _ in found}) == len(found)
    for split in splits.values():
        assert np.bincount(split.labels, minlength=10).min() > 15


def test_the_embedded_set_is_the_same_everywhere():
    # Changing the generator changes every record's data: do it on purpose, and replace this.
    made = replace(CLUTTERED[EMBEDDED], train_size=1500)
    loaded = made.load()
    assert loaded.sha256 == "cc141c9c246628112a43b3b1b1c0138c99159a074bffab61c98a8a87328b9dca"
    assert to_json(made) == {
        "kind": "cluttered",
        "source": "digits",
        "canvas": 36,
        "distractors": 3,
        "patch": 6,
        "train_size": 1500,
        "seed": 0,
    }
    assert from_json(to_json(made)) == made and made.name == "cluttered-digits"
    assert (made.valid_size, made.test_size) == (1000, 1000)
    assert [len(loaded.train), len(loaded.valid), len(loaded.test)] == [1500, 1000, 1000]


def test_the_hash_sees_every_array():
    loaded = replace(CLUTTERED[EMBEDDED], train_size=3).load()
    seen = {loaded.sha256}
    for split in (loaded.train, loaded.valid, loaded.test):
        for array in vars(split).values():
            array[-1] += 1
            seen.add(DataSet(loaded.train, loaded.valid, loaded.test).sha256)
    assert len(seen) == 10


@pytest.mark.skipif(
    mnist.find("t10k-labels-idx1-ubyte", [REAL]) is None,
    reason="MINISTN_DATA names no folder with mnist in it",
)
def test_real_cluttered_mnist_is_the_same_everywhere():
    made = Cluttered(train_size=1500)
    assert made == replace(CLUTTERED[MNIST], train_size=1500) and made.name == "cluttered"
    loaded = made.load(REAL)
    assert loaded.sha256 == "e61101845b56081f03ac64e6384ce869ca32b6ad5c6a185166e4663c8fe6492f"
    assert loaded.train.images.shape == (1500, 60, 60)
    assert [len(loaded.valid), len(loaded.test)] == [10_000, 10_000]
    widths = loaded.test.boxes[:, 2:] - loaded.test.boxes[:, :2] + 1
    assert widths.max() <= 28 and widths.max(axis=1).min() >= 10
