"""The spatial transformer, what it is made of, and how several are arranged.

transforms.py    theta -> grid
samplers.py      image and grid -> warped image
spatial.py       a localisation network in front of the two
arrangements.py  several side by side, one that hands theta on, one that looks T times
iterated.py      a localisation network that looks again at what it has aligned
placed.py        one at any depth of a classifier, sharing its layers or not
thetas.py        theta by hand: from an angle and a scale, and turned round
"""

from ministn.transformer.arrangements import Front, Glimpses, HandOn, Parallel
from ministn.transformer.iterated import Iterated
from ministn.transformer.placed import fresh, map_shape, placed
from ministn.transformer.spatial import (
    FRAME,
    Attended,
    SpatialTransformer,
    TransformerCache,
    Warp,
    downsampled,
    regression_layer,
)
from ministn.transformer.thetas import inverse, theta_of

__all__ = [
    "FRAME",
    "Attended",
    "Front",
    "Glimpses",
    "HandOn",
    "Iterated",
    "Parallel",
    "SpatialTransformer",
    "TransformerCache",
    "Warp",
    "downsampled",
    "fresh",
    "inverse",
    "map_shape",
    "placed",
    "regression_layer",
    "theta_of",
]
