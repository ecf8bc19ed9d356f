"""What one rank can be asked to do."""

import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import Array, to_cpu
from ministn.data import as_batch
from ministn.errors import UserError
from ministn.fast.memory import keep_freed
from ministn.models import Network
from ministn.models.prediction import Prediction, predict
from ministn.ops.left_image import left_image
from ministn.optimizers import Optimizer
from ministn.parallel.exchange import Exchange, Failure, unless_failed
from ministn.randomness import Step
from ministn.tasks import Task


class Share(NamedTuple):
    """What a rank's rows add to a step.

    loss: their part of the batch's mean. errors: answers that are wrong. left: of each
    transformer, images whose attention has left the image; None without rows.
    """

    loss: float
    errors: int
    left: list[int] | None


class Worker:
    """One rank: a replica of the network, and the orders it can carry out on it."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Anything."""
        return function(*arguments)

    def replicate(
        self,
        build: Callable[[], tuple[Network, Optimizer]],
        task: Task,
        fixed: dict[str, np.ndarray] | None = None,
    ) -> None:
        """Have a network, its optimiser and what it learns, the same as all other ranks.

        fixed: rank 0's values of the parameters that are not learned; for the others.
        """
        self.network, self.optimizer = build()
        self.task = task
        if fixed is not None:
            _fix(self.network, fixed)
        task.equip(self.network)
        self.exchange.lay_out(self.optimizer)
        keep_freed()  # from now on: what parameters were made in before goes back

    def spread(self) -> None:
        """Have rank 0's parameters and moments."""
        self.exchange.spread()

    def gradients(self, images: Array, step: Step, labels: Any, batch: int) -> Share:
        """Set the gradients to what these rows add to those of the whole batch.

        images: (n, H, W) uint8, on the engine of the parameters; n may be 0. step: of the first of
        them. batch: images in the whole batch, by which the sum over the ranks is a mean. Without a
        finite loss the gradients mean nothing.
        """
        self.optimizer.buffer.zero_grad()
        if not len(images):
            self.optimizer.buffer.settle()
            return Share(0.0, 0, None)
        weight = len(images) / batch
        network = self.network.at(step.number)
        y, cache = network.forward(as_batch(images), step)
        assert cache is not None  # it is None in evaluation only
        found, loss_cache = self.task.loss(y, labels)
        loss = np.asarray(to_cpu(found)).item()
        if np.isfinite(loss):
            network.backward(self.task.loss_backward(loss_cache, weight), cache)
        self.optimizer.buffer.settle()  # before other ranks read it
        thetas = network.thetas(cache)
        return Share(weight * loss, self.task.wrong(y, labels, thetas), _left(thetas))

    def compared(self, images: Array, step: Step, labels: Any) -> Share:
        """The same where the loss compares all images of a batch, whose labels these are: rank 0
        gets what every rank has made of its rows, and hands back the gradient of that.
        """
        self.optimizer.buffer.zero_grad()
        network = self.network.at(step.number)
        made, cache = None, None
        if len(images):
            y, cache = network.forward(as_batch(images), step)
            assert cache is not None  # it is None in evaluation only
            made = y, network.thetas(cache)
        everything = self.exchange.gather(made)
        loss, errors, hands = 0.0, 0, None
        if everything is not None:
            loss, errors, hands = self._compare(unless_failed(everything), labels)
        dy = self.exchange.scatter(hands)
        if dy is not None:
            assert cache is not None
            network.backward(dy, cache)
        self.optimizer.buffer.settle()
        return Share(loss, errors, made and _left(made[1]))

    def _compare(self, everything: list[Any], labels: Any) -> tuple[float, int, list[Any]]:
        """At rank 0: the loss, what is wrong, and for each rank its dy; None for one without rows
        and, where the loss is not finite, for all.
        """
        ys, thetas = zip(*filter(None, everything), strict=True)
        y = _rows(ys)
        found, cache = self.task.loss(y, labels)
        loss = np.asarray(to_cpu(found)).item()
        errors = self.task.wrong(y, labels, [_rows(each) for each in zip(*thetas, strict=True)])
        if not np.isfinite(loss):
            return loss, errors, [None] * len(everything)
        dy = self.task.loss_backward(cache)
        starts = np.cumsum([0, *map(len, ys)])
        parts = (dy[first:last] for first, last in pairwise(starts))
        return loss, errors, [None if made is None else next(parts) for made in everything]

    def update(self, step_sizes: list[float | None]) -> None:
        """Update the parameters from the sum of the ranks' gradients."""
        self.exchange.update(step_sizes)

    def predict(self, images: np.ndarray) -> Prediction | None:
        """What the network makes of images, see models/prediction.py; None for no images."""
        return predict(self.network, images) if len(images) else None


def _left(thetas: Sequence[Array]) -> list[int]:
    """Of each transformer, images whose attention has left the image."""
    return [int(left_image(to_cpu(theta)).sum()) for theta in thetas]


def _rows(parts: Sequence[Array]) -> Array:
    """One after another: those of a batch. On a GPU there is one part."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _fix(network: Network, fixed: dict[str, np.ndarray]) -> None:
    """Give the parameters that are not learned these values: they may have been pretrained."""
    own = {parameter.name: parameter for parameter in network.fixed_parameters()}
    for name in sorted(own.keys() | fixed.keys()):
        here, there = (
            (own[name].shape if name in own else "missing"),
            (fixed[name].shape if name in fixed else "missing"),
        )
        if here != there:
            raise UserError(
                f"another network has been built here: its fixed parameter {name} is {here}, that "
                f"of the first process {there}"
            )
        own[name].data[...] = fixed[name]


def serve(exchange: Exchange) -> None:
    """Carry out rank 0's orders until it has no more."""
    # Ctrl-C, a scheduler's SIGTERM and a terminal's SIGHUP reach all ranks; rank 0 alone decides
    # when to stop.
    for name in {"SIGINT", "SIGTERM", "SIGHUP"} & set(dir(signal)):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    worker = Worker(exchange)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # rank 0 sees the loss
        while (message := exchange.scatter()) is not None:
            unread = isinstance(message, Failure)
            exchange.gather(message if unread else _answer(worker, *message))


def _answer(worker: Worker, order: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return getattr(worker, order)(*arguments)
    except EOFError:
        raise
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", isinstance(error, MemoryError))
