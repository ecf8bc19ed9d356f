"""A figure of test errors, ours and a paper's: a panel for each set of each table."""

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ministn.plot.drawing import (
    BLUE,
    LEAST,
    PALE,
    VERMILION,
    caption,
    draw_cross,
    plain_logarithm,
)
from papers.claims import Record, Row, Table


def errors_figure(
    tables: Sequence[Table],
    name: Callable[[Record], str],
    label: Callable[[Record], str],
    transforms: Callable[[Record], bool],
    published: Callable[[Record], float | None],
    words: str,
) -> Figure:
    """Each seed is a point. name: of a record's set. label: of its row. transforms: whether it has
    a transformer. published: the paper's error, if it has one. words: what the tables were made by.
    """
    panels: list[list[Row]] = []
    for table in tables:
        for each in dict.fromkeys(name(row[0]) for row in table):
            panels.append([row for row in table if name(row[0]) == each])
    heights = [len(rows) + 1.2 for rows in panels]
    figure = Figure(figsize=(8.0, 0.36 * sum(heights) + 1.6), layout="constrained")
    grid = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False, sharex=True)
    for axes, rows in zip(grid[:, 0], panels, strict=True):
        for place, row in enumerate(rows):
            colour = VERMILION if transforms(row[0]) else BLUE
            for record in row:
                if record["best"]:
                    error = max(record["best"]["test_error"], LEAST)
                    axes.plot(error, place, "o", color=colour)
                    if record["collapses"]:
                        draw_cross(axes, error, place)
            theirs = published(row[0])
            if theirs is not None:
                axes.plot(theirs, place, "d", color="black", mfc="white")
        axes.set_yticks(range(len(rows)), [label(row[0]) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xscale("log")
        plain_logarithm(axes.xaxis)
        axes.grid(axis="x", color=PALE)
        axes.set_axisbelow(True)
    grid[-1, 0].set_xlabel("test error, percent (logarithmic)")
    marks = [
        Line2D([], [], marker="o", color=BLUE, linestyle="", label="ours, one seed"),
        Line2D([], [], marker="o", color=VERMILION, linestyle="", label="with transformer"),
        Line2D([], [], marker="d", color="black", mfc="white", linestyle="", label="paper"),
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    caption(figure, f"{words}. A cross: the attention of most of a batch left the image.")
    return figure
