"""SVHN: house numbers of one to five digits in 64x64 pixels, in colour (STN section 4.2).

Each image is a crop of a photograph of SVHN's format 1: the box round all boxes of digits, made
30 % wider and higher about its middle as by Goodfellow et al. 2013, cut off at the photograph's
edges, and resized. Labels are five digits from left to right, 10 for a blank. The paper's other
crops, of 128x128 pixels, "include more background", no source says how much: here they are about
the same middle and twice as wide, so that digits are as large in both.

The set is the part of SVHN that was at hand when it was put together, 14,952 of its photographs. To
test are the official test photographs 1 to 1,000. To validate are 952 of which it is certain which
photograph they are, drawn at random: of the crops' labels.csv, those with match "name" or "size",
sorted by file, as default_rng(0).choice(files, 952, replace=False) draws. All others are to train.
svhn_ids.json has their official splits and numbers. A folder holds either

    labels.csv and svhn64_*.zip     crops, as JPEG of quality 95; larger ones are svhn128_*.zip
    train/ and test/                SVHN as it is published, from which the same crops are made,
                                    by way of JPEG too: digitStruct.mat and 1.png, 2.png, ...

No crop says where its edges were cut off. So boxes are those of digits whose crop was not.

The embedded digits take the place of photographs where there are none: in a row, in two colours.
"""

import csv
import json
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ministn.data import sources
from ministn.data.cluttered import CHUNK, check_drawn
from ministn.data.dataset import Data, DataSet, Digits, Form, Map, Split
from ministn.data.folders import search_path
from ministn.data.sources import EMBEDDED, SUFFIX, Sizes
from ministn.errors import UserError, is_whole
from ministn.kinds import kind
from ministn.randomness import generator

SVHN = "svhn"
SIDE = 64
WIDER = {SIDE: 1.3, 2 * SIDE: 2.6}  # by a crop's side: how many times as wide as the joined boxes
LENGTH = 5
BLANK = 10
QUALITY = 95

LABELS, STRUCT = "labels.csv", "digitStruct.mat"
IDS = Path(__file__).with_name("svhn_ids.json")
SIZES = {SVHN: Sizes(13_000, 952, 1_000), EMBEDDED: Sizes(8_000, 1_000, 1_000)}
# Of what was not cut off: the middle of the crop's 64 pixels, a 1.3th of its width.
BOX = np.array([7, 7, 56, 56], np.int16)
MARGIN = 10  # round a row of embedded digits, at most; for crops of 64 pixels


class Id(NamedTuple):
    """A photograph: its official split, "train" or "test", and its number there, N of N.png."""

    split: str
    number: int


@kind("svhn")
class Svhn(Data):
    """The set as a value.

    source: "svhn", or the embedded "digits". train_size: the first of the full split; the other
    splits stay whole. seed: of what embedded digits make. side: of the crops in pixels, 64 or 128.
    Raises UserError for what cannot be.
    """

    source: str = SVHN
    train_size: int = SIZES[SVHN].train
    seed: int = 0
    side: int = SIDE

    def __post_init__(self) -> None:
        sources.check(self.source, self.seed, self.train_size, SIZES)
        if not is_whole(self.side) or self.side not in WIDER:
            raise UserError(f"side must be {' or '.join(map(str, WIDER))}, got {self.side!r}")

    @property
    def name(self) -> str:
        larger = "" if self.side == SIDE else f"-{self.side}"
        return f"svhn{larger}{SUFFIX.get(self.source, '')}"

    @property
    def form(self) -> Form:
        return Form((self.side, self.side), channels=3, classes=BLANK + 1, labels=(LENGTH,))

    @property
    def valid_size(self) -> int:
        return SIZES[self.source].valid

    @property
    def test_size(self) -> int:
        return SIZES[self.source].test

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        """folder: by default $MINISTN_DATA/svhn, then the user's cache."""
        counts = {"train": self.train_size, "valid": self.valid_size, "test": self.test_size}
        if self.source == EMBEDDED:
            digits = sources.load(self.source, folder)
            make = partial(generate, seed=self.seed, side=self.side)
            made = [make(name, digits[name], n) for name, n in counts.items()]
        else:
            chosen = ids()
            made = [read(folder, chosen[name][:n], self.side) for name, n in counts.items()]
        return DataSet(*made)


def ids() -> dict[str, list[Id]]:
    """Which photographs are in the splits train, valid and test."""
    splits = json.loads(IDS.read_text())
    return {
        name: [Id(official, n) for official, text in parts.items() for n in numbers(text)]
        for name, parts in splits.items()
    }


def numbers(text: str) -> list[int]:
    """Whole numbers as svhn_ids.json has them: "1-3 7" is 1, 2, 3 and 7."""
    ends = ([int(end) for end in run.split("-")] for run in text.split())
    return [n for first, *last in ends for n in range(first, max([first, *last]) + 1)]


# -- photographs -----------------------------------------------------------------------------------


class Number(NamedTuple):
    """A house number in a photograph.

    digits: from left to right. boxes: (n, 4), theirs: left, top, width, height in pixels, where 0
    is the edge of the first pixel.
    """

    digits: Sequence[int]
    boxes: np.ndarray


def read(folder: Path | str | None, chosen: Sequence[Id], side: int = SIDE) -> Split:
    """Some of the photographs. side: of the crops, see WIDER.

    Raises UserError for files that are missing or damaged, and for crops of another size.
    """
    places = search_path(SVHN, folder)
    for place in places:
        if (place / LABELS).is_file():
            images, labels = read_crops(place, chosen, side)
        elif (place / "test" / STRUCT).is_file():
            images, labels = read_published(place, chosen, side)
        else:
            continue
        return Split(images, labels, np.tile(box_of(side), (len(chosen), 1)))
    raise UserError(
        f"there is no {LABELS} in {' or '.join(map(str, places))}, nor test/{STRUCT}: put there "
        "train and test of SVHN's format 1, http://ufldl.stanford.edu/housenumbers"
    )


def box_of(side: int) -> np.ndarray:
    """Where the joined boxes are in a crop that was not cut off: BOX, with more round it."""
    return BOX + np.int16((side - SIDE) // 2)


def read_crops(
    place: Path, chosen: Sequence[Id], side: int = SIDE
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, side, side, 3) and labels (n, 5) uint8 of crops that are at hand."""
    archives = f"svhn{side}_*.zip"
    files = [f"{split}/{number:05d}.jpg" for split, number in chosen]
    try:
        with (place / LABELS).open(newline="") as lines:
            known = {row["file"]: row for row in csv.DictReader(lines)}
        packed: dict[str, bytes] = {}
        for path in sorted(place.glob(archives)):
            with zipfile.ZipFile(path) as archive:
                packed |= {file: archive.read(file) for file in {*archive.namelist()} & {*files}}
        labels = [[int(known[file][f"s{i + 1}"]) for i in range(LENGTH)] for file in files]
        images = [decoded(packed[file], side) for file in files]
    except KeyError as error:
        raise UserError(f"{place} lacks {error.args[0]} in {LABELS} or {archives}") from error
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{place} cannot be read, {error}: put the right files there") from error
    return np.stack(images), np.array(labels, np.uint8)


def read_published(
    place: Path, chosen: Sequence[Id], side: int = SIDE
) -> tuple[np.ndarray, np.ndarray]:
    """The same of SVHN as it is published."""
    images: dict[Id, np.ndarray] = {}
    labels: dict[Id, list[int]] = {}
    for official in {split for split, _ in chosen}:
        of_split = [each for each in chosen if each.split == official]
        found = read_struct(place / official / STRUCT, [each.number for each in of_split])
        for each, number in zip(of_split, found, strict=True):
            path = place / official / f"{each.number}.png"
            try:
                with Image.open(path) as photograph:
                    shown = crop(photograph.convert("RGB"), number.boxes, side)
                    images[each] = decoded(as_jpeg(shown), side)
            except OSError as error:
                raise UserError(f"{path} cannot be read: {error}") from error
            labels[each] = padded(number.digits)
    stacked = np.stack([images[each] for each in chosen])
    return stacked, np.array([labels[each] for each in chosen], np.uint8)


def read_struct(path: Path, wanted: Sequence[int]) -> list[Number]:
    """The numbers in the photographs N.png of a digitStruct.mat, which is a file of HDF5.

    Raises UserError without h5py, or for a file that is not as it should be.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path} needs h5py: pip install -e '.[svhn]'") from error
    made = []
    try:
        with h5py.File(path) as file:
            names, numbers = file["digitStruct/name"], file["digitStruct/bbox"]
            for n in wanted:
                name = bytes(file[names[n - 1, 0]][:].ravel().astype(np.uint8)).decode()
                if name != f"{n}.png":
                    raise UserError(f"{path} must have {n}.png at place {n}, got {name}")
                fields = file[numbers[n - 1, 0]]
                columns = [
                    # Of one digit the number itself, of several references to theirs.
                    [file[x][0, 0] if isinstance(x, h5py.Reference) else x for x in each[:, 0]]
                    for each in map(fields.get, ("label", "left", "top", "width", "height"))
                ]
                digits = [int(label) % 10 for label in columns[0]]  # 10 is a zero
                made.append(Number(digits, np.array(columns[1:]).T))
    except (OSError, KeyError, IndexError) as error:
        raise UserError(f"{path} is no {STRUCT} of SVHN: {error}") from error
    return made


def joined(
    boxes: np.ndarray, size: tuple[int, int], wider: float = WIDER[SIDE]
) -> tuple[float, float, float, float]:
    """What is cut out of a photograph of size (W, H): left, top, right, bottom.

    boxes: (n, 4), left, top, width, height. The box round them all, made so many times as wide and
    as high about its middle, within the photograph.
    """
    first, last = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    middle, reach = (first + last) / 2, (last - first) / 2 * wider
    left, top = np.maximum(middle - reach, 0)
    right, bottom = np.minimum(middle + reach, size)
    return float(left), float(top), float(right), float(bottom)


def crop(photograph: Image.Image, boxes: np.ndarray, side: int = SIDE) -> Image.Image:
    """The joined boxes (n, 4), in side x side pixels."""
    box = joined(boxes, photograph.size, WIDER[side])
    return photograph.resize((side, side), Image.Resampling.BILINEAR, box=box)


def as_jpeg(image: Image.Image) -> bytes:
    """As a file. Colour is kept for each pixel."""
    file = BytesIO()
    image.save(file, "jpeg", quality=QUALITY, subsampling="4:4:4")
    return file.getvalue()


def decoded(file: bytes, side: int = SIDE) -> np.ndarray:
    """The image (side, side, 3) uint8 in a file. Raises OSError for any other."""
    with Image.open(BytesIO(file)) as image:
        if image.size != (side, side):
            raise OSError(
                f"images must have {side}x{side} pixels, got {image.width}x{image.height}"
            )
        return np.asarray(image.convert("RGB"))


def padded(digits: Sequence[int]) -> list[int]:
    """The labels of a number. Raises UserError for one that is too long."""
    if len(digits) > LENGTH:
        raise UserError(f"a number must have at most {LENGTH} digits, got {len(digits)}")
    return [*digits, *[BLANK] * (LENGTH - len(digits))]


# -- embedded digits -------------------------------------------------------------------------------


def generate(name: str, digits: Digits, count: int, *, seed: int, side: int = SIDE) -> Split:
    """The first `count` images of the split called `name`: one to five digits in a row.

    Every draw depends on (seed, name) and the chunk of 1,000 images. Raises UserError for a count
    or seed that cannot be.
    """
    count = check_drawn(name, digits, count, seed)
    images = np.empty((count, side, side, 3), np.uint8)
    labels = np.empty((count, LENGTH), np.uint8)
    more = (WIDER[side] - 1) / (WIDER[SIDE] - 1)  # wider crops want wider margins
    for start in range(0, count, CHUNK):
        rng = generator(seed, f"data/svhn/{name}", start // CHUNK)
        # The whole chunk is drawn even where it is cut short: fewer images are the first of more.
        lengths = rng.integers(1, LENGTH + 1, CHUNK)
        rows = rng.integers(len(digits), size=(CHUNK, LENGTH))
        margins = (more * rng.integers(MARGIN + 1, size=(CHUNK, 2, 2))).round().astype(int)
        ground = rng.integers(256, size=(CHUNK, 3))
        ink = (ground + rng.integers(64, 193, size=(CHUNK, 3))) % 256  # at least 64 away
        for i in range(min(CHUNK, count - start)):
            chosen = digits[rows[i, : lengths[i]]]
            photograph, boxes = in_a_row(chosen.images, margins[i], ground[i], ink[i])
            images[start + i] = np.asarray(crop(photograph, boxes, side))
            labels[start + i] = padded(chosen.labels.tolist())
    return Split(images, labels, np.tile(box_of(side), (count, 1)))


def in_a_row(
    images: np.ndarray, margins: np.ndarray, ground: np.ndarray, ink: np.ndarray
) -> tuple[Image.Image, np.ndarray]:
    """Digits (n, h, w) uint8 side by side, and their boxes (n, 4) as in ``Number``.

    margins: (2, 2), above, below, left and right of them. ground, ink: (3,), the colours of what is
    black and white in the digits.
    """
    (n, height, width), ((top, _), (left, _)) = images.shape, margins
    grey = np.pad(np.concatenate([*images], axis=1), margins)[..., None].astype(int)
    coloured = ((255 - grey) * ground + grey * ink + 127) // 255
    boxes = [(left + width * i, top, width, height) for i in range(n)]
    return Image.fromarray(coloured.astype(np.uint8)), np.array(boxes)
