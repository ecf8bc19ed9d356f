"""What images, labels and networks may be: others are refused with what to do, before any work."""

from typing import Any

import numpy as np

from ministn.backend import Array, device_of
from ministn.errors import FLOATS, check_plain, check_together
from ministn.models import Network
from ministn.ops.batch import with_channels

FLOAT32 = np.dtype(np.float32)
LARGEST = 32  # of float images: bytes become 0 to 1, and what is normalised is some 3 at most


def checked_images(images: Any, dtype: np.dtype = FLOAT32, name: str = "images") -> Array:
    """Images as networks take them: (N, H, W) or (N, H, W, C) uint8, or (N, H, W, C) of ``dtype``.

    Grey images of floats may lack the axis of channels; they get it.

    Raises TypeError for what is no array or holds other numbers; ValueError for other axes, for
    channels that come first, for an array without a pixel, and for floats that are not finite or
    beyond LARGEST.
    """
    if isinstance(images, (list, tuple)):
        raise TypeError(
            f"{name} must be one array, got a {type(images).__name__} of {len(images)}: np.stack "
            "makes one; of pictures of several sizes ministn.data.resized does"
        )
    _check_array(name, images)
    if images.dtype not in (np.uint8, dtype):
        kind = getattr(images.dtype, "kind", "")
        more = f": .astype(np.{dtype})" if images.dtype in FLOATS else ""
        more = ": .astype(np.uint8), if they are that" if kind in ("i", "u") else more
        raise TypeError(
            f"{name} must be bytes, uint8 from 0 to 255, or {dtype}, got {images.dtype}{more}"
        )
    if len(images.shape) not in (3, 4):
        more = ": image[None] makes a batch of one" if len(images.shape) == 2 else ""
        raise ValueError(
            f"{name} must have shape (N, H, W) or (N, H, W, C), got {images.shape}{more}"
        )
    if 0 in images.shape:
        raise ValueError(f"{name} must have at least one pixel, got shape {images.shape}")
    if len(images.shape) == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise ValueError(
            f"{name} must have shape (N, H, W, C), got {images.shape}, where channels seem to come "
            f"first: {name}.transpose(0, 2, 3, 1)"
        )
    if images.dtype == np.uint8:
        return images
    if device_of(images) is None:
        if not np.isfinite(images).all():
            count = int((~np.isfinite(images)).any(axis=tuple(range(1, images.ndim))).sum())
            raise ValueError(f"{name} must be finite, {count} of {len(images)} are not")
        largest = np.abs(images).max()
        if largest > LARGEST:
            raise ValueError(
                f"{name} of floats must be about 0 to 1, which bytes become, got numbers up to "
                f"{largest:g}: {name} / 255, if they are bytes"
            )
    return images if images.ndim == 4 else images[..., None]


def checked_labels(labels: Any, images: Array, name: str = "labels") -> Array:
    """Labels, one entry for each of the images. What else they must be, a task says.

    Raises TypeError for what is no array of numbers, ValueError for more or fewer.
    """
    if isinstance(labels, (list, tuple)):
        raise TypeError(f"{name} must be an array, got a {type(labels).__name__}: np.array(labels)")
    _check_array(name, labels)
    if labels.dtype.kind not in "iuf":
        shown = (
            f" such as {str(labels.flat[0])!r}"
            if labels.dtype.kind in "OSU" and labels.size
            else ""
        )
        raise TypeError(
            f"{name} must be whole numbers from 0, got {labels.dtype}{shown}: "
            "np.unique(labels, return_inverse=True) numbers them"
        )
    check_together(images=images, **{name: labels})
    return labels


def _check_array(name: str, array: Any) -> None:
    """Raise TypeError for what is no array of NumPy or on a GPU, be it another library's."""
    check_plain(name, array)
    if device_of(array) is None and not isinstance(array, np.ndarray):
        got = type(array).__name__
        raise TypeError(f"{name} must be an array, got {got}: np.asarray makes one")


def check_met(network: Network, images: Array) -> None:
    """Raise ValueError for images of another shape than those that the network has met."""
    shape = with_channels(images.shape)[1:]
    if network.shape not in (None, shape):
        wanted = ", ".join(map(str, ("N", *network.shape)))
        more = " of one image: image[None]" if images.shape == network.shape else ""
        raise ValueError(
            f"images must have shape ({wanted}), as the network has met them, got "
            f"{images.shape}{more}"
        )
