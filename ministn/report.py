"""The printed table: our runs beside the paper's, and what they say about the paper's claims.

Made from records only (one JSON object per run). Runs are put into one table when they saw the same
data for the same number of epochs, and into one row when all their settings but the seed agree:
nothing else is ever averaged or compared.
"""

import base64
from collections.abc import Callable, Iterator
from itertools import groupby, zip_longest
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np

from ministn.errors import UserError
from ministn.statistics import PairedTest, binomial_interval, paired_test

Record = dict[str, Any]


class Published(NamedTuple):
    """A row of the TSTN paper's Table 3; errors in percent, None where it gives no number."""

    name: str
    epochs: int
    train: float | None  # the best of all epochs
    valid: float | None
    test: float | None


TABLE3 = {
    "arch1-cnn": Published("Arch 1 CNN", 145, 0.0, 4.39, 4.44),
    "arch1-untied": Published("Arch 1 untied STN", 179, 0.0, 4.38, 4.33),
    "arch1-tstn": Published("Arch 1 TSTN", 196, 0.002, 3.02, 3.14),
    "arch2-cnn": Published("Arch 2 CNN", 95, 0.0, 1.82, 2.18),
    # It "did not converge": no numbers in the paper. The epochs are our choice, those of the TSTN.
    "arch2-untied": Published("Arch 2 untied STN", 231, None, None, None),
    "arch2-tstn": Published("Arch 2 TSTN", 231, 0.0, 1.3, 1.74),
}
PAPER_TEST_IMAGES = 10_000
PAPER_DATA = {"data": "mnist", "canvas": 60, "distractors": 6, "patch": 8}
PAPER_RATES = {"lr": 0.001, "loc_lr": 1.0, "batch_size": 256}

# The Lasagne Recipes notebook's own log, not the paper: network small-stn, test error and epoch.
RECIPE_ERROR, RECIPE_EPOCH = 3.9, 46

# A claim is decided by each seed on its own, and all seeds must agree.
SIGNIFICANT = 0.05  # level of the exact paired test
MARGIN = 0.5  # "about equal", percentage points: about the paper's own 95 % interval
CONVERGED_BELOW = 50.0  # final training error; chance is 90 %

WIDTH = 112
HEADER = ("parameters", "epochs", "seed", "best", "train", "valid", "test", "paper [95 %]",
          "overlap", "inside")  # fmt: skip
LEGEND = (
    "Errors in percent. best: the epoch with the lowest validation error; train, valid and test are "
    "those of its weights. overlap: mean IoU of the attended quadrilateral with the digit's box, "
    "inside: share of digits attended as a whole, both there on the test images. A row without a "
    "setting has learning rate 0.001, loc-lr x1, batch 256."
)
PAPER_LEGEND = (
    "paper: test error in Table 3 and its 95 % binomial interval on 10,000 images. Its best training "
    "and validation errors: {}."
)
RULES = (
    "Every seed is compared on the same test images: difference of the test errors in percentage "
    "points [95 % interval], p of the exact McNemar test. '<' holds if every seed's difference is "
    "negative and significant at 5 %, and does not hold if every one is positive and significant. "
    "'About' holds if every interval lies within +-0.5 points, and does not hold if every one lies "
    "outside. An untied network of Architecture 2 has not converged if its last training error is "
    "above 50 % or it diverged."
)


# -- grouping --------------------------------------------------------------------------------------


def tables(records: list[Record]) -> list[list[list[Record]]]:
    """Records as tables of rows of runs: the paper's protocol first, rows in Table 3's order.

    Raises UserError when two records of one run disagree.
    """
    ordered = sorted(records, key=lambda r: (_table_key(r), _row_key(r), r["settings"]["seed"]))
    result = []
    for _, table in groupby(ordered, key=_table_key):
        rows = [_once(list(row)) for _, row in groupby(table, key=_row_key)]
        result.append(sorted(rows, key=lambda row: _row_order(row[0])))
    return sorted(result, key=lambda table: scope(table) != "")


def label(record: Record) -> list[str]:
    """The network's name, then whatever deviates from the paper's protocol in its row."""
    settings = record["settings"]
    network = settings["network"]
    parts = [TABLE3[network].name if network in TABLE3 else network]
    if settings["lr"] != PAPER_RATES["lr"]:
        parts.append(f"lr {settings['lr']:g}")
    if settings["loc_lr"] != PAPER_RATES["loc_lr"] and not _is_cnn(record):
        parts.append(f"loc-lr x{settings['loc_lr']:g}")
    if settings["batch_size"] != PAPER_RATES["batch_size"]:
        parts.append(f"batch {settings['batch_size']}")
    return parts


def scope(table: list[list[Record]]) -> str:
    """How far a table is from the paper's data, images and epochs; empty if it is not."""
    records = [record for row in table for record in row]
    settings = records[0]["settings"]
    if any(settings[name] != value for name, value in PAPER_DATA.items()):
        return "reduced, other data"
    shorter = any(_epochs(r) != "paper" and r["settings"]["epochs"] < _paper_epochs(r) for r in records)
    if settings["train_size"] < records[0]["full_train_size"] or shorter:
        return "reduced"
    return "" if _epochs(records[0]) == "paper" else "other epochs"
