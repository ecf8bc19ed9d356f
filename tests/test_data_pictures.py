"""Contact sheets and their command."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_distorted import strokes

from ministn.data import (
    CLUTTERED,
    Addition,
    CroppedToDigit,
    Crops,
    Cub,
    Distorted,
    Extruded,
    OneDigit,
    PartSplit,
    Plankton,
    Sequences,
    Svhn,
    cub,
    distorted,
    mnist,
    plankton,
    svhn,
)
from ministn.data import __main__ as command
from ministn.data.dataset import Digits
from ministn.data.distorted import RECIPES
from ministn.data.sources import EMBEDDED, MNIST, Sizes
from ministn.errors import UserError
from ministn.metrics.pose import FRAME
from ministn.plot import data_sets, drawing


@pytest.fixture
def small_mnist(monkeypatch):
    """Strokes for digits, 100 and more of the class whose co-localisation is shown."""
    shown = strokes()
    digits = Digits(np.tile(shown.images, (100, 1, 1)), np.tile(shown.labels, 100))
    splits = {"train": digits, "valid": digits[:9], "test": digits}
    monkeypatch.setattr(mnist, "load", lambda data_dir: splits)
    pictures = plankton.Pictures(list(digits.images), digits.labels)
    monkeypatch.setattr(plankton, "pictures_of", lambda source, folder: pictures)
    monkeypatch.setattr(svhn, "read", lambda folder, chosen, side: Svhn().noise(len(chosen)))
    monkeypatch.setattr(cub, "find_folder", lambda folder: Path())
    monkeypatch.setattr(cub, "listed", lambda place: range(100))
    monkeypatch.setattr(cub, "by_split", lambda place, found: {"train": found, "test": found})
    monkeypatch.setattr(cub, "read", birds)


def birds(place, chosen, side):
    """Noise, with three parts of which one cannot be seen."""
    split = Cub(side=side).noise(len(chosen))
    parts = np.zeros((len(split), 3, 3), np.float32)
    parts[:, :2, 2] = 1
    return PartSplit(*vars(split).values(), parts)


SETS = [name for name in data_sets.SETS if name not in ("mnist", "digits")]


@pytest.mark.parametrize("name", SETS)
def test_a_sheet_shows_the_images_with_their_frames(name, small_mnist):
    figure = data_sets.contact_sheet(name, seed=4)
    assert len(figure.axes) == data_sets.ROWS * data_sets.COLUMNS
    assert "data seed 4" in figure.get_suptitle()
    for axes in figure.axes:
        shown = axes.images[0].get_array()
        assert shown.max() > (100 if shown.ndim == 2 else 0.4)  # colours are from 0 to 1
        lines = {"extruded": 0, "svhn": 0, "sequences": 6, "cub": 6, "cub-drawn": 8}
        assert len(axes.lines) == lines.get(name, 2)


# Of each kind of data set: the values that sheets show. Whatever is added has its entry here.
SHEETS = {
    "distorted": {name: Distorted(name) for name in RECIPES},
    "addition": {"addition": Addition()},
    "extruded": {"extruded": Extruded()},
    "one digit": {
        "colocalisation": OneDigit(data_sets.DIGIT, distractors=0),
        "colocalisation-clutter": OneDigit(data_sets.DIGIT),
    },
    "crops": {"crops": Crops()},
    "cropped to digit": {"cropped": CroppedToDigit(train_size=1)},
    "sequences": {"sequences": Sequences(train_size=1)},
    "plankton": {"plankton": Plankton()},
    "svhn": {"svhn": Svhn()},
    "cub": {"cub": Cub(side=data_sets.BIRDS), "cub-drawn": Cub(cub.DRAWN, cub.DRAWN_SIDE)},
    "cluttered": CLUTTERED,
}
SHOWN = {name: value for values in SHEETS.values() for name, value in values.items()}


def seen(image):
    """What the first panel of an image shows: one of two channels, or a volume along z."""
    if image.ndim == 2 or image.shape[-1] == 3:
        return image
    return image[..., 0] if image.shape[-1] == 2 else image.max(axis=0)


@pytest.mark.parametrize("name", [name for name in SHOWN if name not in CLUTTERED])
def test_a_sheet_shows_what_the_set_has(name, small_mnist, monkeypatch):
    monkeypatch.setitem(distorted.SIZES, MNIST, Sizes(60_000, 0, 50))
    value = replace(SHOWN[name], seed=4)
    images = value.load().test.images
    panels = data_sets.SETS[name](None, 4).panels
    each = 2 if name in ("addition", "extruded") else 1
    assert len(panels) == data_sets.ROWS * data_sets.COLUMNS
    for number, panel in enumerate(panels[::each]):
        np.testing.assert_array_equal(panel.image, seen(images[number]))


def test_boxes_go_round_the_digits_of_a_sequence(small_mnist):
    test = Sequences(train_size=1, seed=4).load().test
    for panel, labels, boxes in zip(
        data_sets.SETS["sequences"](None, 4).panels, test.labels, test.boxes, strict=False
    ):
        assert panel.words == "{} {} {}".format(*labels)
        for outline, (left, top, right, bottom) in zip(panel.outlines, boxes, strict=True):
            corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
            np.testing.assert_array_equal(outline, corners)


def test_every_sheet_is_of_a_value():
    assert SHOWN.keys() == data_sets.SETS.keys()


def test_the_outline_goes_round_the_pose():
    outline = drawing.outline(FRAME, (31, 61))
    assert len(outline) == 12
    np.testing.assert_allclose(outline[::3], [[0, 0], [60, 0], [60, 30], [0, 30]])
    steps = np.diff(outline, axis=0, append=outline[:1])
    np.testing.assert_allclose(steps[:3], [[20, 0]] * 3, atol=1e-12)
    np.testing.assert_allclose(steps[9:], [[0, -10]] * 3, atol=1e-12)


def test_the_command_writes_a_png(small_mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main(["show", "RTS"]) == 0
    assert capsys.readouterr().out == "wrote RTS.png\n"
    first = (tmp_path / "RTS.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    command.main(["show", "RTS", "--out", "again.png"])
    assert (tmp_path / "again.png").read_bytes() == first
    command.main(["show", "RTS", "--seed", "1", "--out", "other.png"])
    assert (tmp_path / "other.png").read_bytes() != first


def test_the_embedded_digits_can_be_seen(tmp_path):
    shown = data_sets.SETS["digits"](None, 4).panels
    images = replace(CLUTTERED[EMBEDDED], seed=4, train_size=1).load().test.images
    np.testing.assert_array_equal([panel.image for panel in shown], images[: len(shown)])
    assert command.main(["show", "digits", "--out", str(tmp_path / "digits.png")]) == 0


def test_a_set_that_does_not_exist():
    with pytest.raises(UserError, match="invalid choice: 'RST'"):
        command.main(["show", "RST"])
