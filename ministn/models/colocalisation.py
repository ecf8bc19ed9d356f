"""The networks of co-localisation: STN appendix A.2.

    Localisation network            Encoder: the CNN of section 4.1, for crops of 22x22 pixels
    8 maps 9x9 with stride 4, pool  32 maps 9x9, pool
    32 neurons, ReLU                32 maps 7x7
    32 neurons, ReLU                softmax layer
    transform layer: s, t_x, t_y

The localisation network finds a digit in an image of 84x84 pixels, the transformer cuts it out, and
the encoder describes the crop by its last maps and its scores of the classes. It has learned to
classify digits, and is left as it is. Convolutions are 'valid' and followed by ReLU, "pool" is 2x2
max pooling with stride 2.

The sources leave much open, and in part disagree. What we measured on digits without clutter, most
of it with encoders that had learned from digits of other sizes:

*Description*: the appendix joins what all three layers make of a crop, and does not weigh them. Of
the first layer's maps the loss rises until crops lie almost on the digits, so they are left out. Of
the last maps it falls all the way, but often to crops beside the digits, which the classes' scores
prevent. Both count alike, see tasks/colocalisation.py.
*Neurons*: 8 in each layer by the source that lists the layers, which makes 5,947 parameters in all;
the appendix has 100,000, which takes 128 neurons. So large a network found both of two digits about
as well as ours of 32, which make 22,579, at a learning rate of 0.001, but at 0.005 it lost one to
black crops. One of 8 was slower.
*Crops*: one neuron of the encoder's last maps sees 22x22 pixels, so this is what a crop has, and
nothing is left to pool behind them. Of larger crops, digits are preferred to fill no more than as
many pixels: over five digits, the crops of lowest loss were wider than the digits by an eighth at
24x24 pixels and by a third at 28x28, against a fiftieth at 22x22.
*Bounds*: theta is kept to crops of a fifth of the image up to all of it, with their centre inside.
Without bounds, and with random crops as wide as a digit, the loss was measured to fall by looking
away: black crops are all alike.
*Start*: theta begins with nine tenths of the image, where nearly all is seen wherever a crop lies.
From seven tenths, at a rate of 0.002, the digits 2 and 8 were not found in 1,000 steps.
*Weight decay* of the encoder: with it digits were found in some two thirds of the steps.

With clutter, crops as the paper has them stay nearly as large as the image. There the first crop
must tell what is in it, and 22x22 pixels of the whole image do not: an encoder that had learned
among patches named the digit in three of ten. One for 36x36 pixels, its last maps pooled, did in
nearly half, with half as many maps in its first layer, and crops that climbed the score of the
right class arrived twice as often. So there is ``Colocaliser(CropEncoder(pooled=True), 36)``. Its
maps say where in a crop things lie; with them two of two digits were lost in 300 steps, with the
scores alone both were on their way (90 and 53 images of 100), so ``maps`` can be left out.
"""

import math
from typing import Any

import numpy as np

from ministn.backend import Array, device_of, joined, parted
from ministn.data import Form
from ministn.data.colocalisation import CROP, draw_crops
from ministn.errors import UserError, check_kind, check_whole
from ministn.initializers import ZEROS, Constant
from ministn.kinds import kind
from ministn.layers import Bounded, Conv2d, Dense, Flatten, Layer, ReLU, Sequential
from ministn.models.architecture import Architecture, check_one_channel, plane
from ministn.models.network import Network, NetworkCache
from ministn.parameter import Parameter
from ministn.randomness import Step
from ministn.transformer import SpatialTransformer
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import Attention

WIDTH, CLASSES = 32, 10  # maps of the encoder, and its scores
SMALLEST_READ = 22  # the encoder's sides are 22, 14, 7, 1
MAPS, KERNEL, STRIDE = 8, 9, 4
NEURONS = 32
LOW, HIGH = (0.2, -1.0, -1.0), (1.0, 1.0, 1.0)  # of s, t_x, t_y
START = (0.9, 0.0, 0.0)
SAMPLER = Sampler(border="zeros", supersampling=2)


@kind("crop encoder")
class CropEncoder(Architecture):
    """The classifier of crops. pooled: whether its last maps are pooled, for larger crops."""

    pooled: bool = False

    @property
    def name(self) -> str:
        return "encoder"

    def maps_of(self, size: tuple[int, int]) -> int:
        """How many numbers the last maps of a crop have. Raises UserError for one too small."""
        least = SMALLEST_READ + 2 * self.pooled
        if min(size) < least:
            raise UserError(
                f"images must be at least {least}x{least} for the encoder, got {size[0]}x{size[1]}"
            )
        return math.prod(((side - 8) // 2 - 6) // (1 + self.pooled) for side in size) * WIDTH

    def build(self, form: Form) -> Network:
        features, pool = self.maps_of(plane(form)), self.pooled
        return Network(
            Sequential(
                Conv2d("classifier/conv1", form.channels, WIDTH, 9, padding="valid", pool=True),
                Conv2d("classifier/conv2", WIDTH, WIDTH, 7, padding="valid", pool=pool),
                Flatten("classifier/flatten"),
                Dense("classifier/softmax", features, form.classes),
            )
        )


ENCODER = CropEncoder()


class Description(Layer):
    """Crops (N, 22, 22, 1) -> what an encoder makes of them, (N, 42): a Layer that does not learn.

    The encoder's last maps, then its scores of the classes, each times one of ``scales``. Its
    parameters are fixed: those of a trained encoder. crop: the crops' side in pixels; of larger
    ones there are more maps. maps: False for the scores alone.
    """

    path = "encoder"

    def __init__(self, encoder: CropEncoder = ENCODER, crop: int = CROP, maps: bool = True) -> None:
        whole = encoder.build(Form((crop, crop), classes=CLASSES)).classifier
        *layers, self.scores = whole.layers
        self.maps = Sequential(*layers)
        self.widths = (encoder.maps_of((crop, crop)), CLASSES)[not maps :]
        self._weights = whole.parameters()
        self.scales: tuple[float, ...] = (1.0,) * len(self.widths)

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        maps, of_maps = self.maps.forward(x, step)
        scores, of_scores = self.scores.forward(maps, step)
        parts = zip(self.parts(maps, scores), self.scales, strict=True)
        y = joined([part * k for part, k in parts])
        return y, None if step is None else (of_maps, of_scores)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        if not need_dx:
            return None
        of_maps, of_scores = cache
        dparts = zip(parted(dy, self.widths), self.scales, strict=True)
        *dmaps, dscores = [dpart * k for dpart, k in dparts]
        arriving: Any = self.scores.backward(dscores, of_scores)
        dx = self.maps.backward(sum(dmaps, arriving), of_maps)
        for weight in self._weights:  # they stay
            weight.forget()
        return dx

    def parts(self, maps: Any, scores: Any) -> tuple[Any, ...]:
        """Those of the two that the description is made of."""
        return (maps, scores)[-len(self.scales) :]

    def fixed_parameters(self) -> list[Parameter]:
        return self._weights


class Comparing(Network):
    """A transformer whose crops are described, beside crops at random places.

    Images (N, H, W, 1) -> descriptions (N, D) of what the transformer cuts out, T_n; in training
    (N, 2 D), and beside each that of its image at a random place, R_n, which has no gradient. The
    places are a function of the seed and the step, as dropout is.
    """

    def __init__(self, description: Description, transformer: SpatialTransformer) -> None:
        super().__init__(Sequential(description), transformer)
        self.description = description
        self.cutter = transformer

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, NetworkCache | None]:
        attended, cache = super().forward(x, step)
        if step is None:
            return attended, None
        random = self.at_random(x, step.seed, 1 + step.number, step.first_row)
        return joined([attended, random]), cache

    def backward(self, dy: np.ndarray, cache: NetworkCache) -> None:
        width = sum(self.description.widths)
        super().backward(parted(dy, [width, width])[0], cache)

    def at_random(self, x: Array, seed: int, draw: Any, first_row: int = 0) -> Array:
        """The descriptions of one random crop of each image of x (N, H, W, 1).

        first_row: of a batch whose rows x is a part of.
        """
        device = device_of(x)
        crops = draw_crops(first_row + len(x), seed=seed, step=draw)[first_row:]
        theta: Array = crops.astype(x.dtype)
        if device is not None:
            theta = device.to_gpu(theta)
        return self.description.forward(self.cutter.warp(x, theta))[0]


@kind("colocaliser")
class Colocaliser(Architecture):
    """The localisation network, the transformer and, fixed, an encoder that describes its crops.

    crop: their side in pixels. maps: whether the encoder's last maps describe them, beside its
    scores. Raises UserError for fewer pixels than an encoder reads.
    """

    encoder: CropEncoder = ENCODER
    crop: int = CROP
    maps: bool = True

    def __post_init__(self) -> None:
        check_kind("encoder", self.encoder, CropEncoder)
        check_whole(SMALLEST_READ, crop=self.crop)

    @property
    def name(self) -> str:
        return "colocalisation"

    def build(self, form: Form) -> Comparing:
        check_one_channel(form)
        return Comparing(
            Description(self.encoder, self.crop, self.maps), _cutter(plane(form), self.crop)
        )


def _cutter(size: tuple[int, int], crop: int) -> SpatialTransformer:
    rows, columns = (((side - KERNEL) // STRIDE + 1) // 2 for side in size)
    if min(rows, columns) < 1:
        raise UserError(
            f"images must be at least {KERNEL + STRIDE}x{KERNEL + STRIDE} for co-localisation, "
            f"got {size[0]}x{size[1]}"
        )
    low, high = np.array(LOW), np.array(HIGH)
    share = (np.array(START) - low) / (high - low)
    localisation = Sequential(
        Conv2d("localisation/conv", 1, MAPS, KERNEL, padding="valid", stride=STRIDE, pool=True),
        Flatten("localisation/flatten"),
        Dense("localisation/dense1", rows * columns * MAPS, NEURONS),
        ReLU("localisation/relu1"),
        Dense("localisation/dense2", NEURONS, NEURONS),
        ReLU("localisation/relu2"),
        Dense(
            "localisation/theta",
            NEURONS,
            3,
            initial=ZEROS,
            initial_bias=Constant(np.log(share / (1 - share))),
        ),
        Bounded("localisation/bounds", LOW, HIGH),
    )
    return SpatialTransformer(
        localisation, (crop, crop), transform=Attention(), sampler=SAMPLER, start=START
    )
