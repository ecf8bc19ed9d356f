"""The figure of ``benchmark.py --cpu``, from its record alone."""

from typing import Any

import ministn.plot  # noqa: F401  (before Matplotlib, whose backend is of no use here)

# isort: split
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from benchmarks.record import Row, rows
from ministn.plot.drawing import BLUE, GREEN, GREY, PALE, PURPLE, VERMILION, caption

# By the last part of a name: a batch size, or the way through a convolution.
LOOKS: dict[str, dict[str, Any]] = {
    "64": {"color": BLUE, "marker": "o"},
    "256": {"color": VERMILION, "marker": "s"},
    "32": {"color": GREEN, "marker": "P"},
    "200": {"color": PURPLE, "marker": "X"},
    "forward": {"color": GREEN, "marker": "^"},
    "backward": {"color": PURPLE, "marker": "v"},
}
OTHER: dict[str, Any] = {"color": GREY, "marker": "D"}
SIDES: dict[str, dict[str, Any]] = {
    "ours": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "torch": {"color": GREY, "marker": "s", "linestyle": "--"},
}


def figure(record: Row) -> Figure:
    """Ratios to PyTorch eager above, growth below. What was not measured is left empty."""
    page = Figure(figsize=(13.0, 8.4), layout="constrained")
    (steps, memory, blocks), (batch, side, workers) = page.subplots(2, 3)
    _ratios(steps, record, "step/", "Time of a training step")
    _ratios(memory, record, "memory/", "Memory of training")
    _ratios(blocks, record, "convolution/", "Time of convolution blocks", first=True)
    batch.set_xscale("log")
    _growth(batch, record, "growth/batch/", "per_image", 1e3)
    batch.set(title="Growing batch", xlabel="images in the batch", ylabel="ms per image")
    _growth(side, record, "growth/side/", "per_pixel", 1e9)
    side.set(title="Growing images", xlabel="height and width, pixels", ylabel="ns per pixel")
    _growth(workers, record, "growth/workers/", None, 1e3)
    workers.set(title="More cores", xlabel="our workers, PyTorch's threads", ylabel="ms per step")
    caption(page, _words(record))
    return page


def _ratios(axes: Axes, record: Row, prefix: str, title: str, first: bool = False) -> None:
    """Ours over PyTorch's, a line for each thing, or only for the ``first`` part of its name, and a
    look of the marks for each last part.
    """
    places: dict[str, int] = {}
    looks = {}
    for name, row in rows(record, prefix):
        thing, _, kind = name.rpartition("/")
        thing = thing.split("/")[0] if first else thing
        looks[kind] = LOOKS.get(kind, OTHER)
        place = places.setdefault(thing, len(places))
        axes.plot(row["ratio"], place, linestyle="", clip_on=False, zorder=3, **looks[kind])
        if row.get("compiled_ratio"):
            hollow = looks[kind] | {"markerfacecolor": "none"}
            axes.plot(row["compiled_ratio"], place, linestyle="", clip_on=False, **hollow)
    axes.set_yticks(list(places.values()), list(places))
    axes.set_ylim(max(1, len(places)) - 0.5, -0.5)
    axes.set_xlim(0, 1.05 * max(1.0, axes.get_xlim()[1]))
    axes.axvline(1.0, color="black", linewidth=1.0)
    axes.grid(axis="x", color=PALE)
    axes.set_axisbelow(True)
    axes.set(title=title, xlabel="ours / PyTorch's")
    axes.legend(
        handles=[
            Line2D([], [], linestyle="", label=kind if kind.isalpha() else f"batch {kind}", **look)
            for kind, look in looks.items()
        ],
        fontsize=8,
    )


def _growth(axes: Axes, record: Row, prefix: str, constant: str | None, unit: float) -> None:
    """Medians of both sides over the sizes, in terms of what would be constant at best."""
    measured: dict[int, Row] = {}
    for name, row in rows(record, prefix):
        _, slash, size = name.partition("/")
        if slash:
            measured[int(size)] = row
    sizes = sorted(measured)
    for side, look in SIDES.items():
        values = [
            unit * row[side] * (row[constant] / row["ours"] if constant else 1)
            for row in (measured[size] for size in sizes)
        ]
        axes.plot(sizes, values, label="ours" if side == "ours" else "PyTorch eager", **look)
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8)


def _words(record: Row) -> str:
    run = list(record["runs"].values())[-1]
    device = run["device"]
    network = next((name.split("/")[0] for name, _ in rows(record, "growth/batch/")), "-")
    return (
        f"{device['name']}, {device['workers']} of {device['cores']} cores, PyTorch "
        f"{run['versions']['torch']}. Medians of sides that take turns. Filled: ours over PyTorch "
        "eager, in the faster of its layouts; hollow: over torch.compile. Convolution blocks: all "
        "of a paper's networks, on one thread. Below, "
        f"{network}: a level line is growth in proportion to the number of images or pixels."
    )
