"""Training for networks of your own: so many steps by Adam, or one step at a time.

training/ has all that a recorded run needs beside it: epochs, validation, checkpoints, workers.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tqdm import tqdm, trange

from ministn.backend import Array, to_cpu
from ministn.data import as_batch
from ministn.errors import (
    FROM_0,
    UserError,
    check_kind,
    check_numbers,
    check_plain,
    check_together,
    check_whole,
)
from ministn.fast.threads import limited
from ministn.metrics.attention import watched
from ministn.models import Network
from ministn.ops.left_image import left_image
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator
from ministn.tasks import Classification, Task

CLASSIFICATION = Classification()
FLOAT32 = np.dtype(np.float32)


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

    Where most of a batch's attention leaves the image, it is said: theta gets hardly any gradient
    there, and a lower loc_lr helps.

    Raises UserError for fewer images than a batch and impossible rates, and as train_on_batch does;
    a refused call changes nothing.
    """
    _check(network, images, labels, FLOAT32, task)
    check_numbers(FROM_0, lr=lr, loc_lr=loc_lr)
    check_whole(steps=steps, batch_size=batch_size)
    if batch_size > len(images):
        raise UserError(f"batch_size must be at most {len(images)} images, got {batch_size}")
    with _unchanged_if_refused(network) as accepted:
        for parameter in network.localisation_only():
            parameter.lr_multiplier = loc_lr
        if fixed := network.fixed_parameters():
            ParameterBuffer(fixed, seed)
        optimizer = Optimizer(Adam(), ParameterBuffer(network.parameters(), seed))
        y = network.predict(_placed(images[:1]))[0]
        task.loss(np.repeat(y, len(labels), axis=0), labels)  # are they all possible?
        batches = len(images) // batch_size
        losses: list[float] = []
        collapses: list[dict[str, Any]] = []
        hidden = True if sys.stderr is None else None  # None: where that is no terminal
        bar = trange(steps, desc="training", unit="step", leave=False, disable=hidden)
        for step in bar:
            epoch, batch = divmod(step, batches)
            if batch == 0:
                order = generator(seed, "shuffle", epoch + 1).permutation(len(images))
            rows = order[batch * batch_size :][:batch_size]
            loss, left = _step(
                network, optimizer, images[rows], labels[rows], lr=lr, seed=seed, task=task
            )
            accepted()
            losses.append(loss)
            said = watched(collapses, left, batch_size, {"step": step + 1})
            if said and sys.stdout is not None:
                tqdm.write(said)
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
    check_kind("optimizer", optimizer, Optimizer)
    _check(network, images, labels, optimizer.buffer.data.dtype, task)
    optimizer.buffer.check_tied()
    optimizer.buffer.check_has(network.parameters())
    loss, _ = _step(network, optimizer, images, labels, lr=lr, seed=seed, task=task)
    return loss


def _step(
    network: Network,
    optimizer: Optimizer,
    images: Array,
    labels: Array,
    *,
    lr: float,
    seed: int,
    task: Task,
) -> tuple[float, int | None]:
    """The step's loss, and the images whose attention has left, see training/steps.py."""
    network, x, step = network.at(optimizer.t), _placed(images), Step(seed, optimizer.t)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        y, cache = network.forward(x, step)
        assert cache is not None  # it is None in evaluation only
        loss, loss_cache = task.loss(y, labels)
        found = np.asarray(to_cpu(loss)).item()
        if not np.isfinite(found):
            if not np.isfinite(to_cpu(x)).all():
                raise ValueError("images must be finite, some of these are not")
            layer = network.first_non_finite(x, step) or "the loss"
            raise UserError(
                f"the loss of step {optimizer.t + 1} is {found}: the first non-finite values are "
                f"in {layer}; try a lower lr"
            )
        optimizer.buffer.zero_grad()
        network.backward(task.loss_backward(loss_cache), cache)
        left = [int(left_image(to_cpu(theta)).sum()) for theta in network.thetas(cache)]
    optimizer.step(lr)
    return found, max(left, default=None)


def _check(network: Network, images: Array, labels: Array, dtype: np.dtype, task: Task) -> None:
    """Raise TypeError or ValueError, under their names, for what cannot be trained on.

    dtype: of the network.
    """
    check_kind("network", network, Network)
    check_kind("task", task, Task)
    for name, array in (("images", images), ("labels", labels)):
        check_plain(name, array)
    if images.dtype not in (np.uint8, dtype) or (images.dtype == dtype and images.ndim != 4):
        raise TypeError(
            f"images must be bytes (N, H, W) or (N, H, W, C), or {dtype} (N, H, W, C), got "
            f"{images.dtype} of shape {images.shape}"
        )
    check_together(images=images, labels=labels)


def _placed(images: Array) -> Array:
    return as_batch(images) if images.dtype == np.uint8 else images


@contextmanager
def _unchanged_if_refused(network: Network) -> Iterator[Callable[[], None]]:
    """Give the parameters back what they had if an error comes before a first step is accepted."""
    parameters = [*network.parameters(), *network.fixed_parameters()]
    before = [dict(vars(parameter)) for parameter in parameters]
    taken: list[bool] = []
    try:
        yield lambda: taken.append(True)
    except BaseException:
        if not taken:
            for parameter, had in zip(parameters, before, strict=True):
                vars(parameter).clear()
                vars(parameter).update(had)
        raise
