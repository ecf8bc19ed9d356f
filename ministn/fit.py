"""One training step at a time, for networks of your own: what a loop around them needs.

training.py has all that a recorded run needs beside it: epochs, validation, checkpoints, workers.
"""

import numpy as np

from ministn.backend import Array, to_cpu
from ministn.data import as_batch
from ministn.engines import implementation
from ministn.errors import UserError
from ministn.models import Network
from ministn.optimizers import Optimizer
from ministn.randomness import Step


def train_on_batch(
    network: Network,
    optimizer: Optimizer,
    images: Array,
    labels: Array,
    *,
    lr: float = 0.001,
    seed: int = 0,
) -> float:
    """Forward, mean cross-entropy, backward, one update of every parameter; returns the loss.

    images: (N, H, W) or (N, H, W, C), uint8, or float (N, H, W, C) as it is. labels: (N,) whole
    numbers. lr: learning rate. seed: of dropout, whose masks follow from it and the optimiser's t.

    Raises UserError, and updates nothing, where the loss is not finite: it names the layer.
    """
    x = as_batch(images) if images.dtype == np.uint8 else images
    step = Step(seed, optimizer.t)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        logits, cache = network.forward(x, step)
        assert cache is not None  # it is None in evaluation only
        cross_entropy, cross_entropy_backward = implementation("softmax_cross_entropy", logits)
        loss, loss_cache = cross_entropy(logits, labels)
        found = np.asarray(to_cpu(loss)).item()
        if not np.isfinite(found):
            layer = network.first_non_finite(x, step) or "the loss"
            raise UserError(
                f"the loss of step {optimizer.t + 1} is {found}: the first non-finite values are "
                f"in {layer}; try a lower lr"
            )
        optimizer.buffer.zero_grad()
        network.backward(cross_entropy_backward(loss_cache), cache)
    optimizer.step(lr)
    return found
