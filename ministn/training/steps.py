"""Optimiser steps, one after another: each as it is asked for, or on a GPU without waiting.

All do the same thing in a step: take the next batch in the epoch's order, go forward and backward,
and let the optimiser update. On the CPU several processes may share the batch: what each of them
does with its rows is in parallel/worker.py. They differ in when the host learns what came of a
step. Plain steps know at once. A GPU keeps a log of queued ones, which is read at the end of an
epoch or when somebody wants to look; until then the host only hands it work.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from ministn.backend import Device
from ministn.cuda.adam import Schedule
from ministn.cuda.outcome import Log
from ministn.data import Fresh, Split, labels_for_gpu, take_batch
from ministn.data.batch import placed
from ministn.models import Network, prediction
from ministn.models.prediction import Prediction
from ministn.optimizers import Optimizer
from ministn.parallel import Team
from ministn.randomness import Step
from ministn.tasks import Evaluation, Task


class Outcome(NamedTuple):
    """What one step came to.

    step: number of steps done before it. images: in its batch. loss: their mean. errors: answers
    that are wrong, of which an image may have several. left: images whose attention has left the
    image, None without a transformer; of several transformers, that of the one which has lost most.
    """

    step: int
    images: int
    loss: float
    errors: int
    left: int | None


class Epoch(NamedTuple):
    """number: from 1. order: of the training images. rates: learning rate of each step.

    first: number of its first step. dropout: see Step.
    """

    number: int
    order: np.ndarray
    rates: list[float]
    first: int
    dropout: float = 1.0


class Steps(Protocol):
    """Trains a network by one step a time.

    ``begin`` an epoch at one of its batches, then ``take`` that and the following ones.
    ``outcomes`` are those not handed out yet; ask before the next epoch begins. A step whose loss
    is not finite changes nothing and is the last: no outcome follows its own.
    """

    immediate: bool  # whether asking for outcomes costs nothing

    def begin(self, epoch: Epoch, batch: int) -> None: ...

    def take(self, batch: int) -> None: ...

    def outcomes(self) -> list[Outcome]: ...

    def evaluate(self, split: Split) -> Evaluation:
        """Judge the network by a split, whose images lie on the engine."""


class PlainSteps:
    """Steps whose outcome is known at once, on either engine.

    On the CPU batches are cut among the ranks of a team. build: makes, in another process, a
    network and its optimiser like these.
    """

    immediate = True

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        split: Split | Fresh,
        batch_size: int,
        seed: int,
        task: Task,
        team: Team,
        build: Callable[[], tuple[Network, Optimizer]],
    ) -> None:
        self.optimizer, self.split, self.task, self.team = optimizer, split, task, team
        self.batch_size, self.seed = batch_size, seed
        self.device = optimizer.buffer.device
        self._outcomes: list[Outcome] = []
        fixed = {p.name: p.data for p in network.fixed_parameters()} if team.size > 1 else {}
        others = [(build, task, fixed)] * (team.size - 1)
        team.ask("replicate", [(lambda: (network, optimizer), task), *others])

    def begin(self, epoch: Epoch, batch: int) -> None:
        self._epoch = epoch
        self._drawn = self.split.epoch(epoch.number, map=self.team.map)
        self.team.ask_all("spread")

    def take(self, batch: int) -> None:
        rows = self._epoch.order[batch * self.batch_size :][: self.batch_size]
        images, labels = self._drawn.batch(rows)
        number, count = self._epoch.first + batch, len(images)
        if self.device is not None:
            images, labels = placed(images, self.device), self._placed(labels)
        step = Step(self.seed, number, dropout=self._epoch.dropout)
        cuts = self.team.cut(count)
        each = [(images[cut], replace(step, first_row=cut.start)) for cut in cuts]
        if self.task.divisible:
            asked = [(*own, labels[cut], count) for own, cut in zip(each, cuts, strict=True)]
            shares = self.team.ask("gradients", asked)
        else:
            shares = self.team.ask("compared", [(*own, labels) for own in each])
        loss = float(sum(share.loss for share in shares))
        if np.isfinite(loss):
            rate = self._epoch.rates[batch]
            self.team.ask_all("update", self.optimizer.step_sizes(rate, number + 1))
        left = [share.left for share in shares if share.left is not None]
        self._outcomes.append(
            Outcome(
                number,
                count,
                loss,
                sum(share.errors for share in shares),
                max(map(sum, zip(*left, strict=True)), default=None),
            )
        )

    def outcomes(self) -> list[Outcome]:
        found, self._outcomes = self._outcomes, []
        return found

    def predict(self, images: np.ndarray) -> Prediction:
        self.team.ask_all("spread")
        found = []
        for start in range(0, len(images), prediction.BATCH * self.team.size):
            starts = [start + rank * prediction.BATCH for rank in range(self.team.size)]
            some = [(images[first : first + prediction.BATCH],) for first in starts]
            found += [answer for answer in self.team.ask("predict", some) if answer is not None]
        return prediction.joined(found)

    def evaluate(self, split: Split) -> Evaluation:
        return self.task.judge(self.predict(split.images), split)

    def _placed(self, labels: Any) -> Any:
        """On the device; what is no array stays where it is."""
        if not hasattr(labels, "dtype"):
            return labels
        assert self.device is not None
        return self.device.to_gpu(labels_for_gpu(labels))


class QueuedSteps:
    """Steps on a GPU, of a task that can be queued.

    Images stay there as bytes, volumes as what they are made of, labels as int32 or float32;
    everything a step reads lies in device memory.

    captured: a step becomes a CUDA graph, one launch instead of 83 for arch1-tstn, and a second
    graph where an epoch's last batch is smaller; and so for each of a network's turns. Only where
    all kernels are our own: in float32 87 are launched, of which 12 are cuBLAS's products.
    """

    immediate = False

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        split: Split | Fresh,
        batch_size: int,
        seed: int,
        task: Task,
        device: Device,
        captured: bool,
    ) -> None:
        self.network, self.optimizer, self.device, self.task = network, optimizer, device, task
        self.batch_size, self.seed = batch_size, seed
        self.split = split
        count = len(split)
        self.batches = -(-count // batch_size)
        self._images: Any = None  # until the first epoch begins, on its device
        self._labels: Any = None  # likewise
        self._order = device.empty((count,), np.int32)
        self._log = Log(device, self.batches)
        self._schedules = [
            Schedule(device.empty((self.batches,), np.float32), self._log.number, self._log.halted)
            for _ in optimizer.buffer.groups
        ]
        self._next = 0  # step whose outcome is the next to be handed out
        self._sizes = {batch_size, count - (self.batches - 1) * batch_size}
        self._captured = captured
        self._dropout: float | None = None  # of the steps as they are captured

    def begin(self, epoch: Epoch, batch: int) -> None:
        """Copy what the epoch's steps will read to the device.

        The share of dropout is no device value: the host knows it, and where it rises it does so in
        a few epochs at the start, in each of which steps are captured anew.
        """
        if epoch.dropout != self._dropout:
            self._dropout = epoch.dropout
            turns = range(self.network.turns)
            self._step = {(n, turn): self._work(n, turn) for n in self._sizes for turn in turns}
        to_gpu = self.device.to_gpu
        self._load(epoch.number)
        self._order[...] = to_gpu(epoch.order.astype(np.int32))
        steps = enumerate(epoch.rates, epoch.first + 1)
        # None, where a group does not learn, becomes NaN: its schedule is not read then.
        sizes = np.array([self.optimizer.step_sizes(lr, t) for t, lr in steps], np.float32)
        for schedule, values in zip(self._schedules, sizes.T, strict=True):
            schedule.values[...] = to_gpu(np.ascontiguousarray(values))
        self._first = epoch.first
        self._next = epoch.first + batch
        self._log.start(self._next)

    def _load(self, number: int) -> None:
        """Have the images and labels of an epoch on the device, where captured steps read them."""
        if self._images is not None and not self.split.anew:
            return
        drawn = self.split.epoch(number, device=self.device)
        labels = self.device.to_gpu(labels_for_gpu(drawn.labels))
        if self._images is None:
            self._images, self._labels = drawn.images, labels
        else:
            self._images[...], self._labels[...] = drawn.images, labels

    def take(self, batch: int) -> None:
        self._step[self._images_in(batch), (self._first + batch) % self.network.turns]()

    def outcomes(self) -> list[Outcome]:
        found = []
        for number, loss, errors, left in self._log.read(self._next):
            images = self._images_in(number % self.batches)
            has_left = left if self.network.at(number).transformers else None
            found.append(Outcome(number, images, loss, errors, has_left))
        self._next += len(found)
        return found

    def predict(self, images: np.ndarray) -> Prediction:
        return prediction.predict(self.network, images)

    def evaluate(self, split: Split) -> Evaluation:
        return self.task.judge(self.predict(split.images), split)

    def _images_in(self, batch: int) -> int:
        return min(self.batch_size, len(self._order) - batch * self.batch_size)

    def _work(self, n: int, turn: int) -> Callable[[], None]:
        """The function that does a step on a batch of n images, of those whose turn it is."""
        assert self._dropout is not None
        dropout, network = self._dropout, self.network.at(turn)
        groups = zip(self.optimizer.buffer.groups, self._schedules, strict=True)
        schedules = [None if turn % group.every else schedule for group, schedule in groups]

        def step() -> None:
            log = self._log
            x, labels = take_batch(
                self._images, self._labels, self._order, log.number,
                batches=self.batches, batch_size=self.batch_size, n=n,
            )  # fmt: skip
            logits, cache = network.forward(x, Step(self.seed, log.number, dropout=dropout))
            assert cache is not None
            loss, loss_cache = self.task.loss(logits, labels)
            answers = self.task.answers(logits, labels)
            log.note(loss, *answers, network.thetas(cache))
            self.optimizer.buffer.zero_grad()
            network.backward(self.task.loss_backward(loss_cache), cache)
            self.optimizer.limit()
            self.optimizer.update(schedules)
            log.count_step()

        return self.device.repeating(step) if self._captured else step
