"""What PyTorch's networks are made of: layers with the paths of ours, and transformers.

PyTorch keeps images (N, C, H, W) and weights output first: ministn/interop/layout.py.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ministn.interop.layout import convolution
from ministn.parameter import Parameter

AFFINE = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0  # the identity


class Convolution(nn.Conv2d):
    """A convolution with the path of ours and ``maps``: of its weight, the inputs' (kh, kw, C)."""

    def __init__(
        self, path: str, channels: int, kernels: int, side: int, padding: str, stride: int = 1
    ) -> None:
        super().__init__(channels, kernels, side, padding=padding, stride=stride)
        self.path = path
        self.maps = {"weight": (side, side, channels)}


class Dense(nn.Linear):
    """A dense layer with the path of ours; ``maps`` (H, W, C) are what was flattened before it."""

    def __init__(self, path: str, maps: tuple[int, int, int], features: int) -> None:
        super().__init__(maps[0] * maps[1] * maps[2], features)
        self.path = path
        self.maps = {"weight": maps}


class Regression(Dense):
    """The last layer of a localisation network, which begins with one theta for all images."""

    def __init__(self, path: str, features: int, start: Sequence[float] = AFFINE) -> None:
        super().__init__(path, (1, 1, features), len(start))
        with torch.no_grad():
            self.weight.zero_()
            self.bias.copy_(torch.tensor(start))


class Classifier(nn.Module):
    """Images (N, C, H, W) -> logits, through transformers side by side if there are any.

    localisations: a network for each, images -> theta. size: (h, w) of what each shows; the
    classifier gets all of it, one after the other along the channels. warp: (x, theta, size) ->
    what theta shows of x; by default theta is affine.
    """

    def __init__(
        self,
        classifier: nn.Module,
        localisations: Sequence[nn.Module] = (),
        size: tuple[int, ...] = (),
        warp: Callable[..., torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.localisations = nn.ModuleList(localisations)
        self.size = size
        self.warp = warp or warped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.localisations:
            shown = [self.warp(x, look(x), self.size) for look in self.localisations]
            x = torch.cat(shown, dim=1) if len(shown) > 1 else shown[0]
        return self.classifier(x)

    def loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(self(x), labels)


def warped(
    x: torch.Tensor, theta: torch.Tensor, size: tuple[int, ...], outside: str = "border"
) -> torch.Tensor:
    """x sampled where an affine theta says; volumes and their theta (N, 12) too."""
    axes = len(size)
    grid = functional.affine_grid(
        theta.view(-1, axes, axes + 1), [len(x), x.shape[1], *size], align_corners=True
    )
    return functional.grid_sample(x, grid, padding_mode=outside, align_corners=True)


class Spline(nn.Module):
    """x sampled where thin plate splines say: theta (N, 2 side^2), how far the source of each
    control point lies from it, first along x. Bookstein 1989, as ministn/transformer/transforms/.
    """

    def __init__(self, side: int, size: tuple[int, int]) -> None:
        super().__init__()
        points = _places(side, side)
        count = len(points)
        system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
        system[:count] = _terms(points, points)
        system[count:, :count] = system[:count, count:].T
        coefficients = torch.linalg.solve(system, torch.eye(count + 3, count, dtype=torch.float64))
        places = _places(*size)
        self.places, self.influence = places, _terms(places, points) @ coefficients

    def forward(self, x: torch.Tensor, theta: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        places, influence = (known.to(theta.dtype) for known in (self.places, self.influence))
        moved = influence @ theta.view(len(x), 2, -1).transpose(1, 2)
        grid = (places + moved).view(len(x), *size, 2)
        return functional.grid_sample(x, grid, padding_mode="border", align_corners=True)


def _places(rows: int, columns: int) -> torch.Tensor:
    """Pairs (x, y) of a regular grid from -1 to 1, by rows: (rows columns, 2)."""
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in (rows, columns))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2)


def _terms(places: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """r^2 ln r^2 of every point, 1, x and y, at places (M, 2)."""
    squared = ((places[:, None] - points) ** 2).sum(dim=-1)
    return torch.cat([torch.xlogy(squared, squared), torch.ones(len(places), 1), places], dim=1)


def rectified(convolutions: Iterable[nn.Module]) -> list[nn.Module]:
    """Each with a ReLU behind it."""
    return [module for convolution in convolutions for module in (convolution, nn.ReLU())]


def copy_weights(parameters: Iterable[Parameter], twin: nn.Module) -> None:
    """Set the twin's weights to those of our network. Raises KeyError for what it has not."""
    layers: dict[str, Any] = {layer.path: layer for layer in _with_a_path(twin)}
    with torch.no_grad():
        for parameter in parameters:
            path, kind = parameter.name.rsplit("/", 1)
            target = layers[path].get_parameter(kind)
            values = parameter.data
            if kind in layers[path].maps:
                # A dense layer after a flatten is a convolution as large as its maps.
                height, width, channels = layers[path].maps[kind]
                values = convolution(height, width, channels, len(target)).there(values)
            target.copy_(torch.from_numpy(values).reshape(target.shape))


def like_ours(twin: nn.Module) -> dict[str, np.ndarray]:
    """The gradients of the twin's weights by our parameters' names, each of the size of ours."""
    found = {}
    for layer in _with_a_path(twin):
        for kind, parameter in layer.named_parameters():
            if not parameter.requires_grad:
                continue
            gradient = parameter.grad.numpy()
            if kind in layer.maps:
                height, width, channels = layer.maps[kind]
                shape = height, width, channels, len(gradient)
                gradient = convolution(*shape).back(gradient, shape)
            found[f"{layer.path}/{kind}"] = gradient
    return found


def _with_a_path(twin: nn.Module) -> list[Any]:
    """Its layers that have one of our paths, and so weights of ours."""
    return [module for module in twin.modules() if hasattr(module, "path")]
