"""The MNIST networks of STN: section 4.1, appendices A.1 and A.4."""

from bisect import bisect_right
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ministn.data import Form
from ministn.errors import UserError
from ministn.models import Stn
from torch_twins.layers import (
    AFFINE,
    Classifier,
    Convolution,
    Dense,
    Regression,
    Spline,
    rectified,
)

PARAMETERS = 400_000  # of each network, as nearly as its width allows
CONTROL_POINTS = 4  # along each side of a spline's grid
SPLINE = (0.0,) * (2 * CONTROL_POINTS**2)  # the identity
LEAST_READ = {"fcn": 1, "cnn": 24}  # pixels each way that a classifier needs

Plane = tuple[int, int]


def build(network: Stn, form: Form) -> Classifier:
    """An FCN or a CNN, alone or behind transformers. Raises UserError for projective ones."""
    if network.transform == "projective":
        raise UserError(f"{network.name} has no twin yet: affine transformers and splines have")
    start, warp = (SPLINE, Spline) if network.transform == "tps" else (AFFINE, None)
    height, width = form.size
    size = shown = read = (height, width)
    if network.halved and network.transform:
        # The classifier reads half as much each way: it is sampled, or else pooled afterwards.
        least = LEAST_READ[network.base]
        shown = read = max(height // 2, least), max(width // 2, least)
        if network.halved == "pooled":
            shown = max(height, 2 * least), max(width, 2 * least)
    count = network.count if network.transform else 0
    look = {"fcn": looking_fcn, "cnn": looking_cnn}[network.base]
    pooled = [nn.AvgPool2d(2)] if shown != read else []

    def made(width: int) -> Classifier:
        paths = ["localisation"] if count == 1 else [f"localisation{n + 1}" for n in range(count)]
        layers = classifier(network.base, read, form.channels * max(1, count), width, form.classes)
        return Classifier(
            nn.Sequential(*pooled, *layers),
            [look(path, size, form.channels, start) for path in paths],
            shown,
            warp and warp(CONTROL_POINTS, shown),
        )

    return made(network.width or closest_width(made))


def classifier(base: str, size: Plane, channels: int, width: int, classes: int) -> list[nn.Module]:
    """Two hidden layers of ``width`` neurons, or of as many maps 9x9 and 7x7, and a softmax."""
    if base == "fcn":
        return [
            nn.Flatten(),
            Dense("classifier/dense1", (*size, channels), width),
            nn.ReLU(),
            Dense("classifier/dense2", (1, 1, width), width),
            nn.ReLU(),
            Dense("classifier/softmax", (1, 1, width), classes),
        ]
    rows, columns = (((side - 8) // 2 - 6) // 2 for side in size)
    return [
        *rectified([Convolution("classifier/conv1", channels, width, 9, "valid")]),
        nn.MaxPool2d(2),
        *rectified([Convolution("classifier/conv2", width, width, 7, "valid")]),
        nn.MaxPool2d(2),
        nn.Flatten(),
        Dense("classifier/softmax", (rows, columns, width), classes),
    ]


def looking_fcn(path: str, size: Plane, channels: int, start: Sequence[float]) -> nn.Sequential:
    """The localisation network of an ST-FCN."""
    return nn.Sequential(
        nn.Flatten(),
        *three_layers(path, (*size, channels)),
        Regression(f"{path}/theta", 32, start),
    )


def three_layers(path: str, maps: tuple[int, int, int]) -> list[nn.Module]:
    """Of 32 neurons each."""
    shapes = [maps, (1, 1, 32), (1, 1, 32)]
    return rectified(Dense(f"{path}/dense{n}", shape, 32) for n, shape in enumerate(shapes, 1))


def looking_cnn(path: str, size: Plane, channels: int, start: Sequence[float]) -> nn.Sequential:
    """The localisation network of an ST-CNN, which sees the image at half its size."""
    rows, columns = ((side // 2 - 4) // 2 - 4 for side in size)
    return nn.Sequential(
        nn.AvgPool2d(2),
        *rectified([Convolution(f"{path}/conv1", channels, 20, 5, "valid")]),
        nn.MaxPool2d(2),
        *rectified([Convolution(f"{path}/conv2", 20, 20, 5, "valid")]),
        nn.Flatten(),
        *rectified([Dense(f"{path}/dense", (rows, columns, 20), 20)]),
        Regression(f"{path}/theta", 20, start),
    )


def closest_width(made: Callable[[int], nn.Module]) -> int:
    """The width at which a network has as nearly PARAMETERS weights and biases as it can."""

    def count(width: int) -> int:
        with torch.device("meta"):  # without the numbers themselves
            return sum(parameter.numel() for parameter in made(width).parameters())

    below = bisect_right(range(1, PARAMETERS), PARAMETERS, key=count)
    return min(below, below + 1, key=lambda width: abs(count(width) - PARAMETERS))
