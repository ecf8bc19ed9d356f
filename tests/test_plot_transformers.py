"""Pictures of transformers: the lines are T_theta(G), the images what is passed on."""

import base64
import json
import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image
from synthetic import SIDE, record, recorded, written

from ministn.data import Form
from ministn.errors import UserError
from ministn.layers import Flatten, Sequential
from ministn.models import Stn
from ministn.parameter import ParameterBuffer
from ministn.plot import __main__ as command
from ministn.plot import attention_figure, attention_gif, draw_transformer, grid_figure
from ministn.plot.drawing import CHANNELS, PURPLE, YELLOW
from ministn.training.examples import from_text
from ministn.transformer import Parallel, SpatialTransformer, regression_layer
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import (
    AFFINE,
    General,
    Projective,
    ThinPlateSpline,
    Translation,
)


def pixels(grid, size):
    """Where -1 is pixel 0 and +1 the last one."""
    return (np.asarray(grid, np.float64) + 1) / 2 * (np.array(size[::-1]) - 1)


# ---- a transformer at work


def transformer(transform, bias, size=(12, 10), channels=1, number="", **options):
    """One that gives all images the same theta; of images (15, 17, channels)."""
    localisation = Sequential(
        Flatten(f"l{number}/flatten"),
        regression_layer(f"l{number}/theta", 15 * 17 * channels, transform),
    )
    result = SpatialTransformer(
        localisation, size, transform=transform, path=f"transformer{number}", **options
    )
    ParameterBuffer(result.parameters(), 0)
    localisation.layers[-1].bias.data[...] = bias
    return result


def images(channels=1):
    return np.random.default_rng(4).random((2, 15, 17, channels), np.float32)


def shown(figure):
    """The pixels of every panel, and the panels, row by row."""
    panels = sorted(
        (axes for axes in figure.axes if axes.images),
        key=lambda axes: (axes.get_subplotspec().rowspan.start, axes.get_subplotspec().colspan[0]),
    )
    return [np.asarray(axes.images[0].get_array()) for axes in panels], panels


@pytest.mark.parametrize("supersampling", [1, 2])
def test_a_transformer_is_drawn_with_input_grid_and_output(supersampling):
    rng = np.random.default_rng(8)
    one = transformer(
        ThinPlateSpline(), rng.normal(0, 0.1, 32), sampler=Sampler(supersampling=supersampling)
    )
    x = images() * 3 - 1  # features, not grey values
    figure = draw_transformer(one, x)
    pictures, panels = shown(figure)
    assert len(panels) == 6
    y, _ = one.forward(x)
    scale = 255 / (x.max() - x.min())
    for row in (0, 1):
        source, on_it, output = pictures[3 * row : 3 * row + 3]
        np.testing.assert_allclose(source, (x[row, ..., 0] - x.min()) * scale, rtol=1e-5)
        np.testing.assert_array_equal(on_it, source)
        np.testing.assert_allclose(output, (y[row, ..., 0] - x.min()) * scale, rtol=1e-5)
        theta = one.theta(x)
        grid, _ = one.transform.forward(theta, (12 * supersampling, 10 * supersampling))
        edge = pixels(grid[row], (15, 17))
        drawn = panels[3 * row + 1].lines
        assert len(drawn) == 3 + 3 + 2
        np.testing.assert_allclose(drawn[-2].get_xydata()[:10], edge[0, :10], atol=1e-4)
        assert not panels[3 * row].lines and not panels[3 * row + 2].lines
    assert [axes.get_title().split("\n")[-1] for axes in panels[:3]] == ["input", "grid", "warped"]


def test_transformers_in_parallel_have_their_own_colours_and_outputs():
    one = transformer(AFFINE, [0.5, 0, -0.2, 0, 0.5, 0.1], channels=2, number=1)
    two = transformer(Translation(), [0.3, 0.4], channels=2, number=2)
    x = images(2)
    pictures, panels = shown(draw_transformer(Parallel(one, two), x))
    assert len(panels) == 8
    assert [picture.shape for picture in pictures[:4]] == [(15, 17, 3)] * 2 + [(12, 10, 3)] * 2
    first, second = panels[1].lines[0], panels[1].lines[2]
    assert (first.get_color(), first.get_linestyle()) == (YELLOW, "-")
    assert (second.get_color(), second.get_linestyle()) == (PURPLE, "--")
    # By equation (1): the top left of the output.
    np.testing.assert_allclose(first.get_xydata()[0], pixels([-0.7, -0.4], (15, 17)), atol=1e-5)
    np.testing.assert_allclose(second.get_xydata()[0], pixels([-0.7, -0.6], (15, 17)), atol=1e-5)
    for axes, colour in zip(panels[2:4], (YELLOW, PURPLE), strict=True):
        assert axes.spines["left"].get_edgecolor()[:3] == to_rgb(colour)
    low, high = x.min(), x.max()
    grey = (two.forward(x)[0][0] - low) / (high - low)
    np.testing.assert_allclose(pictures[3], np.clip(grey @ CHANNELS[2], 0, 1), rtol=1e-4)


def test_a_learned_basis_and_one_channel_of_one_value():
    general = General("basis", ThinPlateSpline(), (12, 10))
    figure = draw_transformer(
        transformer(general, np.zeros(32)), np.ones((1, 15, 17, 1), np.float32)
    )
    pictures, panels = shown(figure)
    assert len(panels) == 3 and not pictures[0].any() and not pictures[2].any()


def test_of_many_channels_the_mean_is_shown_from_black_to_white():
    x = images(6)
    pictures, _ = shown(draw_transformer(transformer(AFFINE, AFFINE.identity, channels=6), x))
    mean = x.mean(axis=3)
    expected = 255 * (mean[0] - mean.min()) / (mean.max() - mean.min())
    np.testing.assert_allclose(pictures[0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.zeros((2, 15, 17), np.float32), ValueError),
        (np.zeros((0, 15, 17, 1), np.float32), ValueError),
        (np.zeros((2, 15, 17, 1), np.uint8), TypeError),
    ],
)
def test_what_is_no_image(x, error):
    with pytest.raises(error, match="images must"):
        draw_transformer(transformer(AFFINE, AFFINE.identity), x)


# ---- from a record alone


def front(network):
    return network.build(Form((SIDE, SIDE))).front


def example_images(run):
    found = run["examples"]
    decoded = np.frombuffer(base64.b64decode(found["images"]), np.uint8)
    return decoded.reshape(found["shape"]).astype(np.float32)


def test_the_attention_figure_bends():
    run = recorded("e-st-cnn-tps")
    pictures, panels = shown(attention_figure(run))
    assert len(panels) == 36
    theta = np.array(run["epochs"][-1]["theta"], np.float32)
    grid, _ = ThinPlateSpline().forward(theta, (SIDE, SIDE))
    warped = front(Stn("cnn", "tps")).warp(example_images(run)[..., None], theta)
    for row in range(6):
        edge = panels[6 * row + 4].lines[-2].get_xydata()
        np.testing.assert_allclose(edge[:SIDE], pixels(grid[row, 0], (SIDE, SIDE)), atol=1e-4)
        np.testing.assert_allclose(pictures[6 * row + 5], warped[row, ..., 0], rtol=1e-6)
        start = panels[6 * row].lines[-2].get_xydata()
        np.testing.assert_allclose(start[0], [0, 0], atol=1e-5)
        np.testing.assert_allclose(start[SIDE - 1], [SIDE - 1, 0], atol=1e-5)


def test_each_transformer_gets_its_part_of_theta():
    run = recorded("addition-2st-fcn-projective", channels=2)
    pictures, panels = shown(attention_figure(run))
    assert len(panels) == 54
    theta = np.array(run["epochs"][-1]["theta"], np.float32)
    both = front(Stn("fcn", "projective", 2, "sampled")).transformers
    for number in (0, 1):
        own = np.ascontiguousarray(theta[:, 8 * number : 8 * number + 8])
        size = both[number].size
        grid, _ = Projective().forward(own, size)
        edge = panels[6].lines[2 + 2 * number].get_xydata()  # after the two boxes
        np.testing.assert_allclose(edge[: size[1]], pixels(grid[0, 0], (SIDE, SIDE)), atol=1e-4)
        warped = both[number].warp(example_images(run), own)[0] / 255
        expected = np.clip(warped @ CHANNELS[2], 0, 1)
        np.testing.assert_allclose(pictures[7 + number], expected, atol=1e-6)


def test_the_grid_figure_has_a_group_for_each_run_and_shows_the_best():
    runs = [recorded("r-st-cnn-affine"), recorded("e-st-cnn-tps")]
    runs[1]["best"] = runs[1]["best"] | {"epoch": 2}
    pictures, panels = shown(grid_figure(runs, count=2))
    assert len(panels) == 12
    assert [axes.get_title().split("\n")[0] for axes in panels[1:6:3]] == [
        "st-cnn-affine, r",
        "st-cnn-tps, e",
    ]
    for number, (run, epoch) in enumerate(zip(runs, (4, 2), strict=True)):
        theta = np.array(run["epochs"][epoch - 1]["theta"], np.float32)
        warped = front(run["settings"].network).warp(example_images(run)[..., None], theta)
        np.testing.assert_allclose(pictures[3 * number + 2], warped[0, ..., 0], rtol=1e-6)
        assert len(panels[3 * number + 1].lines) == 8


def test_of_volumes_the_recorded_projections_are_drawn():
    """With the grid's mean along the depth, which is theta without its z."""
    run = recorded("projection-st-cnn")
    pictures, panels = shown(attention_figure(run))
    assert len(panels) == 36
    theta = np.array(run["epochs"][-1]["theta"], np.float32).reshape(6, 3, 4)
    seen = np.ascontiguousarray(theta[:, :2, [0, 1, 3]]).reshape(6, 6)
    grid, _ = AFFINE.forward(seen, (24, 24))
    for row in range(6):
        np.testing.assert_array_equal(pictures[6 * row + 4], example_images(run)[row])
        for column, entry in [(1, run["examples"]), (3, run["epochs"][1]), (5, run["epochs"][3])]:
            expected = from_text(entry["projections"])[row]
            np.testing.assert_array_equal(pictures[6 * row + column], expected)
        edge = panels[6 * row + 4].lines[-2].get_xydata()
        np.testing.assert_allclose(edge[:24], pixels(grid[row, 0], (SIDE, SIDE)), atol=1e-4)
    for figure in (attention_figure(run), grid_figure([run, recorded("e-st-cnn-tps")])):
        words = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
        assert words.count("the mean along the depth is shown.") == 1
    pictures, _ = shown(grid_figure([run]))
    np.testing.assert_array_equal(pictures[5], from_text(run["epochs"][3]["projections"])[1])


def test_what_a_run_by_iterations_is_called():
    run = recorded("e-st-cnn-tps")
    for figure in (attention_figure(run), grid_figure([run])):
        words = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
        assert "learning rate 0.01" in words and "800 iterations of batch 256" in words
        assert "Set e, 50,000 images an epoch" in words and "None" not in words
    titles = [axes.get_title() for axes in attention_figure(run).axes]
    assert "epoch 4, last\ninput" in titles


def test_theta_that_is_not_finite_can_be_drawn(tmp_path):
    run = recorded("addition-2st-fcn-tps", channels=2, epochs=2)
    run["epochs"][-1]["theta"] = np.full((6, 64), np.nan).tolist()
    figure = attention_figure(run)
    assert sum(text.get_text() == "not finite" for axes in figure.axes for text in axes.texts) == 12
    attention_gif(run, tmp_path / "nan.gif")


def test_theta_of_another_network_is_one_line():
    run = recorded("e-st-cnn-tps") | {"epochs": recorded("r-st-cnn-affine")["epochs"]}
    with pytest.raises(UserError, match=r"epoch 2 .* has 6 numbers .* st-cnn-tps has 32") as told:
        attention_figure(run)
    assert "\n" not in str(told.value)


# ---- the GIF


def frames(path):
    with Image.open(path) as gif:
        result = []
        for number in range(gif.n_frames):
            gif.seek(number)
            result.append(np.asarray(gif.convert("RGB")))
        return result


def test_a_gif_has_a_frame_for_every_epoch_and_begins_at_the_identity(tmp_path):
    run = recorded("e-st-cnn-tps", epochs=5)
    run["epochs"][0]["theta"] = np.zeros((6, 32)).tolist()
    attention_gif(run, tmp_path / "a.gif")
    found = frames(tmp_path / "a.gif")
    assert len(found) == 6
    below = [frame[30:] for frame in found]  # the number of the epoch is above
    np.testing.assert_array_equal(below[0], below[1])
    for before, after in pairwise(found):
        assert (before != after).any()
    assert all((one != below[0]).mean() > 0.01 for one in below[2:])
    # White stays white, and a yellow line is on the first frame.
    assert (found[0][-1, -1] == 255).all()
    red, green, blue = found[0].reshape(-1, 3).T.astype(int)
    assert ((red > 200) & (green > 200) & (blue < 120)).sum() > 500


def test_the_same_record_gives_the_same_gif(tmp_path):
    for name in ("a.gif", "b.gif"):
        attention_gif(record("small-stn", epochs=2), tmp_path / name)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "b.gif"]


def test_a_gif_of_fifteen_epochs_is_small(tmp_path):
    attention_gif(recorded("e-st-cnn-tps", epochs=15), tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size < 1e6


def test_a_gif_of_one_epoch_and_of_two_transformers(tmp_path):
    attention_gif(recorded("addition-2st-fcn-affine", channels=2, epochs=1), tmp_path / "a.gif")
    found = frames(tmp_path / "a.gif")
    assert len(found) == 2 and found[0].shape[0] > 400


# ---- the command


def test_the_command_writes_what_is_asked_for(tmp_path, capsys):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(written("small-stn", epochs=2)))
    gif, png = tmp_path / "out.gif", tmp_path / "out.png"
    assert command.main([str(path), "--gif", str(gif), "--figure", str(png)]) == 0
    assert capsys.readouterr().out == f"wrote {gif}\nwrote {png}\n"
    assert len(frames(gif)) == 3 and png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("run", "flags", "message"),
    [
        (written("small-stn", epochs=1), [], "name a file with --gif"),
        (written("arch1-cnn", epochs=1), ["--gif", "x.gif"], "has no transformer"),
        (written("small-stn", epochs=1, done=0), ["--figure", "x.png"], "no epoch yet"),
        (written("small-stn", epochs=1), ["--gif", "missing/x.gif"], "cannot save missing/x.gif"),
        ({"format": 1}, ["--gif", "x.gif"], "is not a record"),
    ],
)
def test_errors_of_the_command_are_one_line(run, flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "record.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match=message) as told:
        command.main(["record.json", *flags])
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_nothing_is_said_while_drawing(recwarn):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run = recorded("e-st-cnn-tps")
        run["epochs"][-1]["theta"] = np.full((6, 32), 1e30).tolist()
        attention_figure(run).draw_without_rendering()
    assert [str(w.message) for w in recwarn] == []
