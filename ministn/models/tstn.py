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

from ministn.errors import UserError
from ministn.layers import Conv2d, Dense, Dropout, Flatten, ReLU, Sequential
from ministn.models.network import Network
from ministn.transformer import SpatialTransformer, regression_layer

MAPS = (32, 64, 128)

Size = tuple[int, int]


def convolutional_layers(owner: str, architecture: int) -> list[Conv2d]:
    """The three convolutional layers; ``architecture`` convolutions each, the last one pooled."""
    convolutions = []
    in_channels = 1
    for number, channels in enumerate(MAPS, 1):
        for repeat in range(1, architecture + 1):
            path = f"{owner}/conv{number}" + (f"_{repeat}" if architecture > 1 else "")
            convolutions.append(Conv2d(path, in_channels, channels, pool=repeat == architecture))
            in_channels = channels
    return convolutions


def classification_layers(convolutions: list[Conv2d], size: Size, classes: int) -> Sequential:
    """The right-hand column of the tables, for (H, W) images."""
    height, width = size[0] // 8, size[1] // 8
    return Sequential(
        *convolutions,
        Flatten("classifier/flatten"),
        Dense("classifier/dense", height * width * MAPS[-1], 625),
        ReLU("classifier/relu"),
        Dropout("classifier/dropout", 0.5),
        Dense("classifier/softmax", 625, classes),
    )


def localisation_layers(convolutions: list[Conv2d], size: Size) -> Sequential:
    """The left-hand column of the tables: the last pooling is removed."""
    height, width = size[0] // 4, size[1] // 4
    *first, last = convolutions
    return Sequential(
        *first,
        last.with_pool(False),
        Flatten("localisation/flatten"),
        Dense("localisation/dense", height * width * MAPS[-1], 200),
        ReLU("localisation/relu"),
        regression_layer("localisation/theta", 200),
    )


def classification_cnn(architecture: int, size: Size, classes: int) -> Network:
    """The classification CNN only."""
    check_size(size)
    convolutions = convolutional_layers("classifier", architecture)
    return Network(classification_layers(convolutions, size, classes))


def untied_stn(architecture: int, size: Size, classes: int, downsample: float = 1) -> Network:
    """Two networks of equal shape, each with its own convolutions."""
    own = convolutional_layers("localisation", architecture)
    return _with_transformer(architecture, size, classes, downsample, own)


def tstn(architecture: int, size: Size, classes: int, downsample: float = 1) -> Network:
    """Two networks that share their convolutions."""
    return _with_transformer(architecture, size, classes, downsample, None)


def _with_transformer(
    architecture: int,
    size: Size,
    classes: int,
    downsample: float,
    localisation_convolutions: list[Conv2d] | None,
) -> Network:
    output = (int(size[0] / downsample), int(size[1] / downsample))
    check_size(size)
    check_size(output)
    convolutions = convolutional_layers("classifier", architecture)
    return Network(
        classification_layers(convolutions, output, classes),
        SpatialTransformer(
            localisation_layers(localisation_convolutions or convolutions, size), output
        ),
    )


def check_size(size: Size) -> None:
    """Three poolings need at least 8 pixels on each side."""
    if min(size) < 8:
        raise UserError(f"images must be at least 8x8 for three poolings, got {size[0]}x{size[1]}")
