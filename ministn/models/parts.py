"""Networks that look at parts of a picture: STN section 4.3, for machines without an Inception.

    Localisation network           Part description network, one for each window
    average pooling 2x2            16 maps 3x3, pool
    16 maps 5x5, pool              32 maps 3x3, pool
    32 maps 5x5, pool              64 neurons, ReLU
    64 neurons, ReLU
    2 numbers for each window      then, of all windows: a softmax layer

As in the paper, one localisation network moves all N windows, each of half the picture's sides,
which begin side by side; each is sampled at half as many pixels each way and read by a network of
its own; what these make of them is concatenated; a transformer predicts a place alone, and all is
learned from classes. The paper's networks are Inceptions that know ImageNet, cut before their last
pooling for the localisation network; these here begin at random, and are small. Convolutions are
'same' and followed by ReLU, "pool" is 2x2 max pooling with stride 2.

Without windows, the picture at half its size is read by one part description network.
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

SCALE = 0.5  # of a window's sides over the picture's
SMALLEST = 8  # the sides of what is read are 8, 4, 2, 1
UNITS = 64
PIXELS = 0.33, 0.2  # mean and deviation of the drawn pictures, of all colours together


def network(path: str, shape: Shape, maps: tuple[int, int], kernel: int) -> list[Layer]:
    """Two convolutions and a layer of neurons, of pictures (h, w, c)."""
    first, second = maps
    looking: list[Layer] = [
        Standardised(f"{path}/standardised", *PIXELS),
        Conv2d(f"{path}/conv1", shape[2], first, kernel, pool=True),
        Conv2d(f"{path}/conv2", first, second, kernel, pool=True),
    ]
    return [
        *looking,
        Flatten(f"{path}/flatten"),
        Dense(f"{path}/dense", prod(map_shape(looking, shape)), UNITS),
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
        size = plane(form)
        if min(size) < 2 * SMALLEST:
            raise UserError(
                f"images must be at least {2 * SMALLEST}x{2 * SMALLEST} for {self.name}, "
                f"got {size[0]}x{size[1]}"
            )
        read = size[0] // 2, size[1] // 2
        shape = *read, form.channels

        def reader(path: str) -> list[Layer]:
            return network(path, shape, (16, 32), 3)

        last = Dense("classifier/softmax", max(1, self.windows) * UNITS, form.classes)
        halved = AvgPool2d("localisation/average")
        if not self.windows:
            whole = AvgPool2d("classifier/average")
            return Network(Sequential(whole, *reader("classifier"), last))
        looking = [halved, *network("localisation", shape, (16, 32), 5)]
        front = windows(looking, UNITS, self.windows, read, scale=SCALE, path="localisation")
        readers = [Sequential(*reader(f"part{n + 1}")) for n in range(self.windows)]
        return Network(Sequential(Towers(*readers), last), front)


TABLE = [PartNetwork(count) for count in (0, 2, 4)]
