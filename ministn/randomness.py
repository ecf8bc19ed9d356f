"""Every random draw is a pure function of where it is used, so nothing random needs saving.

Two sources:

* ``generator(seed, purpose, *counters)``: a NumPy generator for initial values, shuffles and data.
* ``philox4x32``: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Counter
  in, random bits out, no state. Dropout uses it because each element's bits can be computed on
  its own, in any order, on any engine.
"""

from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from ministn.errors import check_index, check_kind, check_number

# Philox4x32 constants: the two multipliers, and the Weyl increments of the key.
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = np.uint64(0xFFFFFFFF)
BLOCK = 2**14  # counters at a time: their words stay in a core's cache


@dataclass(frozen=True)
class Step:
    """Where in training a forward pass happens; ``None`` in its place means evaluation.

    seed: of the run. number: optimiser steps done so far; in training on a GPU an array (1,) of
    uint32 there, which a captured graph reads anew each time it runs. first_row: index, in the
    whole batch, of the first row this call sees (batches may be cut). call: tells repeated uses of
    one layer within one step apart. dropout: which share of each dropout rate holds, from 0 to 1;
    the bits that are drawn are the same. NumPy's numbers become Python's.

    Raises ValueError for numbers that are not whole and from 0 to 2^64 - 1, and such a share.
    """

    seed: int
    number: Any
    first_row: int = 0
    call: int = 0
    dropout: float = 1.0

    def __post_init__(self) -> None:
        for name in ("seed", "number", "first_row", "call"):
            value = getattr(self, name)
            on_gpu = hasattr(value, "shape") and not isinstance(value, (np.ndarray, np.generic))
            if name != "number" or not on_gpu:
                object.__setattr__(self, name, check_index(name, value))
        object.__setattr__(self, "dropout", check_number("dropout", self.dropout, 0, 1))


def stream(name: str) -> int:
    """A 32-bit number for a name: the same on every machine and in every process."""
    check_kind("name", name, str)
    return crc32(name.encode())


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments.

    Raises ValueError for a seed or counters that are not whole numbers from 0 to 2^64 - 1.
    """
    numbers = [check_index("counters", counter) for counter in counters]
    entropy = [check_index("seed", seed), stream(purpose), *numbers]
    return np.random.default_rng(np.random.SeedSequence(entropy))


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10: four random 32-bit words for each counter.

    counter: (4, n) uint64 holding 32-bit words; key: two 32-bit words. Returns (4, n) uint32.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    shift = np.uint64(32)
    for _ in range(10):
        product0 = c0 * np.uint64(MULTIPLIERS[0])
        product1 = c2 * np.uint64(MULTIPLIERS[1])
        c0 = (product1 >> shift) ^ c1 ^ np.uint64(k0)
        c1 = product1 & MASK
        c2 = (product0 >> shift) ^ c3 ^ np.uint64(k1)
        c3 = product0 & MASK
        k0 = (k0 + WEYL[0]) & 0xFFFFFFFF
        k1 = (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def random_bits(step: Step, purpose: int, rows: int, width: int) -> np.ndarray:
    """(rows, width) uint32, uniform, counted over the elements of the *whole* batch.

    Element e = (first_row + row) * width + column is word e % 4 of counter
    (e // 4, step.number, step.call, purpose) under the key (seed low, seed high).
    """
    start = step.first_row * width
    first, last = start // 4, -(-(start + rows * width) // 4)
    words = np.empty((last - first, 4), np.uint32)
    key = step.seed & 0xFFFFFFFF, step.seed >> 32
    for begin in range(first, last, BLOCK):
        blocks = np.arange(begin, min(begin + BLOCK, last), dtype=np.uint64)
        counter = np.empty((4, len(blocks)), np.uint64)
        counter[0] = blocks
        counter[1], counter[2], counter[3] = step.number, step.call, purpose
        words[begin - first :][: len(blocks)] = philox4x32(counter, key).T
    offset = start - 4 * first
    return words.ravel()[offset : offset + rows * width].reshape(rows, width)
