"""Flags of the placement paper's scripts for SVHN and plankton, and the runs that they choose."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ministn.data.sources import EMBEDDED
from ministn.runs import Settings
from ministn.runs.flags import DATA, Flag, at_most, each_once
from papers.placement_sets import Study


class Quick(NamedTuple):
    """What --quick changes: the networks, and the runs, all on embedded digits."""

    nets: Sequence[str]
    settings: Settings
    words: str


def flags(study: Study, quick: Quick, *own: Flag) -> list[Flag]:
    """A script's flags. own: those that only it has."""
    training, whole = study.training, study.data.train_size
    digits: Any = quick.settings.data
    embedded = replace(study.data, source=EMBEDDED, train_size=1)  # type: ignore[type-var]
    return [
        Flag("--quick", "", f"other defaults, for a first try: {quick.words}", bool),
        Flag(
            "--nets", "", f"which networks, of {' '.join(study.networks)}; default: all",
            many=True, choices=list(study.networks), metavar="NET",
        ),
        *own,
        Flag(
            "--epochs", "training.epochs", f"passes over the training images; the learning rate "
            f"falls at the same shares of them; default: {training.epochs}", int, metavar="N",
        ),
        Flag(
            "--batch-size", "training.batch_size",
            f"images in a step; default: {training.batch_size}", int, metavar="N",
        ),
        Flag(
            "--lr", "training.lr", f"learning rate at the start; default: {training.lr:g}",
            float, metavar="RATE",
        ),
    ]  # fmt: skip
