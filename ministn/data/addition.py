"""MNIST addition: two digits in the two channels of an image, to be summed (STN appendix A.1).

Each channel shows a digit distorted as in the set RTS, on its own, in 42x42 pixels; the label is
the sum of both, one of 19. No source says which digits meet: we draw both uniformly, independently
and anew in each epoch.
"""

from pathlib import Path

import numpy as np

from ministn.backend import Array, Device
from ministn.data import distorted
from ministn.data.cluttered import CHUNK, check_drawn
from ministn.data.dataset import DataSet, Digits, Form, Map, PosedSplit
from ministn.data.distorted import RTS, DrawnAnew
from ministn.data.sources import MNIST, SUFFIX
from ministn.kinds import kind
from ministn.randomness import generator

CHANNELS = 2
CLASSES = 19


@kind("addition")
class Addition(DrawnAnew):
    """The set as a value."""

    source: str = MNIST
    train_size: int = 60_000
    seed: int = 0

    @property
    def name(self) -> str:
        return "addition" + SUFFIX[self.source]

    @property
    def form(self) -> Form:
        return Form((RTS.canvas, RTS.canvas), CHANNELS, CLASSES)

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        return self.made(generate, fresh, folder)


def generate(name: str, digits: Digits, count: int, *, seed: int, epoch: int = 0) -> PosedSplit:
    """`count` images (N, 42, 42, 2) of the split called `name`, each channel with box and pose.

    Raises UserError for a count, seed or epoch that cannot be.
    """
    chosen = pairs(name, digits, count, seed, epoch)
    splits = [
        distorted.generate(RTS, _channel(name, c), some, count, seed=seed, epoch=epoch)
        for c, some in enumerate(chosen)
    ]
    return PosedSplit(
        np.stack([split.images for split in splits], axis=-1),
        _sums(chosen),
        np.stack([split.boxes for split in splits], axis=1),
        np.stack([split.poses for split in splits], axis=1),
    )


def fresh(
    name: str,
    digits: Digits,
    count: int,
    *,
    seed: int,
    epoch: int,
    device: Device | None = None,
    map: Map = map,
) -> tuple[Array, np.ndarray]:
    """Images (count, 42, 42, 2) and labels (count,) uint8: what training needs of an epoch.

    device, map: see distorted.fresh. Raises as `generate` does.
    """
    chosen = pairs(name, digits, count, seed, epoch)
    shape = count, RTS.canvas, RTS.canvas, CHANNELS
    images = np.empty(shape, np.uint8) if device is None else device.empty(shape, np.uint8)
    for c, some in enumerate(chosen):
        images[..., c], _ = distorted.fresh(
            RTS, _channel(name, c), some, count, seed=seed, epoch=epoch, device=device, map=map
        )
    return images, _sums(chosen)


def pairs(name: str, digits: Digits, count: int, seed: int, epoch: int) -> list[Digits]:
    """The digits of each channel."""
    count = check_drawn(name, digits, count, seed, epoch)
    rows = np.concatenate(
        [
            generator(seed, f"data/addition/{name}", epoch, number).integers(
                len(digits), size=(CHUNK, CHANNELS)
            )
            for number in range(-(-count // CHUNK))
        ]
    )[:count]
    return [digits[channel] for channel in rows.T]


def _channel(name: str, channel: int) -> str:
    return f"{name}/addition/{channel}"


def _sums(chosen: list[Digits]) -> np.ndarray:
    first, second = chosen
    return first.labels + second.labels
