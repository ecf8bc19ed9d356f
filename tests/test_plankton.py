"""Plankton: how pictures become images, who is in which split, and what an epoch does to them."""

import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import kstest
from test_distorted import strokes

from ministn.data import Plankton, plankton
from ministn.data.cluttered import CHUNK
from ministn.data.dataset import Digits
from ministn.data.folders import find
from ministn.data.plankton import Drawn, Pictures, draw, fitted, stratified, theta_of
from ministn.data.sources import EMBEDDED, Sizes
from ministn.errors import UserError

SIDE = 7
REAL = Path(os.environ.get("MINISTN_DATA", "")) / "plankton"
RNG = np.random.default_rng(0)
SMALL = RNG.integers(0, 256, (2, SIDE, SIDE)).astype(np.uint8)
LARGE = SMALL.repeat(2, axis=1).repeat(2, axis=2)
PIXEL = 2 / (2 * SIDE - 1)  # of an image, in widths


def drawn(n=1, **given):
    """Distortions that are none, but for what is given."""
    still = {"shear": 0.0, "turn": 0.0, "shift": (0.0, 0.0), "zoom": 1.0, "flip": False} | given
    return Drawn(*(np.array([value] * n) for value in still.values()))


def distort(images, **given):
    return plankton.in_blocks(SIDE, (images, theta_of(drawn(len(images), **given))))


def specimens(count):
    """Squares twice as large as images of 14x14 pixels."""
    shown = strokes()
    return Digits(np.resize(shown.images, (count, 28, 28)), np.resize(shown.labels, count))


def archive(path, entries):
    """entries: name to content, or to an image, kept without loss."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content in entries.items():
            if isinstance(content, np.ndarray):
                buffer = io.BytesIO()
                Image.fromarray(content).save(buffer, "png")
                content = buffer.getvalue()
            made.writestr(name, content)
    return path


# ---- what is done to an image


def test_no_distortion_is_average_pooling():
    """But for how halves are rounded."""
    np.testing.assert_array_equal(theta_of(drawn()), [[1, 0, 0, 0, 1, 0]])
    np.testing.assert_array_equal(distort(LARGE), SMALL)
    images = RNG.integers(0, 256, (30, 2 * SIDE, 2 * SIDE)).astype(np.uint8)
    cells = images.reshape(30, SIDE, 2, SIDE, 2).astype(int).sum(axis=(2, 4))
    expected = (cells + 2) // 4
    np.testing.assert_array_equal(plankton.pooled(images), expected)
    away = expected - distort(images)
    assert np.isin(away[cells % 4 == 2], (0, 1)).all() and not away[cells % 4 != 2].any()


@pytest.mark.parametrize(("turn", "turns"), [(90, -1), (-90, 1), (180, 2)])
def test_a_quarter_turn_is_that_of_the_array(turn, turns):
    np.testing.assert_array_equal(distort(LARGE, turn=turn), np.rot90(SMALL, turns, axes=(1, 2)))


def test_a_flip_is_from_left_to_right_and_comes_last():
    np.testing.assert_array_equal(distort(LARGE, flip=True), SMALL[..., ::-1])
    expected = np.rot90(SMALL, -1, axes=(1, 2))[..., ::-1]
    np.testing.assert_array_equal(distort(LARGE, flip=True, turn=90), expected)


def test_a_shift_by_whole_pixels_is_that_of_the_array():
    expected = np.zeros_like(SMALL)
    expected[:, 3:, :-1] = SMALL[:, :-3, 1:]
    found = distort(LARGE, shift=(-PIXEL, 3 * PIXEL))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        distort(LARGE, shift=(-PIXEL, 3 * PIXEL), flip=True), expected[..., ::-1]
    )


def test_zoom_and_shear_as_numbers():
    np.testing.assert_array_equal(theta_of(drawn(zoom=2.0)), [[0.5, 0, 0, 0, 0.5, 0]])
    # The vertical axis leans to the left by 45 degrees and keeps its length.
    np.testing.assert_allclose(theta_of(drawn(shear=45.0)), [[1, 1, 0, 0, 2**0.5, 0]], atol=1e-7)


def test_first_sheared_turned_and_shifted_then_zoomed_then_flipped():
    how = Drawn(*(values[:20] for values in draw(1, 2, 3)))
    start = RNG.uniform(-1, 1, (20, 2))
    (x, y), shear, turn = start.T, np.radians(how.shear), np.radians(how.turn)
    x, y = x - y * np.sin(shear), y * np.cos(shear)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    x, y = how.zoom * (np.stack([x, y]) + 2 * how.shift.T)
    end = np.stack([np.where(how.flip, -x, x), y, np.ones(20)], axis=1)
    read = (theta_of(how).reshape(-1, 2, 3) @ end[..., None])[..., 0]
    np.testing.assert_allclose(read, start, atol=1e-6)


def test_distortions_have_their_distributions():
    """Kolmogorov and Smirnov: a true null hypothesis gives p < 0.001 once in 1,000 times."""
    chunks = [draw(1, 1, number) for number in range(5)]
    how = Drawn(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))
    columns = [how.shear / 20, how.turn / 180, *how.shift.T * 9.5, np.log(how.zoom) / np.log(1.3)]
    assert min(kstest(column, "uniform", (-1, 2)).pvalue for column in columns) > 1e-3
    assert np.abs(columns).max() <= 1 + 1e-9 and abs(how.flip.mean() - 0.5) < 0.03
    correlation = np.corrcoef([*columns, how.flip]) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(5 * CHUNK)


# ---- an epoch


def test_an_epoch_depends_on_seed_number_and_chunk():
    large = specimens(CHUNK + 7)
    first, labels = plankton.fresh(large, 14, seed=3, epoch=1)
    np.testing.assert_array_equal(labels, large.labels)
    again, _ = plankton.fresh(large[:20], 14, seed=3, epoch=1)
    np.testing.assert_array_equal(again, first[:20])
    np.testing.assert_array_equal(
        first[-7:], plankton.in_blocks(14, (large.images[-7:], theta_of(draw(3, 1, 1))[:7]))
    )
    for other in ({"seed": 4, "epoch": 1}, {"seed": 3, "epoch": 2}):
        made, _ = plankton.fresh(large[:20], 14, **other)
        assert (made != first[:20]).any(axis=(1, 2)).all()
    with ThreadPoolExecutor(2) as pool:
        shared, _ = plankton.fresh(large, 14, seed=3, epoch=1, map=pool.map)
    np.testing.assert_array_equal(shared, first)


def test_a_gpu_makes_the_same_images(quick_device):
    """But for what is rounded the other way: at most 1 of 255."""
    options = {"seed": 3, "epoch": 5}
    expected, _ = plankton.fresh(specimens(20), 14, **options)
    found, _ = plankton.fresh(specimens(20), 14, **options, device=quick_device)
    assert type(found) is quick_device.array and found.dtype == np.uint8
    difference = np.abs(quick_device.to_cpu(found).astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1, "epoch": 1}, "data seed must be at least 0, got -1"),
        ({"seed": 0, "epoch": -1}, "epoch must be at least 0, got -1"),
    ],
)
def test_impossible_epochs(options, words):
    with pytest.raises(UserError, match=words):
        plankton.fresh(specimens(3), 14, **options)


# ---- splits


@pytest.mark.parametrize("count", [9, 10, 101, 3000])
def test_splits_are_stratified(count):
    """Nobody is in two; in each there are as many of a class as its share, give or take one."""
    labels = np.sort(RNG.geometric(0.2, count) % 12)
    rows = stratified(labels, seed=5)
    np.testing.assert_array_equal(np.sort(np.concatenate([*rows.values()])), np.arange(count))
    assert {name: len(some) for name, some in rows.items()} == plankton.sizes(count)._asdict()
    for name, share in {"train": 0.8, "valid": 0.1, "test": 0.1}.items():
        expected = share * np.bincount(labels, minlength=12)
        assert np.abs(np.bincount(labels[rows[name]], minlength=12) - expected).max() < 1
    again, other = stratified(labels, seed=5), stratified(labels, seed=6)
    assert all(np.array_equal(rows[name], again[name]) for name in rows)
    assert not np.array_equal(rows["train"], other["train"])


def test_a_split_is_in_random_order():
    labels = np.arange(2000) // 200
    for rows in stratified(labels, seed=0).values():
        assert abs(np.corrcoef(labels[rows], np.arange(len(rows)))[0, 1]) < 5 / np.sqrt(len(rows))


# ---- pictures


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((11, 11), (0, 0, 10, 10)),
        ((22, 11), (2, 0, 7, 10)),  # 5.5 wide is 6
        ((4, 12), (0, 3, 10, 6)),
        ((3, 33), (0, 5, 10, 5)),
        ((1, 99), (0, 5, 10, 5)),
        ((5, 5), (0, 0, 10, 10)),
    ],
)
def test_the_longer_side_fills_the_square(shape, box):
    square, found = fitted(np.full(shape, 200, np.uint8), 11)
    left, top, right, bottom = found
    expected = np.zeros((11, 11), np.uint8)
    expected[top : bottom + 1, left : right + 1] = 200
    np.testing.assert_array_equal(square, expected)
    assert tuple(found) == box


def test_a_picture_of_that_size_stays_itself():
    image = RNG.integers(0, 256, (11, 6)).astype(np.uint8)
    square, (left, top, right, bottom) = fitted(image, 11)
    np.testing.assert_array_equal(square[top : bottom + 1, left : right + 1], image)


def test_the_archive_is_read_class_by_class(tmp_path):
    grey = RNG.integers(0, 256, (4, 3, 5)).astype(np.uint8)
    in_colour = np.stack([grey[3]] * 3, axis=-1)
    path = archive(
        tmp_path / "train.zip",
        {
            "train/b/2.jpg": grey[2],
            "train/": b"",
            "train/a/9.jpg": grey[1],
            "train/a/1.jpg": grey[0],
            "train/readme.txt": b"words",
            "train/c/1.jpg": in_colour,
        },
    )
    images, labels = plankton.read(path)
    np.testing.assert_array_equal(images, 255 - grey)
    assert labels.tolist() == [0, 0, 1, 2] and labels.dtype == np.uint8


def test_a_set_from_an_archive(tmp_path, monkeypatch):
    """Of forty pictures, four to validate and four to test, where the variable says."""
    pictures = {f"train/c{i % 4}/{i}.jpg": np.full((9, 5), 6 * i, np.uint8) for i in range(40)}
    (tmp_path / "plankton").mkdir()
    archive(tmp_path / "plankton" / "train.zip", pictures)
    monkeypatch.setenv("MINISTN_DATA", str(tmp_path))
    monkeypatch.setitem(plankton.SIZES, "plankton", Sizes(32, 4, 4))
    monkeypatch.setitem(plankton.CLASSES, "plankton", 4)
    made = Plankton(SIDE, train_size=32).load()
    few = Plankton(SIDE, train_size=5).load(tmp_path / "plankton")
    np.testing.assert_array_equal(few.train.digits.images, made.train.digits.images[:5])
    np.testing.assert_array_equal(few.test.images, made.test.images)
    splits = {
        "train": (made.train.digits.images.max(axis=(1, 2)), made.train.digits.labels),
        "valid": (made.valid.images.max(axis=(1, 2)), made.valid.labels),
        "test": (made.test.images.max(axis=(1, 2)), made.test.labels),
    }
    grey = np.concatenate([values for values, _ in splits.values()])
    assert sorted(grey.tolist()) == [255 - 6 * i for i in range(39, -1, -1)]
    for values, labels in splits.values():
        np.testing.assert_array_equal(labels, (255 - values.astype(int)) // 6 % 4)
        assert len(set(labels.tolist())) == 4
    assert (made.test.boxes == [1, 0, 5, 6]).all()
    first, _ = made.train.epoch(1)
    np.testing.assert_array_equal(first, Plankton(SIDE, train_size=32).load().train.epoch(1).images)


def test_what_is_wrong_with_the_file(tmp_path, monkeypatch):
    def complaint(folder):
        with pytest.raises(UserError) as caught:
            Plankton().load(folder)
        return str(caught.value)

    monkeypatch.setenv("MINISTN_DATA", str(tmp_path))
    assert f"there is no train.zip in {tmp_path}/plankton or " in complaint(None)
    assert complaint(tmp_path).startswith(f"there is no train.zip in {tmp_path}: put there")
    path = tmp_path / "train.zip"
    path.write_bytes(b"no archive")
    assert complaint(tmp_path).startswith(f"{path} cannot be read, File is not a zip file")
    archive(path, {"train/a/1.jpg": b"no picture"})
    assert "cannot identify image file" in complaint(tmp_path)
    archive(path, {"train/a/1.jpg": SMALL[0], "train/b/1.jpg": SMALL[1]})
    expected = f"{path} must have 30336 pictures of 121 classes, got 2 of 2"
    assert complaint(tmp_path) == expected
    archive(path, {})
    assert complaint(tmp_path).endswith("got 0 of 0")


def test_the_embedded_digits_are_split_anew():
    pictures = plankton.pictures_of(EMBEDDED, None)
    assert isinstance(pictures, Pictures) and len(pictures.images) == 1797
    with pytest.raises(UserError, match="need no data_dir"):
        Plankton(source=EMBEDDED).load("nowhere")


@pytest.mark.slow
@pytest.mark.skipif(
    find([REAL], plankton.ARCHIVE) is None,
    reason="MINISTN_DATA names no folder with plankton in it",
)
def test_the_real_set():
    made = Plankton(12, train_size=500).load(REAL)
    assert (len(made.valid), len(made.test)) == (3034, 3034)
    assert np.bincount(made.test.labels, minlength=121).max() in (197, 198)
    assert 10 < made.test.images.mean() < 14
