"""The house number networks of the placement paper (Finnveden et al. 2020, IV-B), those of STN 4.2.

    block  convolution             block  convolution             then
    1       48 maps, pool          5      192 maps, pool          3072 neurons, ReLU, three times
    2       64 maps                6      192 maps                five softmax layers
    3      128 maps, pool          7      192 maps, pool
    4      160 maps                8      192 maps

Convolutions are 5x5 'same' and followed by ReLU, "pool" is 2x2 max pooling with stride 2. Half of
what each block but the first, and each layer of neurons, gives is dropped.

    Localisation network, small    Localisation network, large
    32 neurons, ReLU               32 maps 5x5, pool
    32 neurons, ReLU               32 maps 5x5
    transform layer                32 neurons, ReLU
                                   32 neurons, ReLU
                                   transform layer

Images are read with mean 0 and deviation 1, of all colours together. Outside its input a
transformer sees zeros, of an image that is black. ``width`` makes the classifier narrower, for
machines on which the paper's takes too long; localisation networks stay.
"""

from math import prod
from typing import ClassVar

from ministn.data import Form
from ministn.errors import UserError
from ministn.kinds import kind
from ministn.layers import Conv2d, Dense, Dropout, Flatten, Layer, ReLU, Reshape, Sequential
from ministn.models.blocks import Blocks, neurons
from ministn.transformer.placed import PLACES, Shape
from ministn.transformer.samplers import Sampler

MAPS = 48, 64, 128, 160, 192, 192, 192, 192
POOLED = 1, 3, 5, 7  # blocks, counted from 1
UNITS, TIMES = 3072, 3
HEADS = "small", "large"
LOOKING = 32  # maps and neurons of a localisation network


@kind("svhn network")
class SvhnNetwork(Blocks):
    """One of them. place, depths, width: see Blocks. head: the localisation network, of HEADS."""

    place: str | None
    depths: tuple[int, ...]
    width: float = 1.0
    head: str = "small"

    count: ClassVar[int] = len(MAPS)
    smallest: ClassVar[int] = 16  # pixels, which four poolings make one of
    pixels: ClassVar[tuple[float, float]] = (0.454, 0.226)
    sampler: ClassVar[Sampler] = Sampler(border="zeros")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head not in HEADS:
            raise UserError(f"head must be {' or '.join(HEADS)}, got {self.head!r}")

    @property
    def name(self) -> str:
        return super().name + ("" if self.head == "small" else f"-{self.head}")

    def blocks(self, form: Form) -> list[Sequential]:
        found, channels = [], form.channels
        for number, usual in enumerate(MAPS, 1):
            path, maps, pool = f"classifier/conv{number}", self.scaled(usual), number in POOLED
            layers: list[Layer] = [Conv2d(path, channels, maps, 5, pool=pool)]
            if number > 1:
                layers.append(Dropout(f"classifier/dropout{number}"))
            found.append(Sequential(*layers))
            channels = maps
        return found

    def reader(self, shape: Shape, form: Form) -> list[Layer]:
        if len(form.labels) != 1:
            raise UserError(f"{self.name} reads several digits, got labels of shape {form.labels}")
        features, units, (labels,) = prod(shape), self.scaled(UNITS), form.labels
        layers: list[Layer] = [Flatten("classifier/flatten")]
        for number in range(1, TIMES + 1):
            layers += [
                Dense(f"classifier/dense{number}", features, units),
                ReLU(f"classifier/relu{number}"),
                Dropout(f"classifier/dropout{self.count + number}"),
            ]
            features = units
        return [
            *layers,
            Dense("classifier/softmax", features, labels * form.classes),
            Reshape("classifier/labels", labels, form.classes),
        ]

    def localisation(self, shape: Shape, path: str) -> list[Layer]:
        if self.head == "small":
            return neurons(path, shape, LOOKING)
        height, width, channels = shape
        return [
            Conv2d(f"{path}/conv1", channels, LOOKING, 5, pool=True),
            Conv2d(f"{path}/conv2", LOOKING, LOOKING, 5),
            *neurons(path, (height // 2, width // 2, LOOKING), LOOKING),
        ]


# Those of Tables III and IV, and of section IV-B4.
DEPTHS = 3, 6, 8
TABLE = [
    SvhnNetwork(None, ()),
    SvhnNetwork("C", (0,)),
    SvhnNetwork("C", (0,), head="large"),
    *(SvhnNetwork(place, (0, 1, 2, 3)) for place in ("C", "SL")),
    *(SvhnNetwork(place, (depth,)) for depth in DEPTHS for place in PLACES),
    SvhnNetwork("C", (0, 0)),
    SvhnNetwork("DL", (3, 3)),
    *(SvhnNetwork("SL", (depth, depth)) for depth in DEPTHS),
]
