"""The networks of ``ministn.models`` written again in PyTorch, to be compared with.

    twin = build("arch1-tstn", (60, 60))
    copy_weights(network.parameters(), twin)
    logits = twin(torch.from_numpy(x.transpose(0, 3, 1, 2)))    # twin.eval(): without dropout

Written from the papers' tables and not from our layers, so that it can disagree with them.
PyTorch keeps images (N, C, H, W) and weights output first; only this file knows both orders.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from ministn.parameter import Parameter


class Convolution(nn.Conv2d):
    """A convolution with the path of ours and ``maps``, the shape (kh, kw, C) of its inputs."""

    def __init__(self, path: str, channels: int, kernels: int, side: int, padding: str) -> None:
        super().__init__(channels, kernels, side, padding=padding)
        self.path = path
        self.maps = (side, side, channels)


class Dense(nn.Linear):
    """A dense layer with the path of ours; ``maps`` (H, W, C) is what was flattened before it."""

    def __init__(self, path: str, maps: tuple[int, int, int], features: int) -> None:
        super().__init__(maps[0] * maps[1] * maps[2], features)
        self.path = path
        self.maps = maps


class Twin(nn.Module):
    """Images (N, 1, H, W) -> logits, warped to ``size`` if there is a localisation network."""

    def __init__(
        self,
        classifier: nn.Sequential,
        localisation: nn.Sequential | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.localisation = localisation
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.localisation is not None:
            theta = self.localisation(x).view(-1, 2, 3)
            grid = functional.affine_grid(theta, [len(x), 1, *self.size], align_corners=True)
            x = functional.grid_sample(x, grid, padding_mode="border", align_corners=True)
        return self.classifier(x)


def build(name: str, size: tuple[int, int], classes: int = 10) -> Twin:
    """The twin of ministn.models.NETWORKS[name] for images of a size, with weights of its own."""
    if name == "small-stn":
        return _small_stn(size, classes)
    architecture, kind = int(name[4]), name[6:]
    convolutions = _convolutions("classifier", architecture)
    classifier = _classifier(convolutions, size, classes)
    if kind == "cnn":
        return Twin(classifier)
    if kind == "untied":
        convolutions = _convolutions("localisation", architecture)
    return Twin(classifier, _localisation(convolutions, size), size)


def copy_weights(parameters: Iterable[Parameter], twin: Twin) -> None:
    """Set the twin's weights to those of our network."""
    layers = {m.path: m for m in twin.modules() if isinstance(m, Convolution | Dense)}
    with torch.no_grad():
        for parameter in parameters:
            path, kind = parameter.name.rsplit("/", 1)
            values, target = torch.from_numpy(parameter.data), layers[path].get_parameter(kind)
            if kind == "weight":
                # A dense layer after a flatten is a convolution as large as its maps: both are
                # (height, width, C, K) in our order and (K, C, height, width) in PyTorch's.
                values = values.reshape(*layers[path].maps, -1).permute(3, 2, 0, 1)
            target.copy_(values.reshape(target.shape))


def _convolutions(owner: str, architecture: int) -> list[list[Convolution]]:
    """TSTN Tables 1 and 2: three layers of one or two 3x3 convolutions."""
    layers = []
    for number, (channels, kernels) in enumerate([(1, 32), (32, 64), (64, 128)], 1):
        path = f"{owner}/conv{number}"
        if architecture == 1:
            layers.append([Convolution(path, channels, kernels, 3, "same")])
        else:
            layers.append(
                [
                    Convolution(path + "_1", channels, kernels, 3, "same"),
                    Convolution(path + "_2", kernels, kernels, 3, "same"),
                ]
            )
    return layers


def _rectified(convolutions: list[Convolution]) -> list[nn.Module]:
    return [module for convolution in convolutions for module in (convolution, nn.ReLU())]


def _classifier(
    layers: list[list[Convolution]], size: tuple[int, int], classes: int
) -> nn.Sequential:
    maps = (size[0] // 8, size[1] // 8, 128)
    stack = [module for layer in layers for module in (*_rectified(layer), nn.MaxPool2d(2))]
    return nn.Sequential(
        *stack,
        nn.Flatten(),
        Dense("classifier/dense", maps, 625),
        nn.ReLU(),
        nn.Dropout(0.5),
        Dense("classifier/softmax", (1, 1, 625), classes),
    )


def _localisation(layers: list[list[Convolution]], size: tuple[int, int]) -> nn.Sequential:
    maps = (size[0] // 4, size[1] // 4, 128)
    return nn.Sequential(
        *_rectified(layers[0]),
        nn.MaxPool2d(2),
        *_rectified(layers[1]),
        nn.MaxPool2d(2),
        *_rectified(layers[2]),
        nn.Flatten(),
        Dense("localisation/dense", maps, 200),
        nn.ReLU(),
        Dense("localisation/theta", (1, 1, 200), 6),
    )


def _small_stn(size: tuple[int, int], classes: int) -> Twin:
    """The Lasagne Recipes notebook: all convolutions 'valid', the image shrunk by three."""
    looked_at = [(side // 2 - 4) // 2 - 4 for side in size]
    warped = (size[0] // 3, size[1] // 3)
    read = [((side - 2) // 2 - 2) // 2 for side in warped]
    localisation = nn.Sequential(
        nn.MaxPool2d(2),
        Convolution("localisation/conv1", 1, 20, 5, "valid"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Convolution("localisation/conv2", 20, 20, 5, "valid"),
        nn.ReLU(),
        nn.Flatten(),
        Dense("localisation/dense", (looked_at[0], looked_at[1], 20), 50),
        nn.ReLU(),
        Dense("localisation/theta", (1, 1, 50), 6),
    )
    classifier = nn.Sequential(
        Convolution("classifier/conv1", 1, 32, 3, "valid"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Convolution("classifier/conv2", 32, 32, 3, "valid"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        Dense("classifier/dense", (read[0], read[1], 32), 256),
        nn.ReLU(),
        Dense("classifier/softmax", (1, 1, 256), classes),
    )
    return Twin(classifier, localisation, warped)
