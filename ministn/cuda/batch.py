"""Batches of images on a GPU: see batch.cu."""

from math import prod

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_together
from ministn.ops.batch import BYTE, check_bytes, with_channels


def as_batch(images: Array) -> Array:
    """images (N, H, W) or (N, H, W, C) uint8 -> x (N, H, W, 1 or C) in [0, 1]. Raises as in ops."""
    device = device_holding(images=images)
    check_bytes(images)
    x = device.empty(with_channels(images.shape), np.float32)
    launch("batch", "as_batch", blocks_for(x.size), device.contiguous(images), x, BYTE, x.size)
    return x


def take_batch(
    images: Array,
    labels: Array,
    order: Array,
    number: Array,
    *,
    batches: int,
    batch_size: int,
    n: int,
) -> tuple[Array, Array]:
    """x (n, H, W, 1 or C) and labels (n, *L) of the batch whose turn it is.

    images (M, H, W) or (M, H, W, C) uint8, labels (M, *L) int32 or float32, order (M,) int32 of one
    epoch, number (1,) uint32 of steps done. Batch number % batches begins at place
    batch_size * (number % batches) of the order. An image's label may have any shape L, () too.

    Raises TypeError for labels of another dtype, ValueError for more or fewer than images.
    """
    device = device_holding(images=images)
    check_together(images=images, labels=labels)
    pixels, words = prod(images.shape[1:]), prod(labels.shape[1:])
    x = device.empty(with_channels((n, *images.shape[1:])), np.float32)
    x_labels = device.empty((n, *labels.shape[1:]), labels.dtype)
    launch(
        "batch", "take_batch", (n, blocks_for(max(pixels, words))),
        images, as_words(labels), order, number, batches, batch_size, BYTE,
        x, as_words(x_labels), pixels, words,
    )  # fmt: skip
    return x, x_labels


def as_words(labels: Array) -> Array:
    """The same memory as int32, for kernels that only copy it.

    Raises TypeError for labels of a dtype other than int32 and float32.
    """
    if labels.dtype not in (np.int32, np.float32):
        raise TypeError(f"labels must be int32 or float32, got {labels.dtype}")
    return labels.view(np.int32)
