"""The first test images in a record, and where transformers look: figures need nothing else.

Volumes are too large for that. Of them a record has the mean along the depth, rounded to bytes: of
the examples themselves, and of what the transformer makes of them, at first and after every epoch.
"""

import base64
from typing import Any

import numpy as np

from ministn.backend import to_cpu
from ministn.data import Split, as_batch
from ministn.data.warping import as_bytes
from ministn.engines import implementation
from ministn.transformer import Front

COUNT = 6


def examples(split: Split, front: Front | None) -> dict[str, Any]:
    """A record's entry "examples": images, as ``as_text`` has them, labels and boxes.

    Of volumes also size (D, H, W) and, with something in front of the network, projections: what it
    shows while theta is the identity.
    """
    images = split.images[:COUNT]
    known = {"labels": split.labels[:COUNT].tolist(), "boxes": split.boxes[:COUNT].tolist()}
    if len(split.size) == 2:
        return as_text(images) | known
    x = as_batch(images)
    known["size"] = list(split.size)
    if front is not None:
        identity = np.array(front.at_input[0].transform.identity, np.float32)
        known["projections"] = _warped(front, x, np.tile(identity, (len(x), 1)))
    return as_text(_projected(x)) | known


def shown(split: Split, front: Front | None) -> dict[str, Any]:
    """Entries of an epoch: theta (N, P) of the examples, and of volumes what it shows of them."""
    if front is None:
        return {"theta": None}
    x = as_batch(split.images[:COUNT])
    theta = front.theta(x)
    found = {"theta": to_cpu(theta).tolist()}
    return found if len(split.size) == 2 else found | {"projections": _warped(front, x, theta)}


def as_text(images: np.ndarray) -> dict[str, Any]:
    """Images of bytes and of any shape as JSON has them: the bytes in base64, and the shape."""
    text = base64.b64encode(np.ascontiguousarray(images).tobytes()).decode()
    return {"images": text, "shape": list(images.shape)}


def from_text(found: dict[str, Any]) -> np.ndarray:
    """The opposite. The array cannot be written to."""
    return np.frombuffer(base64.b64decode(found["images"]), np.uint8).reshape(found["shape"])


def _warped(front: Front, x: np.ndarray, theta: np.ndarray) -> dict[str, Any]:
    (transformer,) = front.at_input
    return as_text(_projected(transformer.warp(x, theta)))


def _projected(x: np.ndarray) -> np.ndarray:
    """Volumes (N, D, H, W), 0 to 1, on their engine -> (N, H, W) uint8, in NumPy."""
    project, _ = implementation("projection", x)
    return to_cpu(as_bytes(project(x)[0][..., 0]))
