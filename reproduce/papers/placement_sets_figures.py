"""Figures of the placement paper's SVHN and plankton runs: error against depth, attention."""

from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ministn import plot
from ministn.kinds import leaves
from ministn.models import Architecture, SvhnNetwork
from ministn.plot.drawing import (
    BLUE,
    GREEN,
    GREY,
    LEAST,
    PALE,
    VERMILION,
    caption,
    draw_cross,
    plain_logarithm,
)
from papers.claims import Record, Table
from papers.placement_sets import Study, name, on_paper_data, spoken, tables
from papers.placement_sets_report import pictures, title

MARKERS = {"C": (VERMILION, "s"), "DL": (BLUE, "o"), "SL": (GREEN, "^")}
SMALL = SvhnNetwork.head  # the localisation network that all others have
STYLES: dict[int, Any] = {1: "-", 2: "--", 3: ":"}  # by iterations

Point = tuple[float, list[tuple[float, bool]]]  # depth; errors, and whether attention collapsed
Line = tuple[str, int]  # how transformers are placed, and how often each looks


def figures(study: Study, records: list[Record]) -> dict[str, Figure]:
    """Those that compare runs."""
    return {file: depths_figure(study, records) for file in pictures(study, records)}


def run_figures(study: Study, record: Record) -> dict[str, Figure]:
    """The figures of one run: of transformers of feature maps there is none."""
    if not record["epochs"] or record["epochs"][0]["theta"] is None:
        return {}
    words = title(study, [[record]])
    return {"attention.png": plot.attention_figure(record, [spoken(name(record))], words)}


def depths_figure(study: Study, records: list[Record]) -> Figure:
    """Test error against the depth of the transformer; a panel for each table, and the paper's."""
    groups = tables(study, records)
    panels = [(title(study, table).split(":")[0] + ", ours", ours(table)) for table in groups]
    if any(on_paper_data(table[0][0]) for table in groups):
        panels.append(("paper", theirs(study)))
    figure = Figure(figsize=(7.0, 3.2 * len(panels) + 1.2), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (words, lines) in zip(grid, panels, strict=True):
        for (place, iterations), points in lines.items():
            _draw(axes, place, iterations, points)
        axes.set_yscale("log")
        plain_logarithm(axes.yaxis)
        axes.set_ylabel("test error, percent (log)")
        axes.set_title(words, loc="left", fontsize=10)
        axes.grid(color=PALE)
    grid[-1].set_xlabel("depth X, in blocks of convolutions")
    marks = [
        Line2D([], [], color=colour, marker=marker, label=f"STN-{place}X")
        for place, (colour, marker) in MARKERS.items()
    ]
    marks += [
        Line2D([], [], color=GREY, linestyle=style, label=f"{n} iteration{'s' * (n > 1)}")
        for n, style in STYLES.items()
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    caption(
        figure,
        "A mark for each seed, a line through the means; networks with a transformer at one depth "
        "only, and at X = 0 the three are one. Grey: the CNN without a transformer. A cross: the "
        "attention of most of a batch left the image at some time. "
        + ". ".join(title(study, table) for table in groups)
        + ".",
    )
    return figure


def ours(table: Table) -> dict[Line, list[Point]]:
    """Points of a table's lines."""
    found: dict[Line, list[Point]] = {}
    for row in table:
        done = [r for r in row if r["best"] and "tested" not in r]
        errors = [(max(r["best"]["test_error"], LEAST), bool(r["collapses"])) for r in done]
        if errors:
            _add(found, row[0]["settings"].network, errors)
    return found


def theirs(study: Study) -> dict[Line, list[Point]]:
    """The same of the paper's."""
    found: dict[Line, list[Point]] = {}
    for cell, network in study.networks.items():
        if cell in study.paper:
            _add(found, network, [(study.paper[cell], False)])
    return found


def _add(
    lines: dict[Line, list[Point]], network: Architecture, errors: list[tuple[float, bool]]
) -> None:
    """Note the errors at each place where the network's are drawn."""
    found = leaves(network)
    place, depths, small = found["place"], found["depths"], found.get("head", SMALL) == SMALL
    if place is None:
        lines["CNN", 1] = [(0, errors)]
    elif len(set(depths)) == 1 and small:
        # In front of the whole network all three are the same.
        for each in [place] if depths[0] else MARKERS:
            lines.setdefault((each, len(depths)), []).append((depths[0], errors))


def _draw(axes: Any, place: str, iterations: int, points: list[Point]) -> None:
    means = [(depth, fmean(error for error, _ in errors)) for depth, errors in sorted(points)]
    if place not in MARKERS:
        axes.axhline(means[0][1], color=GREY)
        return
    colour, marker = MARKERS[place]
    axes.plot(*zip(*means, strict=True), color=colour, linestyle=STYLES.get(iterations, "-."))
    for depth, errors in points:
        for error, collapsed in errors:
            face = colour if iterations == 1 else "white"
            axes.plot(depth, error, marker, color=colour, mfc=face)
            if collapsed:
                draw_cross(axes, depth, error)
