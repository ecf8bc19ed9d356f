"""Volumes that are classified from a projection: STN appendix A.3."""

import torch
from torch import nn

from ministn.data import Form
from ministn.models import Projected
from torch_twins.layers import Classifier, Regression, warped
from torch_twins.stn import LEAST_READ, classifier, closest_width, three_layers

POOL = 4
IDENTITY = 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0
SMALLEST_READ = LEAST_READ["cnn"]  # of the FCN too


class Volumes(Classifier):
    """(N, 1, D, H, W) -> logits, of the mean along the depth; transformed before that or not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for localisation in self.localisations:
            x = warped(x, localisation(x), self.size)
        return self.classifier(x.mean(dim=2))


def build(network: Projected, form: Form) -> Volumes:
    """An FCN or a CNN, behind a transformer or not."""
    size = shown = form.size
    localisations = []
    if network.transformed:
        shown = tuple(max(side // 2, SMALLEST_READ) for side in size)
        depth, height, width = (side // POOL for side in size)
        looking = nn.Sequential(
            nn.AvgPool3d(POOL),
            nn.Flatten(),
            *three_layers("localisation", (1, 1, depth * height * width)),  # one channel only
            Regression("localisation/theta", 32, IDENTITY),
        )
        localisations = [looking]

    def made(width: int) -> Volumes:
        layers = classifier(network.base, (shown[1], shown[2]), 1, width, form.classes)
        return Volumes(nn.Sequential(*layers), localisations, shown)

    return made(network.width or closest_width(made))
