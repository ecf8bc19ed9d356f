"""What makes a tied network attend, and an untied one keep the image, where d is 1.

Architecture 1 of the TSTN paper on its data, by its protocol made eight times shorter, of which the
first eight epochs are looked at: so runs that go on to the end stand beside those that do not. They
differ in how the localisation network begins and learns.
"""

from dataclasses import replace
from typing import Any

import ministn.plot  # noqa: F401  (before Matplotlib, whose backend is of no use here)

# isort: split
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ministn.models import Tstn, UntiedStn
from ministn.plot.drawing import GREY, PALE, caption, draw_cross, plain_logarithm
from ministn.schedules import StepDecay
from ministn.training.protocol import Training
from papers.claims import Record
from papers.layout import NONE, pipes
from papers.report import commands_as_markdown, number
from papers.tstn import PAPER_DATA, TABLE3, is_control, named
from papers.tstn_figures import colour_and_marker
from papers.tstn_report import data_line

EPOCHS = 8
FARTHEST = 1.5  # widths of a digit: more wander is drawn here
TRAINING = Training(schedule=StepDecay(every=3), epochs=EPOCHS)
NETWORKS = UntiedStn.kind, Tstn.kind
FIGURE = "attending.png"

TITLE = "### What makes a tied network attend, and an untied one keep the image"
INTRODUCTION = (
    "Architecture 1 at d = 1 on all images: the protocol of the table's runs with an eighth of the "
    f"paper's epochs, and of these the first {EPOCHS}. The settings say what is changed in how the "
    "localisation network begins and learns; the runs with nothing but loc-lr x0.3 are the "
    "table's own, which went on."
)
HEADER = ["network", "setting", "seed", "epochs", "left the image", "IoU", "follows", "wander"]
HEADER += ["valid", "test"]
LEGEND = (
    "left the image: in which steps, of 196 in an epoch, the attention of most of a batch was "
    f"outside. All else is of the epoch of lowest validation error among the first {EPOCHS}: "
    "errors in percent, and on the validation images IoU, mean overlap of the attended "
    "quadrilateral with the digit's ink box; follows, correlation of the attended centre with the "
    "digit's; wander, how far the digit's centre wanders from image to image, in widths of the "
    "digit, in the image and in the attended frame. No test error where a run that went on was "
    "best later."
)


def studied(records: list[Record]) -> list[Record]:
    """Those of the study that have done an epoch or more, in the order of its table."""
    return sorted((r for r in records if r["epochs"] and _is_of_it(r)), key=_order)


def section(records: list[Record], beside: list[Record]) -> str:
    """What the page has: nothing without records. beside: runs of Table 3, some of them its own."""
    if not records:
        return ""
    table = pipes(HEADER, [cells(record) for record in studied(records + beside)])
    commands = commands_as_markdown(studied(records))
    picture = f"![How well each setting attends](../figures/{FIGURE})"
    return "\n\n".join([TITLE, INTRODUCTION, table, LEGEND, picture, commands])


def figures(records: list[Record], beside: list[Record]) -> dict[str, Figure]:
    """By file name; none without records."""
    return {FIGURE: figure(studied(records + beside))} if records else {}


def cells(record: Record) -> list[str]:
    """One line of the table."""
    found, best = lowest(record), record["best"] or {}
    wander = f"{number(found['widths_in'])} to {number(found['widths_out'])}"
    return [
        TABLE3[record["settings"].network.name].name,
        setting(record),
        str(record["settings"].seed),
        str(len(record["epochs"][:EPOCHS])),
        "; ".join(map(_absent, collapses(record))) or NONE,
        *(number(found[name]) for name in ("overlap", "correlation")),
        wander,
        number(found["valid_error"]),
        number(best["test_error"] if best.get("epoch") == found["epoch"] else None),
    ]


def setting(record: Record) -> str:
    """What is not the paper's, the localisation network's learning rate always."""
    words = named(record)[1:]
    return ", ".join(["loc-lr x1", *words] if record["settings"].training.loc_lr == 1 else words)


def lowest(record: Record) -> dict[str, Any]:
    """The epoch of lowest validation error among the first."""
    found: dict[str, Any] = min(record["epochs"][:EPOCHS], key=lambda epoch: epoch["valid_error"])
    return found


def collapses(record: Record) -> list[dict[str, Any]]:
    """Those that began in the first epochs."""
    return [collapse for collapse in record["collapses"] if collapse["epoch"] <= EPOCHS]


def _absent(collapse: dict[str, Any]) -> str:
    end = collapse["end"]
    back = end is not None and end["epoch"] <= EPOCHS
    return f"from {collapse['step']} to {end['step']}" if back else f"from {collapse['step']} on"


def _is_of_it(record: Record) -> bool:
    settings = record["settings"]
    network, training = settings.network, settings.training
    if network.kind not in NETWORKS or network.architecture != 1 or network.downsample != 1:
        return False
    usual = replace(training, epochs=EPOCHS, loc_lr=TRAINING.loc_lr, loc_warm_up=None)
    return usual == TRAINING and settings.data == PAPER_DATA and not is_control(record)


def _order(record: Record) -> tuple[Any, ...]:
    settings = record["settings"]
    words = setting(record)
    return NETWORKS.index(settings.network.kind), words.count(","), words, settings.seed


def figure(records: list[Record]) -> Figure:
    """A row for each setting: whether theta follows the digit, what it leaves, and the errors."""
    rows = sorted({setting(r): None for r in records}, key=lambda words: (words.count(","), words))
    panels = {
        "correlation": "follows the digit (correlation)",
        "widths_out": "wander left, widths of the digit",
        "valid_error": "validation error, % (logarithmic)",
    }
    drawn = Figure(figsize=(10.5, 0.42 * len(rows) + 1.9), layout="constrained")
    every = drawn.subplots(1, len(panels), sharey=True)
    for axes, (name, words) in zip(every, panels.items(), strict=True):
        for record in records:
            colour, marker = colour_and_marker(record)
            beside = 0.15 * (2 * NETWORKS.index(record["settings"].network.kind) - 1)
            value = lowest(record)[name]
            value = min(value, FARTHEST) if name == "widths_out" else value
            point = value, rows.index(setting(record)) + beside
            axes.plot(*point, marker, color=colour, clip_on=False)
            if collapses(record):
                draw_cross(axes, *point)
        axes.set_xlabel(words)
        axes.grid(color=PALE)
        axes.set_axisbelow(True)
    before = float(np.mean([lowest(record)["widths_in"] for record in records]))
    every[1].axvline(before, color=GREY, linestyle=(0, (1, 3)))
    every[2].set_xscale("log")
    plain_logarithm(every[2].xaxis)
    every[0].set_yticks(range(len(rows)), rows)
    every[0].set_ylim(len(rows) - 0.4, -0.6)
    looks = {record["settings"].network.name: colour_and_marker(record) for record in records}
    marks = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=TABLE3[name].name)
        for name, (colour, marker) in looks.items()
    ]
    marks.append(Line2D([], [], marker="x", color="black", linestyle="", label="left the image"))
    drawn.legend(handles=marks, loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    caption(
        drawn,
        f"Architecture 1, d = 1; a mark for each run, of its best epoch among the first {EPOCHS} "
        "by validation error, on the validation images. Dotted: how far the digit wanders in the "
        f"image; in the attended frame more than {FARTHEST} widths are drawn there. A cross: the "
        f"attention of most of a batch left the image. {data_line(records[0])}.",
    )
    return drawn
