"""Pictures of a head and a body among clutter, drawn by ourselves: they stand in for birds.

A picture in colour shows a head, a red disc, and a body, a blue square, on dull ground. Both have
9x9 pixels, and in their middle a mark of 5x5 pixels in one of four colours. The class is which two
marks there are, one of sixteen: no part tells it alone, and a part tells nothing unless its middle
is seen. Heads are anywhere in the left two thirds of a picture and bodies anywhere in the right
two, each at a place of its own: birds have a shape, too. In a trial with both anywhere in the whole
picture, two windows learned the class as well, but each showed either part in half of the pictures,
for it had no reason to prefer one.

Clutter are eight green squares of 5x5, below the parts. All colours vary a little from picture to
picture, and the ground is noisy.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ministn.data.cluttered import CHUNK
from ministn.data.dataset import PartSplit
from ministn.errors import check_kind, check_whole
from ministn.randomness import generator

PART, MARK, PIECE, PIECES = 9, 5, 5, 8  # pixels of sides; pieces of clutter in a picture
NAMES = "head", "body"
# Red, green and blue of parts, of marks, which are white, yellow, pink and black, and of clutter.
PARTS = np.array([[220, 50, 40], [50, 80, 220]])
MARKS = np.array([[240, 240, 240], [240, 220, 40], [220, 60, 220], [20, 20, 20]])
GREEN = np.array([60, 210, 60])
VARIATION = 20  # of 255, at most, in each channel of a colour
GROUND, NOISE = (40, 120), 4  # of 255: its colours' channels, the deviation in each pixel
KINDS = len(MARKS)
REACH = 2 / 3  # of the picture's columns, where a part may be
SMALLEST = 4 * PART + 6  # a side where parts do not overlap, see places_of


def shapes() -> np.ndarray:
    """(2, 9, 9) bool: which pixels are a head's, and a body's."""
    y, x = np.mgrid[:PART, :PART] - PART // 2
    disc = np.hypot(x, y) < PART / 2
    return np.array([disc, np.ones_like(disc)])


class Drawn(NamedTuple):
    """What n pictures are made of, but for the noise. Corners are first pixels, (x, y).

    kinds: (n, 2), of the marks of head and body. corners: (n, 2, 2), of the parts. pieces:
    (n, 8, 2), of clutter. Colours: ground (n, 3), inks (n, 12, 3) of the parts, marks and clutter.
    """

    kinds: np.ndarray
    corners: np.ndarray
    pieces: np.ndarray
    ground: np.ndarray
    inks: np.ndarray


def generate(name: str, count: int, side: int, *, seed: int) -> PartSplit:
    """The first `count` pictures (N, side, side, 3) of the split called `name`.

    Labels are (N,) uint8, 4 times the head's mark and the body's; boxes (N, 2, 4) and parts
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
    corners = places_of(rng, side)
    pieces = rng.integers(side - PIECE + 1, size=(CHUNK, PIECES, 2))
    ground = rng.integers(*GROUND, size=(CHUNK, 3))
    parts, green = (np.tile(ink, (CHUNK, 1, 1)) for ink in (PARTS, [GREEN] * PIECES))
    inks = np.concatenate([parts, MARKS[kinds], green], axis=1)
    inks += rng.integers(-VARIATION, VARIATION + 1, size=inks.shape)
    return Drawn(kinds, corners, pieces, ground, inks.clip(0, 255))


def places_of(rng: np.random.Generator, side: int) -> np.ndarray:
    """Corners (n, 2, 2) of heads and of bodies, which do not overlap.

    A body that would is moved by half the places down, going round from the last one to the first:
    so its row stays uniform.
    """
    places = side - PART + 1
    columns = round(REACH * places)
    corners = rng.integers((columns, places), size=(CHUNK, 2, 2))
    corners[:, 1, 0] += places - columns
    across, down = abs(corners[:, 0] - corners[:, 1]).T
    meets = (across < PART) & (np.minimum(down, places - down) < PART)
    corners[meets, 1, 1] = (corners[meets, 1, 1] + places // 2) % places
    return corners


def compose(drawn: Drawn, rng: np.random.Generator, side: int) -> np.ndarray:
    """The pictures (n, side, side, 3) uint8: the ground with noise from rng, clutter, the parts."""
    count = len(drawn.kinds)
    noise = rng.normal(0, NOISE, (count, side, side, 3))
    images = np.clip(drawn.ground[:, None, None] + noise, 0, 255).astype(np.uint8)
    clutter, mark = np.ones((PIECE, PIECE), bool), np.ones((MARK, MARK), bool)
    for k in range(PIECES):
        paint(images, drawn.pieces[:, k], clutter, drawn.inks[:, 4 + k])
    for k, shape in enumerate(shapes()):
        paint(images, drawn.corners[:, k], shape, drawn.inks[:, k])
        paint(images, drawn.corners[:, k] + (PART - MARK) // 2, mark, drawn.inks[:, 2 + k])
    return images


def paint(images: np.ndarray, corners: np.ndarray, shape: np.ndarray, ink: np.ndarray) -> None:
    """Colour pixels of each picture. corners: (n, 2). shape: (p, p) bool. ink: (n, 3)."""
    windows = sliding_window_view(images, shape.shape, axis=(1, 2), writeable=True)
    (x, y), row = corners.T, np.arange(len(images))
    there = windows[row, y, x]  # (n, 3, p, p), copies
    windows[row, y, x] = np.where(shape, ink[:, :, None, None], there)
