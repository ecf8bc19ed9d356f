"""What images, labels and networks may be: others are refused with what to do, before any work."""

from typing import Any

import numpy as np

from ministn.backend import Array, device_of
from ministn.errors import FLOATS, UserError, check_kind, check_plain, check_together
from ministn.models import Network
from ministn.parameter import Parameter

FLOAT32 = np.dtype(np.float32)


def checked_images(images: Any, dtype: np.dtype = FLOAT32, name: str = "images") -> Array:
    """Images as networks take them: (N, H, W) or (N, H, W, C) uint8, or (N, H, W, C) of ``dtype``.

    Grey images of floats may lack the axis of channels; they get it.

    Raises TypeError for what is no array or holds other numbers; ValueError for other axes, for an
    array without a pixel, and for numbers that are not finite.
    """
    if isinstance(images, (list, tuple)):
        raise TypeError(
            f"{name} must be one array, got a {type(images).__name__} of {len(images)}: np.stack "
            "makes one; of pictures of several sizes ministn.data.resized does"
        )
    check_plain(name, images)
    if images.dtype not in (np.uint8, dtype):
        kind = getattr(images.dtype, "kind", "")
        more = f": .astype(np.{dtype})" if images.dtype in FLOATS else ""
        more = ": .astype(np.uint8), if they are that" if kind in ("i", "u") else more
        raise TypeError(
            f"{name} must be bytes, uint8 from 0 to 255, or {dtype}, got {images.dtype}{more}"
        )
    if len(images.shape) not in (3, 4):
        more = " of one image: image[None]" if len(images.shape) == 2 else ""
        raise ValueError(
            f"{name} must have shape (N, H, W) or (N, H, W, C), got {images.shape}{more}"
        )
    if 0 in images.shape:
        raise ValueError(f"{name} must have at least one pixel, got shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    if device_of(images) is None and not np.isfinite(images).all():
        count = int((~np.isfinite(images)).any(axis=tuple(range(1, images.ndim))).sum())
        raise ValueError(f"{name} must be finite, {count} of {len(images)} are not")
    return images if images.ndim == 4 else images[..., None]


def checked_labels(labels: Any, images: Array, name: str = "labels") -> Array:
    """Labels, one entry for each of the images. What else they must be, a task says.

    Raises TypeError for what is no array of numbers, ValueError for more or fewer.
    """
    if isinstance(labels, (list, tuple)):
        raise TypeError(f"{name} must be an array, got a {type(labels).__name__}: np.array(labels)")
    check_plain(name, labels)
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


def weights_of(network: Network) -> list[Parameter]:
    """All parameters of a network, learned and fixed.

    Raises TypeError for what is no network, UserError for one that has no weights yet.
    """
    check_kind("network", network, Network)
    parameters = [*network.parameters(), *network.fixed_parameters()]
    for parameter in parameters:
        if not hasattr(parameter, "data"):
            raise UserError(
                f"the network has no weights yet, {parameter.name} for one: fit or load it first"
            )
    return parameters
