"""Optimiser steps of co-localisation: STN appendix A.2.

Every step is on pairs of images. Each image of them is looked at by the transformer, T_n, and at a
random place, R_n; the encoder describes both, and the loss is ops/triplet_hinge.py.

Its margin of 1 means something only beside the length of descriptions, which the paper does not
tell. Here they are scaled so that those of two random crops have a mean squared distance of 1/8.
"""

from pathlib import Path

import numpy as np

from ministn import checkpoint
from ministn.attention import left_image
from ministn.data import Pairs, Split
from ministn.data.colocalisation import draw_crops, found
from ministn.evaluation import Evaluation, Prediction, predict
from ministn.models import Network
from ministn.models.colocalisation import Description
from ministn.ops import as_batch, triplet_hinge, triplet_hinge_backward
from ministn.optimizers import Optimizer
from ministn.randomness import Step
from ministn.steps import Epoch, Outcome

APART = 1 / 8  # mean squared distance of the descriptions of random crops
NEIGHBOURS = 2  # of each image, in the pairs that are judged


class PairSteps:
    """Steps, see steps.py, on a CPU and in one process.

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
        self._outcomes: list[Outcome] = []
        (description,) = network.classifier.layers
        assert isinstance(description, Description)
        self.description = description
        if encoder is not None:
            arrays, _ = checkpoint.load(encoder)
            checkpoint.fill(encoder, arrays, description.buffer.views(description.buffer.data))
        self._judging = self._describe_crops(as_batch(split.images), 0)
        # The mean squared distance of two, drawn independently, is twice the variance.
        description.scale = float(np.sqrt(APART / (2 * self._judging.var(axis=0).sum())))
        self._judging *= np.float32(description.scale)

    def begin(self, epoch: Epoch, batch: int) -> None:
        self._epoch = epoch

    def take(self, batch: int) -> None:
        epoch, split = self._epoch, self.split
        number = epoch.first + batch
        pairs = split.pairs(epoch.order[batch * self.batch_size :][: self.batch_size])
        images, pairs = np.unique(pairs, return_inverse=True)
        x = as_batch(split.images[images])
        attended, cache = self.network.forward(x, Step(self.seed, number))
        assert cache is not None  # it is None in evaluation only
        random = self._describe_crops(x, 1 + number)
        loss, loss_cache = triplet_hinge(attended, random, pairs.reshape(-1, 2))
        if np.isfinite(loss):
            dattended, _ = triplet_hinge_backward(loss_cache)
            self.optimizer.buffer.zero_grad()
            self.network.backward(dattended, cache)
            self.optimizer.update(self.optimizer.step_sizes(epoch.rates[batch], number + 1))
        theta = cache.transformer.theta
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

    def _describe_crops(self, x: np.ndarray, draw: int) -> np.ndarray:
        """The descriptions of one random crop of each image of x (N, H, W, 1)."""
        transformer = self.network.transformer
        assert transformer is not None
        theta = draw_crops(len(x), x.shape[1], seed=self.seed, step=draw)
        return self.description.forward(transformer.warp(x, theta))[0]
