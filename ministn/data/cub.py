"""CUB-200-2011: photographs of birds of 200 species, and where their parts are (STN section 4.3).

The folder is that which is published, CUB_200_2011, with

    images.txt                  id, path below images/
    image_class_labels.txt      id, class from 1
    train_test_split.txt        id, 1 to train or 0 to test
    bounding_boxes.txt          id, left, top, width and height of the bird
    parts/parts.txt             part, its name
    parts/part_locs.txt         id, part, x, y, 1 if it can be seen or 0

Splits are the published ones, in the order of ids; nothing is kept back to validate. Of a
photograph the square in its middle is cut out, 224/256 of its shorter side, and scaled: as the
paper's are to test. Its random crops and flips to train are not made. A part that
is cut off cannot be seen. Grey photographs have three equal channels. One photograph at a time is
in memory, beside the images: of 224x224 pixels these take 1.8 GB.

Where there is no folder, two_parts.py draws pictures that stand in for birds.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ministn.data import sources, two_parts
from ministn.data.dataset import Data, DataSet, Form, Map, PartSplit
from ministn.data.folders import find, search_path
from ministn.data.sources import Sizes
from ministn.errors import UserError, check_whole
from ministn.kinds import kind

CUB, DRAWN = "cub", "drawn"
FOLDER, LIST = "CUB_200_2011", "images.txt"
ORIGIN = "https://www.vision.caltech.edu/datasets/cub_200_2011"
WIDER = 256 / 224  # a photograph's shorter side, in sides of the square that is cut out

DRAWN_SIDE = 48  # of drawn pictures, if nothing else is asked for

CLASSES = {CUB: 200, DRAWN: two_parts.KINDS**2}
PARTS = {CUB: 15, DRAWN: len(two_parts.NAMES)}
SIZES = {CUB: Sizes(5_994, 0, 5_794), DRAWN: Sizes(10_000, 0, 2_000)}


@kind("cub")
class Cub(Data):
    """The set as a value.

    source: "cub", or the pictures "drawn" in its place. side: of the images in pixels. train_size:
    the first of the full split; the test split stays whole. seed: of what is drawn. Raises
    UserError for what cannot be.
    """

    source: str = CUB
    side: int = 224
    train_size: int = SIZES[CUB].train
    seed: int = 0

    def __post_init__(self) -> None:
        sources.check(self.source, self.seed, self.train_size, SIZES)
        check_whole(two_parts.SMALLEST, side=self.side)

    @property
    def name(self) -> str:
        return CUB + ("-drawn" if self.source == DRAWN else "")

    @property
    def form(self) -> Form:
        return Form((self.side, self.side), channels=3, classes=CLASSES[self.source])

    @property
    def valid_size(self) -> int:
        return SIZES[self.source].valid

    @property
    def test_size(self) -> int:
        return SIZES[self.source].test

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        """folder: CUB_200_2011, or one that it is in; by default $MINISTN_DATA/cub or just
        $MINISTN_DATA, then the user's cache.
        """
        counts = {"train": self.train_size, "test": self.test_size}
        if self.source == DRAWN:
            if folder is not None:
                raise UserError("drawn pictures need no data_dir: leave it out, or choose others")
            make = two_parts.generate
            train, test = (make(n, k, self.side, seed=self.seed) for n, k in counts.items())
        else:
            place = find_folder(folder)
            splits = by_split(place, listed(place))
            train, test = (read(place, splits[n][:k], self.side) for n, k in counts.items())
        return DataSet(train, None, test)


# -- lists -----------------------------------------------------------------------------------------


class Photograph(NamedTuple):
    """What the lists say of one. label: from 0. box: left, top, width, height. parts: (K, 3), x, y
    and 1 or 0. Places are in its pixels, where 0 is the edge of the first.
    """

    path: str
    label: int
    train: bool
    box: np.ndarray
    parts: np.ndarray


def find_folder(folder: Path | str | None) -> Path:
    """Where images.txt is. Raises UserError where it is not."""
    places = search_path(CUB, folder)
    if folder is None:
        places += [place.parent for place in places]
    places = [each for place in places for each in (place, place / FOLDER)]
    path = find(places, LIST)
    if path is None:
        raise UserError(
            f"there is no {LIST} in {' or '.join(map(str, places))}: unpack {FOLDER}.tgz there, "
            f"{ORIGIN}"
        )
    return path.parent


def listed(place: Path) -> list[Photograph]:
    """All photographs, in the order of their ids. Raises UserError for lists that are missing,
    damaged, or do not speak of the same ids.
    """
    paths = by_id(place / LIST, "id path", (int, str))
    labels = by_id(place / "image_class_labels.txt", "id class", (int, int), paths)
    train = by_id(place / "train_test_split.txt", "id 0-or-1", (int, flag), paths)
    boxes = by_id(
        place / "bounding_boxes.txt", "id left top width height", (int, *[float] * 4), paths
    )
    names = by_id(place / "parts" / "parts.txt", "part name", (int, str), range(1, PARTS[CUB] + 1))
    pairs = [(number, part) for number in paths for part in names]
    where = by_id(
        place / "parts" / "part_locs.txt", "id part x y 0-or-1",
        (int, int, float, float, flag), pairs, keys=2,
    )  # fmt: skip
    return [
        Photograph(
            paths[n][0],
            labels[n][0] - 1,
            bool(train[n][0]),
            np.array(boxes[n]),
            np.array([where[n, part] for part in sorted(names)]),
        )
        for n in sorted(paths)
    ]


def by_split(place: Path, found: Sequence[Photograph]) -> dict[str, list[Photograph]]:
    """Those to train and to test. Raises UserError for others than are published."""
    splits = {"train": [p for p in found if p.train], "test": [p for p in found if not p.train]}
    expected = SIZES[CUB].train, SIZES[CUB].test, CLASSES[CUB]
    got = len(splits["train"]), len(splits["test"]), len({each.label for each in found})
    if got != expected or max(each.label for each in found) >= CLASSES[CUB]:
        raise UserError(
            "{} must have {} photographs to train and {} to test, of classes 1 to {}, "
            "got {} and {} of {} classes".format(place, *expected, *got)
        )
    return splits


def by_id(
    path: Path,
    form: str,
    types: Sequence[Callable[[str], Any]],
    wanted: Any = None,
    keys: int = 1,
) -> dict[Any, list[Any]]:
    """The lines of a list, by what is in their first columns.

    form: a line in words, for errors. types: of its columns; text may have spaces. wanted: what
    there must be, and nothing else. Raises UserError for anything else.
    """
    found: dict[Any, list[Any]] = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        words = line.split(maxsplit=len(types) - 1)
        try:
            values = [make(word) for make, word in zip(types, words, strict=True)]
        except ValueError as error:
            raise UserError(f"{path}, line {number} must be {form!r}, got {line!r}") from error
        key = values[0] if keys == 1 else tuple(values[:keys])
        if key in found:
            raise UserError(f"{path}, line {number} is the second one of {key}")
        found[key] = values[keys:]
    if wanted is not None and found.keys() != {*wanted}:
        lacking, more = {*wanted} - found.keys(), found.keys() - {*wanted}
        said = f"lacks {min(lacking)}" if lacking else f"has {min(more)}, of which no list knows"
        raise UserError(f"{path} {said}")
    return found


def flag(word: str) -> int:
    """0 or 1. Raises ValueError for anything else."""
    if word not in ("0", "1"):
        raise ValueError(f"must be 0 or 1, got {word!r}")
    return int(word)


# -- photographs -----------------------------------------------------------------------------------


def read(place: Path, chosen: Sequence[Photograph], side: int) -> PartSplit:
    """Some of the photographs. Raises UserError for one that is missing or damaged."""
    images = np.empty((len(chosen), side, side, 3), np.uint8)
    boxes = np.empty((len(chosen), 4), np.int16)
    parts = np.zeros((len(chosen), PARTS[CUB], 3), np.float32)
    for i, each in enumerate(chosen):
        path = place / "images" / each.path
        try:
            with Image.open(path) as photograph:
                images[i], scale, corner = squared(photograph.convert("RGB"), side)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        first, size = np.split(each.box, 2)
        ends = (first - corner) * scale, (first + size - corner) * scale - 1
        boxes[i] = np.concatenate(ends).round().clip(0, side - 1)
        middles = (each.parts[:, :2] - corner) * scale
        parts[i, :, :2] = middles - 0.5  # the first pixel's centre is at 0
        parts[i, :, 2] = each.parts[:, 2] * ((middles >= 0) & (middles <= side)).all(axis=1)
    labels = np.array([each.label for each in chosen], np.uint8)
    return PartSplit(images, labels, boxes, parts)


def squared(photograph: Image.Image, side: int) -> tuple[np.ndarray, float, np.ndarray]:
    """The square in the middle, (side, side, 3) uint8.

    Also its pixels over the photograph's, and where in this its first corner is, (x, y).
    """
    edge = min(photograph.size) / WIDER
    left, top = ((length - edge) / 2 for length in photograph.size)
    box = left, top, left + edge, top + edge
    square = photograph.resize((side, side), Image.Resampling.BILINEAR, box=box)
    return np.asarray(square), side / edge, np.array([left, top])
