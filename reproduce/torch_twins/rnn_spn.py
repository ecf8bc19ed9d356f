"""The RNN-SPN paper's networks: section 4 and appendix, and what the authors' code has instead."""

import torch
from torch import nn
from torch.nn import functional

from ministn.data import Form
from ministn.errors import UserError
from ministn.models import FfnSpn, RnnSpn, SequenceCnn
from ministn.models.architecture import plane
from torch_twins.layers import Classifier, Convolution, Dense, Regression, rectified, warped

MAPS, STATE, UNITS, WIDE = 20, 256, 400, 96
EPSILON = 1e-5  # added to each probability inside the logarithm

Plane = tuple[int, int]


class Reader(Classifier):
    """The FFN-SPN, and the convolutional network without localisation: (N, T, K)."""

    def __init__(self, form: Form, localisations: list[nn.Module], shown: Plane) -> None:
        (self.glimpses,) = form.labels
        layers = _reading(shown, form.channels, WIDE, UNITS)
        softmax = Dense("classifier/softmax", (1, 1, UNITS), self.glimpses * form.classes)
        super().__init__(nn.Sequential(*layers, softmax), localisations, shown)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).view(len(x), self.glimpses, -1)

    def loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return loss(self(x), labels)


class RecurrentReader(nn.Module):
    """The RNN-SPN."""

    def __init__(self, network: RnnSpn, form: Form) -> None:
        super().__init__()
        (self.glimpses,), size = form.labels, plane(form)
        looked_at, state = _looked_at(size), network.state or STATE
        self.looking = nn.Sequential(*_looking(form.channels), nn.Flatten())
        self.gru = Recurrent("localisation/gru", looked_at, state, self.glimpses)
        self.theta = Regression("localisation/theta", state)
        self.size = _shown(size, network.downsample)
        layers = _reading(self.size, form.channels, 32, network.units)
        softmax = Dense("classifier/softmax", (1, 1, network.units), form.classes)
        self.classifier = nn.Sequential(*layers, softmax)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        theta = self.theta(self.gru(self.looking(x)))
        images = x.repeat_interleave(self.glimpses, dim=0)
        return self.classifier(warped(images, theta, self.size)).view(len(x), self.glimpses, -1)

    def loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return loss(self(x), labels)


class Recurrent(nn.Module):
    """x (N, D) -> T states of each (N T, K). Its product with x is the same at all steps.

    The gates r, u and c lie one after another in the weights' rows, 3 K of them.
    """

    def __init__(self, path: str, maps: tuple[int, int, int], features: int, steps: int) -> None:
        super().__init__()
        self.path, self.steps = path, steps
        self.maps = {"weight_x": maps, "weight_h": (1, 1, features)}
        self.weight_x = nn.Parameter(torch.randn(3 * features, maps[0] * maps[1] * maps[2]) / 10)
        self.weight_h = nn.Parameter(torch.randn(3 * features, features) / 10)
        self.bias = nn.Parameter(torch.zeros(3 * features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from_x = functional.linear(x, self.weight_x, self.bias).chunk(3, dim=1)
        h = x.new_zeros(len(x), self.weight_h.shape[1])
        states = []
        for _ in range(self.steps):
            from_h = functional.linear(h, self.weight_h).chunk(3, dim=1)
            r, u = (torch.sigmoid(a + g) for a, g in zip(from_x[:2], from_h[:2], strict=True))
            h = torch.lerp(h, torch.tanh(from_x[2] + r * from_h[2]), u)
            states.append(h)
        return torch.stack(states, dim=1).flatten(0, 1)


def loss(y: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over all labels (N, T) of logits (N, T, K)."""
    p = torch.softmax(y, dim=-1).gather(-1, labels.unsqueeze(-1))
    return -torch.log(p + EPSILON).mean()


def rnn(network: RnnSpn, form: Form) -> RecurrentReader:
    """One that looks T times. Raises UserError with dropout."""
    _check(network)
    return RecurrentReader(network, form)


def ffn(network: FfnSpn, form: Form) -> Reader:
    """One that looks once. Raises UserError with dropout or a fourth convolution."""
    _check(network)
    size = plane(form)
    localisation = nn.Sequential(
        *_looking(form.channels),
        nn.Flatten(),
        *rectified([Dense("localisation/dense", _looked_at(size), 200)]),
        Regression("localisation/theta", 200),
    )
    return Reader(form, [localisation], _shown(size, network.downsample))


def cnn(network: SequenceCnn, form: Form) -> Reader:
    """One that sees the whole image. Raises UserError as ``ffn`` does."""
    _check(network)
    return Reader(form, [], plane(form))


def _check(network: RnnSpn | FfnSpn | SequenceCnn) -> None:
    if network.dropout or getattr(network, "convolutions", 3) != 3:
        raise UserError(f"{network.name} has a twin without dropout and with 3 convolutions only")


def _shown(size: Plane, downsample: float) -> Plane:
    return int(size[0] // downsample), int(size[1] // downsample)


def _looked_at(size: Plane) -> tuple[int, int, int]:
    rows, columns = (((side // 2 - 2) // 2 - 2) // 2 - 2 for side in size)
    return rows, columns, MAPS


def _convolution(path: str, channels: int, maps: int) -> list[nn.Module]:
    return rectified([Convolution(path, channels, maps, 3, "valid")])


def _looking(channels: int) -> list[nn.Module]:
    """The localisation network's maps."""
    return [
        nn.MaxPool2d(2),
        *_convolution("localisation/conv1", channels, MAPS),
        nn.MaxPool2d(2),
        *_convolution("localisation/conv2", MAPS, MAPS),
        nn.MaxPool2d(2),
        *_convolution("localisation/conv3", MAPS, MAPS),
    ]


def _reading(size: Plane, channels: int, maps: int, units: int) -> list[nn.Module]:
    """The classification network up to its neurons."""
    rows, columns = (((side - 2) // 2 - 2) // 2 - 2 for side in size)
    return [
        *_convolution("classifier/conv1", channels, maps),
        nn.MaxPool2d(2),
        *_convolution("classifier/conv2", maps, maps),
        nn.MaxPool2d(2),
        *_convolution("classifier/conv3", maps, maps),
        nn.Flatten(),
        *rectified([Dense("classifier/dense", (rows, columns, maps), units)]),
    ]
