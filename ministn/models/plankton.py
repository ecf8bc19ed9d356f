"""The plankton networks of the placement paper (Finnveden et al. 2020, IV-C), after those that won
the National Data Science Bowl.

    blocks  convolutions           then                   Localisation network
    1, 2     32 maps, pool         512 neurons            64 neurons, ReLU
    3, 4     64 maps, pool         512 neurons            64 neurons, ReLU
    5 to 7  128 maps, pool         softmax layer          transform layer
    8 to 10 256 maps, pool

A block is one convolution, 3x3 'same'; the last one of each line ends with a pool, 3x3 max pooling
with stride 2. The classifier's activations are leaky ReLUs of slope 1/3, and half of what each of
its layers of neurons, and the softmax layer, is given is dropped. Images are read with mean 0 and
deviation 1. Outside its input a transformer sees what lies at the edge. ``width`` makes the
classifier narrower.
"""

from math import prod
from typing import ClassVar

from ministn.data import Form
from ministn.initializers import HeUniform
from ministn.kinds import kind
from ministn.layers import Conv2d, Dense, Dropout, Flatten, Layer, LeakyReLU, MaxPool2d, Sequential
from ministn.models.blocks import Blocks, neurons
from ministn.transformer.placed import PLACES, Shape
from ministn.transformer.samplers import Sampler

LINES = (32, 32), (64, 64), (128, 128, 128), (256, 256, 256)  # maps; after each line a pool
POOL, STRIDE = 3, 2
UNITS, TIMES = 512, 2
LOOKING = 64  # neurons of a localisation network
# Less than He's gain: each 3x3 pool and each dropped half makes the signal larger.
BEGINS = HeUniform(1.0)


@kind("plankton network")
class PlanktonNetwork(Blocks):
    """One of them. place, depths, width: see Blocks."""

    place: str | None
    depths: tuple[int, ...]
    width: float = 1.0

    count: ClassVar[int] = sum(map(len, LINES))
    smallest: ClassVar[int] = 31  # pixels, which four poolings make one of
    pixels: ClassVar[tuple[float, float]] = (0.046, 0.144)
    sampler: ClassVar[Sampler] = Sampler(border="nearest")

    def blocks(self, form: Form) -> list[Sequential]:
        found: list[Sequential] = []
        channels = form.channels
        for line in LINES:
            for usual in line:
                path, maps = f"classifier/conv{len(found) + 1}", self.scaled(usual)
                convolution = Conv2d(path, channels, maps, activation="leaky_relu", initial=BEGINS)
                found.append(Sequential(convolution))
                channels = maps
            pool = MaxPool2d(f"classifier/pool{len(found)}", POOL, STRIDE)
            found[-1] = Sequential(*found[-1].layers, pool)
        return found

    def reader(self, shape: Shape, form: Form) -> list[Layer]:
        features, units = prod(shape), self.scaled(UNITS)
        layers: list[Layer] = [Flatten("classifier/flatten")]
        for number in range(1, TIMES + 1):
            layers += [
                Dropout(f"classifier/dropout{number}"),
                Dense(f"classifier/dense{number}", features, units, initial=BEGINS),
                LeakyReLU(f"classifier/relu{number}"),
            ]
            features = units
        return [
            *layers,
            Dropout(f"classifier/dropout{TIMES + 1}"),
            Dense("classifier/softmax", features, form.classes, initial=BEGINS),
        ]

    def localisation(self, shape: Shape, path: str) -> list[Layer]:
        return neurons(path, shape, LOOKING)


# Those of Table V, and of section IV-C5.
DEPTHS = 2, 4, 7, 10
TWICE = ("C", 0), ("DL", 2), ("SL", 2), ("DL", 4), ("SL", 4), ("SL", 7)
TABLE = [
    PlanktonNetwork("C", (0,)),
    *(PlanktonNetwork(place, (depth,)) for depth in DEPTHS for place in PLACES),
    *(PlanktonNetwork(place, (depth, depth)) for place, depth in TWICE),
    PlanktonNetwork("C", (0, 0, 0)),
]
