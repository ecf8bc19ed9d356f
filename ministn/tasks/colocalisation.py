"""Co-localisation: crops that show the same thing resemble each other (STN appendix A.2).

Every step is on pairs of images. Each image of them is looked at by the transformer, T_n, and at a
random place, R_n; the encoder describes both, and the loss is ops/triplet_hinge.py.

Its margin of 1 means something only beside the length of descriptions, which the paper does not
tell. Here maps and scores are each scaled so that those of two random crops have a mean squared
distance of 1/256. So small, the margin is not reached before crops lie on the digits: at 1/64, the
loss of some digits was down to 0.03 while their crops were still half as wide again.

Before the margin is reached, the loss is the variance of e(T), less the squared distance of its
mean from that of e(R), and a constant. Say that the transformer looks at the digit in a share p of
the images, in the others at what is like random crops: at a distance d, this is d^2 p(1 - 2p). It
rises until a quarter are right, and has gained nothing before a half are. What rises is the
variance, by which a crop is drawn to the others; with a share k of it, the ``drawn`` of
Colocalisation, d^2 p(k - (1 + k) p) rises until p = k / (2 + 2k), and has gained from k / (1 + k)
on. Without clutter k = 1, the paper's, does: all first crops show their digit. Among patches k =
0.3 does for more digits than 1: in trials the digit 4 was found in 78 of 100 images with it, with k
= 1 in none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ministn.backend import Array, device_of, joined, parted, to_cpu
from ministn.data import Split, as_batch
from ministn.data.colocalisation import Compared, found
from ministn.engines import implementation
from ministn.errors import FROM_0, check_kind, check_numbers
from ministn.kinds import kind
from ministn.models import Network
from ministn.models.colocalisation import Comparing
from ministn.models.prediction import Prediction
from ministn.ops import triplet_hinge
from ministn.tasks.task import Evaluation, Task

APART = 1 / 256  # mean squared distance of random crops, in each part of their descriptions
NEIGHBOURS = 2  # of each image, in the pairs that are judged


@kind("colocalisation")
class Colocalisation(Task):
    """y (N, 2 D), descriptions of attended and of random crops, against the pairs of a batch.

    drawn: the share of e(T_m)'s gradient that is learned from; at 0 only T_n moves. Raises
    UserError where it is below 0.
    """

    drawn: float = 1.0

    divisible: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_numbers(FROM_0, drawn=self.drawn)

    def prepare(self, network: Network, split: Any, seed: int) -> "Task":
        """Scale the descriptions of a Comparing network, by one random crop of each image."""
        check_kind("the network", network, Comparing)
        assert isinstance(network, Comparing)
        description = network.description
        device = device_of(network.parameters()[0].data)
        x = as_batch(split.images if device is None else device.to_gpu(split.images))
        parts = parted(to_cpu(network.at_random(x, seed, 0)), description.widths)
        # The mean squared distance of two, drawn independently, is twice the variance.
        scales = [float(np.sqrt(APART / (2 * part.var(axis=0).sum()))) for part in parts]
        random = joined([part * k for part, k in zip(parts, scales, strict=True)])
        ready = Judging(self.drawn, random=random, scales=tuple(scales))
        ready.equip(network)
        return ready

    def loss(self, y: Array, labels: Compared) -> tuple[Any, Any]:
        width = y.shape[1] // 2
        attended, random = parted(y, [width, width])
        device = device_of(y)
        pairs = labels.pairs if device is None else device.to_gpu(labels.pairs)
        forward, backward = implementation("triplet_hinge", attended)
        loss, cache = forward(attended, random, pairs)
        return loss, (backward, cache)

    def loss_backward(self, cache: Any, weight: float = 1.0) -> Array:
        """That of the attended crops; the random ones have none."""
        backward, kept = cache
        dattended, _ = backward(kept, weight, self.drawn)
        return joined([dattended, dattended * 0])

    def wrong(self, y: Array, labels: Compared, thetas: Sequence[Array]) -> int:
        """Images whose digit is not found."""
        return int((~found(to_cpu(thetas[0]), labels.boxes, labels.size)).sum())

    def judge(self, predicted: Prediction, split: Split) -> Evaluation:
        raise NotImplementedError("prepare the task first: it judges beside random crops")


@dataclass(frozen=True, eq=False)
class Judging(Colocalisation):
    """The same, prepared. random: descriptions (N, D) of a random crop of each image, always the
    same ones. scales: of each part of a description.
    """

    random: np.ndarray = field(kw_only=True)
    scales: tuple[float, ...] = field(kw_only=True)

    def equip(self, network: Network) -> None:
        assert isinstance(network, Comparing)
        network.description.scales = self.scales

    def judge(self, predicted: Prediction, split: Split) -> Evaluation:
        """The loss over each image and those after it; an image is correct if its digit is found.

        split: the images that are compared.
        """
        attended, looked = predicted
        n = np.arange(len(attended))
        pairs = [np.stack([n, np.roll(n, -k)], axis=1) for k in range(1, NEIGHBOURS + 1)]
        loss, _ = triplet_hinge(attended, self.random, np.concatenate(pairs))
        return Evaluation(loss, found(looked[0].theta, split.boxes, split.size), looked)
