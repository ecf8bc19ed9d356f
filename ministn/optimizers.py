"""Optimisers over a ParameterBuffer: Lasagne's formulas, updating in place."""

from typing import Any

import numpy as np

from ministn.engines import function
from ministn.parameter import ParameterBuffer


class Adam:
    """Adam (Kingma & Ba 2014) in Lasagne's form.

        a_t   = lr * sqrt(1 - beta2^t) / (1 - beta1^t),   t = 1, 2, ...
        m    <- beta1 * m + (1 - beta1) * g
        v    <- beta2 * v + (1 - beta2) * g^2
        p    <- p - a_t * m / (sqrt(v) + epsilon)

    epsilon is added to the *uncorrected* sqrt(v), so it weighs more in the first steps than in
    Kingma & Ba's Algorithm 1, where it meets the corrected one. It is the "efficient" form of
    their section 2.

    State: the flat ``m`` and ``v``, zero at the start, and ``t``, the calls of ``step``; whoever
    calls ``update`` counts for itself.
    """

    def __init__(
        self,
        buffer: ParameterBuffer,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.buffer = buffer
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.m = buffer.zeros()
        self.v = buffer.zeros()
        self.t = 0

    def step(self, lr: float) -> None:
        """Update every parameter from its gradient; ``lr`` times each group's multiplier."""
        self.t += 1
        self.update(self.step_sizes(lr, self.t))

    def step_sizes(self, lr: float, t: int) -> list[float]:
        """a_t times the multiplier of each group."""
        correction = np.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)
        return [lr * multiplier * correction for _, multiplier in self.buffer.groups]

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
        adam = function("adam", data)
        for (group, _), step_size in zip(self.buffer.groups, step_sizes, strict=True):
            mine = slice(max(group.start, part.start), min(group.stop, part.stop))
            if mine.start < mine.stop:
                adam(
                    data[mine], grad[mine], self.m[mine], self.v[mine],
                    step_size, self.beta1, self.beta2, self.epsilon,
                )  # fmt: skip


def step_decay(lr: float, epoch: int, *, factor: float = 0.7, every: int = 20) -> float:
    """Learning rate in ``epoch`` (from 1): multiplied by ``factor`` after every 20 epochs."""
    return lr * factor ** ((epoch - 1) // every)
