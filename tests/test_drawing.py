"""Grids, outlines and images of several channels, as they are drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_plot_transformers import pixels

from ministn.plot.drawing import (
    CHANNELS,
    PURPLE,
    draw_grid,
    draw_outline,
    in_colours,
    outline,
    show_image,
)
from ministn.transformer.transforms import (
    PiecewiseAffine,
    Projective,
    ThinPlateSpline,
    regular_grid,
)

SIZE = (27, 25)


def points(lines):
    return [line.get_xydata() for line in lines]


def axes_with_image(size=SIZE):
    axes = Figure().subplots()
    show_image(axes, np.zeros(size), margin=0.1)
    return axes


# ---- a grid on its image


@pytest.mark.parametrize("kind", [Projective, ThinPlateSpline, PiecewiseAffine])
def test_the_lines_of_a_grid_are_its_rows_and_columns(kind):
    transform = kind()
    theta = np.random.default_rng(2).normal(0, 0.1, (1, len(transform.identity)))
    grid, _ = transform.forward(theta, (9, 13))
    axes = axes_with_image()
    limits = axes.get_xlim(), axes.get_ylim()
    draw_grid(axes, grid[0], SIZE)
    places = pixels(grid[0], SIZE)
    *inner, edge, corner = points(axes.lines)
    expected = [*places[[2, 4, 6]], *places[:, [3, 6, 9]].swapaxes(0, 1)]
    for got, want in zip(inner, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)
    # Round it: along the top, down on the right, back below, up on the left, closed.
    turning = [places[0], places[1:, -1], places[-1, -2::-1], places[-2::-1, 0]]
    np.testing.assert_allclose(edge, np.concatenate(turning), atol=1e-12)
    np.testing.assert_allclose(corner, places[:1, 0], atol=1e-12)
    assert (axes.get_xlim(), axes.get_ylim()) == limits


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1), (2, 2)])
def test_grids_too_small_for_lines_inside(size):
    axes = axes_with_image()
    grid = regular_grid(size, np.dtype(np.float64))
    draw_grid(axes, grid, SIZE)
    edge = outline(grid, SIZE)
    assert np.unique(edge, axis=0).shape == (size[0] * size[1], 2)
    np.testing.assert_array_equal(axes.lines[-1].get_xydata(), edge[:1])
    np.testing.assert_array_equal(axes.lines[-2].get_xydata(), [*edge, edge[0]])


SEEN = [[5, 5], [20, 6], [19, 20], [4, 19]]
OUTLINES = [
    (SEEN, ""),
    ([[9, 9]] * 4, ""),
    ([[-50, 10], [60, 10], [60, 12], [-50, 12]], ""),
    ([[40, 40], [60, 40], [60, 60], [40, 60]], "outside"),
    ([[-100, 80], [80, -100], [-100, -100]], "outside"),
    ([[-1e30, -1e30], [1e30, -1e30], [1e30, 1e30], [-1e30, 1e30]], "wider than shown"),
    ([[np.nan, 0], [1, 0], [1, 1], [0, 1]], "not finite"),
    ([[np.inf, 0], [1, 0], [1, 1], [0, 1]], "not finite"),
]


@pytest.mark.parametrize(("corners", "word"), OUTLINES)
def test_an_outline_is_drawn_or_said_to_be_out_of_view(corners, word):
    axes = axes_with_image()
    limits = axes.get_xlim(), axes.get_ylim()
    draw_outline(axes, np.array(corners, np.float64))
    assert [text.get_text() for text in axes.texts] == [word][: bool(word)]
    assert (axes.get_xlim(), axes.get_ylim()) == limits
    if not word:
        edge, corner = axes.lines
        assert edge.get_xydata().tolist() == [*np.array(corners, float).tolist(), corners[0]]
        assert corner.get_xydata().tolist() == [corners[0]]


def test_a_bent_grid_out_of_view_is_said_to_be():
    spline = ThinPlateSpline()
    for shift, word in ((5.0, "outside"), (np.nan, "not finite")):
        axes = axes_with_image()
        grid, _ = spline.forward(np.full((1, 32), shift), (9, 9))
        draw_grid(axes, grid[0], SIZE)
        draw_grid(axes, grid[0], SIZE, colour=PURPLE)
        assert [text.get_text() for text in axes.texts] == [word] * 2
        first, second = (text.get_position()[1] for text in axes.texts)
        assert second > first + 0.1  # not one word on the other


# ---- images of several channels


def test_channels_have_colours_that_add_up_to_white():
    image = np.zeros((2, 2, 2))
    image[0, 0] = 255
    image[0, 1, 0] = image[1, 0, 1] = 255
    shown = in_colours(image)
    np.testing.assert_allclose(shown[0, 0], 1)
    np.testing.assert_allclose([shown[0, 1], shown[1, 0]], CHANNELS[2])
    assert not shown[1, 1].any()


def test_other_numbers_of_channels():
    image = np.arange(40.0).reshape(2, 2, 10)
    np.testing.assert_array_equal(in_colours(image), image.mean(axis=2))
    np.testing.assert_array_equal(in_colours(image[..., :1]), image[..., 0])
    np.testing.assert_allclose(in_colours(image[..., :3]), image[..., :3] / 255)
    bad = np.full((1, 1, 2), np.nan)
    assert 0.8 < in_colours(bad).min() <= in_colours(bad).max() < 0.9
