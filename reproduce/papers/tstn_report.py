"""The printed table: our runs beside the paper's, from records only, for a terminal or Markdown.

A collapse, a divergence and a verdict against the paper stand where the results stand.
"""

from itertools import zip_longest
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from ministn.data.sources import EMBEDDED, MNIST
from ministn.errors import UserError
from ministn.kinds import has
from ministn.metrics import attention
from papers.claims import Record, Row, Table
from papers.layout import NONE, aligned, pipes, wrapped
from papers.report import (
    claims_as_markdown,
    claims_as_text,
    commands_as_markdown,
    commands_as_text,
    folded,
    number,
    troubles,
)
from papers.tstn import (
    ELSEWHERE,
    PROPOSED,
    ROWS,
    TABLE3,
    epochs,
    faster,
    is_control,
    label,
    on_paper_data,
    paper_interval,
    paper_length,
    scope,
    tables,
    verdicts,
)

# The Lasagne Recipes notebook's own log, not the paper: test error of small-stn, and its epoch.
RECIPE_ERROR, RECIPE_EPOCH = 3.9, 46

ERRORS = ["train", "valid", "test"]
ATTENTION = ["IoU", "follows", "wander"]
HEADER = ["params", "epochs", "seed", "best", *ERRORS, "paper [95 %]", *ATTENTION]

RATES = (
    "Unless said otherwise: learning rate 0.001, loc-lr x1 (multiplier for the localisation "
    "network's own layers), batch 256."
)
LEGEND = (
    "Errors in percent. best: the epoch of lowest validation error; train, valid and test are "
    "of that epoch. IoU: mean overlap of the attended quadrilateral with the digit's ink box; "
    "follows: correlation of the attended centre with the digit's; wander: how much of the way "
    "that the digit's centre wanders from image to image, in widths of the digit, is left in the "
    "attended frame. All on the test images; in brackets, of older runs, on the six that their "
    "records show. " + RATES
)
PAPER_LEGEND = (
    "paper: test error in its Table 3 with the 95 % binomial interval on 10,000 images. Its best "
    "training and validation errors: "
)
RECIPE_LEGEND = (
    f"Recipe: about {RECIPE_ERROR} % at epoch {RECIPE_EPOCH} in the Lasagne Recipes notebook, "
    "whose network small-stn is; not in the paper."
)
PROPOSED_LEGEND = (
    "TRSTN, tied with a recurrent layer, and the CNN trained by turns with the TSTN: the paper "
    "proposes them without numbers. They last as long as the TSTN."
)
ELSEWHERE_LEGEND = (
    "elsewhere: the same weights, each test image transformed by the theta of the next one."
)
OUR_EPOCHS = "Arch 2 untied STN: the paper names no number of epochs; 231 is our choice."
RULES = (
    "Networks are compared on the same test images, seed by seed, where all other settings agree: "
    "difference of the test errors [95 % interval], p of the exact McNemar test. That says whether "
    "two trained networks differ; whether methods do, a paired t test over at least three seeds "
    "says. With fewer, what every seed's own test says is said of these runs only. '<' holds if "
    "the difference is negative and significant at 5 %; it does not hold if it is positive and "
    "significant. 'About' holds if the interval lies within +-0.5 points; it does not hold if it "
    "lies outside. 'Does not converge' holds if every seed's last training error is above 50 % or "
    "it diverged; it does not hold if one converged. All else is undecided."
)


class Line(NamedTuple):
    """Of a block. record: that it begins with, if it does with one."""

    cells: list[str]
    record: Record | None = None


class Block(NamedTuple):
    """One row of a table: settings down the left, lines for each seed, what went wrong below."""

    labels: list[str]
    lines: list[Line]
    notes: list[str]


def report(records: list[Record], *, markdown: bool = False) -> str:
    """The tables with their claims and commands, at most WIDTH columns wide unless Markdown.

    Raises UserError without records, or when two records of one run disagree.
    """
    if not records:
        raise UserError("there are no records to report: run reproduce/table3.py first")
    render = _markdown if markdown else _text
    found = tables(records)
    legends = [LEGEND, RULES] if any(verdicts(table) for table in found) else [LEGEND]
    parts = [render(table) for table in found]
    if markdown:
        parts[1:] = [
            folded(title(table), part) for table, part in zip(found[1:], parts[1:], strict=True)
        ]
    parts += [legend if markdown else "\n".join(wrapped(legend)) for legend in legends]
    return "\n\n".join(parts) + "\n"


def summary(records: list[Record]) -> str:
    """The table at most like the paper's in short: a row for each network, in Markdown."""
    table = tables(records)[0]
    header = ["network", "test error, %", "paper", "follows the digit", "seeds"]
    return pipes(header, [_summed_up(row) for row in table])


def _summed_up(row: Row) -> list[str]:
    best = [record["best"] for record in row if record["best"]]
    errors = [each["test_error"] for each in best]
    follows = [each["test_correlation"] for each in best if each.get("test_correlation")]
    lost = sum(bool(record["collapses"]) for record in row)
    published = paper_interval(row[0]["settings"].network.name)
    return [
        ", ".join(label(row[0])),
        ", ".join(map(number, errors)) or NONE,
        number(published[0]) if published else NONE,
        number(fmean(follows)) if follows else NONE,
        f"{len(row)}" + (f", of which {lost} lost the image" if lost else ""),
    ]


def title(table: Table) -> str:
    """What was trained on, and how far that is from the paper."""
    first = table[0][0]
    count, full = first["settings"].data.train_size, first["full_train_size"]
    images = f"{count:,} of {full:,} images" if count <= full else f"{count:,} images"
    if not scope(table):
        return f"The paper's data, images and epochs: {images}"
    length, times = str(epochs(first)), faster(table)
    if times is not None:
        length = "the paper's" if times == 1 else f"1/{times:g} of the paper's"
    advice = ": compare rows, not columns" if first["settings"].network.name in ROWS else ""
    return f"{scope(table).upper()}: {images}, {length} epochs{advice}"


def data_line(record: Record) -> str:
    """The data set in words, with the seed it was made from and the start of its SHA-256."""
    data = record["settings"].data
    names = {MNIST: "Cluttered MNIST", EMBEDDED: "scikit-learn's digits, enlarged, cluttered"}
    side = f", cut to the digit, {data.side}x{data.side}" if has(data, "side") else ""
    return (
        f"{names[data.source]}, {data.canvas}x{data.canvas} pixels, {data.distractors} distractors "
        f"of {data.patch}x{data.patch}{side}, data seed {data.seed} "
        f"(SHA-256 {record['data_sha256'][:8]})"
    )


# -- the rows, shared by both forms ----------------------------------------------------------------


def _block(row: Row, beside_paper: bool) -> Block:
    first = row[0]
    settings = first["settings"]
    lines = []
    for record in row:
        best = _best_so_far(record)
        head = (
            [f"{first['parameters'] / 1e6:.2f} M", str(epochs(first))]
            if record is first
            else ["", ""]
        )
        mark = "! " if troubles(record) else ""
        seed = [f"{mark}{record['settings'].seed}", str(best.get("epoch", NONE))]
        errors = [number(best.get(name + "_error")) for name in ERRORS]
        shown = beside_paper and not is_control(first)
        paper = (_paper(settings.network.name) if shown else NONE) if record is first else ""
        cells = [*head, *seed, *errors, paper, *_attention(record, best)]
        lines += [Line(cells, record), *_looks(best), *_tests(best)]
    if len(row) > 1:
        lines.append(_mean_line(row))
    notes = [f"seed {r['settings'].seed} {text}" for r in row for text in troubles(r)]
    return Block(label(first), lines, notes)


def _best_so_far(record: Record) -> dict[str, Any]:
    """The best epoch's results; none on the test images before the run has ended."""
    return record["best"] or min(record["epochs"], key=lambda e: e["valid_error"], default={})


def _attention(record: Record, best: dict[str, Any]) -> list[str]:
    """How well the best epoch's transformer attends on the test images."""
    overlap = best.get("test_overlap")
    if overlap is None:
        return [NONE] * len(ATTENTION)
    if "test_correlation" in best:
        return _measured(best, "test_")
    theta = np.reshape(record["epochs"][best["epoch"] - 1]["theta"], (-1, 2, 3))
    boxes, size = np.array(record["examples"]["boxes"]), record["examples"]["shape"][1:3]
    still = np.broadcast_to(attention.IDENTITY, theta.shape)
    (_, before), (_, after) = (attention.wander(each, boxes, size) for each in (still, theta))
    follows = attention.correlation(theta, boxes)
    return [number(overlap), f"({number(follows)})", f"({number(after / before)})"]


def _measured(found: dict[str, Any], split: str = "") -> list[str]:
    names = ("overlap", "correlation", "widths_out", "widths_in")
    overlap, follows, out, before = (found[split + name] for name in names)
    return [number(overlap), number(follows), number(out / before)]


def _looks(best: dict[str, Any]) -> list[Line]:
    """How well the second and later glimpses attend."""
    later = enumerate(best.get("test_transformers", [])[1:], 2)
    return [Line(["", "", f"glimpse {t}", *[""] * 5, *_measured(found)]) for t, found in later]


def _tests(best: dict[str, Any]) -> list[Line]:
    """The test error where each image is transformed by the theta of another one."""
    found = best.get("tests", {})
    if ELSEWHERE not in found:
        return []
    error = number(found[ELSEWHERE]["test_error"])
    return [Line(["", "", "elsewhere", "", "", "", error, *[""] * 4])]


def _mean_line(row: Row) -> Line:
    """The mean over the runs that finished; it says how many those are."""
    best = [record["best"] for record in row if record["status"] == "finished" and record["best"]]
    errors = [number(fmean(b[name + "_error"] for b in best) if best else None) for name in ERRORS]
    share = f"mean of {len(best)}" + (f"/{len(row)}" if len(best) < len(row) else "")
    return Line(["", "", share, "", *errors, "", *[""] * len(ATTENTION)])


def _paper(network: str) -> str:
    published = paper_interval(network)
    if published:
        return "{:.2f} [{:.2f}-{:.2f}]".format(*published)
    if network == "small-stn":
        return f"~{RECIPE_ERROR} (Recipe)"
    return "not converged" if network in TABLE3 else NONE


def _legends(table: Table) -> list[str]:
    networks = [row[0]["settings"].network.name for row in table]
    published = [TABLE3[name] for name in dict.fromkeys(networks) if name in TABLE3]
    numbers = [
        f"{p.name} {p.train:g} and {p.valid:g} ({p.epochs} epochs)"
        for p in published
        if p.train is not None
    ]
    result = []
    if numbers and on_paper_data(table):
        result.append(PAPER_LEGEND + "; ".join(numbers) + ".")
    if "small-stn" in networks and on_paper_data(table):
        result.append(RECIPE_LEGEND)
    heads = [row[0] for row in table]
    if any(r["settings"].network.name == "arch2-untied" and paper_length(r) for r in heads):
        result.append(OUR_EPOCHS)
    if any(name in PROPOSED for name in networks):
        result.append(PROPOSED_LEGEND)
    if any(r["best"] and ELSEWHERE in r["best"].get("tests", {}) for row in table for r in row):
        result.append(ELSEWHERE_LEGEND)
    return result


# -- the two forms ---------------------------------------------------------------------------------


def _text(table: Table) -> str:
    blocks = [_block(row, on_paper_data(table)) for row in table]
    labels = [[b.labels[0], *("  " + part for part in b.labels[1:])] for b in blocks]
    grids = [
        [[name or "", *(line.cells if line else [""] * len(HEADER))] for name, line in pairs]
        for block, names in zip(blocks, labels, strict=True)
        for pairs in [zip_longest(names, block.lines)]
    ]
    header = ["network", *HEADER]
    every = [header, *(line for grid in grids for line in grid)]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    lines = [title(table), data_line(table[0][0]), "", aligned(header, widths), rule]
    for grid, block in zip(grids, blocks, strict=True):
        lines += [aligned(cells, widths) for cells in grid]
        for note in block.notes:
            lines += wrapped(note, "  ! ")
    lines.append(rule)
    for legend in _legends(table):
        lines += wrapped(legend)
    lines += claims_as_text(verdicts(table), scope(table))
    lines += commands_as_text([record for row in table for record in row])
    return "\n".join(lines)


def _markdown(table: Table) -> str:
    """Few columns, so that the table fits a page: what is said once stands under the name."""
    lines = []
    for row in table:
        block = _block(row, on_paper_data(table))
        size = f"{row[0]['parameters'] / 1e6:.2f} M, {epochs(row[0])} epochs"
        for place, line in enumerate(block.lines):
            _, _, seed, *rest = line.cells
            words = [f"{', '.join(block.labels)} ({size})"] if place == 0 else []
            if line.record:
                start = f"seed {line.record['settings'].seed}"
                words += [f"**{start} {text}**" for text in troubles(line.record)]
            lines.append(["<br>".join(words), seed, *rest])
    header = ["network", *HEADER[2:]]
    parts = [f"**{title(table)}**", data_line(table[0][0]), pipes(header, lines), *_legends(table)]
    parts += claims_as_markdown(verdicts(table), scope(table))
    return "\n\n".join([*parts, commands_as_markdown([r for row in table for r in row])])
