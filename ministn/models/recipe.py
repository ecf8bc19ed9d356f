"""``small-stn``: the network of the Lasagne Recipes notebook spatial_transformer_network.ipynb.

The TSTN paper took its optimiser, schedule and data set from this notebook. Its network is far
smaller: about 178,000 parameters at 60x60. Its convolutions are 'valid', its localisation network
looks at a half-size image, its transformer shrinks the image by three, and it has no dropout.
"""

from ministn.data import Form
from ministn.errors import UserError
from ministn.initializers import HeUniform
from ministn.kinds import kind
from ministn.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sequential
from ministn.models.architecture import Architecture, plane
from ministn.models.network import Network
from ministn.transformer import SpatialTransformer, regression_layer

DOWNSAMPLE = 3
SMALLEST = 32  # the localisation network's side is (((32 // 2) - 4) // 2) - 4 = 2 there

# Lasagne's HeUniform() has gain 1; only the localisation network's dense layer asks for 'relu'.
UNIT_GAIN = HeUniform(gain=1.0)


@kind("small stn")
class SmallStn(Architecture):
    """Localisation: pool, 5x5x20, pool, 5x5x20, 50, 6. Classifier: 3x3x32, 3x3x32, 256."""

    @property
    def name(self) -> str:
        return "small-stn"

    def build(self, form: Form) -> Network:
        size = plane(form)
        if min(size) < SMALLEST:
            raise UserError(
                f"images must be at least {SMALLEST}x{SMALLEST} for small-stn, "
                f"got {size[0]}x{size[1]}"
            )
        localisation = Sequential(
            MaxPool2d("localisation/pool"),
            _unpadded("localisation/conv1", form.channels, 20, 5, pool=True),
            _unpadded("localisation/conv2", 20, 20, 5),
            Flatten("localisation/flatten"),
            Dense("localisation/dense", 20 * _looked_at(size[0]) * _looked_at(size[1]), 50),
            ReLU("localisation/relu"),
            regression_layer("localisation/theta", 50),
        )
        transformer = SpatialTransformer(localisation, size, downsample=DOWNSAMPLE)
        height, width = transformer.size
        classifier = Sequential(
            _unpadded("classifier/conv1", form.channels, 32, 3, pool=True),
            _unpadded("classifier/conv2", 32, 32, 3, pool=True),
            Flatten("classifier/flatten"),
            Dense("classifier/dense", 32 * _read(height) * _read(width), 256, initial=UNIT_GAIN),
            ReLU("classifier/relu"),
            Dense("classifier/softmax", 256, form.classes, initial=UNIT_GAIN),
        )
        return Network(classifier, transformer)


def _unpadded(path: str, channels: int, maps: int, side: int, pool: bool = False) -> Conv2d:
    return Conv2d(path, channels, maps, side, padding="valid", pool=pool, initial=UNIT_GAIN)


def _looked_at(side: int) -> int:
    """Side of the localisation network's last feature map: pool, 5x5, pool, 5x5."""
    return (side // 2 - 4) // 2 - 4


def _read(side: int) -> int:
    """Side of the classifier's last feature map: 3x3, pool, 3x3, pool."""
    return ((side - 2) // 2 - 2) // 2
