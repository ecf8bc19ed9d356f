"""One dot per seed."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ministn.claims import TABLE3, Record, Row, on_paper_data, paper_interval
from ministn.plot.drawing import GREY, PALE, caption, draw_cross, plain_logarithm, remark
from ministn.plot.shared import FLOOR, colour_and_marker, drawable, full_name, settings_line
from ministn.report import RECIPE_EPOCH, RECIPE_ERROR, title


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
            if on_paper_data(table):
                _reference(axes, row[0]["settings"]["network"], place)
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
    if any(r["settings"]["network"] == "small-stn" for r in records):
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
        point = (error, place + offset, record["settings"]["seed"])
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
