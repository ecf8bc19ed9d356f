"""One step at a time, for a training loop of your own."""

import numpy as np

from ministn.backend import Array, to_cpu
from ministn.data import as_batch
from ministn.errors import FROM_0, UserError, check_kind, check_numbers
from ministn.fast.threads import limited
from ministn.fit.arguments import checked_images, checked_labels
from ministn.models import Network
from ministn.optimizers import Optimizer
from ministn.randomness import Step
from ministn.tasks import Classification, Task

CLASSIFICATION = Classification()


@limited()
def train_on_batch(
    network: Network,
    optimizer: Optimizer,
    images: Array,
    labels: Array,
    *,
    lr: float = 0.001,
    seed: int = 0,
    task: Task = CLASSIFICATION,
) -> float:
    """Forward, the task's loss, backward, one update of every parameter; returns the loss.

    images: (N, H, W) or (N, H, W, C), uint8, or (N, H, W, C) of the network's dtype, as it is.
    labels: whole numbers, (N,), or as the task has them. lr: learning rate. seed: of dropout, whose
    masks follow from it and the optimiser's t. task: what is learned, by default to classify by
    cross entropy.

    Raises UserError, and updates nothing, for an impossible lr, where the loss is not finite (it
    names the layer), and where the optimiser is not this network's; TypeError or ValueError for
    images, labels or a task that cannot be.
    """
    check_kind("network", network, Network)
    check_kind("optimizer", optimizer, Optimizer)
    check_kind("task", task, Task)
    check_numbers(FROM_0, lr=lr)
    images = checked_images(images, optimizer.buffer.data.dtype)
    labels = checked_labels(labels, images)
    optimizer.buffer.check_tied()
    optimizer.buffer.check_has(network.parameters())
    x = as_batch(images) if images.dtype == np.uint8 else images
    network, step = network.at(optimizer.t), Step(seed, optimizer.t)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        y, cache = network.forward(x, step)
        assert cache is not None  # it is None in evaluation only
        loss, loss_cache = task.loss(y, labels)
        found = np.asarray(to_cpu(loss)).item()
        if not np.isfinite(found):
            layer = network.first_non_finite(x, step) or "the loss"
            raise UserError(
                f"the loss of step {optimizer.t + 1} is {found}: the first non-finite values are "
                f"in {layer}; try a lower lr"
            )
        optimizer.buffer.zero_grad()
        network.backward(task.loss_backward(loss_cache), cache)
    optimizer.step(lr)
    return found
