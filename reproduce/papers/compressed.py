"""A paper's protocol so many times shorter: the flag --compress."""

import argparse
from math import inf
from typing import Any

from ministn.errors import UserError
from ministn.runs.flags import Flag
from ministn.training.protocol import LENGTHS, Training

FLAG = Flag(
    "--compress", "",
    "the paper's protocol K times shorter: its epochs and --decay-every divided by K and "
    "rounded; default: 1",
    float, metavar="K",
)  # fmt: skip


def check(arguments: argparse.Namespace, *lengths: str) -> None:
    """Raise UserError for a --compress that cannot be, or beside flags that say the same."""
    if arguments.compress is None:
        return
    if not 1 <= arguments.compress < inf:
        raise UserError(f"--compress must be a number from 1 up, got {arguments.compress}")
    for name in lengths:
        if getattr(arguments, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"--compress says how many epochs: leave out {flag} or --compress")


def compression(own: Training, paper: Training) -> float | None:
    """K, where a training is the paper's, K times shorter, in halves; None where it is not."""
    assert own.epochs is not None and paper.epochs is not None
    exact, rest = divmod(2 * paper.epochs, own.epochs)  # where several give it, this is meant
    for halves in [*([] if rest else [exact]), *range(2, 2 * paper.epochs + 1)]:
        if halves >= 2 and _lengths(paper.compressed(halves / 2)) == _lengths(own):
            return halves / 2
    return None


def _lengths(training: Training) -> tuple[Any, ...]:
    return training.schedule, *(getattr(training, name) for name in LENGTHS)
