"""Pictures of a head and a body among clutter, drawn by ourselves: they stand in for birds.

A picture in colour shows a head and a body, each of 9x9 pixels at a place of its own, on dull
ground. A head is a red disc of one of four patterns, a body a blue square with stripes in one of
four directions, and the class is which two there are, one of sixteen: no part tells it alone.
Places are uniform, and parts do not overlap. Clutter are pieces of 5x5 pixels cut out of heads and
bodies, in green. All colours vary from picture to picture, and the ground is noisy.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ministn.data.cluttered import CHUNK
from ministn.data.dataset import PartSplit
from ministn.errors import check_kind, check_whole
from ministn.randomness import generator

PART, PIECE, PIECES = 9, 5, 8  # pixels, pixels, pieces in a picture
NAMES = "head", "body"
KINDS = 4  # of each
SMALLEST = 3 * PART - 1  # a side on which there is a place for the other part, wherever one is
NOISE = 12  # of 255: the ground's deviation in each pixel
# Of red, green and blue, from and below: where there is much of a colour, and little.
GROUND, MUCH, LITTLE = (40, 120), (170, 256), (0, 100)


def patterns() -> np.ndarray:
    """(2, 4, 9, 9) bool: where the four heads, and the four bodies, have ink."""
    y, x = np.mgrid[:PART, :PART] - PART // 2
    far, stripe = np.hypot(x, y), PART // 2
    heads = [(far > 2.4), (y < 0), (x * y > 0), (far < 2.9)]
    bodies = [(n + 2 * stripe) % 4 < 2 for n in (y, x, x + y, x - y)]
    return np.array([[(far < 4.6) & ink for ink in heads], bodies])


class Drawn(NamedTuple):
    """What n pictures are made of, but for the noise. Corners are first pixels, (x, y).

    kinds: (n, 2), of head and body. corners: (n, 2, 2), theirs. pieces: (n, 8, 3), of which of the
    eight patterns each is and from which corner there. places: (n, 8, 2), their corners.
    ground: (n, 3). ink: (n, 10, 3), the colours of head, body and pieces.
    """

    kinds: np.ndarray
    corners: np.ndarray
    pieces: np.ndarray
    places: np.ndarray
    ground: np.ndarray
    ink: np.ndarray


def generate(name: str, count: int, side: int, *, seed: int) -> PartSplit:
    """The first `count` pictures (N, side, side, 3) of the split called `name`.

    Labels are (N,) uint8, 4 times the head's pattern and the body's; boxes (N, 2, 4) and parts
    (N, 2, 3) of head and body.

    Every draw depends on (seed, name) and the chunk of 1,000 pictures. Raises UserError for a
    count, side or seed that cannot be.
    """
    check_kind("name", name, str)
    check_whole(**{f"{name}_size": count})
    check_whole(SMALLEST, side=side)
    check_whole(0, **{"data seed": seed})
    images = np.empty((count, side, side, 3), np.uint8)
    labels, corners = np.empty(count, np.uint8), np.empty((count, 2, 2), np.int16)
    for start in range(0, count, CHUNK):
        rng = generator(seed, f"data/two parts/{name}", start // CHUNK)
        # The whole chunk is drawn even where it is cut short: fewer pictures are the first of more.
        drawn = draw(rng, side)
        chunk = slice(start, min(count, start + CHUNK))
        some = chunk.stop - start
        images[chunk] = compose(drawn, rng, side)[:some]
        labels[chunk] = (KINDS * drawn.kinds[:, 0] + drawn.kinds[:, 1])[:some]
        corners[chunk] = drawn.corners[:some]
    boxes = np.concatenate([corners, corners + PART - 1], axis=2)
    middles = (corners + PART // 2).astype(np.float32)
    parts = np.concatenate([middles, np.ones((count, 2, 1), np.float32)], axis=2)
    return PartSplit(images, labels, boxes, parts)


def draw(rng: np.random.Generator, side: int) -> Drawn:
    """What a chunk is made of."""
    kinds = rng.integers(KINDS, size=(CHUNK, 2))
    head, body = apart(rng, side)
    pieces = rng.integers((2 * KINDS, PART - PIECE + 1, PART - PIECE + 1), size=(CHUNK, PIECES, 3))
    places = rng.integers(side - PIECE + 1, size=(CHUNK, PIECES, 2))
    ground = rng.integers(*GROUND, size=(CHUNK, 3))
    ink = rng.integers(*LITTLE, size=(CHUNK, 2 + PIECES, 3))
    channels = np.array([0, 2] + [1] * PIECES)  # a red head, a blue body, green pieces
    ink[:, np.arange(2 + PIECES), channels] = rng.integers(*MUCH, size=(CHUNK, 2 + PIECES))
    return Drawn(kinds, np.stack([head, body], axis=1), pieces, places, ground, ink)


def apart(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners (n, 2) of heads and of bodies, each uniform, that do not overlap.

    A body's place is its head's and an offset, going round from the last place to the first. An
    offset of at least a part's width one way, going either way round, keeps them apart.
    """
    places = side - PART + 1
    offsets = np.argwhere(np.ones((places, places)))
    away = np.minimum(offsets, places - offsets).max(axis=1) >= PART
    head = rng.integers(places, size=(CHUNK, 2))
    return head, (head + offsets[away][rng.integers(away.sum(), size=CHUNK)]) % places


def compose(drawn: Drawn, rng: np.random.Generator, side: int) -> np.ndarray:
    """The pictures (n, side, side, 3) uint8: the ground with noise from rng, pieces, body, head."""
    count = len(drawn.kinds)
    noise = rng.normal(0, NOISE, (count, side, side, 3))
    images = np.clip(drawn.ground[:, None, None] + noise, 0, 255).astype(np.uint8)
    inked = patterns()
    cut = sliding_window_view(inked.reshape(-1, PART, PART), (PIECE, PIECE), axis=(1, 2))
    for k in range(PIECES):
        of, top, left = drawn.pieces[:, k].T
        paint(images, drawn.places[:, k], cut[of, top, left], drawn.ink[:, 2 + k])
    for k in range(2):
        paint(images, drawn.corners[:, k], inked[k, drawn.kinds[:, k]], drawn.ink[:, k])
    return images


def paint(images: np.ndarray, corners: np.ndarray, inked: np.ndarray, ink: np.ndarray) -> None:
    """Colour pixels of each picture. corners: (n, 2). inked: (n, p, p) bool. ink: (n, 3)."""
    windows = sliding_window_view(images, inked.shape[1:], axis=(1, 2), writeable=True)
    (x, y), row = corners.T, np.arange(len(images))
    there = windows[row, y, x]  # (n, 3, p, p), copies
    windows[row, y, x] = np.where(inked[:, None], ink[:, :, None, None], there)
