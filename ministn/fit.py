"""Training for networks of your own: so many steps by Adam, or one step at a time.

training/ has all that a recorded run needs beside it: epochs, validation, checkpoints, workers.
"""

import sys

import numpy as np
from tqdm import trange

from ministn.backend import Array, to_cpu
from ministn.data import as_batch
from ministn.errors import UserError
from ministn.fast.threads import limited
from ministn.models import Network
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator
from ministn.tasks import Classification, Task

CLASSIFICATION = Classification()


@limited()
def train(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    steps: int,
    batch_size: int = 64,
    lr: float = 0.001,
    loc_lr: float = 1.0,
    seed: int = 0,
    task: Task = CLASSIFICATION,
) -> list[float]:
    """Give the network its initial values and take steps of Adam; returns their losses.

    images, labels: see train_on_batch. Batches are whole, and each pass over the images is in
    another order. loc_lr: times lr for the layers that only localisation networks have. seed: of
    initial values, order and dropout. task: see train_on_batch. Linear algebra is done by one
    thread, see fast/threads.py.

    Raises UserError for fewer images than a batch, and as train_on_batch does.
    """
    if not 1 <= batch_size <= len(images):
        raise UserError(f"batch_size must be from 1 to {len(images)} images, got {batch_size}")
    for parameter in network.localisation_only():
        parameter.lr_multiplier = loc_lr
    optimizer = Optimizer(Adam(), ParameterBuffer(network.parameters(), seed))
    batches = len(images) // batch_size
    losses = []
    hidden = True if sys.stderr is None else None  # None: where that is no terminal
    for number in trange(steps, desc="training", unit="step", leave=False, disable=hidden):
        epoch, batch = divmod(number, batches)
        if batch == 0:
            order = generator(seed, "shuffle", epoch + 1).permutation(len(images))
        rows = order[batch * batch_size :][:batch_size]
        losses.append(
            train_on_batch(
                network, optimizer, images[rows], labels[rows], lr=lr, seed=seed, task=task
            )
        )
    return losses


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

    images: (N, H, W) or (N, H, W, C), uint8, or float (N, H, W, C) as it is. labels: whole numbers,
    (N,), or as the task has them. lr: learning rate. seed: of dropout, whose masks follow from it
    and the optimiser's t. task: what is learned, by default to classify by cross entropy.

    Raises UserError, and updates nothing, where the loss is not finite: it names the layer; and
    where the optimiser is not this network's.
    """
    optimizer.buffer.check_tied()
    optimizer.buffer.check_has(network.parameters())
    x = as_batch(images) if images.dtype == np.uint8 else images
    step = Step(seed, optimizer.t)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        logits, cache = network.forward(x, step)
        assert cache is not None  # it is None in evaluation only
        loss, loss_cache = task.loss(logits, labels)
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
