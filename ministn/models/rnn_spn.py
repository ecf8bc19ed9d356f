"""Recurrent Spatial Transformer Networks (Sønderby et al. 2015), section 4 and appendix.

    Localisation network              Classification network
    pool                              transformer: an image d times smaller
    20 maps                           M maps, pool, dropout
    pool                              M maps, pool, dropout
    20 maps, dropout                  M maps
    pool                              400 neurons, ReLU
    20 maps                           softmax layer
    RNN-SPN: GRU of 256 units,
        for T steps
    FFN-SPN: 200 neurons, ReLU
    transform layer, 6

Convolutions are 3x3 'valid' and followed by ReLU, "pool" is 2x2 max pooling with stride 2, and the
transform layer begins at the identity. The RNN-SPN (M = 32) looks at the image T times, once for
each digit, and reads what it sees with one classification network. The FFN-SPN (M = 96) looks once
and has T softmax layers side by side. The convolutional network is the FFN-SPN without transformer
and localisation network.

Where the paper and the authors' code differ, this is the code's, and the paper's has a field:

    neurons        400 in the code, 256 in the RNN-SPN of the appendix: ``units``
    convolutions   text and code have a fourth one in the FFN-SPN, and dropout before it, but the
                   code leaves it out when it connects the layers, and so does the appendix:
                   ``convolutions``
    dropout        in the code also after the RNN-SPN's second localisation convolution; its rate
                   is 0 there, and in the paper one that is not told: ``dropout``
"""

from math import sqrt

from ministn.data import Form
from ministn.errors import ABOVE_0, FROM_0_BELOW_1, UserError, check_numbers, check_whole
from ministn.initializers import GlorotUniform
from ministn.kinds import kind
from ministn.layers import (
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
)
from ministn.models.architecture import Architecture, plane
from ministn.models.network import Network
from ministn.recurrent import GRU
from ministn.transformer import Glimpses, SpatialTransformer, downsampled, regression_layer
from ministn.transformer.transforms import Size

MAPS = 20  # of the localisation network
STATE = 256  # units of its GRU
NEURONS = 400  # of the classification network
SMALLEST = 36  # its sides are 36, 18, 16, 8, 6, 3, 1
SMALLEST_READ = {3: 18, 4: 26}  # the classifier's, 18, 16, 8, 6, 3, 1, by its convolutions
GLOROT = GlorotUniform()


def convolution(path: str, channels: int, maps: int, pool: bool = False) -> Conv2d:
    return Conv2d(path, channels, maps, padding="valid", pool=pool, initial=GLOROT)


def dropped(path: str, rate: float) -> list[Layer]:
    """Dropout, unless nothing would be dropped."""
    return [Dropout(path, rate)] if rate else []


def localisation_layers(size: Size, channels: int, dropout: float = 0.0) -> list[Layer]:
    """The left-hand column down to its maps, for (H, W) images."""
    between = dropped("localisation/dropout", dropout)
    return [
        MaxPool2d("localisation/pool1"),
        convolution("localisation/conv1", channels, MAPS, pool=True),
        convolution("localisation/conv2", MAPS, MAPS, pool=not between),
        *([*between, MaxPool2d("localisation/pool2")] if between else []),
        convolution("localisation/conv3", MAPS, MAPS),
        Flatten("localisation/flatten"),
    ]


def looked_at(size: Size) -> int:
    """How many values the localisation network's maps have."""
    rows, columns = (((side // 2 - 2) // 2 - 2) // 2 - 2 for side in size)
    return rows * columns * MAPS


def classification_layers(
    size: Size, channels: int, maps: int, dropout: float, units: int, convolutions: int = 3
) -> list[Layer]:
    """The right-hand column down to its neurons, for (H, W) images."""
    rows, columns = (((side - 2) // 2 - 2) // 2 - 2 * (convolutions - 2) for side in size)
    layers: list[Layer] = []
    for number in range(1, convolutions + 1):
        pool = number < 3
        layers.append(convolution(f"classifier/conv{number}", channels, maps, pool))
        if number < convolutions:
            layers += dropped(f"classifier/dropout{number}", dropout)
        channels = maps
    return [
        *layers,
        Flatten("classifier/flatten"),
        Dense("classifier/dense", rows * columns * maps, units, initial=GLOROT),
        ReLU("classifier/relu"),
    ]


def classifier(form: Form, size: Size, dropout: float, convolutions: int) -> Sequential:
    """The right-hand column with 96 maps and T softmax layers side by side: (N, T, K)."""
    (labels,) = form.labels
    together = labels * form.classes
    # Of the weights, as large as GlorotUniform makes those of each layer by itself.
    gain = sqrt((NEURONS + together) / (NEURONS + form.classes))
    return Sequential(
        *classification_layers(size, form.channels, 96, dropout, NEURONS, convolutions),
        Dense("classifier/softmax", NEURONS, together, initial=GlorotUniform(gain)),
        Reshape("classifier/labels", labels, form.classes),
    )


def checked(form: Form, network: str, downsample: float = 1, convolutions: int = 3) -> Size:
    """(H, W) of the images. Raises UserError where the network cannot have them."""
    size, least = plane(form), SMALLEST_READ[convolutions]
    if min(size) < SMALLEST:
        raise UserError(
            f"images must be at least {SMALLEST}x{SMALLEST} for {network}, got {size[0]}x{size[1]}"
        )
    read = downsampled(size, downsample)
    if min(read) < least:
        raise UserError(
            f"what the classifier reads must have at least {least}x{least} pixels, got "
            f"{read[0]}x{read[1]} of {network}"
        )
    if len(form.labels) != 1:
        raise UserError(f"{network} reads several digits, got labels of shape {form.labels}")
    return size


def check_values(
    dropout: float, downsample: float = 1, units: int = NEURONS, convolutions: int = 3
) -> None:
    """Raise UserError for fields that cannot be."""
    check_numbers(ABOVE_0, downsample=downsample)
    check_numbers(FROM_0_BELOW_1, dropout=dropout)
    check_whole(units=units)
    if convolutions not in SMALLEST_READ:
        words = " or ".join(map(str, SMALLEST_READ))
        raise UserError(f"convolutions must be {words}, got {convolutions}")


@kind("rnn-spn")
class RnnSpn(Architecture):
    """A GRU lets the transformer look once for each digit.

    downsample: d, the output's side is floor(H / d). dropout: the rate p. units: of the
    classification network's dense layer. state: units of the GRU, None for
    the paper's 256.
    """

    downsample: float
    dropout: float = 0.0
    units: int = NEURONS
    state: int | None = None

    def __post_init__(self) -> None:
        check_values(self.dropout, self.downsample, self.units)
        if self.state is not None:
            check_whole(state=self.state)

    @property
    def name(self) -> str:
        return f"rnn-spn-d{self.downsample:g}"

    def build(self, form: Form) -> Network:
        size = checked(form, self.name, self.downsample)
        (glimpses,), state = form.labels, self.state or STATE
        localisation = Sequential(
            *localisation_layers(size, form.channels, self.dropout),
            GRU("localisation/gru", looked_at(size), state, glimpses),
            regression_layer("localisation/theta", state),
        )
        transformer = SpatialTransformer(localisation, size, downsample=self.downsample)
        front = Glimpses(
            transformer,
            *classification_layers(transformer.size, form.channels, 32, self.dropout, self.units),
            Dense("classifier/softmax", self.units, form.classes, initial=GLOROT),
            glimpses=glimpses,
        )
        return Network(Sequential(), front)


@kind("ffn-spn")
class FfnSpn(Architecture):
    """The transformer looks once.

    downsample, dropout: as in RnnSpn. convolutions: of the classification network, 3 or 4.
    """

    downsample: float
    dropout: float = 0.0
    convolutions: int = 3

    def __post_init__(self) -> None:
        check_values(self.dropout, self.downsample, convolutions=self.convolutions)

    @property
    def name(self) -> str:
        return f"ffn-spn-d{self.downsample:g}"

    def build(self, form: Form) -> Network:
        size = checked(form, self.name, self.downsample, self.convolutions)
        localisation = Sequential(
            *localisation_layers(size, form.channels),
            Dense("localisation/dense", looked_at(size), 200, initial=GLOROT),
            ReLU("localisation/relu"),
            regression_layer("localisation/theta", 200),
        )
        transformer = SpatialTransformer(localisation, size, downsample=self.downsample)
        read = self.dropout, self.convolutions
        return Network(classifier(form, transformer.size, *read), transformer)


@kind("sequence cnn")
class SequenceCnn(Architecture):
    """The FFN-SPN's classification network alone. Fields as there."""

    dropout: float = 0.0
    convolutions: int = 3

    def __post_init__(self) -> None:
        check_values(self.dropout, convolutions=self.convolutions)

    @property
    def name(self) -> str:
        return "cnn"

    def build(self, form: Form) -> Network:
        size = checked(form, self.name, convolutions=self.convolutions)
        return Network(classifier(form, size, self.dropout, self.convolutions))


# Those of Table 1.
FACTORS = 1, 2, 3, 4
SPNS: list[Architecture] = [made(factor) for made in (RnnSpn, FfnSpn) for factor in FACTORS]
TABLE: list[Architecture] = [*SPNS, SequenceCnn()]
