"""The MNIST networks of Jaderberg et al. 2015 (STN): section 4.1, appendices A.1 and A.4.

    FCN                            CNN
    width neurons, ReLU            width maps 9x9, pool
    width neurons, ReLU            width maps 7x7, pool
    softmax layer                  softmax layer

    Localisation net of an ST-FCN  Localisation net of an ST-CNN
    32 neurons, ReLU               average pooling 2x2 of the image
    32 neurons, ReLU               20 maps 5x5, pool
    32 neurons, ReLU               20 maps 5x5
    transform layer                20 neurons, ReLU
                                   transform layer

Convolutions are 'valid' and followed by ReLU, "pool" is 2x2 max pooling with stride 2, and there is
no dropout. The transform layer begins at the identity. An ST-FCN is an FCN behind a transformer
whose output is as large as its input, but in addition; an ST-CNN likewise.

For RTS and TC, where the digit is smaller than the image, 2x2 average pooling follows the
transformer. No source pools for the base networks, nor do we: they cannot bring the digit closer
first, and would only see less of it. In MNIST addition, whose digits are those of RTS and of whose
networks the paper tells hardly more, each transformer samples half as many pixels both ways and
pools nothing. With as many, two transformers would leave the FCN 24 neurons in each layer, and to
sample four times as many only to pool them would be most of the work.

The sources leave two things open. *Width*: all networks of a set have the same number of
parameters, but which is not in the paper. We take 400,000, and for every network the width that
comes closest to it. *Half of RTS*: 21x21 pixels are too few for the CNN, so there the
transformer's output is 48x48.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Literal, cast, get_args

from ministn.data import Form
from ministn.errors import UserError, check_whole
from ministn.kinds import kind
from ministn.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, ReLU, Sequential
from ministn.models.architecture import Architecture, plane
from ministn.models.network import Network
from ministn.transformer import Parallel, SpatialTransformer, regression_layer
from ministn.transformer.transforms import AFFINE, Projective, Size, ThinPlateSpline, Transform

Halved = Literal["", "pooled", "sampled"]

PARAMETERS = 400_000  # of each network, as nearly as its width allows
SMALLEST = 28  # the localisation CNN's sides are 28, 14, 10, 5, 1
SMALLEST_READ = 24  # the CNN's sides are 24, 16, 8, 2, 1


def fcn(size: Size, channels: int, width: int, classes: int) -> list[Layer]:
    """The classifier without a convolution, for (H, W) images."""
    return [
        Flatten("classifier/flatten"),
        Dense("classifier/dense1", size[0] * size[1] * channels, width),
        ReLU("classifier/relu1"),
        Dense("classifier/dense2", width, width),
        ReLU("classifier/relu2"),
        Dense("classifier/softmax", width, classes),
    ]


def cnn(size: Size, channels: int, width: int, classes: int) -> list[Layer]:
    """The convolutional classifier, for (H, W) images."""
    rows, columns = (((side - 8) // 2 - 6) // 2 for side in size)
    return [
        Conv2d("classifier/conv1", channels, width, 9, padding="valid", pool=True),
        Conv2d("classifier/conv2", width, width, 7, padding="valid", pool=True),
        Flatten("classifier/flatten"),
        Dense("classifier/softmax", rows * columns * width, classes),
    ]


def localisation_fcn(owner: str, size: Size, channels: int, transform: Transform) -> Sequential:
    """The localisation network of an ST-FCN, for (H, W) images."""
    return Sequential(
        Flatten(f"{owner}/flatten"),
        Dense(f"{owner}/dense1", size[0] * size[1] * channels, 32),
        ReLU(f"{owner}/relu1"),
        Dense(f"{owner}/dense2", 32, 32),
        ReLU(f"{owner}/relu2"),
        Dense(f"{owner}/dense3", 32, 32),
        ReLU(f"{owner}/relu3"),
        regression_layer(f"{owner}/theta", 32, transform),
    )


def localisation_cnn(owner: str, size: Size, channels: int, transform: Transform) -> Sequential:
    """The localisation network of an ST-CNN, for (H, W) images."""
    height, width = ((side // 2 - 4) // 2 - 4 for side in size)
    return Sequential(
        AvgPool2d(f"{owner}/average"),
        Conv2d(f"{owner}/conv1", channels, 20, 5, padding="valid", pool=True),
        Conv2d(f"{owner}/conv2", 20, 20, 5, padding="valid"),
        Flatten(f"{owner}/flatten"),
        Dense(f"{owner}/dense", height * width * 20, 20),
        ReLU(f"{owner}/relu"),
        regression_layer(f"{owner}/theta", 20, transform),
    )


def stn(
    size: Size,
    classes: int,
    *,
    convolutional: bool,
    transforms: Sequence[Transform] = (),
    channels: int = 1,
    halved: Halved = "",
    width: int | None = None,
) -> Network:
    """An FCN or a CNN, behind one transformer for each of ``transforms``, all side by side.

    size: (H, W) of the images, of so many channels; each transformer sees and warps all of them.
    halved: how the classifier reads half as much of what the transformers show: "pooled" by 2
    after them, or "sampled" by them at half as many pixels both ways. width: of the classifier, by
    default that which makes the number of parameters closest to PARAMETERS.

    Raises UserError for images that are too small, or too large for so few parameters.
    """
    if min(size) < SMALLEST:
        raise UserError(
            f"images must be at least {SMALLEST}x{SMALLEST} for the networks of STN, "
            f"got {size[0]}x{size[1]}"
        )
    output = read = size
    pooling: list[Layer] = []
    if halved and transforms:
        least = SMALLEST_READ if convolutional else 1
        output = read = max(size[0] // 2, least), max(size[1] // 2, least)
        if halved == "pooled":
            output = max(size[0], 2 * least), max(size[1], 2 * least)
            pooling = [AvgPool2d("classifier/average")]
    classifier = cnn if convolutional else fcn
    front = _front(convolutional, transforms, size, channels, output)
    joined = channels * max(1, len(transforms))

    def network(width: int) -> Network:
        return Network(Sequential(*pooling, *classifier(read, joined, width, classes)), front)

    return network(width or closest_width(network, size))


def _front(
    convolutional: bool, transforms: Sequence[Transform], size: Size, channels: int, output: Size
) -> SpatialTransformer | Parallel | None:
    localisation = localisation_cnn if convolutional else localisation_fcn
    numbers = [""] if len(transforms) == 1 else [str(n + 1) for n in range(len(transforms))]
    transformers = [
        SpatialTransformer(
            localisation(f"localisation{number}", size, channels, transform),
            output,
            transform=transform,
            path=f"transformer{number}",
        )
        for number, transform in zip(numbers, transforms, strict=True)
    ]
    if len(transformers) > 1:
        return Parallel(*transformers)
    return transformers[0] if transformers else None


def closest_width(network: Callable[[int], Network], size: Size) -> int:
    """The width at which ``network(width)`` has as nearly PARAMETERS parameters as it can.

    Raises UserError if it has more at width 1: localisation networks grow with the images' size.
    """
    below = bisect_right(range(1, PARAMETERS), PARAMETERS, key=lambda width: network(width).count)
    if below == 0:
        raise UserError(
            f"inputs of {'x'.join(map(str, size))} are too large for the networks of STN: their "
            f"localisation networks alone have more than {PARAMETERS:,} parameters"
        )
    return min(below, below + 1, key=lambda width: abs(network(width).count - PARAMETERS))


TRANSFORMS = {"affine": AFFINE, "projective": Projective(), "tps": ThinPlateSpline()}
BASES = "fcn", "cnn"


@kind("stn")
class Stn(Architecture):
    """An FCN or a CNN, alone or behind transformers.

    base: "fcn" or "cnn". transform: of TRANSFORMS, None for no transformer. count: how many, side
    by side. halved, width: see ``stn``.
    """

    base: str
    transform: str | None = None
    count: int = 1
    halved: str = ""
    width: int | None = None

    def __post_init__(self) -> None:
        known = {
            "base": BASES,
            "transform": (None, *TRANSFORMS),
            "halved": get_args(Halved),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise UserError(
                    f"{name} of an stn must be one of {', '.join(map(repr, values))}, "
                    f"got {getattr(self, name)!r}"
                )
        check_whole(count=self.count)
        if self.width is not None:
            check_whole(width=self.width)

    @property
    def name(self) -> str:
        """As the paper writes it: "cnn", "st-cnn-tps", "2st-fcn-affine"."""
        if self.transform is None:
            return self.base
        return f"{self.count if self.count > 1 else ''}st-{self.base}-{self.transform}"

    def build(self, form: Form) -> Network:
        return stn(
            plane(form),
            form.classes,
            convolutional=self.base == "cnn",
            transforms=[TRANSFORMS[self.transform]] * self.count if self.transform else [],
            channels=form.channels,
            halved=cast(Halved, self.halved),
            width=self.width,
        )


ALONE = [Stn(base) for base in BASES]
TABLE = [*ALONE, *(Stn(base, transform) for base in BASES for transform in TRANSFORMS)]
ADDITION = [*ALONE, *(Stn("fcn", transform, count) for count in (1, 2) for transform in TRANSFORMS)]
