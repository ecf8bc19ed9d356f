"""Layers: parameters plus the operations that use them.

Every layer has

    y, cache = layer.forward(x, step)
    dx = layer.backward(dy, cache, need_dx=True)

``step=None`` is evaluation: no dropout, and the cache is None. ``backward`` adds to each
``parameter.grad`` and returns dx, or None where ``need_dx`` is false. The cache belongs to the
call, never to the layer, so running one layer twice and going back through both calls just works:
sharing weights means using the same layer object.

layer.py          what all layers are
weighted.py       convolution and fully connected
activations.py    each number by itself: activations, dropout, standardised
pooling.py        smaller images, and images of volumes
reshaping.py      the same numbers in another shape
sequential.py     one after another
"""

from ministn.layers.activations import (
    SMALLEST,
    Bounded,
    Dropout,
    LeakyReLU,
    ReLU,
    Standardised,
    Tanh,
)
from ministn.layers.layer import Layer, WithoutParameters
from ministn.layers.pooling import AvgPool2d, AvgPool3d, MaxPool2d, Projection
from ministn.layers.reshaping import Flatten, Reshape
from ministn.layers.sequential import Sequential
from ministn.layers.weighted import Conv2d, Dense, Weighted

__all__ = [
    "SMALLEST",
    "AvgPool2d",
    "AvgPool3d",
    "Bounded",
    "Conv2d",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "MaxPool2d",
    "Projection",
    "ReLU",
    "Reshape",
    "Sequential",
    "Standardised",
    "Tanh",
    "Weighted",
    "WithoutParameters",
]
