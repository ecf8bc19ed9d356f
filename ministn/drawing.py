"""Pieces that figures are made of: images, outlines of attention, captions, files.

Colours are Okabe and Ito's, which colour-blind readers can tell apart. Nothing here touches pyplot,
so no display is needed.
"""

from io import BytesIO
from pathlib import Path
from textwrap import fill

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from ministn.attention import inside, overlap
from ministn.files import write_atomically

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
YELLOW, SKY = "#F0E442", "#56B4E9"
GREY, PALE = "#7F7F7F", "#D9D9D9"
DPI = 150


def save(figure: Figure, path: Path) -> None:
    """Write a PNG atomically; the same figure gives the same bytes.

    Raises UserError when the disk is full or not writable.
    """
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def show_image(axes: Axes, image: np.ndarray, margin: float = 0.0) -> None:
    """Show a grey image (H, W), 0..255, without ticks, with a margin as a share of its size."""
    height, width = image.shape
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xlim(-0.5 - margin * width, width - 0.5 + margin * width)
    axes.set_ylim(height - 0.5 + margin * height, -0.5 - margin * height)
    axes.set(xticks=[], yticks=[], facecolor=PALE)


def draw_quadrilateral(
    axes: Axes, quad: np.ndarray, *, colour: str = YELLOW, width: float = 1.8
) -> None:
    """Outline an attended quadrilateral (4, 2), in pixels; a dot marks the output's top left.

    Where nothing of the outline can be seen, a word says why. The limits of the axes stay.
    """
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    view = np.array([[left, min(top, bottom), right, max(top, bottom)]])
    contour = [effects.withStroke(linewidth=width + 1.6, foreground="black")]
    hidden = _hidden(quad, view)
    if hidden:
        axes.text(
            0.5,
            0.04,
            hidden,
            transform=axes.transAxes,
            color=colour,
            ha="center",
            va="bottom",
            path_effects=contour,
        )
        return
    closed = np.concatenate([quad, quad[:1]])
    axes.plot(
        *closed.T,
        color=colour,
        linewidth=width,
        path_effects=contour,
        solid_joinstyle="miter",
        scalex=False,
        scaley=False,
    )
    axes.plot(
        *quad[0],
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


def _hidden(quad: np.ndarray, view: np.ndarray) -> str:
    """Why no part of an outline lies in the view (1, 4); empty if one does."""
    if not np.isfinite(quad).all():
        return "not finite"
    if inside(quad[None], view)[0]:
        return "wider than shown"
    corner_seen = ((quad >= view[0, :2]) & (quad <= view[0, 2:])).all(axis=1).any()
    return "" if corner_seen or overlap(quad[None], view)[0] > 0 else "outside"


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


def plain_logarithm(axis: Axis) -> None:
    """Ticks at 1, 2, 5, 10, ... written as such."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def caption(figure: Figure, text: str) -> None:
    """Small text below the figure, wrapped to its width."""
    characters = int(15.5 * figure.get_figwidth())
    figure.supxlabel(fill(text, characters), x=0.01, ha="left", fontsize=8, color="#404040")
