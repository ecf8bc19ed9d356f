"""The networks of co-localisation: STN appendix A.2.

    Localisation network            Encoder: the CNN of section 4.1, for crops of 24x24 pixels
    8 maps 9x9 with stride 4, pool  32 maps 9x9, pool
    128 neurons, ReLU               32 maps 7x7, pool
    128 neurons, ReLU               softmax layer
    transform layer: s, t_x, t_y

The localisation network finds a digit in an image of 84x84 pixels, the transformer cuts it out, and
the encoder describes the crop by what its three layers make of it. It has learned to classify
digits, and is left as it is. Convolutions are 'valid' and followed by ReLU, "pool" is 2x2 max
pooling with stride 2.

The sources leave much open, and in part disagree. *Neurons*: by the one that lists the layers there
are 8 in each, which makes 5,947 parameters in all; the appendix has 100,000. 128 make 100,627.
*Crops*: one neuron of the encoder's last maps sees 22x22 pixels. At 24x24 a digit that fills the
crop is seen whole; at 28x28 crops that are wider by a third were measured to be preferred.
*Bounds*: theta is kept to crops of a fifth of the image up to all of it, with their centre inside;
it begins with nine tenths. Without bounds the loss was measured to fall by looking away: black
crops are all alike.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ministn.data.colocalisation import CROP
from ministn.errors import UserError
from ministn.initializers import ZEROS, Constant
from ministn.layers import Bounded, Conv2d, Dense, Flatten, ReLU, Sequential
from ministn.models.network import Network
from ministn.models.stn import SMALLEST_READ, cnn
from ministn.parameter import Parameter, ParameterBuffer
from ministn.randomness import Step
from ministn.samplers import Sampler
from ministn.transformer import SpatialTransformer
from ministn.transforms import Attention, Size

WIDTH = 32  # maps of the encoder
MAPS, KERNEL, STRIDE = 8, 9, 4
NEURONS = 128
LOW, HIGH = (0.2, -1.0, -1.0), (1.0, 1.0, 1.0)  # of s, t_x, t_y
START = (0.9, 0.0, 0.0)
SAMPLER = Sampler(border="zeros", supersampling=2)


def encoder(size: Size = (CROP, CROP), classes: int = 10) -> Network:
    """The classifier of crops. Raises UserError for images smaller than it can read."""
    if min(size) < SMALLEST_READ:
        raise UserError(
            f"images must be at least {SMALLEST_READ}x{SMALLEST_READ} for the encoder, got "
            f"{size[0]}x{size[1]}"
        )
    return Network(Sequential(*cnn(size, 1, WIDTH, classes)))


class Description:
    """Crops (N, 24, 24, 1) -> what an encoder makes of them, (N, D): a Layer that does not learn.

    What each of the encoder's layers with weights makes of a crop, one after the other, each
    divided by the square root of its length, so that the squared distance of two descriptions is
    the sum of three means; all times ``scale``.

    buffer: of the encoder's parameters, to be filled with those of a trained one.
    """

    path = "encoder"

    def __init__(self, dtype: Any = np.float32) -> None:
        self.layers = encoder().classifier.layers
        weights = [p for layer in self.layers for p in layer.parameters()]
        self.buffer = ParameterBuffer(weights, 0, dtype)
        self.scale = 1.0

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        parts, caches = [], []
        for layer in self.layers:
            x, cache = layer.forward(x, step)
            caches.append(cache)
            if layer.parameters():
                parts.append(x)
        described = [y.reshape(len(y), -1) * self._factor(y) for y in parts]
        return np.concatenate(described, axis=1), None if step is None else (parts, caches)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        if not need_dx:
            return None
        parts, caches = list(cache[0]), cache[1]
        ends = np.cumsum([y[0].size for y in parts])[:-1]
        gradients = np.split(dy, ends, axis=1)
        dx: Any = 0
        for layer, own in zip(reversed(self.layers), reversed(caches), strict=True):
            if layer.parameters():
                y, dpart = parts.pop(), gradients.pop()
                dx = dx + dpart.reshape(y.shape) * self._factor(y)
            dx = layer.backward(dx, own)
        self.buffer.zero_grad()  # of weights that stay
        return dx

    def _factor(self, y: np.ndarray) -> np.floating:
        return y.dtype.type(self.scale / np.sqrt(y[0].size))

    def parameters(self) -> list[Parameter]:
        return []


def colocalisation(size: Size, classes: int = 10, dtype: Any = np.float32) -> Network:
    """Images (H, W) -> descriptions of what the transformer cuts out.

    classes: of no consequence. Raises UserError for images too small for the localisation network.
    """
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
    transformer = SpatialTransformer(
        localisation, (CROP, CROP), transform=Attention(), sampler=SAMPLER, start=START
    )
    return Network(Sequential(Description(dtype)), transformer)


NETWORKS: dict[str, Callable[..., Network]] = {
    "encoder": encoder,
    "colocalisation": colocalisation,
}
