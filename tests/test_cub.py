"""CUB-200-2011: a made folder as the published one, what becomes of photographs, what is wrong."""

import numpy as np
import pytest
from PIL import Image

from ministn.data import Cub, PartSplit, cub
from ministn.data.sources import Sizes
from ministn.errors import UserError

SIDE = 49
BEAK, TAIL = 1, 3  # parts of the made birds; the second one, an eye, is never seen

# id: its class, whether to train, its size, the bird's box and where its beak and tail are.
BIRDS = {
    7: (2, 1, (64, 48), (8, 4, 30, 24), {BEAK: (32.0, 24.0), TAIL: (2.0, 3.0)}),
    3: (1, 0, (48, 75), (0, 0, 48, 75), {BEAK: (10.5, 40.0), TAIL: (24.0, 36.5)}),
    12: (2, 0, (31, 33), (3.5, 5.5, 10.0, 12.0), {TAIL: (16.0, 16.0)}),
    5: (1, 1, (90, 24), (40, 2, 9, 20), {BEAK: (45.0, 12.0)}),
}
GREY = 12


def path_of(number):
    return f"{BIRDS[number][0]:03}.A_kind/A_kind_{number:04}.jpg"


def photograph(number):
    """Smooth, as bright as it is far to the right, and down; one is grey."""
    width, height = BIRDS[number][2]
    y, x = np.mgrid[:height, :width]
    colours = [255 * x / width, 255 * y / height, 0 * x + 9 * number]
    image = Image.fromarray(np.stack(colours, axis=-1).astype(np.uint8))
    return image.convert("L") if number == GREY else image


def publish(folder):
    """The made folder. Its lists have the ids in an order of their own."""
    (folder / "parts").mkdir(parents=True)
    lists = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    lists |= {"bounding_boxes": [], "parts/part_locs": []}
    for number, (label, train, _, box, parts) in BIRDS.items():
        lists["images"].append(f"{number} {path_of(number)}")
        lists["image_class_labels"].insert(0, f"{number} {label}")
        lists["train_test_split"].append(f"{number} {train}")
        lists["bounding_boxes"].insert(0, " ".join(map(str, (number, *box))))
        for part in (3, 1, 2):
            x, y = parts.get(part, (0.0, 0.0))
            lists["parts/part_locs"].append(f"{number} {part} {x} {y} {int(part in parts)}")
        path = folder / "images" / path_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(number).save(path, quality=95, **{} if number == GREY else {"subsampling": 0})
    lists["parts/parts"] = ["2 left eye", "1 beak", "3 tail"]
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setitem(cub.SIZES, cub.CUB, Sizes(2, 0, 2))
    monkeypatch.setitem(cub.CLASSES, cub.CUB, 2)
    monkeypatch.setitem(cub.PARTS, cub.CUB, 3)
    return publish(tmp_path / "CUB_200_2011")


def square_of(number):
    """By how much it is scaled, and its first corner in the photograph, by hand."""
    width, height = BIRDS[number][2]
    edge = min(width, height) * 224 / 256
    return SIDE / edge, np.array([(width - edge) / 2, (height - edge) / 2])


# ---- what it reads


def test_splits_labels_and_pictures(folder):
    made = Cub(side=SIDE, train_size=2).load(folder)
    assert made.valid is None
    for split, numbers in ((made.train, (5, 7)), (made.test, (3, 12))):
        assert isinstance(split, PartSplit) and split.shape == (2, SIDE, SIDE, 3)
        assert split.labels.tolist() == [BIRDS[number][0] - 1 for number in numbers]
        for number, image in zip(numbers, split.images, strict=True):
            scale, corner = square_of(number)
            x, y = np.moveaxis(np.mgrid[:SIDE, :SIDE].T + 0.5, -1, 0)
            x, y = x / scale + corner[0], y / scale + corner[1]
            width, height = BIRDS[number][2]
            wanted = [255 * (x - 0.5) / width, 255 * (y - 0.5) / height, 0 * x + 9 * number]
            wanted = np.stack(wanted, axis=-1)
            if number == GREY:
                wanted = (wanted @ [0.299, 0.587, 0.114])[..., None].repeat(3, axis=-1)
                assert (image == image[..., :1]).all()
            np.testing.assert_allclose(image.astype(float), wanted, atol=9)  # it is a JPEG
            assert abs(image.astype(float) - wanted).mean() < 2


def test_boxes_and_parts_are_where_the_pictures_have_them(folder):
    made = Cub(side=SIDE, train_size=2).load(folder)
    for split, numbers in ((made.train, (5, 7)), (made.test, (3, 12))):
        for number, box, parts in zip(numbers, split.boxes, split.parts, strict=True):
            scale, corner = square_of(number)
            left, top, width, height = BIRDS[number][3]
            edges = np.array([left, top, left + width, top + height]) - [*corner, *corner]
            wanted = edges * scale + [0, 0, -1, -1]
            assert abs(np.clip(wanted, 0, SIDE - 1) - box).max() <= 0.5
            for part, (x, y, seen) in enumerate(parts, 1):
                place = (np.array(BIRDS[number][4].get(part, (0, 0))) - corner) * scale
                inside = part in BIRDS[number][4] and (place >= 0).all() and (place <= SIDE).all()
                assert seen == inside
                np.testing.assert_allclose((x, y), place - 0.5, atol=1e-5)
    # The middle of a photograph is the middle of its square; a tail in a corner is cut off.
    beak, _, tail = made.train.parts[1]
    np.testing.assert_allclose(beak, [24, 24, 1], atol=1e-5)
    assert tail[2] == 0


def test_fewer_pictures_are_the_first_and_ids_decide_the_order(folder):
    few, all_of_them = (Cub(side=SIDE, train_size=n).load(folder).train for n in (1, 2))
    for name, array in few.arrays().items():
        np.testing.assert_array_equal(array, all_of_them.arrays()[name][:1])
    lists = sorted(folder.glob("**/*.txt"))
    before = Cub(side=SIDE, train_size=2).load(folder).sha256
    for path in lists:
        path.write_text("\n".join(reversed(path.read_text().splitlines())))
    assert Cub(side=SIDE, train_size=2).load(folder).sha256 == before


@pytest.mark.parametrize("where", [".", "CUB_200_2011", "cub", "cub/CUB_200_2011"])
def test_where_the_folder_may_be(where, folder, tmp_path, monkeypatch):
    place = tmp_path / "data" / where
    place.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(place)
    monkeypatch.setenv("MINISTN_DATA", str(tmp_path / "data"))
    assert len(Cub(side=SIDE, train_size=2).load().test) == 2


# ---- what is wrong


def complaint(folder):
    with pytest.raises(UserError) as caught:
        Cub(side=SIDE, train_size=2).load(folder)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_no_folder(tmp_path):
    wanted = f"there is no images.txt in {tmp_path} or {tmp_path}/CUB_200_2011: unpack CUB_200"
    assert complaint(tmp_path).startswith(wanted)


@pytest.mark.parametrize(
    "name",
    [
        "image_class_labels.txt",
        "train_test_split.txt",
        "bounding_boxes.txt",
        "parts/parts.txt",
        "parts/part_locs.txt",
    ],
)
def test_a_list_that_is_missing_or_lacks_a_line(name, folder):
    lines = (folder / name).read_text().splitlines()
    (folder / name).write_text("\n".join(lines[1:]))
    key = lines[0].split()[0]
    lacking = f"({key}, {lines[0].split()[1]})" if "locs" in name else key
    assert complaint(folder) == f"{folder / name} lacks {lacking}"
    (folder / name).write_text("\n".join([*lines, lines[1]]))
    assert f"{folder / name}, line {len(lines) + 1} is the second one of" in complaint(folder)
    (folder / name).write_bytes(b"\xff\xfe")
    assert complaint(folder).startswith(f"{folder / name} cannot be read: ")
    (folder / name).unlink()
    assert complaint(folder).startswith(f"{folder / name} cannot be read: ")


@pytest.mark.parametrize(
    ("name", "line", "form"),
    [
        ("images.txt", "12", "id path"),
        ("image_class_labels.txt", "5 one", "id class"),
        ("train_test_split.txt", "5 2", "id 0-or-1"),
        ("bounding_boxes.txt", "5 1 2 3", "id left top width height"),
        ("bounding_boxes.txt", "5 1 2 3 x", "id left top width height"),
        ("parts/part_locs.txt", "5 1 nowhere 2.0 1", "id part x y 0-or-1"),
        ("parts/part_locs.txt", "", "id part x y 0-or-1"),
    ],
)
def test_a_line_that_is_none(name, line, form, folder):
    lines = (folder / name).read_text().splitlines()
    (folder / name).write_text("\n".join([lines[0], line, *lines[2:]]))
    assert complaint(folder) == f"{folder / name}, line 2 must be {form!r}, got {line!r}"


def test_photographs_that_are_more_missing_or_damaged(folder):
    path = folder / "images" / path_of(12)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert complaint(folder).startswith(f"{path} cannot be read: image file is truncated")
    path.write_bytes(b"no picture")
    assert complaint(folder).startswith(f"{path} cannot be read: cannot identify image file")
    path.unlink()
    assert complaint(folder).startswith(f"{path} cannot be read: ")
    with (folder / "bounding_boxes.txt").open("a") as lines:
        lines.write("99 1 2 3 4\n")
    assert complaint(folder) == f"{folder}/bounding_boxes.txt has 99, of which no list knows"


def test_another_number_of_photographs_or_classes(folder, monkeypatch):
    monkeypatch.setitem(cub.SIZES, cub.CUB, Sizes(2, 0, 3))
    wanted = "must have 2 photographs to train and 3 to test, of classes 1 to 2, got 2 and 2 of 2"
    assert f"{folder} {wanted} classes" == complaint(folder)
    monkeypatch.setitem(cub.SIZES, cub.CUB, Sizes(2, 0, 2))
    path = folder / "image_class_labels.txt"
    path.write_text(path.read_text().replace("12 2", "12 3"))
    assert complaint(folder).endswith("of classes 1 to 2, got 2 and 2 of 3 classes")


def test_drawn_pictures_need_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"^drawn pictures need no data_dir: leave it out"):
        Cub("drawn", 48, 5).load(tmp_path)
