"""Optimiser steps of co-localisation: STN appendix A.2.

Every step is on pairs of images. Each image of them is looked at by the transformer, T_n, and at a
random place, R_n; the encoder describes both, and the loss is ops/triplet_hinge.py.

Its margin of 1 means something only beside the length of descriptions, which the paper does not
tell. Here maps and scores are each scaled so that those of two random crops have a mean squared
distance of 1/256. So small, the margin is not reached before crops lie on the digits: at 1/64, the
loss of some digits was down to 0.03 while their crops were still half as wide again.
"""

from pathlib import Path

import numpy as np

from ministn.backend import Array, joined, parted, to_cpu
from ministn.data import Pairs, Split, as_batch
from ministn.data.colocalisation import draw_crops, found
from ministn.engines import implementation
from ministn.metrics.attention import left_image
from ministn.models import Network
from ministn.models.colocalisation import Description
from ministn.models.prediction import Prediction, predict
from ministn.ops import triplet_hinge
from ministn.optimizers import Optimizer
from ministn.randomness import Step
from ministn.tasks import Evaluation
from ministn.training import checkpoint
from ministn.training.steps import Epoch, Outcome

APART = 1 / 256  # mean squared distance of random crops, in each part of their descriptions
NEIGHBOURS = 2  # of each image, in the pairs that are judged


class PairSteps:
    """Steps, see steps.py, in one process, on the engine that holds the parameters.

    What came of a step is known at once: on a GPU, each is waited for.

    encoder: checkpoint of a trained one; None for one that has learned nothing, to measure time.

    Raises UserError if there is no such checkpoint or it is of another network.
    """

    immediate = True

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        split: Pairs,
        batch_size: int,
        seed: int,
        encoder: Path | None,
    ) -> None:
        self.network, self.optimizer, self.split = network, optimizer, split
        self.batch_size, self.seed = batch_size, seed
        self.device = optimizer.buffer.device
        self._outcomes: list[Outcome] = []
        (description,) = network.classifier.layers
        assert isinstance(description, Description)
        self.description = description
        if self.device is not None:
            description.place_on(self.device)
        if encoder is not None:
            arrays, _ = checkpoint.load(encoder)
            checkpoint.fill(encoder, arrays, description.buffer.views(description.buffer.data))
        parts = parted(
            to_cpu(self._describe_crops(self._batch(split.images), 0)), description.widths
        )
        # The mean squared distance of two, drawn independently, is twice the variance.
        scales = [float(np.sqrt(APART / (2 * part.var(axis=0).sum()))) for part in parts]
        description.scales = scales[0], scales[1]
        self._judging = joined([part * k for part, k in zip(parts, scales, strict=True)])

    def begin(self, epoch: Epoch, batch: int) -> None:
        self._epoch = epoch

    def take(self, batch: int) -> None:
        epoch, split = self._epoch, self.split
        number = epoch.first + batch
        pairs = split.pairs(epoch.order[batch * self.batch_size :][: self.batch_size])
        images, pairs = np.unique(pairs, return_inverse=True)
        x = self._batch(split.images[images])
        attended, cache = self.network.forward(x, Step(self.seed, number))
        assert cache is not None  # it is None in evaluation only
        random = self._describe_crops(x, 1 + number)
        hinge, hinge_backward = implementation("triplet_hinge", attended)
        places = self._placed(pairs.reshape(-1, 2).astype(np.int32))
        found_loss, loss_cache = hinge(attended, random, places)
        loss = np.asarray(to_cpu(found_loss)).item()
        if np.isfinite(loss):
            dattended, _ = hinge_backward(loss_cache)
            self.optimizer.buffer.zero_grad()
            self.network.backward(dattended, cache)
            self.optimizer.update(self.optimizer.step_sizes(epoch.rates[batch], number + 1))
        theta = to_cpu(cache.transformer.theta)
        missed = ~found(theta, split.boxes[images], split.images.shape[1:])
        left = int(left_image(theta).sum())
        self._outcomes.append(Outcome(number, len(images), loss, int(missed.sum()), left))

    def outcomes(self) -> list[Outcome]:
        done, self._outcomes = self._outcomes, []
        return done

    def predict(self, images: np.ndarray) -> Prediction:
        return predict(self.network, images)

    def evaluate(self, split: Split) -> Evaluation:
        """The loss over each image and those after it; an image is correct if its digit is found.

        split: the images that are compared. The random crops are always the same.
        """
        attended, looked = self.predict(split.images)
        assert looked is not None
        n = np.arange(len(attended))
        pairs = [np.stack([n, np.roll(n, -k)], axis=1) for k in range(1, NEIGHBOURS + 1)]
        loss, _ = triplet_hinge(attended, self._judging, np.concatenate(pairs))
        return Evaluation(loss, found(looked.theta, split.boxes, split.images.shape[1:]), looked)

    def _placed(self, array: np.ndarray) -> Array:
        return array if self.device is None else self.device.to_gpu(array)

    def _batch(self, images: np.ndarray) -> Array:
        return as_batch(self._placed(images))

    def _describe_crops(self, x: Array, draw: int) -> Array:
        """The descriptions of one random crop of each image of x (N, H, W, 1)."""
        transformer = self.network.transformer
        assert transformer is not None
        theta = self._placed(draw_crops(len(x), seed=self.seed, step=draw))
        return self.description.forward(transformer.warp(x, theta))[0]
