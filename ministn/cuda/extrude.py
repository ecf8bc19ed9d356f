"""Volumes of extruded digits, made on a GPU: see extrude.cu and data/extruded.py.

images (M, side, side) uint8, rotation (M, 3, 3) and shift (M, 3) float32: digits, and how they are
moved. Volumes are cubes of canvas voxels, digits depth voxels deep.
"""

from math import prod

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.batch import as_words
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_together
from ministn.ops.batch import BYTE


def extrude(images: Array, rotation: Array, shift: Array, *, depth: int, canvas: int) -> Array:
    """x (M, canvas, canvas, canvas) float32 in [0, 1], rounded to bytes."""
    device = device_holding(images=images)
    x = device.empty((len(images), canvas, canvas, canvas), np.float32)
    launch(
        "extrude",
        "extrude",
        (len(images), blocks_for(canvas**3)),
        *(device.contiguous(images), device.contiguous(rotation), device.contiguous(shift)),
        *(BYTE, x, images.shape[1], depth, canvas),
    )
    return x


def take_extruded(
    images: Array,
    rotation: Array,
    shift: Array,
    labels: Array,
    order: Array,
    number: Array,
    *,
    depth: int,
    canvas: int,
    batches: int,
    batch_size: int,
    n: int,
) -> tuple[Array, Array]:
    """x (n, canvas, canvas, canvas) and labels (n, *L) of the batch whose turn it is.

    labels, order, number, batches, batch_size: as take_batch in batch.py has them, which says what
    is raised, too.
    """
    device = device_holding(images=images)
    check_together(images=images, labels=labels)
    x = device.empty((n, canvas, canvas, canvas), np.float32)
    words = prod(labels.shape[1:])
    x_labels = device.empty((n, *labels.shape[1:]), labels.dtype)
    launch(
        "extrude", "take_extruded", (n, blocks_for(max(canvas**3, words))),
        images, rotation, shift, as_words(labels), order, number, batches, batch_size, BYTE,
        x, as_words(x_labels), images.shape[1], depth, canvas, words,
    )  # fmt: skip
    return x, x_labels
