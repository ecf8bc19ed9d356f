"""Figures of the placement paper's MNIST runs: errors beside the paper's, and its Figure 6."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ministn import plot
from ministn.data.sources import EMBEDDED
from ministn.plot.drawing import BLUE, VERMILION, caption
from papers import error_panels
from papers.claims import Record
from papers.placement import AT_INPUT, ERRORS, PROTOCOL, cell_of, label, tables
from papers.stn_runs import title

RANGE = 100  # degrees, each way


def figures(records: list[Record]) -> dict[str, Figure]:
    """Those that compare runs."""
    found = {"placement-errors.png": errors_figure(records)}
    turning = [row[0] for rows in tables(records) for row in rows if turns(row[0])]
    if turning:
        found["placement-turns.png"] = turns_figure(turning)
    return found


def run_figures(record: Record) -> dict[str, Figure]:
    """Those of one run: where a transformer of the image looks, and how theta turns."""
    found = {}
    if cell_of(record)[1] in AT_INPUT and record["epochs"]:
        found["attention.png"] = plot.attention_figure(record)
    return found | ({"turns.png": turns_figure([record])} if turns(record) else {})


def turns(record: Record) -> list[list[int]] | None:
    """The digit's angle and theta's, of some test images; None or nothing where there are none."""
    best: dict[str, Any] = record["best"] or {}
    return best.get("test_turns")


def errors_figure(records: list[Record]) -> Figure:
    """Test errors of each seed, ours and the paper's."""
    found = tables(records)
    return error_panels.errors_figure(
        found,
        name=lambda record: cell_of(record)[0],
        label=label,
        transforms=lambda record: cell_of(record)[1] != "cnn",
        published=published,
        words=". ".join(dict.fromkeys(title(t[0][0], PROTOCOL, "Our") for t in found)),
    )


def published(record: Record) -> float | None:
    """The paper's error, None on other digits."""
    name, model = cell_of(record)
    return None if record["settings"].data.source == EMBEDDED else ERRORS[name][model]


def turns_figure(records: list[Record]) -> Figure:
    """The paper's Figure 6: theta's angle against the digit's, one panel for each record."""
    figure = Figure(figsize=(2.3 * len(records) + 0.5, 3.4), layout="constrained")
    grid = figure.subplots(1, len(records), squeeze=False, sharey=True)
    for axes, record in zip(grid[0], records, strict=True):
        _draw_turns(axes, turns(record) or [], record["best"]["test_turn_slope"])
        axes.set_title(f"{label(record)}, seed {record['settings'].seed}", fontsize=9)
    grid[0, 0].set_ylabel("theta's angle, degrees")
    caption(
        figure,
        "Each point is a test image. Those of a transformer that undoes rotations lie along a line "
        "parallel to the dashed one. The other one is that of orthogonal regression.",
    )
    return figure


def _draw_turns(axes: Axes, points: list[list[int]], slope: float | None) -> None:
    applied, predicted = np.array(points, float).T
    axes.plot(applied, predicted, ".", color=BLUE, markersize=3)
    axes.axline((0, 0), slope=1, color="black", linestyle="--", linewidth=0.8)
    if slope is not None:
        middle = applied.mean(), predicted.mean()  # which the line of regression goes through
        axes.axline(middle, slope=slope, color=VERMILION, linewidth=1.2)
        axes.text(-RANGE + 5, RANGE - 15, f"slope {slope:.2f}", fontsize=8, color=VERMILION)
    axes.set(xlim=(-RANGE, RANGE), ylim=(-RANGE, RANGE), xlabel="the digit's angle", aspect="equal")
