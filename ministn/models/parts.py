"""Networks that look at parts of a picture: STN section 4.3, for machines without an Inception.

    Localisation network           Part description network, one for each window
    average pooling 4x4            16 maps 3x3, pool
    16 maps 5x5                    16 maps 3x3, pool
    16 maps 5x5, pool              32 neurons, ReLU
    32 neurons, ReLU
    2 numbers for each window      then, of all windows: a softmax layer

As in the paper, one localisation network moves all N windows, each of half the picture's sides,
which begin side by side; each is read by a network of its own; what these make of them is
concatenated; only places are predicted, and all is learned from classes. The paper's networks are
Inceptions that know ImageNet, cut before their last pooling for the localisation network; these
here begin at random, and are small. Convolutions are 'same' and followed by ReLU, "pool" is 2x2 max
pooling with stride 2.

A window has a quarter of the picture's pixels each way, and each pixel is the mean of 2x2 points:
where points are read singly, what a part of few pixels gives for a gradient says little of which
way to move. Without windows, the whole picture is read in as many pixels by one such network.
"""

from math import prod

from ministn.data import Form
from ministn.errors import UserError, check_whole
from ministn.kinds import kind
from ministn.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    ReLU,
    Sequential,
    Standardised,
)
from ministn.models.architecture import Architecture, plane
from ministn.models.network import Network
from ministn.transformer import Towers, map_shape, windows
from ministn.transformer.placed import Shape
from ministn.transformer.samplers import Sampler

SCALE = 0.5  # of a window's sides over the picture's
FINER = 2  # points of a window's pixel, each way
SMALLER = 4  # pixels of the picture's sides over those of what is read
SMALLEST = 4  # the sides of what is read are 4, 2, 1
UNITS, MAPS = 32, 16
PIXELS = 0.33, 0.155  # mean and deviation of the drawn pictures, of all colours together


def looking(path: str, shape: Shape) -> list[Layer]:
    """The left-hand column down to its neurons, of pictures (h, w, c) that are that small."""
    return neurons(
        path,
        shape,
        Conv2d(f"{path}/conv1", shape[2], MAPS, 5),
        Conv2d(f"{path}/conv2", MAPS, MAPS, 5, pool=True),
    )


def reading(path: str, shape: Shape) -> list[Layer]:
    """The right-hand column, of windows (h, w, c)."""
    return neurons(
        path,
        shape,
        Conv2d(f"{path}/conv1", shape[2], MAPS, pool=True),
        Conv2d(f"{path}/conv2", MAPS, MAPS, pool=True),
    )


def neurons(path: str, shape: Shape, *convolutions: Layer) -> list[Layer]:
    """The convolutions, of standardised values, and a layer of neurons."""
    return [
        Standardised(f"{path}/standardised", *PIXELS),
        *convolutions,
        Flatten(f"{path}/flatten"),
        Dense(f"{path}/dense", prod(map_shape(convolutions, shape)), UNITS),
        ReLU(f"{path}/relu"),
    ]


@kind("part network")
class PartNetwork(Architecture):
    """One of them. windows: how many, 0 for the convolutional network alone."""

    windows: int = 2

    def __post_init__(self) -> None:
        check_whole(0, windows=self.windows)

    @property
    def name(self) -> str:
        """As the paper writes it: "cnn", "2xst-cnn"."""
        return f"{self.windows}xst-cnn" if self.windows else "cnn"

    def build(self, form: Form) -> Network:
        size, least = plane(form), SMALLER * SMALLEST
        if min(size) < least:
            raise UserError(
                f"images must be at least {least}x{least} for {self.name}, got {size[0]}x{size[1]}"
            )
        read = size[0] // SMALLER, size[1] // SMALLER
        shape = *read, form.channels
        last = Dense("classifier/softmax", max(1, self.windows) * UNITS, form.classes)
        if not self.windows:
            smaller = AvgPool2d("classifier/average", SMALLER)
            return Network(Sequential(smaller, *reading("classifier", shape), last))
        smaller = AvgPool2d("localisation/average", SMALLER)
        front = windows(
            [smaller, *looking("localisation", shape)],
            UNITS,
            self.windows,
            read,
            scale=SCALE,
            sampler=Sampler(supersampling=FINER),
            path="localisation",
        )
        networks = [Sequential(*reading(f"part{n + 1}", shape)) for n in range(self.windows)]
        return Network(Sequential(Towers(*networks), last), front)


TABLE = [PartNetwork(count) for count in (0, 2, 4)]
