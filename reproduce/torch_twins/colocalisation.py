"""Co-localisation: STN appendix A.2. The numbers that it leaves open are those of our network."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ministn.data import Form
from ministn.models import Colocaliser, CropEncoder
from torch_twins.layers import Classifier, Convolution, Dense, Regression, rectified, warped

CROP, CLASSES, WIDTH = 22, 10, 32
LOW, HIGH, START = (0.2, -1.0, -1.0), (1.0, 1.0, 1.0), (0.9, 0.0, 0.0)  # of s, t_x, t_y
MARGIN = 1.0


def encoder(network: CropEncoder, form: Form) -> Classifier:
    """The classifier of crops."""
    maps, scores = _encoder(form)
    return Classifier(nn.Sequential(maps, scores))


def _encoder(form: Form) -> tuple[nn.Sequential, Dense]:
    """Crops -> the last maps, flat, and those -> the scores."""
    rows, columns = ((side - 8) // 2 - 6 for side in form.size)
    maps = nn.Sequential(
        *rectified([Convolution("classifier/conv1", form.channels, WIDTH, 9, "valid")]),
        nn.MaxPool2d(2),
        *rectified([Convolution("classifier/conv2", WIDTH, WIDTH, 7, "valid")]),
        nn.Flatten(),
    )
    return maps, Dense("classifier/softmax", (rows, columns, WIDTH), form.classes)


class Bounded(nn.Module):
    """low + (high - low) sigmoid(x)."""

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        super().__init__()
        self.low, self.range = low, np.subtract(high, low).tolist()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_tensor(self.low) + x.new_tensor(self.range) * torch.sigmoid(x)


class ColocaliserTwin(nn.Module):
    """Images (N, 1, H, W) and random theta (N, 3) -> descriptions (N, 42) of two crops of each.

    scales: of the last maps and of the scores in a description; so small that the hinge is open.
    """

    scales = 1 / 16, 1 / 16

    def __init__(self, localisation: nn.Sequential) -> None:
        super().__init__()
        self.localisation = localisation
        self.maps, self.scores = _encoder(Form((CROP, CROP), classes=CLASSES))
        for fixed in (*self.maps.parameters(), *self.scores.parameters()):
            fixed.requires_grad_(False)

    def forward(self, x: torch.Tensor, random: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        attended = self._described(x, self.localisation(x))
        with torch.no_grad():
            return attended, self._described(x, random)

    def _described(self, x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Of the crop at theta (s, t_x, t_y), sampled at four points for each pixel."""
        scale, zero = theta[:, 0], torch.zeros_like(theta[:, 0])
        matrix = torch.stack([scale, zero, theta[:, 1], zero, scale, theta[:, 2]], dim=1)
        crop = functional.avg_pool2d(warped(x, matrix, (2 * CROP, 2 * CROP), "zeros"), 2)
        maps = self.maps(crop)
        return torch.cat([maps * self.scales[0], self.scores(maps) * self.scales[1]], dim=1)

    def loss(self, x: torch.Tensor, pairs: torch.Tensor, random: torch.Tensor) -> torch.Tensor:
        """Mean triplet hinge over pairs (P, 2) of the images."""
        attended, beside = self(x, random)
        n, m = pairs.T
        near = (attended[n] - attended[m]).square().sum(dim=1)
        far = (attended[n] - beside[n]).square().sum(dim=1)
        return functional.relu(near - far + MARGIN).mean()


def build(network: Colocaliser, form: Form) -> ColocaliserTwin:
    """8 maps 9x9 with stride 4, pool, 32, 32 and 3 neurons, within bounds; and the encoder."""
    rows, columns = (((side - 9) // 4 + 1) // 2 for side in form.size)
    share = (np.array(START) - LOW) / (np.array(HIGH) - LOW)
    return ColocaliserTwin(
        nn.Sequential(
            *rectified([Convolution("localisation/conv", 1, 8, 9, "valid", stride=4)]),
            nn.MaxPool2d(2),
            nn.Flatten(),
            *rectified(
                [
                    Dense("localisation/dense1", (rows, columns, 8), 32),
                    Dense("localisation/dense2", (1, 1, 32), 32),
                ]
            ),
            Regression("localisation/theta", 32, np.log(share / (1 - share)).tolist()),
            Bounded(LOW, HIGH),
        )
    )
