"""A data set as one .npz file, for other software: ``numpy.load`` is all that reading takes.

Digits among clutter have the layout of mnist_cluttered_60x60_6distortions.npz, the file of the
Lasagne recipes, which is lost:

    x_train, x_valid, x_test    (N, H W) float32, from 0 to 1: images by rows
    y_train, ...                (N, 10) float32, one-hot

All other sets have images as bytes:

    images_train, ...           (N, H, W), (N, H, W, C) or (N, D, H, W) uint8
    labels_train, ...           (N,) or (N, ..) for several, whole numbers

and both, where that is known,

    boxes_train, ...            (N, 4) or one for each digit: left, top, right, bottom of the ink
                                in pixels, inclusive
    poses_train, ...            (N, 4, 4, 2): where in the image 4x4 points of the digit's own image
                                lie, see metrics/pose.py

with ``description``, ``seed``, ``epoch`` (whose training images these are, of sets that are drawn
anew in each), ``data_sha256`` (what the records of runs on the set have) and ``sha256``, over the
arrays in the file's order: of each its name, dtype and shape in a line as ``header`` writes it,
then its bytes.

The same set and seed have the same sha256 elsewhere. Where all draws are whole numbers, as for
clutter, sequences and TC, nothing could differ. The other sets are drawn and placed in float64,
where other versions and processors round the last bit otherwise, and sampled in float32, which
hides that but for one number in some 10^8: tests/test_data_export.py has what came out alike under
three versions of NumPy, with and without vector units. Should a byte differ, the sha256 tells. The
pictures of plankton and SVHN are besides resized by Pillow and decoded by its JPEG library. Only
the file's size may differ with the version of zlib.
"""

import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from inspect import getdoc
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from tqdm import tqdm

from ministn.data.addition import Addition
from ministn.data.batch import as_batch
from ministn.data.cluttered import CLUTTERED, Cluttered
from ministn.data.colocalisation import Crops, OneDigit
from ministn.data.cropped import CroppedToDigit
from ministn.data.cub import DRAWN, DRAWN_SIDE, SIZES, Cub
from ministn.data.dataset import Data, DataSet
from ministn.data.distorted import RECIPES, Distorted
from ministn.data.extruded import Extruded
from ministn.data.plankton import Plankton
from ministn.data.sequences import Sequences
from ministn.data.svhn import Svhn
from ministn.errors import check_kind, check_whole
from ministn.files import replacing
from ministn.kinds import value_at

ROWS = 100  # written at a time: a volume takes 216 KB
YEAR = 1980, 1, 1, 0, 0, 0  # the first that an archive can name: no two exports differ in it

# By the names on the command line, as of ministn.plot.data_sets.
SETS: dict[str, Data] = {
    **CLUTTERED,
    **{name: Distorted(name) for name in RECIPES},
    "addition": Addition(),
    "colocalisation": OneDigit(4, 0),
    "colocalisation-clutter": OneDigit(4),
    "cropped": CroppedToDigit(),
    "crops": Crops(),
    "cub": Cub(),
    "cub-drawn": Cub(DRAWN, DRAWN_SIDE, SIZES[DRAWN].train),
    "extruded": Extruded(),
    "plankton": Plankton(),
    "sequences": Sequences(),
    "svhn": Svhn(),
}


class Column(NamedTuple):
    """An array of the file, and how some rows of it are made."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    rows: Callable[[slice], Any]

    @property
    def form(self) -> dict[str, Any]:
        """What NumPy's format has of it."""
        descr = npy.dtype_to_descr(self.dtype)
        return {"descr": descr, "fortran_order": False, "shape": self.shape}


def export(
    data: Data, path: Path, *, folder: Path | None = None, epoch: int = 1, bar: bool = True
) -> str:
    """Write a set to ``path``, some images at a time; returns the sha256 of its arrays.

    folder: of the files that it is made of, as in Data.load. epoch: whose training images, where
    each has others. bar: whether to show how far it is, on a terminal.

    In memory is the set as bytes and, of a layout that has floats, ROWS images of it. Raises
    TypeError for what is no set, UserError for an epoch that cannot be, as Data.load does, and as
    ``replacing`` does, which leaves no half file.
    """
    check_kind("data", data, Data)
    check_whole(epoch=epoch)
    made = data.load(folder)
    found = list(columns(data, made, epoch))
    digest = sha256()
    total = sum(column.shape[0] for column in found)
    with (
        replacing(Path(path)) as file,
        tqdm(total=total, desc=Path(path).name, unit="row", disable=None if bar else True) as shown,
        ZipFile(file, "w", ZIP_DEFLATED) as archive,
    ):
        for column in found:
            digest.update(header(*column[:3]))
            with archive.open(_entry(column.name), "w", force_zip64=True) as entry:
                npy.write_array_header_1_0(entry, column.form)
                for start in range(0, column.shape[0], ROWS):
                    rows = column.rows(slice(start, start + ROWS))
                    some = np.ascontiguousarray(rows, column.dtype)
                    entry.write(some.data)
                    digest.update(some.data)
                    shown.update(len(some))
        about = {
            "description": _about(data),
            "seed": value_at(data, "seed"),
            "epoch": epoch,
            "data_sha256": made.sha256,
            "sha256": digest.hexdigest(),
        }
        for name, value in about.items():
            with archive.open(_entry(name), "w") as entry:
                npy.write_array(entry, np.array(value), allow_pickle=False)
    return digest.hexdigest()


def header(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What is hashed of an array before its bytes."""
    return f"{name} {dtype.str} {shape}\n".encode()


def columns(data: Data, made: DataSet, epoch: int) -> Iterator[Column]:
    """The arrays of a set in the file's order."""
    for name in ("train", "valid", "test"):
        split = getattr(made, name)
        # What is learned from pairs of the images to test has no others.
        if split is None or (name != "test" and getattr(split, "images", None) is made.test.images):
            continue
        seen = split.epoch(epoch)
        if type(data) is Cluttered:
            yield from _flat(name, seen.images, seen.labels, data.form.classes)
        else:
            yield _whole(f"images_{name}", seen.images)
            yield _whole(f"labels_{name}", seen.labels)
        for kind in ("boxes", "poses", "parts"):
            if hasattr(seen, kind):
                yield _whole(f"{kind}_{name}", getattr(seen, kind))


def _whole(name: str, array: Any) -> Column:
    """An array that is there, or Volumes."""
    return Column(name, array.dtype.newbyteorder("<"), tuple(array.shape), array.__getitem__)


def _flat(name: str, images: np.ndarray, labels: np.ndarray, classes: int) -> Iterator[Column]:
    """Images and labels as the lost file had them."""
    number, pixels, one_hot = np.dtype("<f4"), prod(images.shape[1:]), np.eye(classes)
    yield Column(
        f"x_{name}",
        number,
        (len(images), pixels),
        lambda rows: as_batch(images[rows]).reshape(-1, pixels),
    )
    yield Column(f"y_{name}", number, (len(labels), classes), lambda rows: one_hot[labels[rows]])


def _about(data: Data) -> str:
    """What the set is, and what the file has of it."""
    of_set, of_file = (getdoc(sys.modules[name]) for name in (type(data).__module__, __name__))
    return f"{data!r}\n\n{of_set}\n\n---\n\n{of_file}"


def _entry(name: str) -> ZipInfo:
    info = ZipInfo(f"{name}.npy", YEAR)
    info.compress_type = ZIP_DEFLATED
    return info
