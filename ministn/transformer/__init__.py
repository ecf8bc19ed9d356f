"""The spatial transformer, what it is made of, and how several are arranged.

transforms/      theta -> grid
samplers.py      image and grid -> warped image
spatial.py       a localisation network in front of the two
resize.py        the identity alone
arrangements.py  several side by side, one that hands theta on, one that looks T times
parts.py         windows that one localisation network moves, each read by layers of its own
iterated.py      a localisation network that looks again at what it has aligned
placed.py        one at any depth of a classifier, sharing its layers or not
thetas.py        theta by hand: from an angle and a scale, turned round, of tiles
"""

from ministn.transformer.arrangements import Front, Glimpses, HandOn, Parallel
from ministn.transformer.iterated import Iterated
from ministn.transformer.parts import Apart, Towers, windows
from ministn.transformer.placed import fresh, map_shape, placed
from ministn.transformer.resize import Resize
from ministn.transformer.spatial import (
    FRAME,
    Attended,
    SpatialTransformer,
    TransformerCache,
    Warp,
    downsampled,
    regression_layer,
)
from ministn.transformer.thetas import inverse, theta_of, tiled

__all__ = [
    "FRAME",
    "Apart",
    "Attended",
    "Front",
    "Glimpses",
    "HandOn",
    "Iterated",
    "Parallel",
    "Resize",
    "SpatialTransformer",
    "Towers",
    "TransformerCache",
    "Warp",
    "downsampled",
    "fresh",
    "inverse",
    "map_shape",
    "placed",
    "regression_layer",
    "theta_of",
    "tiled",
    "windows",
]
