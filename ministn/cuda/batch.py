"""Batches of images on a GPU: see batch.cu."""

from math import prod

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.ops.batch import BYTE, with_channels


def as_batch(images: Array) -> Array:
    """images (N, H, W) or (N, H, W, C) uint8 -> x (N, H, W, 1 or C) in [0, 1]."""
    device = device_holding(images=images)
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
    """x (n, H, W, 1 or C) and labels (n,) int32 of the batch whose turn it is.

    images (M, H, W) or (M, H, W, C) uint8, labels (M,) uint8, order (M,) int32 of one epoch,
    number (1,) uint32 of steps done. Batch number % batches begins at place
    batch_size * (number % batches) of the order.
    """
    device = device_holding(images=images)
    pixels = prod(images.shape[1:])
    x = device.empty(with_channels((n, *images.shape[1:])), np.float32)
    x_labels = device.empty((n,), np.int32)
    launch(
        "batch", "take_batch", (n, blocks_for(pixels)),
        images, labels, order, number, batches, batch_size, BYTE, x, x_labels, pixels,
    )  # fmt: skip
    return x, x_labels
