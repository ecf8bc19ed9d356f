"""Figures of Table 3's runs: errors of every seed, curves over epochs, attention."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ministn.plot  # noqa: F401  (before Matplotlib, whose backend is of no use here)

# isort: split
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ministn import plot
from ministn.errors import UserError
from ministn.metrics.attention import IDENTITY, overlap, quadrilateral
from ministn.models import Alternating, ClassificationCnn, SmallStn, Trstn, Tstn, UntiedStn
from ministn.plot.drawing import (
    BLUE,
    GREEN,
    GREY,
    PALE,
    PURPLE,
    VERMILION,
    caption,
    draw_cross,
    plain_logarithm,
    remark,
)
from papers.claims import Record, Row, Table
from papers.tstn import TABLE3, attends, is_control, label, on_paper_data, paper_interval, tables
from papers.tstn_report import RATES, RECIPE_EPOCH, RECIPE_ERROR, data_line, title

# By kinds of networks.
LOOKS = {
    ClassificationCnn.kind: (BLUE, "o"),
    UntiedStn.kind: (VERMILION, "s"),
    Tstn.kind: (GREEN, "^"),
    SmallStn.kind: (PURPLE, "D"),
    Trstn.kind: (GREEN, "v"),
    Alternating.kind: (BLUE, "P"),
}

FLOOR = 0.01  # percent: smaller errors are drawn here, since an error of 0 has no logarithm


def drawable(records: list[Record]) -> list[Table]:
    if not records:
        raise UserError("there are no records to draw: run reproduce/table3.py first")
    return tables(records)


def full_name(record: Record) -> str:
    """The network, and in a second line what deviates from the paper's protocol."""
    network, *deviations = label(record)
    return "\n".join(filter(None, [network, ", ".join(deviations)]))


def colour_and_marker(record: Record) -> tuple[str, str]:
    return LOOKS.get(record["settings"].network.kind, (GREY, "v"))


def settings_line(groups: list[Table]) -> str:
    return ". ".join([*dict.fromkeys(data_line(table[0][0]) for table in groups), RATES])


LINES = ("-", "--", ":", "-.")  # by setting: the paper's first

COLLAPSE = (
    "A black cross: in this epoch the attention of more than half of a training batch left the "
    "image. "
)


def attention_figure(record: Record) -> Figure:
    """plot.attention_figure, in the paper's words."""
    return plot.attention_figure(
        record, label(record), f"{title([[record]])}. {settings_line([[[record]]])}"
    )


def look_figure(record: Record, images: int = 5) -> Figure:
    """Small: the first test images with the attended quadrilateral, and what is passed on."""
    examples = plot.Examples(record)
    view = examples.view(examples.last[0])
    figure = Figure(figsize=(1.6 * images, 3.2), layout="compressed")
    for row, (above, below) in enumerate(figure.subplots(2, images).T):
        view.show_grids(above, row)
        view.show_warped(0, below, row)
    return figure


def attention_gif(record: Record, path: Path) -> None:
    """plot.attention_gif, in the paper's words."""
    plot.attention_gif(record, path, label(record))


def overlap_figure(records: list[Record]) -> Figure:
    """How well the attended quadrilateral covers the digit, per epoch, tied against untied.

    Raises UserError when no record has a transformer.
    """
    attending = [record for record in records if attends(record)]
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
    axes.set_xlim(0, 1.02 * max(row[0]["settings"].training.epochs for row in rows))
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


def seeds_figure(records: list[Record]) -> Figure:
    """Test error: one dot per seed, beside the paper's figure with its 95 % binomial interval."""
    groups = drawable(records)
    heights = [len(table) + 1.2 for table in groups]
    lowest = min([1.25, *(r["best"]["test_error"] for r in records if r["best"])])
    figure = Figure(figsize=(9.0, 0.48 * sum(heights) + 1.8), layout="constrained")
    panels = figure.subplots(len(groups), 1, height_ratios=heights, squeeze=False, sharex=True)
    for axes, table in zip(panels[:, 0], groups, strict=True):
        for place, row in enumerate(table):
            _seed_dots(axes, row, place)
            if on_paper_data(table) and not is_control(row[0]):
                _reference(axes, row[0]["settings"].network.name, place)
        axes.set_yticks(range(len(table)), [full_name(row[0]) for row in table])
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.set_title(title(table), loc="left", fontsize=10)
        axes.set_xscale("log")
        axes.set_xlim(0.8 * max(lowest, FLOOR), 100)
        plain_logarithm(axes.xaxis)
        axes.grid(axis="x", color=PALE)
        axes.set_axisbelow(True)
    panels[-1, 0].set_xlabel("test error at the best epoch, percent (logarithmic)")
    marks = [
        Line2D([], [], marker="o", color=GREY, linestyle="", label="ours, one seed"),
        Line2D([], [], marker="x", color="black", linestyle="", label="whose attention collapsed"),
    ]
    words = "One coloured mark per seed, seeds from top to bottom. A cross: the attention of most "
    words += "of a batch left the image at some time. "
    if any(on_paper_data(table) for table in groups):
        marks.append(Line2D([], [], marker="d", color="black", label="paper, 95 % interval"))
        words += "Black: Table 3 of the paper with binomial intervals on 10,000 images. "
    if any(r["settings"].network == SmallStn() for r in records):
        recipe = Line2D([], [], marker="d", color="black", mfc="white", linestyle="")
        recipe.set_label(f"the Recipe: about {RECIPE_ERROR} % at epoch {RECIPE_EPOCH}")
        marks.append(recipe)
    figure.legend(handles=marks, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    caption(figure, words + settings_line(groups))
    return figure


def _seed_dots(axes: Axes, row: Row, place: int) -> None:
    """One mark per seed; what went wrong is written once for all seeds it happened to."""
    colour, marker = colour_and_marker(row[0])
    offsets = np.linspace(-0.22, 0.22, len(row)) if len(row) > 1 else [0.0]
    remarks: dict[str, list[tuple[float, float, int]]] = {}
    for record, offset in zip(row, offsets, strict=True):
        error = max(record["best"]["test_error"], FLOOR) if record["best"] else 100.0
        axes.plot(error, place + offset, marker, color=colour, clip_on=False)
        if record["collapses"]:
            draw_cross(axes, error, place + offset)
        point = (error, place + offset, record["settings"].seed)
        remarks.setdefault(_what_happened(record), []).append(point)
    remarks.pop("", None)
    for words, points in remarks.items():
        errors, heights, seeds = zip(*points, strict=True)
        text = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}: {words}"
        left = min(errors) > 30  # write into the axes, not out of them
        error = min(errors) if left else max(errors)
        remark(axes, text, (error, float(np.mean(heights))), left=left)


def _what_happened(record: Record) -> str:
    words = []
    if record["collapses"]:
        words.append("collapsed" + (", came back" if record["collapses"][-1]["end"] else ""))
    if record["status"] != "finished":
        words.append("unfinished" if record["status"] == "running" else record["status"])
    return ", ".join(words)


def _reference(axes: Axes, network: str, place: int) -> None:
    published = paper_interval(network)
    if published:
        test, low, high = published
        axes.errorbar(
            test, place, xerr=[[test - low], [high - test]], fmt="d", color="black", capsize=3
        )
    elif network == "small-stn":
        axes.plot(RECIPE_ERROR, place, "d", color="black", markerfacecolor="white")
    elif network in TABLE3:
        remark(axes, "paper: did not converge", (1.0, place - 0.3))
