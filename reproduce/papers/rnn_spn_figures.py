"""Figures of the RNN-SPN paper's runs: where glimpses look, overlap per epoch, error against d."""

from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ministn import plot
from ministn.models import FfnSpn, RnnSpn, SequenceCnn
from ministn.models.rnn_spn import FACTORS
from ministn.plot.drawing import BLUE, GREEN, PALE, VERMILION, caption, draw_cross, plain_logarithm
from ministn.plot.transformers import LOOKS, explanation, sampling_grid, sheet
from papers.claims import Record, Row, Table
from papers.rnn_spn import NAMES, PAPER, factor, label, on_paper_digits, tables, variant
from papers.rnn_spn_report import has_glimpses, title

MARKERS = {RnnSpn.kind: (GREEN, "^"), FfnSpn.kind: (VERMILION, "s"), SequenceCnn.kind: (BLUE, "o")}
STYLES = "-", "--", ":", "-."  # of seeds


def figures(records: list[Record]) -> dict[str, Figure]:
    """Those that compare runs, and the paper's Figure 3 of the best one."""
    found = {"rnn-spn-errors.png": errors_figure(records)}
    glimpsing = [record for record in records if has_glimpses(record)]
    if glimpsing:
        found["rnn-spn-overlap.png"] = overlap_figure(glimpsing)
        found["rnn-spn-glimpses.png"] = glimpses_figure(best_of(glimpsing))
    return found


def run_figures(record: Record) -> dict[str, Figure]:
    """The figures of one run."""
    if not record["epochs"] or factor(record) is None:
        return {}
    found = {"attention.png": plot.attention_figure(record, [label(record)], title([[record]]))}
    if has_glimpses(record):
        found |= {"overlap.png": overlap_figure([record]), "glimpses.png": glimpses_figure(record)}
    return found


def best_of(records: list[Record]) -> Record:
    """The run with the lowest test error, of those that have one."""
    return min(records, key=lambda r: r["best"]["test_error"] if r["best"] else float("inf"))


def glimpses_figure(record: Record, images: int = 3) -> Figure:
    """The paper's Figure 3: the image, where each glimpse looks, and the crops that are read."""
    examples = plot.Examples(record)
    last, word = examples.last
    view = examples.view(last, grid=sampling_grid)._replace(boxes=None, names=())
    figure = sheet([view], images)
    caption(
        figure,
        f"{label(record)}, seed {record['settings'].seed}, epoch {last}, {word}; test images. "
        f"{explanation(len(view.grids))} The crops are all that the classifier sees. "
        f"{title([[record]])}.",
    )
    return figure


def glimpses_gif(record: Record, path: Path) -> None:
    """The glimpses on the example images, a frame for each epoch."""
    plot.attention_gif(record, path, [label(record)])


def overlap_figure(records: list[Record]) -> Figure:
    """How well each glimpse covers its digit, per epoch; a panel for each network."""
    rows = [row for table in tables(records) for row in table]
    figure = Figure(figsize=(7.5, 2.5 * len(rows) + 1.2), layout="constrained")
    grid = figure.subplots(len(rows), 1, squeeze=False, sharey=True)[:, 0]
    for axes, row in zip(grid, rows, strict=True):
        for record, style in zip(row, STYLES, strict=False):
            epochs = [entry for entry in record["epochs"] if "glimpses" in entry]
            numbers = [entry["epoch"] for entry in epochs]
            for number, (colour, _, _) in enumerate(LOOKS[: len(epochs[0]["glimpses"])]):
                values = [entry["glimpses"][number]["overlap"] for entry in epochs]
                words = f"glimpse {number + 1}" if record is row[0] else None
                axes.plot(numbers, values, style, color=colour, marker=".", label=words)
            for collapse in record["collapses"]:
                if collapse["epoch"] in numbers:
                    draw_cross(axes, collapse["epoch"], 0.0)
        axes.set_title(label(row[0]), loc="left", fontsize=10)
        axes.set_ylabel("mean overlap (IoU)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=PALE)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    grid[0].set_ylim(bottom=0)
    grid[-1].set_xlabel("epoch")
    caption(
        figure,
        "Intersection over union of each glimpse's attended quadrilateral with the ink box of the "
        "digit that it reads, mean over the validation images; a line style for each seed. A "
        "black cross: in this epoch most of a batch's attention left the image. "
        + ". ".join(dict.fromkeys(title(table) for table in tables(records)))
        + ".",
    )
    return figure


def errors_figure(records: list[Record]) -> Figure:
    """Test error against d, ours and the paper's; a panel for each table."""
    groups = tables(records)
    figure = Figure(figsize=(7.0, 3.6 * len(groups) + 1.2), layout="constrained")
    grid = figure.subplots(len(groups), 1, squeeze=False, sharex=True)[:, 0]
    for axes, table in zip(grid, groups, strict=True):
        for kind, (colour, marker) in MARKERS.items():
            _ours(axes, table, kind, colour, marker)
            if on_paper_digits(table[0][0]):
                theirs = [PAPER[kind].get(d) or PAPER[kind][None] for d in FACTORS]
                axes.plot(FACTORS, theirs, marker, ls=":", color=colour, mfc="white")
        axes.set_yscale("log")
        plain_logarithm(axes.yaxis)
        axes.set_xticks(FACTORS)
        axes.set_ylabel("test error, percent (logarithmic)")
        axes.set_title(title(table).split(":")[0], loc="left", fontsize=10)
        axes.grid(color=PALE)
    grid[-1].set_xlabel("down-sampling factor d")
    marks = [
        Line2D([], [], color=colour, marker=marker, label=f"{NAMES[kind]}, ours")
        for kind, (colour, marker) in MARKERS.items()
    ]
    marks.append(Line2D([], [], color="black", linestyle=":", marker="o", mfc="white"))
    marks[-1].set_label("the paper's, in the same colour")
    figure.legend(handles=marks, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    caption(
        figure,
        "Errors of single digits at the epoch of lowest validation error: a mark for each seed, a "
        "line through the means; the convolutional network has no d. A cross: the attention of "
        "most of a batch left the image at some time. " + ". ".join(map(title, groups)) + ".",
    )
    return figure


def _ours(axes: Any, table: Table, kind: str, colour: str, marker: str) -> None:
    """A line through the means of each variant of a kind; a network without d stands at all."""
    means: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for row in (row for row in table if row[0]["settings"].network.kind == kind):
        errors, own = _errors(row), factor(row[0])
        for d in FACTORS if own is None else [own]:
            for error, collapsed in errors:
                axes.plot(d, error, marker, color=colour)
                if collapsed:
                    draw_cross(axes, d, error)
            if errors:
                mean = fmean(error for error, _ in errors)
                means.setdefault(tuple(variant(row[0])), []).append((d, mean))
    for points in means.values():
        axes.plot(*zip(*points, strict=True), color=colour)


def _errors(row: Row) -> list[tuple[float, bool]]:
    """(test error, whether the attention ever collapsed) of each run that has one; not below 0.01,
    since an error of 0 has no logarithm.
    """
    done = (record for record in row if record["best"])
    return [(max(r["best"]["test_error"], 0.01), bool(r["collapses"])) for r in done]
