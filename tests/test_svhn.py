"""SVHN: what is cut out of photographs, the two layouts of files, and who is in which split."""

import csv
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ministn.data import Svhn, svhn
from ministn.data.sources import EMBEDDED
from ministn.data.svhn import Id
from ministn.errors import UserError

RNG = np.random.default_rng(0)
REAL = Path(os.environ.get("MINISTN_DATA", "")) / "svhn"

# Photographs of a made SVHN: the digits and their boxes, left, top, width and height.
PHOTOGRAPHS = {
    Id("train", 1): ([1, 9], [[246, 77, 81, 219], [323, 81, 96, 219]]),  # as SVHN's first
    Id("train", 2): ([0], [[20, 10, 8, 17]]),
    Id("train", 3): ([3, 1, 4, 1, 5], [[10 + 30 * i, 40, 28, 50] for i in range(5)]),
    Id("test", 1): ([7, 0, 2], [[-1, 5, 20, 30], [18, 6, 22, 30], [42, 4, 21, 33]]),
    Id("test", 2): ([8], [[300, 100, 60, 90]]),
}
SIZES = {Id("train", 1): (741, 350), Id("train", 2): (33, 31), Id("test", 1): (60, 38)}


def photograph(which):
    """Smooth, so that JPEG keeps it."""
    width, height = SIZES.get(which, (400, 200))
    y, x = np.mgrid[:height, :width]
    colours = [255 * x / width, 255 * y / height, 40 * which.number + 0 * x]
    return Image.fromarray(np.stack(colours, axis=-1).astype(np.uint8))


# ---- crops


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (Id("train", 1), (220.05, 43.55, 444.95, 333.45)),
        (Id("train", 2), (18.8, 7.45, 29.2, 29.55)),
        (Id("test", 1), (0, 0, 60, 38)),  # cut off on every side
        (Id("test", 2), (291, 86.5, 369, 200)),  # below: it would go to 203.5
    ],
)
def test_boxes_are_joined_and_made_wider(which, expected):
    boxes = np.array(PHOTOGRAPHS[which][1])
    assert svhn.joined(boxes, photograph(which).size) == pytest.approx(expected)


def test_larger_crops_have_twice_as_much_about_the_same_middle():
    """So that digits are as large in both, where neither is cut off."""
    boxes = np.array([[200, 90, 20, 30], [222, 94, 18, 26]])
    small, large = (svhn.joined(boxes, (741, 350), svhn.WIDER[side]) for side in (64, 128))
    assert large == pytest.approx((168, 66, 272, 144))
    np.testing.assert_allclose(np.reshape(large, (2, 2)).mean(0), np.reshape(small, (2, 2)).mean(0))
    assert np.ptp(large[::2]) == pytest.approx(2 * np.ptp(small[::2]))
    pixels = np.zeros((350, 741, 3), np.uint8)
    pixels[90:120, 200:240] = 255
    image = Image.fromarray(pixels)
    one, other = (np.asarray(svhn.crop(image, boxes, side)).astype(int) for side in (64, 128))
    assert abs(other[32:96, 32:96] - one).max() <= 1
    for shown, (left, top, right, bottom) in ((one, svhn.BOX), (other, svhn.box_of(128))):
        assert shown[top + 1 : bottom, left + 1 : right].min() > 200
        assert shown.sum() < 1.1 * shown[top : bottom + 1, left : right + 1].sum()


def test_a_crop_of_the_whole_photograph_in_that_size_is_the_photograph():
    pixels = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    shown = svhn.crop(Image.fromarray(pixels), np.array([[5, 2, 30, 62], [20, 0, 42, 9]]))
    np.testing.assert_array_equal(np.asarray(shown), pixels)
    left, top, right, bottom = svhn.joined(np.array([[12, 5, 30, 54], [22, 7, 30, 52]]), (64, 64))
    assert (left, top, right, bottom) == (6, 0, 58, 64)


def test_a_crop_shows_what_is_in_the_box():
    """Of a photograph that is as bright as it is far to the right, and down."""
    which = Id("train", 1)
    shown = np.asarray(svhn.crop(photograph(which), np.array(PHOTOGRAPHS[which][1]))).astype(float)
    x = 220.05 + (np.arange(64) + 0.5) * 224.9 / 64
    y = 43.55 + (np.arange(64) + 0.5) * 289.9 / 64
    for found, place, length in [(shown[..., 0], x, 741), (shown[..., 1].T, y, 350)]:
        expected = 255 * (place - 0.5) / length - 0.5  # at a pixel's centre, rounded down
        np.testing.assert_allclose(found, np.tile(expected, (64, 1)), atol=1.01)


def test_where_the_digits_are_in_a_crop_that_is_not_cut_off():
    """Of white digits on black: white inside the boxes that a split has, black two pixels away."""
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[100:160, 120:200] = 255
    shown = np.asarray(svhn.crop(Image.fromarray(pixels), np.array([[120, 100, 80, 60]])))
    left, top, right, bottom = svhn.BOX
    assert shown[top + 1 : bottom, left + 1 : right].min() > 200
    shown = shown.copy()
    shown[top - 1 : bottom + 2, left - 1 : right + 2] = 0
    assert not shown.any()


# ---- splits


def test_splits_have_no_photograph_in_common():
    chosen = svhn.ids()
    assert {name: len(some) for name, some in chosen.items()} == svhn.SIZES["svhn"]._asdict()
    assert len({each for some in chosen.values() for each in some}) == 14_952
    assert chosen["test"] == [Id("test", n + 1) for n in range(1000)]
    assert {each.split for each in chosen["train"]} == {"train", "test"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1-3 7", [1, 2, 3, 7]), ("12", [12]), ("", []), ("5-6 8-9", [5, 6, 8, 9])],
)
def test_ranges_of_numbers(text, expected):
    assert svhn.numbers(text) == expected


# ---- files


def publish(folder):
    """SVHN as it is published, of PHOTOGRAPHS."""
    h5py = pytest.importorskip("h5py")
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        here = {which: made for which, made in PHOTOGRAPHS.items() if which.split == split}
        with h5py.File(folder / split / "digitStruct.mat", "w") as file:

            def kept(values, file=file):
                place = f"#refs#/{len(file.require_group('#refs#'))}"
                file[place] = values
                return file[place].ref

            names = np.empty((len(here), 1), h5py.ref_dtype)
            structs = np.empty((len(here), 1), h5py.ref_dtype)
            for which, (digits, boxes) in here.items():
                row = which.number - 1
                letters = np.frombuffer(f"{which.number}.png".encode(), np.uint8)
                names[row, 0] = kept(letters.astype(np.uint16)[:, None])
                struct = file.create_group(f"#refs#/struct {row}")
                structs[row, 0] = struct.ref
                left, top, width, height = np.array(boxes, float).T
                label = [digit or 10.0 for digit in digits]
                columns = {"label": label, "left": left, "top": top}
                for field, values in (columns | {"width": width, "height": height}).items():
                    cells = [[value if len(digits) == 1 else kept([[value]])] for value in values]
                    kind = float if len(digits) == 1 else h5py.ref_dtype
                    struct.create_dataset(field, data=np.array(cells, kind))
                photograph(which).save(folder / split / f"{which.number}.png")
            file["digitStruct/name"], file["digitStruct/bbox"] = names, structs
    return folder


def as_crops(folder, leave_out=(), side=64):
    """The same as crops, in the layout of those at hand."""
    folder.mkdir(exist_ok=True)
    fields = ["file", *(f"s{i + 1}" for i in range(5))]
    with (folder / "labels.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(fields)
        for which, (digits, _) in PHOTOGRAPHS.items():
            writer.writerow([f"{which.split}/{which.number:05d}.jpg", *svhn.padded(digits)])
    for split in ("train", "test"):
        with zipfile.ZipFile(folder / f"svhn{side}_{split}.zip", "w") as archive:
            for which in PHOTOGRAPHS.keys() - {*leave_out}:
                if which.split == split:
                    shown = svhn.crop(photograph(which), np.array(PHOTOGRAPHS[which][1]), side)
                    name = f"{split}/{which.number:05d}.jpg"
                    archive.writestr(name, svhn.as_jpeg(shown))
    return folder


EXPECTED = {
    Id("train", 1): [1, 9, 10, 10, 10],
    Id("train", 2): [0, 10, 10, 10, 10],
    Id("train", 3): [3, 1, 4, 1, 5],
    Id("test", 1): [7, 0, 2, 10, 10],
    Id("test", 2): [8, 10, 10, 10, 10],
}


@pytest.mark.parametrize("write", [publish, as_crops])
def test_photographs_are_read_in_the_order_that_is_asked_for(write, tmp_path):
    write(tmp_path / "here")
    chosen = [*EXPECTED]
    for order in (chosen, chosen[::-1], [chosen[3], chosen[1]]):
        split = svhn.read(tmp_path / "here", order)
        assert split.images.shape == (len(order), 64, 64, 3) and split.images.dtype == np.uint8
        assert split.labels.tolist() == [EXPECTED[which] for which in order]
        for which, image in zip(order, split.images, strict=True):
            shown = svhn.crop(photograph(which), np.array(PHOTOGRAPHS[which][1]))
            assert np.abs(image.astype(int) - np.asarray(shown)).max() <= 4


@pytest.mark.parametrize("side", [64, 128])
def test_both_layouts_give_the_same_set(side, tmp_path):
    published = svhn.read(publish(tmp_path / "published"), [*EXPECTED], side)
    crops = svhn.read(as_crops(tmp_path / "crops", side=side), [*EXPECTED], side)
    assert crops.images.shape[1:] == (side, side, 3)
    for name, array in vars(published).items():
        np.testing.assert_array_equal(getattr(crops, name), array)


def test_a_set_from_files(tmp_path, monkeypatch):
    as_crops(tmp_path / "svhn")
    first, second, *rest = EXPECTED
    monkeypatch.setattr(svhn, "ids", lambda: {"train": rest, "valid": [second], "test": [first]})
    monkeypatch.setenv("MINISTN_DATA", str(tmp_path))
    made = Svhn(train_size=2).load()
    for split, chosen in [(made.train, rest[:2]), (made.valid, [second]), (made.test, [first])]:
        assert split.labels.tolist() == [EXPECTED[which] for which in chosen]
    assert made.sha256 == Svhn(train_size=2).load(tmp_path / "svhn").sha256


def complaint(folder, chosen):
    with pytest.raises(UserError) as caught:
        svhn.read(folder, chosen)
    return str(caught.value)


def test_what_is_wrong_with_crops(tmp_path):
    chosen = [Id("test", 1)]
    expected = f"there is no labels.csv in {tmp_path}, nor test/digitStruct.mat: put there"
    assert complaint(tmp_path, chosen).startswith(expected)
    as_crops(tmp_path, leave_out=chosen)
    lacks = f"{tmp_path} lacks test/00001.jpg in labels.csv or svhn64_*.zip"
    assert complaint(tmp_path, chosen) == lacks
    assert "lacks test/00009.jpg" in complaint(tmp_path, [Id("test", 9)])
    (tmp_path / "svhn64_train.zip").write_bytes(b"no archive")
    assert "cannot be read, File is not a zip file" in complaint(tmp_path, chosen)
    with zipfile.ZipFile(tmp_path / "svhn64_train.zip", "w") as archive:
        archive.write(__file__, "test/00001.jpg")
    assert "cannot be read, cannot identify image file" in complaint(tmp_path, chosen)
    Image.new("RGB", (54, 64)).save(tmp_path / "small.png")
    with zipfile.ZipFile(tmp_path / "svhn64_train.zip", "w") as archive:
        archive.write(tmp_path / "small.png", "test/00001.jpg")
    assert "images must have 64x64 pixels, got 54x64" in complaint(tmp_path, chosen)


def test_crops_of_another_size_than_is_asked_for(tmp_path):
    chosen = [Id("test", 1)]
    as_crops(tmp_path)
    with pytest.raises(UserError, match=r"lacks test/00001.jpg in labels.csv or svhn128_\*.zip$"):
        svhn.read(tmp_path, chosen, 128)
    (tmp_path / "svhn64_test.zip").rename(tmp_path / "svhn128_test.zip")
    with pytest.raises(UserError, match=r"images must have 128x128 pixels, got 64x64: "):
        svhn.read(tmp_path, chosen, 128)
    with pytest.raises(UserError, match=r"^side must be 64 or 128, got 96$"):
        Svhn(side=96)


def test_what_is_wrong_with_published_files(tmp_path):
    publish(tmp_path)
    (tmp_path / "test" / "2.png").unlink()
    assert f"{tmp_path}/test/2.png cannot be read" in complaint(tmp_path, [Id("test", 2)])
    assert "is no digitStruct.mat of SVHN" in complaint(tmp_path, [Id("test", 9)])
    (tmp_path / "train" / "digitStruct.mat").write_bytes(b"no HDF5")
    assert "is no digitStruct.mat of SVHN" in complaint(tmp_path, [Id("train", 1)])
    (tmp_path / "train" / "digitStruct.mat").unlink()
    assert "is no digitStruct.mat of SVHN" in complaint(tmp_path, [Id("train", 1)])


def test_published_files_need_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)  # as if it were not installed
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "digitStruct.mat").write_bytes(b"")
    assert "needs h5py: pip install -e '.[svhn]'" in complaint(tmp_path, [Id("test", 1)])


def test_a_number_that_is_too_long():
    with pytest.raises(UserError, match="at most 5 digits, got 6"):
        svhn.padded([1, 2, 3, 4, 5, 6])


# ---- embedded digits


def test_digits_in_a_row():
    images = RNG.integers(0, 256, (3, 5, 4)).astype(np.uint8)
    images[:, 0, 0], images[:, 1, 1] = 0, 255
    ground, ink = np.array([10, 200, 30]), np.array([110, 50, 30])
    made, boxes = svhn.in_a_row(images, np.array([[2, 1], [3, 6]]), ground, ink)
    pixels = np.asarray(made)
    assert pixels.shape == (8, 21, 3)
    assert boxes.tolist() == [[3, 2, 4, 5], [7, 2, 4, 5], [11, 2, 4, 5]]
    for image, (left, top, width, height) in zip(images, boxes, strict=True):
        shown = pixels[top : top + height, left : left + width]
        exact = ground + image[..., None] / 255 * (ink - ground)
        np.testing.assert_allclose(shown, exact, atol=0.51)
        assert shown[0, 0].tolist() == ground.tolist() and shown[1, 1].tolist() == ink.tolist()
    around = np.ones((8, 21), bool)
    around[2:7, 3:15] = False
    assert (pixels[around] == ground).all()


def test_larger_crops_of_embedded_digits_show_more_round_them():
    digits = svhn.Digits(np.full((9, 20, 20), 255, np.uint8), np.arange(9, dtype="u1"))
    small, large = (svhn.generate("train", digits, 40, seed=3, side=side) for side in (64, 128))
    np.testing.assert_array_equal(small.labels, large.labels)
    assert Svhn(EMBEDDED, side=128).form.size == large.size == (128, 128)
    assert (large.boxes == [39, 39, 88, 88]).all() and (small.boxes == svhn.BOX).all()
    empty = [(s.images == s.images[:, :1, :1]).all(axis=-1).mean() for s in (small, large)]
    assert empty[1] > empty[0] + 0.2


def test_fewer_images_are_a_prefix_of_more():
    digits = svhn.Digits(RNG.integers(0, 256, (9, 6, 6)).astype(np.uint8), np.arange(9, dtype="u1"))
    most = svhn.generate("train", digits, 1010, seed=3)
    for count in (7, 1003):
        few = svhn.generate("train", digits, count, seed=3)
        np.testing.assert_array_equal(few.images, most.images[:count])
        np.testing.assert_array_equal(few.labels, most.labels[:count])
    others = svhn.generate("train", digits, 7, seed=4), svhn.generate("test", digits, 7, seed=3)
    for other in (*(split.images for split in others), most.images[1000:1007]):
        assert (other != most.images[:7]).any(axis=(1, 2, 3)).all()
    lengths = (most.labels != svhn.BLANK).sum(axis=1)
    assert np.bincount(lengths).tolist()[1:] == pytest.approx([202] * 5, abs=60)
    blank = most.labels == svhn.BLANK
    assert (blank[:, 1:] >= blank[:, :-1]).all()  # nothing follows a blank


# ---- the real crops

here = pytest.mark.skipif(
    not (REAL / "labels.csv").is_file(), reason="MINISTN_DATA names no folder with SVHN's crops"
)


@here
def test_the_split_is_drawn_as_it_says():
    with (REAL / "labels.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    files = sorted(row["file"] for row in rows if row["match"] in ("name", "size"))
    drawn = np.random.default_rng(0).choice(files, 952, replace=False)
    chosen = {name: {f"{s}/{n:05d}.jpg" for s, n in some} for name, some in svhn.ids().items()}
    assert chosen["valid"] == {*drawn.tolist()}
    assert {row["file"] for row in rows} == set.union(*chosen.values())
    known_by_bytes = {row["file"] for row in rows if row["match"] == "bytes"}
    assert chosen["test"] <= known_by_bytes


@here
def test_the_real_crops():
    split = svhn.read(REAL, svhn.ids()["test"][:50])
    assert split.labels[:3].tolist() == [
        [5, 10, 10, 10, 10],
        [2, 1, 0, 10, 10],
        [6, 10, 10, 10, 10],
    ]
    assert 90 < split.images.mean() < 140
