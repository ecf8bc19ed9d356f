"""Pieces that figures are made of: images, outlines of attention, captions, files.

Colours are Okabe and Ito's, which colour-blind readers can tell apart. Nothing here touches pyplot,
so no display is needed.
"""

import pathlib
from io import BytesIO
from textwrap import fill

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from ministn.files import write_atomically

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
YELLOW, SKY = "#F0E442", "#56B4E9"
GREY, PALE = "#7F7F7F", "#D9D9D9"
DPI = 150

# By how many channels an image has: the colour of each. They add up to white.
CHANNELS = {2: np.array([[1.0, 0.55, 0.1], [0.0, 0.45, 0.9]]), 3: np.eye(3)}


def save(figure: Figure, path: pathlib.Path) -> None:
    """Write a PNG atomically; the same figure gives the same bytes.

    Raises UserError when the disk is full or not writable.
    """
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def show_image(axes: Axes, image: np.ndarray, margin: float = 0.0) -> None:
    """Show an image, 0..255, without ticks, with a margin as a share of its size.

    image: (H, W), or (H, W, C): two or three channels in colours that add up to white, more as
    their mean, in grey.
    """
    height, width, *channels = image.shape
    shown = in_colours(image) if channels else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xlim(-0.5 - margin * width, width - 0.5 + margin * width)
    axes.set_ylim(height - 0.5 + margin * height, -0.5 - margin * height)
    axes.set(xticks=[], yticks=[], facecolor=PALE)


def in_colours(image: np.ndarray) -> np.ndarray:
    """Channels (H, W, C), 0..255, as one picture: (H, W), 0..255, or (H, W, 3), 0..1.

    What is not finite is pale in both.
    """
    count = image.shape[2]
    if count not in CHANNELS:
        return image[..., 0] if count == 1 else image.mean(axis=2)
    mixed = np.nan_to_num(image.astype(np.float64), nan=255 * 0.85) @ CHANNELS[count] / 255
    return np.clip(mixed, 0, 1)


def draw_grid(
    axes: Axes,
    grid: np.ndarray,
    size: tuple[int, int],
    *,
    cells: int = 4,
    colour: str = YELLOW,
    style: str = "-",
    width: float = 1.8,
) -> None:
    """Draw a sampling grid T_theta(G) on the image that it samples, as bent as it is.

    grid: (h, w, 2), normalised pairs (x, y). size: the image's (H, W). Its outline is drawn as
    draw_outline does it, and thinner those of its own rows and columns that part it most evenly
    into ``cells`` each way. Neighbouring points are joined, also across a projective horizon.
    """
    points = in_pixels(grid, size)
    if np.isfinite(points).all():
        for lines in (points, points.swapaxes(0, 1)):
            places = np.linspace(0, len(lines) - 1, cells + 1).round().astype(int)
            for place in np.unique(places)[1:-1]:
                axes.plot(
                    *lines[place].T,
                    color=colour,
                    linestyle=style,
                    linewidth=0.4 * width,
                    scalex=False,
                    scaley=False,
                )
    draw_outline(axes, outline(grid, size), colour=colour, style=style, width=width)


def in_pixels(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Normalised points (..., 2) in pixels of an image of size (H, W), float64."""
    half = (np.array(size[::-1], np.float64) - 1) / 2
    return points * half + half


def outline(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The outer points (k, 2) of a grid (h, w, 2) in turn, in pixels; grid[0, 0] comes first."""
    points = in_pixels(grid, size)
    if points.shape[:2] == (1, 1):
        return points[0]
    turning = points[0, :-1], points[:-1, -1], points[-1, :0:-1], points[:0:-1, 0]
    return np.concatenate(turning)


def draw_outline(
    axes: Axes,
    points: np.ndarray,
    *,
    colour: str = YELLOW,
    style: str = "-",
    width: float = 1.8,
) -> None:
    """Join points (k, 2), in pixels, in turn; a dot marks the first, the output's top left.

    Where nothing of the outline can be seen, a word says why. The limits of the axes stay.
    """
    # A black edge: colours are to be seen on white as on black.
    contour = [effects.withStroke(linewidth=width + 1.6, foreground="black")]
    hidden = _hidden(points, axes)
    if hidden:
        axes.text(
            0.5,
            0.04 + 0.12 * len(axes.texts),  # above the words for others
            hidden,
            transform=axes.transAxes,
            color=colour,
            ha="center",
            va="bottom",
            path_effects=contour,
        )
        return
    axes.plot(
        *np.concatenate([points, points[:1]]).T,
        color=colour,
        linestyle=style,
        linewidth=width,
        path_effects=contour,
        solid_joinstyle="miter",
        scalex=False,
        scaley=False,
    )
    axes.plot(
        *points[0],
        "o",
        color=colour,
        markersize=3 * width,
        markeredgecolor="black",
        scalex=False,
        scaley=False,
    )


def draw_box(axes: Axes, box: np.ndarray) -> None:
    """Outline a digit's ink box [left, top, right, bottom], thin and dashed."""
    left, top, right, bottom = box
    corners = ([left, right, right, left, left], [top, top, bottom, bottom, top])
    axes.plot(*corners, color=SKY, linewidth=1.0, linestyle=(0, (3, 2)), scalex=False, scaley=False)


def _hidden(points: np.ndarray, axes: Axes) -> str:
    """Why no part of an outline lies in view; empty if one does."""
    if not np.isfinite(points).all():
        return "not finite"
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    view, line = Bbox([[left, bottom], [right, top]]), Path(np.concatenate([points, points[:1]]))
    if line.intersects_bbox(view, filled=False):
        return ""
    return "wider than shown" if line.intersects_bbox(view, filled=True) else "outside"


def draw_cross(axes: Axes, x: float, y: float) -> None:
    """Mark a collapse."""
    axes.plot(x, y, "x", color="black", markersize=8, markeredgewidth=1.6, clip_on=False, zorder=4)


def remark(axes: Axes, text: str, point: tuple[float, float], *, left: bool = False) -> None:
    """Small text beside a point, to its right or left."""
    axes.annotate(
        text,
        point,
        (-8 if left else 8, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        fontsize=8,
    )


LEAST = 0.05  # percent: smaller errors are drawn here, since an error of 0 has no logarithm


def plain_logarithm(axis: Axis) -> None:
    """Ticks at 1, 2, 5, 10, ... written as such."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def caption(figure: Figure, text: str) -> None:
    """Small text below the figure, wrapped to its width."""
    characters = int(15.5 * figure.get_figwidth())
    figure.supxlabel(fill(text, characters), x=0.01, ha="left", fontsize=8, color="#404040")
