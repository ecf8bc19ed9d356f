"""Optimisers over a ParameterBuffer: Lasagne's formulas, updating in place."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np

from ministn.backend import assign
from ministn.engines import function
from ministn.parameter import ParameterBuffer


class Optimizer(ABC):
    """What the optimisers share: step sizes for each group of parameters, and updates of a part.

    name: in checkpoints. moments: names of the attributes that are flat arrays like the buffer's
    and change with it. t: the calls of ``step``; whoever calls ``update`` counts for itself.
    """

    name: str
    moments: tuple[str, ...]

    def __init__(self, buffer: ParameterBuffer) -> None:
        self.buffer = buffer
        for moment in self.moments:
            setattr(self, moment, buffer.zeros())
        self.t = 0

    def state(self) -> dict[str, np.ndarray]:
        """The moments by their names in checkpoints: "adam/m"."""
        return {f"{self.name}/{moment}": getattr(self, moment) for moment in self.moments}

    def move(self, moments: Iterable[np.ndarray]) -> None:
        """Let the moments, in order, lie in these flat arrays, with the values that they hold."""
        for moment, array in zip(self.moments, moments, strict=True):
            setattr(self, moment, array)

    def step(self, lr: float) -> None:
        """Update every parameter from its gradient; ``lr`` times each group's multiplier."""
        self.t += 1
        self.update(self.step_sizes(lr, self.t))

    def step_sizes(self, lr: float, t: int) -> list[float]:
        """What step ``t``, counted from 1, multiplies each group's direction with."""
        return [lr * multiplier for _, multiplier in self.buffer.groups]

    def update(
        self,
        step_sizes: list[Any],
        grad: np.ndarray | None = None,
        part: slice | None = None,
    ) -> None:
        """Update every parameter, with a step size for each group.

        grad: flat, the buffer's own unless given. part: of the flat arrays, to update only that.
        """
        data = self.buffer.data
        grad = self.buffer.grad if grad is None else grad
        part = slice(0, len(data)) if part is None else part
        for (group, _), step_size in zip(self.buffer.groups, step_sizes, strict=True):
            mine = slice(max(group.start, part.start), min(group.stop, part.stop))
            if mine.start < mine.stop:
                self._update(data[mine], grad[mine], mine, step_size)

    @abstractmethod
    def _update(self, p: np.ndarray, g: np.ndarray, mine: slice, step_size: Any) -> None:
        """Update values p from gradients g, which are ``mine`` of the flat arrays."""


class Adam(Optimizer):
    """Adam (Kingma & Ba 2014) in Lasagne's form.

        a_t   = lr * sqrt(1 - beta2^t) / (1 - beta1^t),   t = 1, 2, ...
        m    <- beta1 * m + (1 - beta1) * g
        v    <- beta2 * v + (1 - beta2) * g^2
        p    <- p - a_t * m / (sqrt(v) + epsilon)

    epsilon is added to the *uncorrected* sqrt(v), so it weighs more in the first steps than in
    Kingma & Ba's Algorithm 1, where it meets the corrected one. It is the "efficient" form of
    their section 2.

    State: the flat ``m`` and ``v``, zero at the start, and ``t``.
    """

    name = "adam"
    moments = "m", "v"
    m: np.ndarray
    v: np.ndarray

    def __init__(
        self,
        buffer: ParameterBuffer,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(buffer)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def step_sizes(self, lr: float, t: int) -> list[float]:
        """a_t times the multiplier of each group."""
        correction = np.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)
        return [size * correction for size in super().step_sizes(lr, t)]

    def _update(self, p: np.ndarray, g: np.ndarray, mine: slice, step_size: Any) -> None:
        adam = function("adam", p)
        adam(p, g, self.m[mine], self.v[mine], step_size, self.beta1, self.beta2, self.epsilon)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum in Lasagne's form, and weight decay.

        v    <- momentum * v - lr * (g + decay * p)
        p    <- p + v

    The velocity v holds steps that are already scaled: when the learning rate falls, those that
    were taken before still count as they were. PyTorch's scales them anew; at a constant rate the
    two are the same. With momentum 0 this is p <- p - lr * g.

    weight_decay: of all parameters but biases, of biases too if ``decay_biases``; it is the
    gradient of weight_decay / 2 * |p|^2 added to the loss. Biases are the parameters whose names
    end in "/bias".

    State: the flat ``v``, zero at the start, and ``t``. ``decay``: of each value.
    """

    name = "sgd"
    moments = ("v",)
    v: np.ndarray

    def __init__(
        self,
        buffer: ParameterBuffer,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        decay_biases: bool = False,
    ) -> None:
        super().__init__(buffer)
        self.momentum = momentum
        decay = np.zeros(buffer.data.shape, buffer.data.dtype)
        for name, part in buffer.views(decay).items():
            if decay_biases or not name.endswith("/bias"):
                part.fill(weight_decay)
        self.decay = buffer.zeros()
        assign(self.decay, decay)

    def _update(self, p: np.ndarray, g: np.ndarray, mine: slice, step_size: Any) -> None:
        sgd = function("sgd", p)
        sgd(p, g, self.v[mine], self.decay[mine], step_size, self.momentum)


def step_decay(lr: float, number: int, *, factor: float = 0.7, every: int = 20) -> float:
    """Learning rate in epoch ``number`` (from 1): multiplied by ``factor`` after every 20 epochs.

    every: how many instead of 20; epochs, or iterations where ``number`` is an iteration's.
    """
    return lr * factor ** ((number - 1) // every)
