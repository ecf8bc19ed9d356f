"""Contact sheets and their command."""

import numpy as np
import pytest
from test_distorted import strokes

from ministn.data import __main__ as command
from ministn.data import mnist
from ministn.data.dataset import Digits
from ministn.errors import UserError
from ministn.metrics.pose import FRAME
from ministn.plot import data_sets, drawing


@pytest.fixture
def small_mnist(monkeypatch):
    """Strokes for digits, 60 of the class whose co-localisation is shown."""
    shown = strokes()
    digits = Digits(np.tile(shown.images, (60, 1, 1)), np.tile(shown.labels, 60))
    monkeypatch.setattr(mnist, "load", lambda data_dir: {"train": digits, "test": digits})


SETS = [name for name in data_sets.SETS if name not in ("mnist", "digits")]


@pytest.mark.parametrize("name", SETS)
def test_a_sheet_shows_the_images_with_their_frames(name, small_mnist):
    figure = data_sets.contact_sheet(name, seed=4)
    assert len(figure.axes) == data_sets.ROWS * data_sets.COLUMNS
    assert "data seed 4" in figure.get_suptitle()
    for axes in figure.axes:
        assert axes.images[0].get_array().max() > 100
        assert len(axes.lines) == (0 if name == "extruded" else 2)


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
    assert command.main(["show", "digits", "--out", str(tmp_path / "digits.png")]) == 0


def test_a_set_that_does_not_exist():
    with pytest.raises(UserError, match="invalid choice: 'RST'"):
        command.main(["show", "RST"])
