"""The MNIST networks of Finnveden, Jansson & Lindeberg 2020, section IV-A.

    Classifier                     Localisation network, at the image or after conv1
    conv1: 9x9, pool               of rotated digits (R):
    conv2: 7x7, pool                   three dense layers, ReLU
    softmax layer                  of translated (T) and of scaled ones (S):
                                       conv 5x5, pool
                                       conv 5x5, pool
                                       dense layer, ReLU
                                   transform layer, 6

Convolutions are 'valid' and followed by ReLU, "pool" is 2x2 max pooling with stride 2, and the
transform layer begins at the identity. All else begins uniform in +-1 / sqrt(fan_in), biases too:
what the authors' software does where nothing is said. What a network looks at first has mean 0 and
deviation 1, as the authors' code can have it. The places C, DL and SL of a transformer are
those of transformer/placed.py; at depth 1 it stands after conv1 or looks with it. With T it makes
an image, or a map, of half the size.

The paper gives no maps and neurons but a budget: 50,000 to 70,000 parameters in a network of R or
T, about 135,000 of S, the same for all of a set as nearly as can be. Those of SIZES keep to it; of
R and T others would, too. The authors' code leaves the last pooling out where T's map is small, and
halves S's images before its localisation network.
"""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import NamedTuple

from ministn.data import Form
from ministn.errors import UserError, is_whole
from ministn.initializers import Uniform
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
from ministn.transformer import downsampled, map_shape, placed, regression_layer
from ministn.transformer.placed import PLACES, Head, Shape
from ministn.transformer.transforms import Size


def convolution(path: str, channels: int, maps: int, kernel: int, pool: bool = True) -> Conv2d:
    begins = Uniform((kernel**2 * channels) ** -0.5)
    return Conv2d(
        path, channels, maps, kernel,
        padding="valid", pool=pool, initial=begins, initial_bias=begins,
    )  # fmt: skip


def dense(path: str, features: int, neurons: int) -> Dense:
    begins = Uniform(features**-0.5)
    return Dense(path, features, neurons, initial=begins, initial_bias=begins)


# -- localisation networks -------------------------------------------------------------------------


def fully_connected(shape: Shape, path: str, neurons: Sequence[int]) -> list[Layer]:
    """Of R, for a map (h, w, c)."""
    layers: list[Layer] = [Flatten(f"{path}/flatten")]
    features = prod(shape)
    for number, width in enumerate(neurons, 1):
        layers += [dense(f"{path}/dense{number}", features, width), ReLU(f"{path}/relu{number}")]
        features = width
    return [*layers, regression_layer(f"{path}/theta", features)]


def convolutional(
    shape: Shape,
    path: str,
    maps: int,
    neurons: int,
    *,
    halved: bool = False,
    pooled: bool = True,
) -> list[Layer]:
    """Of T and S, for a map (h, w, c). halved: before it is looked at. pooled: at the end, too."""
    looking: list[Layer] = [
        *([AvgPool2d(f"{path}/average")] if halved else []),
        convolution(f"{path}/conv1", shape[2], maps, 5),
        convolution(f"{path}/conv2", maps, maps, 5, pool=pooled),
    ]
    features = prod(map_shape(looking, shape))
    return [
        *looking,
        Flatten(f"{path}/flatten"),
        dense(f"{path}/dense", features, neurons),
        ReLU(f"{path}/relu"),
        regression_layer(f"{path}/theta", neurons),
    ]


class Sizes(NamedTuple):
    """Of the networks for one set.

    pixels: mean and deviation of the set's images. classifier: maps of its two convolutions, behind
    or around a transformer. alone: without one.
    at_image, at_map: the localisation network's head at depth 0 and 1. downsample: of the last
    transformer. smallest: side of images for which there is something left everywhere.
    """

    pixels: tuple[float, float]
    classifier: tuple[int, int]
    alone: tuple[int, int]
    at_image: Head
    at_map: Head
    downsample: int
    smallest: int


SIZES = {
    "R": Sizes(
        (0.1307, 0.3081), (16, 32), (24, 44),
        partial(fully_connected, neurons=(32, 32, 32)),
        partial(fully_connected, neurons=(16, 32, 32)),
        downsample=1, smallest=24,
    ),
    "T": Sizes(
        (0.0363, 0.1870), (16, 32), (21, 32),
        partial(convolutional, maps=14, neurons=16),
        partial(convolutional, maps=16, neurons=32, pooled=False),
        downsample=2, smallest=48,
    ),
    "S": Sizes(
        (0.0414, 0.1751), (16, 12), (16, 22),
        partial(convolutional, maps=20, neurons=20, halved=True),
        partial(convolutional, maps=20, neurons=20),
        downsample=1, smallest=40,
    ),
}  # fmt: skip


# -- networks --------------------------------------------------------------------------------------


def after_conv1(size: Size) -> Size:
    """(h, w) of the first map."""
    height, width = ((side - 8) // 2 for side in size)
    return height, width


def classifier(form: Form, sizes: Sizes, maps: Sequence[int], read: Size) -> list[Layer]:
    """The left-hand column. read: (h, w) of what conv2 is given."""
    first, second = maps
    height, width = ((side - 6) // 2 for side in read)
    return [
        Sequential(
            Standardised("classifier/standardised", *sizes.pixels),
            convolution("classifier/conv1", form.channels, first, 9),
        ),
        convolution("classifier/conv2", first, second, 7),
        Flatten("classifier/flatten"),
        dense("classifier/softmax", height * width * second, form.classes),
    ]


def checked(form: Form, network: str, sizes: Sizes) -> Size:
    """(H, W) of the images. Raises UserError where the network cannot have them."""
    size, least = plane(form), sizes.smallest
    if min(size) < least:
        raise UserError(
            f"images must be at least {least}x{least} for {network}, got {size[0]}x{size[1]}"
        )
    return size


def check_sizes(sizes: str) -> None:
    """Raise UserError for a set that SIZES has not got."""
    if sizes not in SIZES:
        raise UserError(f"sizes must be one of {', '.join(SIZES)}, got {sizes!r}")


@kind("placement")
class Placement(Architecture):
    """A classifier with transformers in it.

    place: "C", "DL" or "SL". sizes: of its layers, those for the set "R", "T" or "S". depths: of
    the looks, 0 or 1 each, see transformer/placed.py.
    """

    place: str
    sizes: str
    depths: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        check_sizes(self.sizes)
        if self.place not in PLACES:
            raise UserError(f"place must be one of {', '.join(PLACES)}, got {self.place!r}")
        depths = self.depths
        if not isinstance(depths, tuple) or not depths or not all(map(is_whole, depths)):
            raise UserError(f"depths must be whole numbers, at least one of them, got {depths!r}")
        if not set(depths) <= {0, 1} or list(depths) != sorted(depths):
            raise UserError(f"depths must be 0 or 1 and go up, got {depths!r}")

    @property
    def name(self) -> str:
        """As the paper writes it: "stn-sl1", "stn-c01"."""
        return f"stn-{self.place.lower()}{''.join(map(str, self.depths))}"

    def build(self, form: Form) -> Network:
        sizes = SIZES[self.sizes]
        size = checked(form, self.name, sizes)
        image = (*size, form.channels)

        def head(shape: Shape, path: str) -> Sequence[Layer]:
            if shape != image:
                return sizes.at_map(shape, path)
            first = Standardised(f"{path}/standardised", *sizes.pixels)
            return [first, *sizes.at_image(shape, path)]

        if self.place == "C" and max(self.depths) == 1:
            read = downsampled(after_conv1(size), sizes.downsample)
        else:
            read = after_conv1(downsampled(size, sizes.downsample))
        layers = classifier(form, sizes, sizes.classifier, read)
        return Network(
            *placed(self.place, layers, self.depths, head, image, downsample=sizes.downsample)
        )


@kind("placement cnn")
class PlacementCnn(Architecture):
    """The classifier alone, as large as those with a transformer. sizes: see Placement."""

    sizes: str

    def __post_init__(self) -> None:
        check_sizes(self.sizes)

    @property
    def name(self) -> str:
        return "placement-cnn"

    def build(self, form: Form) -> Network:
        sizes = SIZES[self.sizes]
        read = after_conv1(checked(form, self.name, sizes))
        return Network(Sequential(*classifier(form, sizes, sizes.alone, read)))


def table(sizes: str) -> list[Architecture]:
    """The networks of Tables I and II for a set; Table I has not the first."""
    places = ("C", (0,)), ("C", (1,)), ("DL", (1,)), ("SL", (1,))
    return [PlacementCnn(sizes), *(Placement(place, sizes, depths) for place, depths in places)]
