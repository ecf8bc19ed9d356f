"""Curves over epochs: overlap, learning curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ministn.claims import Record, Row, is_cnn, label
from ministn.errors import UserError
from ministn.metrics.attention import IDENTITY, overlap, quadrilateral
from ministn.plot.drawing import GREY, PALE, caption, draw_cross, plain_logarithm, remark
from ministn.plot.shared import FLOOR, colour_and_marker, drawable, full_name, settings_line
from ministn.report import title

LINES = ("-", "--", ":", "-.")  # by setting: the paper's first

COLLAPSE = (
    "A black cross: in this epoch the attention of more than half of a training batch left the "
    "image. "
)


def overlap_figure(records: list[Record]) -> Figure:
    """How well the attended quadrilateral covers the digit, per epoch, tied against untied.

    Raises UserError when no record has a transformer.
    """
    attending = [record for record in records if not is_cnn(record)]
    if records and not attending:
        raise UserError("no attention to draw: none of these networks has a transformer")
    panels = _panels(attending)
    figure = Figure(figsize=(9.0, 3.0 * len(panels) + 1.2), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, sharey=True)
    for axes, (name, rows) in zip(grid[:, 0], panels, strict=True):
        curves(axes, rows, "overlap")
        axes.axhline(
            _identity_overlap(rows[0][0]), color=GREY, linewidth=1.0, linestyle=(0, (1, 3))
        )
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_ylabel("mean overlap (IoU)")
        identity = Line2D([], [], color=GREY, linestyle=(0, (1, 3)), label="identity")
        _legend(axes, rows, [identity])
    grid[0, 0].set_ylim(bottom=0)  # shared, and only now do all panels have their lines
    grid[-1, 0].set_xlabel("epoch")
    caption(
        figure,
        "Intersection over union of the attended quadrilateral with the box of the digit's ink, "
        "mean over the validation images; one line per seed. Dotted, grey: that of the whole "
        "image, as at the start, over the six recorded test images. "
        + COLLAPSE
        + settings_line(drawable(attending)),
    )
    return figure


def _identity_overlap(record: Record) -> float:
    examples = record["examples"]
    boxes = np.array(examples["boxes"])
    quads = quadrilateral(np.tile(IDENTITY, (len(boxes), 1, 1)), examples["shape"][1:])
    return float(overlap(quads, boxes).mean())


def learning_curves(records: list[Record]) -> Figure:
    """Training and validation error per epoch, one line per seed."""
    panels = _panels(records)
    figure = Figure(figsize=(10.5, 3.0 * len(panels) + 1.2), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, sharey="row")
    for line, (name, rows) in zip(grid, panels, strict=True):
        for axes, kind, words in zip(
            line,
            ("train_error", "valid_error"),
            ("training error", "validation error"),
            strict=True,
        ):
            curves(axes, rows, kind)
            axes.set_yscale("log")
            plain_logarithm(axes.yaxis)
            axes.set_title(
                f"{name}\n{words}" if axes is line[0] else words, loc="left", fontsize=10
            )
        line[0].set_ylabel("percent (logarithmic)")
        _legend(line[1], rows)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    caption(
        figure,
        "Training error: the running error of the epoch, in training mode with dropout. One line "
        f"per seed; errors below {FLOOR} % are drawn there. "
        + COLLAPSE
        + settings_line(drawable(records)),
    )
    return figure


def curves(axes: Axes, rows: list[Row], kind: str) -> None:
    """One line per run of an entry of its epochs; errors on a logarithmic axis from FLOOR."""
    for row, look in zip(rows, _line_looks(rows), strict=True):
        for record in row:
            epochs = [entry["epoch"] for entry in record["epochs"]]
            values = [entry[kind] for entry in record["epochs"]]
            if kind.endswith("error"):
                values = [max(value, FLOOR) for value in values]
            every = max(1, len(epochs) // 8)
            axes.plot(epochs, values, **look, markevery=every, markersize=5, linewidth=1.3)
            for collapse in record["collapses"]:
                if collapse["epoch"] <= len(values):
                    draw_cross(axes, collapse["epoch"], values[collapse["epoch"] - 1])
            if record["status"] != "finished" and values:
                remark(axes, record["status"], (epochs[-1], values[-1]))
    axes.set_xlim(0, 1.02 * max(row[0]["settings"]["epochs"] for row in rows))
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _line_looks(rows: list[Row]) -> list[dict[str, Any]]:
    """Colour and marker by network, line style and filling by setting."""
    settings = sorted({tuple(label(row[0])[1:]) for row in rows}, key=lambda s: (len(s), s))
    looks = []
    for row in rows:
        colour, marker = colour_and_marker(row[0])
        number = settings.index(tuple(label(row[0])[1:]))
        looks.append(
            {
                "color": colour,
                "marker": marker,
                "linestyle": LINES[number % len(LINES)],
                "markerfacecolor": "white" if number else colour,
            }
        )
    return looks


def _legend(axes: Axes, rows: list[Row], more: Sequence[Line2D] = ()) -> None:
    handles = [
        Line2D([], [], label=full_name(row[0]), **look)
        for row, look in zip(rows, _line_looks(rows), strict=True)
    ]
    if any(record["collapses"] for row in rows for record in row):
        handles.append(Line2D([], [], marker="x", color="black", linestyle="", label="collapse"))
    axes.legend(
        handles=[*handles, *more],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        fontsize=9,
        frameon=False,
        handlelength=3.5,
    )


def _panels(records: list[Record]) -> list[tuple[str, list[Row]]]:
    """(name, rows) of each architecture of each table."""
    panels: dict[tuple[int, str], tuple[str, list[Row]]] = {}
    for number, table in enumerate(drawable(records)):
        for row in table:
            name = label(row[0])[0]
            architecture = " ".join(name.split()[:2]) if name.startswith("Arch") else name
            heading = f"{architecture}. {title(table)}"
            panels.setdefault((number, architecture), (heading, []))[1].append(row)
    return list(panels.values())
