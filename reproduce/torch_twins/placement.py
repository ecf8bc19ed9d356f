"""The placement paper's MNIST networks: its section IV-A, the authors' code, and our sizes."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ministn.data import Form
from ministn.errors import UserError
from ministn.models import Placement, PlacementCnn
from torch_twins.layers import Convolution, Dense, Regression, rectified, warped


class Sizes(NamedTuple):
    """pixels: mean and deviation. maps, alone: of the classifier's convolutions, behind a
    transformer and without. dense: neurons of R's localisation network, at the image and at a map.
    looking: maps and neurons of the others'. factor: by which the transformer shrinks its input.
    """

    pixels: tuple[float, float]
    maps: tuple[int, int]
    alone: tuple[int, int]
    dense: tuple[tuple[int, ...], ...] = ()
    looking: tuple[tuple[int, int], ...] = ()
    factor: int = 1


SIZES = {
    "R": Sizes((0.1307, 0.3081), (16, 32), (24, 44), dense=((32, 32, 32), (16, 32, 32))),
    "T": Sizes((0.0363, 0.1870), (16, 32), (21, 32), looking=((14, 16), (16, 32)), factor=2),
    "S": Sizes((0.0414, 0.1751), (16, 12), (16, 22), looking=((20, 20), (20, 20))),
}

Shape = tuple[int, int, int]  # (h, w, c) of a map


class Standardised(nn.Module):
    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.deviation


class Placed(nn.Module):
    """A transformer of the image, or behind ``first`` where it moves a map.

    looking: the localisation network; SL's has layers of the classifier's own. outside: what is
    seen there, as PyTorch calls it.
    """

    def __init__(
        self,
        first: nn.Module,
        rest: nn.Module,
        looking: nn.Module,
        of_a_map: bool,
        size: Shape,
        outside: str = "border",
    ) -> None:
        super().__init__()
        self.first, self.rest, self.looking = first, rest, looking
        self.of_a_map, self.size, self.outside = of_a_map, size[:2], outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.of_a_map:
            maps = self.first(x)
            return self.rest(warped(maps, self.looking(maps), self.size, self.outside))
        return self.rest(self.first(warped(x, self.looking(x), self.size, self.outside)))

    def loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return loss(self(x), labels)


class Plain(nn.Sequential):
    def loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return loss(self(x), labels)


def loss(y: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of y (N, K); of y (N, T, K) its mean over N, summed over T labels."""
    if y.dim() == 2:
        return functional.cross_entropy(y, labels)
    return functional.cross_entropy(y.flatten(0, 1), labels.flatten()) * y.shape[1]


def cnn(network: PlacementCnn, form: Form) -> Plain:
    """The classifier alone."""
    sizes = SIZES[network.sizes]
    first, rest = _classifier(
        sizes, form, sizes.alone, _after_first(image_of(form), sizes.alone[0])
    )
    return Plain(*first, *rest)


def placed(network: Placement, form: Form) -> Placed:
    """One transformer. Raises UserError for several looks."""
    if len(network.depths) != 1:
        raise UserError(f"{network.name} has no twin yet: only one look has")
    sizes, image, (depth,) = SIZES[network.sizes], image_of(form), network.depths
    of_a_map = network.place == "C" and depth == 1
    seen = _after_first(image, sizes.maps[0]) if depth else image
    moved = _after_first(image, sizes.maps[0]) if of_a_map else image
    size = moved[0] // sizes.factor, moved[1] // sizes.factor, moved[2]
    read = size if of_a_map else _after_first(size, sizes.maps[0])
    first, rest = _classifier(sizes, form, sizes.maps, read)
    below: list[nn.Module] = []
    if depth == 0:
        below = [Standardised(*sizes.pixels)]
    elif network.place == "SL":
        below = [first]
    elif network.place == "DL":
        path = "localisation1/copy/classifier/conv1"
        below = [Standardised(*sizes.pixels), *_convolution(path, image[2], sizes.maps[0], 9)]
    looking = nn.Sequential(*below, *_head(sizes, depth, seen, network.sizes == "S"))
    return Placed(first, rest, looking, of_a_map, size)


def image_of(form: Form) -> Shape:
    """(H, W, C)."""
    height, width = form.size
    return height, width, form.channels


def _after_first(shape: Shape, maps: int) -> Shape:
    return (shape[0] - 8) // 2, (shape[1] - 8) // 2, maps


def _convolution(
    path: str, channels: int, maps: int, side: int, pool: bool = True
) -> list[nn.Module]:
    layers = rectified([Convolution(path, channels, maps, side, "valid")])
    return [*layers, nn.MaxPool2d(2)] if pool else layers


def _classifier(
    sizes: Sizes, form: Form, maps: tuple[int, int], read: Shape
) -> tuple[nn.Sequential, nn.Sequential]:
    """Its first layer, and what reads maps of shape ``read``."""
    first = _convolution("classifier/conv1", form.channels, maps[0], 9)
    left = (read[0] - 6) // 2, (read[1] - 6) // 2, maps[1]
    rest = _convolution("classifier/conv2", maps[0], maps[1], 7)
    softmax = Dense("classifier/softmax", left, form.classes)
    return (
        nn.Sequential(Standardised(*sizes.pixels), *first),
        nn.Sequential(*rest, nn.Flatten(), softmax),
    )


def _head(sizes: Sizes, depth: int, shape: Shape, scaled: bool) -> list[nn.Module]:
    """A localisation network of a map of this shape, or of the image, standardised."""
    path = f"localisation{depth}"
    if sizes.dense:
        layers: list[nn.Module] = [nn.Flatten()]
        for number, width in enumerate(sizes.dense[depth], 1):
            layers += rectified([Dense(f"{path}/dense{number}", shape, width)])
            shape = 1, 1, width
        return [*layers, Regression(f"{path}/theta", shape[2])]
    maps, neurons = sizes.looking[depth]
    rows, columns, channels = shape
    halved = scaled and depth == 0
    if halved:
        rows, columns = rows // 2, columns // 2
    pooled = depth == 0 or scaled
    rows, columns = ((((side - 4) // 2) - 4) // (1 + pooled) for side in (rows, columns))
    return [
        *([nn.AvgPool2d(2)] if halved else []),
        *_convolution(f"{path}/conv1", channels, maps, 5),
        *_convolution(f"{path}/conv2", maps, maps, 5, pooled),
        nn.Flatten(),
        *rectified([Dense(f"{path}/dense", (rows, columns, maps), neurons)]),
        Regression(f"{path}/theta", neurons),
    ]
