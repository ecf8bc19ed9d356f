"""What networks read of a split, be its images arrays or volumes, in NumPy or on a GPU."""

from typing import Any

import numpy as np

from ministn.backend import Array, Device, device_of
from ministn.cuda import batch
from ministn.cuda.extrude import extrude, take_extruded
from ministn.data import extruded
from ministn.data.extruded import Volumes
from ministn.engines import function
from ministn.errors import check_plain


def as_batch(images: Array | Volumes) -> Array:
    """images (N, H, W), (N, H, W, C) or (N, D, H, W) uint8 -> x in [0, 1], where they are.

    x is float32, and (N, H, W, 1) where there is no axis of channels. Volumes are made now.
    float32 images with four axes are x already.
    """
    if getattr(images, "dtype", None) == np.float32 and len(images.shape) == 4:
        return images
    if isinstance(images, Volumes) and device_of(images.images) is not None:
        return extrude(*images.arrays, depth=extruded.DEPTH, canvas=images.shape[1])
    return function("as_batch", images)(images)


def placed(images: Array | Volumes, device: Device) -> Array | Volumes:
    """Images on a GPU."""
    return images.on(device) if isinstance(images, Volumes) else device.to_gpu(images)


def take_batch(images: Array | Volumes, *turn: Array, **sizes: Any) -> tuple[Array, Array]:
    """x and labels of the batch whose turn it is, on a GPU: see take_batch in cuda/batch.py."""
    if isinstance(images, Volumes):
        sizes |= {"depth": extruded.DEPTH, "canvas": images.shape[1]}
        return take_extruded(*images.arrays, *turn, **sizes)
    return batch.take_batch(images, *turn, **sizes)


def labels_for_gpu(labels: np.ndarray) -> np.ndarray:
    """labels (N, *L) as take_batch wants them on a GPU: whole numbers as int32, others as float32.

    Raises TypeError for labels that are no numbers, ValueError for those that int32 does not hold.
    """
    check_plain("labels", labels)
    if labels.dtype.kind not in "iuf":
        raise TypeError(f"labels must be whole numbers or floats, got {labels.dtype}")
    if labels.dtype.kind == "f":
        return labels.astype(np.float32)
    words = labels.astype(np.int32)
    if (words != labels).any():
        raise ValueError(f"labels must fit int32, got {labels.min()} to {labels.max()}")
    return words
