"""Whose digits a data set is made of: MNIST's, or scikit-learn's, which need no download."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ministn.data import digits, mnist
from ministn.data.dataset import Digits
from ministn.errors import UserError, check_whole, is_whole

MNIST, EMBEDDED = "mnist", "digits"
SUFFIX = {MNIST: "", EMBEDDED: "-digits"}  # of a set's name
SIDES = {MNIST: mnist.SIDE, EMBEDDED: digits.SIDE}  # of a digit's image


class Sizes(NamedTuple):
    """Images in the splits, unless asked otherwise."""

    train: int
    valid: int
    test: int


def load(source: str, folder: Path | str | None) -> dict[str, Digits]:
    """The digits of the splits train, valid and test. Raises UserError, also as mnist.load does."""
    if source == MNIST:
        return mnist.load(folder)
    if folder is not None:
        raise UserError("the embedded digits need no data_dir: leave it out, or choose others")
    return digits.load()


def for_training(splits: dict[str, Digits]) -> Digits:
    """All digits but those for testing."""
    return joined([splits["train"], splits["valid"]])


def joined(splits: Iterable[Digits]) -> Digits:
    """The digits of several splits, one split after the other."""
    images, labels = zip(*((split.images, split.labels) for split in splits), strict=True)
    return Digits(np.concatenate(images), np.concatenate(labels))


def check(source: str, seed: int, train_size: int, sizes: dict[str, Sizes]) -> None:
    """Raise UserError for a data set that cannot be; embedded digits may be reused more often."""
    if source not in tuple(sizes):
        raise UserError(f"source must be {' or '.join(sizes)}, got {source!r}")
    if not is_whole(seed) or not 0 <= seed < 2**64:
        raise UserError(f"data_seed must be from 0 to 2^64 - 1, got {seed!r}")
    check_whole(train_size=train_size)
    most = sizes[source].train
    if source != EMBEDDED and train_size > most:
        raise UserError(f"train_size must be at most {most}, got {train_size}")
