"""Tied Spatial Transformer Networks (Cirstea & Likforman-Sulem 2016), Tables 1 and 2.

    Localisation CNN                        Classification CNN
    Convolutional layer 1:  32 maps, pool   Convolutional layer 1:  32 maps, pool
    Convolutional layer 2:  64 maps, pool   Convolutional layer 2:  64 maps, pool
    Convolutional layer 3: 128 maps         Convolutional layer 3: 128 maps, pool
    flatten                                 flatten
    200 neurons, ReLU                       625 neurons, ReLU, dropout 0.5
    affine transform layer, 6               softmax layer

All convolutions are 3x3 'same' followed by ReLU, all pooling is 2x2 max pooling with stride 2. A
convolutional layer has one convolution in Architecture 1 and two in Architecture 2. The TSTN's
localisation CNN uses the classification CNN's convolutions; the untied STN's has its own.
"""

from math import inf, sqrt

from ministn.data import Form
from ministn.errors import (
    ABOVE_0,
    FROM_0_BELOW_1,
    UserError,
    check_numbers,
    check_whole,
    is_number,
    is_whole,
)
from ministn.initializers import HeUniform
from ministn.kinds import kind
from ministn.layers import Conv2d, Dense, Dropout, Flatten, Layer, ReLU, Sequential
from ministn.models.architecture import Architecture, plane
from ministn.models.controls import Limited, Stopped
from ministn.models.network import Network
from ministn.transformer import SpatialTransformer, downsampled, regression_layer

MAPS = (32, 64, 128)
LOOKING, NEURONS = 200, 625  # neurons of the two dense layers
SMALLEST = 8  # pixels each way, which three poolings make one of

Size = tuple[int, ...]  # (H, W)


def scaled(count: int, share: float) -> int:
    """So many of the paper's maps or neurons."""
    return max(1, round(count * share))


def convolutional_layers(
    owner: str, architecture: int, channels: int = 1, share: float = 1.0
) -> list[Conv2d]:
    """The three convolutional layers; ``architecture`` convolutions each, the last one pooled.

    channels: of the images. share: see Tstn.
    """
    convolutions = []
    in_channels = channels
    for number, maps in enumerate((scaled(maps, share) for maps in MAPS), 1):
        for repeat in range(1, architecture + 1):
            path = f"{owner}/conv{number}" + (f"_{repeat}" if architecture > 1 else "")
            convolutions.append(Conv2d(path, in_channels, maps, pool=repeat == architecture))
            in_channels = maps
    return convolutions


def classification_layers(
    convolutions: list[Conv2d], size: Size, classes: int, neurons: int = NEURONS
) -> Sequential:
    """The right-hand column of the tables, for (H, W) images."""
    height, width = size[0] // 8, size[1] // 8
    return Sequential(
        *convolutions,
        Flatten("classifier/flatten"),
        Dense("classifier/dense", height * width * convolutions[-1].weight.shape[3], neurons),
        ReLU("classifier/relu"),
        Dropout("classifier/dropout", 0.5),
        Dense("classifier/softmax", neurons, classes),
    )


def looking_layers(convolutions: list[Conv2d], pool: bool = False) -> list[Layer]:
    """The left-hand column of the tables down to flatten: the last pooling is removed.

    pool: whether it is kept.
    """
    *first, last = convolutions
    return [*first, last.with_pool(pool), Flatten("localisation/flatten")]


def looked_at(size: Size, share: float = 1.0, pool: bool = False) -> int:
    """How many features these layers make of (H, W) images."""
    cell = 8 if pool else 4
    return (size[0] // cell) * (size[1] // cell) * scaled(MAPS[-1], share)


@kind("classification cnn")
class ClassificationCnn(Architecture):
    """The classification CNN only. architecture: 1 or 2.

    width: neurons of its dense layer, None for the paper's 625. With 1542 of them Architecture 1
    has as many parameters as its TSTN has on images of 60x60 pixels, with 969 as many as that has
    with d = 3.
    """

    architecture: int
    width: int | None = None

    def __post_init__(self) -> None:
        check_architecture(self.architecture)
        if self.width is not None:
            check_whole(width=self.width)

    @property
    def name(self) -> str:
        return f"arch{self.architecture}-cnn"

    def build(self, form: Form) -> Network:
        size = plane(form)
        check_size(size)
        convolutions = convolutional_layers("classifier", self.architecture, form.channels)
        neurons = self.width or NEURONS
        return Network(classification_layers(convolutions, size, form.classes, neurons))


@kind("untied stn")
class UntiedStn(Architecture):
    """Two networks of equal shape, each with its own convolutions.

    downsample: factor d by which the transformer's output is smaller than the image, floor(H / d).
    dropout: rate after the localisation network's neurons, where the classifier has 0.5. In the
    paper d is 1, and there is no dropout there. share: how much of the paper's maps and neurons
    each layer has, for a network that is small; None for all.

    Of the localisation network alone, None or False as in the paper: clip: limit on each number of
    theta's gradient, which is all that it learns from, see Limited. scale: of its neurons' first
    weights, times He's. pool: whether it keeps the last pooling, which the paper removes. zoom:
    theta begins as [[zoom, 0, 0], [0, zoom, 0]], below 1 the middle of the image, and not as the
    identity.
    """

    architecture: int
    downsample: float = 1.0
    dropout: float = 0.0
    share: float | None = None
    clip: float | None = None
    scale: float | None = None
    pool: bool = False
    zoom: float | None = None

    def __post_init__(self) -> None:
        check_architecture(self.architecture)
        check_downsample(self.downsample)
        check_numbers(FROM_0_BELOW_1, dropout=self.dropout)
        given = {name: getattr(self, name) for name in ("share", "clip", "scale", "zoom")}
        check_numbers(ABOVE_0, **{name: n for name, n in given.items() if n is not None})

    @property
    def name(self) -> str:
        return f"arch{self.architecture}-untied"

    def build(self, form: Form) -> Network:
        size = plane(form)
        output, share = transformed_size(size, self.downsample), self.share or 1.0
        convolutions = convolutional_layers("classifier", self.architecture, form.channels, share)
        zoom, scale = self.zoom or 1.0, self.scale or 1.0
        start = (zoom, 0.0, 0.0, 0.0, zoom, 0.0)
        neurons, features = scaled(LOOKING, share), looked_at(size, share, self.pool)
        initial = HeUniform(scale * sqrt(2.0))
        localisation = Sequential(
            *self.looking_layers(convolutions, form),
            Dense("localisation/dense", features, neurons, initial=initial),
            ReLU("localisation/relu"),
            *([Dropout("localisation/dropout", self.dropout)] if self.dropout else []),
            regression_layer("localisation/theta", neurons, start=start),
            *([] if self.clip is None else [Limited("localisation/limited", self.clip)]),
        )
        return Network(
            classification_layers(convolutions, output, form.classes, scaled(NEURONS, share)),
            SpatialTransformer(localisation, output, start=start),
        )

    def looking_layers(self, classifier: list[Conv2d], form: Form) -> list[Layer]:
        """Those of the localisation network down to flatten: its own."""
        own = convolutional_layers(
            "localisation", self.architecture, form.channels, self.share or 1.0
        )
        return looking_layers(own, self.pool)


@kind("tstn")
class Tstn(UntiedStn):
    """Two networks that share their convolutions: the paper's tied STN.

    stop_gradient: whether the shared convolutions learn from classifying alone. The localisation
    network then looks through them as they are. In the paper they learn from both.
    """

    stop_gradient: bool = False

    @property
    def name(self) -> str:
        return f"arch{self.architecture}-tstn"

    def looking_layers(self, classifier: list[Conv2d], form: Form) -> list[Layer]:
        """The classifier's, the same layers."""
        layers = looking_layers(classifier, self.pool)
        return [Stopped("localisation/stopped", *layers)] if self.stop_gradient else layers


def check_architecture(number: int) -> None:
    """Raise UserError for an architecture that the paper does not have."""
    if not is_whole(number) or number not in (1, 2):
        raise UserError(f"architecture must be 1 or 2, got {number!r}")


def check_downsample(factor: float) -> None:
    """Raise UserError for a factor that cannot be."""
    if not is_number(factor) or not 0 < factor < inf:
        raise UserError(f"downsample must be a number above 0, got {factor!r}")


def transformed_size(size: Size, factor: float) -> Size:
    """(h, w) of the transformer's output. Raises UserError where that or the image is too small."""
    check_size(size)
    output = downsampled(size, factor)
    if min(output) < SMALLEST:
        raise UserError(
            f"downsample {factor:g} makes {output[0]}x{output[1]} of {size[0]}x{size[1]} pixels, "
            f"which must be at least {SMALLEST}x{SMALLEST} for three poolings"
        )
    return output


def check_size(size: Size) -> None:
    """Raise UserError for images that are too small."""
    if min(size) < SMALLEST:
        raise UserError(
            f"images must be at least {SMALLEST}x{SMALLEST} for three poolings, got "
            f"{size[0]}x{size[1]}"
        )
