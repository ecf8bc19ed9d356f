"""Figures 5 and 7 of the placement paper: pictures in known poses, and thetas that are known."""

import numpy as np
import pytest
from papers import placement_poses
from papers.placement_poses import TURNS, WANTED, measured, pose_of, posed, predicted
from synthetic import of_placement, read

from ministn.data import Distorted, Form, Plankton, plankton
from ministn.data.distorted import RECIPES
from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.kinds import replaced
from ministn.models import Placement, PlanktonNetwork
from ministn.parameter import ParameterBuffer
from ministn.runs.record import folder_name
from ministn.training import checkpoint
from ministn.training.trainer import BEST
from ministn.transformer import theta_of

DATA = {name: Distorted(name, EMBEDDED, 64) for name in ("R", "TC", "S")}
THETA = theta_of(np.array([30.0]), np.array([0.5]), np.array([[0.2, -0.4]]))[0]


def laid_out(architecture, form, theta=THETA):
    """A network that predicts one theta for whatever it sees, and its buffer."""
    network = architecture.build(form)
    buffer = ParameterBuffer(network.parameters(), seed=0)
    (bias,) = (p for p in network.parameters() if p.name.endswith("theta/bias"))
    bias.data[:] = theta.ravel()
    return network, buffer


@pytest.mark.parametrize("name", DATA)
def test_the_first_digit_lies_as_it_was_asked_for(name):
    shown = posed(DATA[name])
    side = RECIPES[name].canvas
    assert shown.images.shape == (3, side, side) and shown.lies.shape == (3, 2, 3)
    off = pose_of(name, shown.lies, side) - WANTED[name]
    assert abs(off).max() < {"R": 10, "TC": 10, "S": 0.5}[name]
    upright = placement_poses.warped(shown.images, shown.lies, (16, 16)).reshape(3, -1)
    assert np.corrcoef(upright).min() > 0.7  # the same digit, among other clutter


def test_a_long_plankton_is_turned():
    data = Plankton(48, EMBEDDED)
    shown = posed(data)
    assert shown.images.shape == (3, 48, 48)
    np.testing.assert_allclose(shown.lies, theta_of(np.array(TURNS)), atol=1e-6)
    pictures = plankton.pictures_of(EMBEDDED, None)
    first = plankton.stratified(pictures.labels, 0)["test"][:1]
    (image,) = plankton.undistorted(pictures, first, 48).images
    off = shown.images[1].astype(int) - image  # halves are rounded otherwise
    assert abs(off).max() <= 1
    upright = placement_poses.warped(shown.images, shown.lies, (48, 48))
    inner = (slice(None), slice(12, 36), slice(12, 36))
    assert np.corrcoef(upright[inner].reshape(3, -1)).min() > 0.9


@pytest.mark.parametrize("place", ["C0", "SL1", "C1"])
def test_theta_is_one_of_the_image(place):
    """A shift of 1 on the map of T is 25 pixels of 29.5; the rest is as it is on the map."""
    architecture = Placement(place[:-1], "T", (int(place[-1]),))
    network, _ = laid_out(architecture, Form((60, 60)))
    found = predicted(network, posed(DATA["TC"]).images)
    wanted = THETA * [1, 1, 25 / 29.5] if place == "C1" else THETA
    np.testing.assert_allclose(found["theta"], [wanted] * 3, atol=1e-6)
    assert found["of_the_image"] == (place != "C1")
    assert found["size"] == ([60, 60] if place == "C1" else [30, 30])


def test_what_an_iterated_transformer_of_plankton_comes_to():
    network, _ = laid_out(PlanktonNetwork("SL", (2, 2), 0.1), Plankton(33, EMBEDDED).form)
    found = predicted(network, posed(Plankton(33, EMBEDDED)).images)
    square = np.vstack([THETA, [0, 0, 1]])
    np.testing.assert_allclose(found["theta"], [(square @ square)[:2]] * 3, atol=1e-6)


def weights(folder, record, **data):
    """Those of a record's run, in its folder."""
    settings = record["settings"]
    network, buffer = laid_out(settings.network, settings.data.form)
    path = folder / folder_name(settings) / BEST
    path.parent.mkdir()
    state = {"settings": settings.apart_from_epochs(), "epoch": 1}
    checkpoint.save(path, buffer.views(buffer.data), state)
    return network


def test_recorded_runs_with_weights_are_drawn(tmp_path):
    """Of two seeds the first; runs without weights are left out, as are networks that only read."""
    chosen = [("r", "stn-c0", 1), ("r", "stn-c0", 2), ("t", "stn-c0", 0), ("t", "stn-c1", 0)]
    records = [read(of_placement(*each[:2], seed=each[2], source="digits")) for each in chosen]
    for record in records:
        weights(tmp_path, record)
    absent = read(of_placement("r", "stn-c0", source="digits"))
    found = measured([*records[::-1], absent], tmp_path)
    assert [(placement_poses.title(each), len(each["networks"])) for each in found] == [
        ("T", 2), ("R", 1),
    ]  # fmt: skip
    assert found[1]["networks"][0]["seed"] == 1
    drawn = placement_poses.figures(found)
    assert list(drawn) == ["placement-poses.png"]
    (figure,) = drawn.values()
    assert len(figure.axes) == 6 * 3 and figure.axes[0].get_title().startswith("R\n-")
    assert [axes.get_ylabel() for axes in figure.axes[::6]] == ["input", "STN-C0", "STN-C1"]
    shown = figure.axes[6].images[0].get_array()
    images, lies = posed(records[0]["settings"].data)
    np.testing.assert_array_equal(
        shown, placement_poses.warped(images, np.stack([THETA] * 3), (28, 28))[0]
    )
    turned = pose_of("R", lies, 28)[0, 0] - 30
    assert figure.axes[6].get_title() == f"{turned:+.0f} degrees"
    assert not figure.axes[12].images  # R has no STN-C1 here
    assert "Of a feature map (STN-C1)" in placement_poses.words(found)
    assert "poses.png" in placement_poses.section(found, "placement-poses.png")
    assert placement_poses.section(found, "plankton-poses.png") == ""


def test_weights_of_another_run_are_refused(tmp_path):
    record = read(of_placement("r", "stn-c0", source="digits"))
    assert measured([record], tmp_path) == []
    weights(tmp_path, record)
    other = record | {"settings": replaced(record["settings"], "seed", 3)}
    (tmp_path / folder_name(record["settings"])).rename(tmp_path / folder_name(other["settings"]))
    with pytest.raises(UserError, match=r"best\.safetensors is of another run$"):
        measured([other], tmp_path)
