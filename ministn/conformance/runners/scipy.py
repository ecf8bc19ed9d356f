"""SciPy: ndimage.map_coordinates, which takes pixels. It has values alone."""

from typing import Any

import numpy as np
from scipy import __version__, ndimage

from ministn.conformance.compare import Found, Group, as_array

MODES = {
    "zeros": "grid-constant",  # "constant" jumps at the edge
    "nearest": "nearest",
    "mirror": "mirror",
    "reflect": "reflect",
    "wrap": "grid-wrap",
}
ORDERS = {"nearest": 0, "bilinear": 1}  # its order 3 is a B-spline, another kernel than Keys'


class SciPy:
    name = "scipy"
    version = __version__
    tolerance = 1e-12

    def grid(self, group: Group) -> Found | None:
        return None

    def warp(self, group: Group) -> Found | None:
        return None

    def sample(self, group: Group) -> Found | None:
        """Of those that have pixels; with half pixels they are the same again."""
        vectors = group["vectors"]
        if (
            group["kernel"] not in ORDERS
            or group["coordinates"] != "corners"
            or "pixel" not in vectors[0]
        ):
            return None
        x, y = as_array([vector["pixel"] for vector in vectors]).T
        values: Any = ndimage.map_coordinates(
            as_array(group["image"]), np.stack([y, x]), order=ORDERS[group["kernel"]],
            mode=MODES[group["border"]],
        )  # fmt: skip
        return [*({"value": value} for value in values), {}]
