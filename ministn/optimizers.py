"""Optimisers over a ParameterBuffer: Lasagne's formulas, updating in place.

A rule is a value: how parameters follow from their gradients. An Optimizer is a rule at work.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from ministn.backend import Array, assign
from ministn.engines import function
from ministn.errors import UserError
from ministn.kinds import kind
from ministn.parameter import ParameterBuffer


class Rule(ABC):
    """How a step changes parameters p, given their gradients g.

    moments: names of the arrays like p that change with it, zero at first; they are in checkpoints.
    kind: its name there, see kinds.py.
    """

    kind: ClassVar[str]
    moments: ClassVar[tuple[str, ...]] = ()

    def step_size(self, lr: float, t: int) -> float:
        """What step ``t``, counted from 1, multiplies the direction with."""
        return lr

    def constants(self, buffer: ParameterBuffer) -> dict[str, Array]:
        """Further arrays like p, by name, that do not change."""
        return {}

    @abstractmethod
    def update(self, p: Array, g: Array, step_size: Any, **arrays: Array) -> None:
        """Update values p from gradients g. arrays: the moments and constants of these values."""


@kind("adam")
class Adam(Rule):
    """Adam (Kingma & Ba 2014) in Lasagne's form.

        a_t   = lr * sqrt(1 - beta2^t) / (1 - beta1^t),   t = 1, 2, ...
        m    <- beta1 * m + (1 - beta1) * g
        v    <- beta2 * v + (1 - beta2) * g^2
        p    <- p - a_t * m / (sqrt(v) + epsilon)

    epsilon is added to the *uncorrected* sqrt(v), so it weighs more in the first steps than in
    Kingma & Ba's Algorithm 1, where it meets the corrected one. It is the "efficient" form of
    their section 2.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    moments: ClassVar[tuple[str, ...]] = ("m", "v")

    def step_size(self, lr: float, t: int) -> float:
        """a_t."""
        return lr * (np.sqrt(1 - self.beta2**t) / (1 - self.beta1**t))

    def update(self, p: Array, g: Array, step_size: Any, **arrays: Array) -> None:
        adam = function("adam", p)
        adam(p, g, arrays["m"], arrays["v"], step_size, self.beta1, self.beta2, self.epsilon)


@kind("sgd")
class SGD(Rule):
    """Stochastic gradient descent with momentum in Lasagne's form, and weight decay.

        v    <- momentum * v - lr * (g + decay * p)
        p    <- p + v

    The velocity v holds steps that are already scaled: when the learning rate falls, those that
    were taken before still count as they were. PyTorch's scales them anew; at a constant rate the
    two are the same. With momentum 0 this is p <- p - lr * g.

    weight_decay: of all parameters but biases, of biases too if ``decay_biases``; it is the
    gradient of weight_decay / 2 * |p|^2 added to the loss. Biases are the parameters whose names
    end in "/bias".

    Raises UserError for numbers that cannot be.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_biases: bool = False

    moments: ClassVar[tuple[str, ...]] = ("v",)

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must be at least 0 and below 1, got {self.momentum}")
        if not 0 <= self.weight_decay < np.inf:
            raise UserError(f"weight_decay must be a number from 0 up, got {self.weight_decay}")

    def constants(self, buffer: ParameterBuffer) -> dict[str, Array]:
        """decay: of each value."""
        decay = np.zeros(buffer.data.shape, buffer.data.dtype)
        for name, part in buffer.views(decay).items():
            if self.decay_biases or not name.endswith("/bias"):
                part.fill(self.weight_decay)
        placed = buffer.zeros()
        assign(placed, decay)
        return {"decay": placed}

    def update(self, p: Array, g: Array, step_size: Any, **arrays: Array) -> None:
        sgd = function("sgd", p)
        sgd(p, g, arrays["v"], arrays["decay"], step_size, self.momentum)


class Optimizer:
    """A rule at work on the parameters of a buffer.

    moments, constants: flat arrays like the buffer's, by name: see Rule. t: the calls of ``step``;
    whoever calls ``update`` counts for itself.
    """

    def __init__(self, rule: Rule, buffer: ParameterBuffer) -> None:
        self.rule, self.buffer = rule, buffer
        self.moments = {name: buffer.zeros() for name in rule.moments}
        self.constants = rule.constants(buffer)
        self.t = 0

    def state(self) -> dict[str, Array]:
        """The moments by their names in checkpoints: "adam/m"."""
        return {f"{self.rule.kind}/{name}": array for name, array in self.moments.items()}

    def move(self, moments: Iterable[np.ndarray]) -> None:
        """Let the moments, in order, lie in these flat arrays, with the values that they hold."""
        self.moments = dict(zip(self.moments, moments, strict=True))

    def step(self, lr: float) -> None:
        """Update every parameter from its gradient; ``lr`` times each group's multiplier."""
        self.t += 1
        self.update(self.step_sizes(lr, self.t))

    def step_sizes(self, lr: float, t: int) -> list[float]:
        """What step ``t``, counted from 1, multiplies each group's direction with."""
        return [self.rule.step_size(lr * multiplier, t) for _, multiplier in self.buffer.groups]

    def update(
        self,
        step_sizes: list[Any],
        grad: np.ndarray | None = None,
        part: slice | None = None,
    ) -> None:
        """Update every parameter, with a step size for each group.

        grad: flat, the buffer's own unless given. part: of the flat arrays, to update only that.
        Raises UserError, and updates nothing, where a parameter lies elsewhere by now.
        """
        self.buffer.check_tied()
        data = self.buffer.data
        grad = self.buffer.grad if grad is None else grad
        part = slice(0, len(data)) if part is None else part
        arrays = self.moments | self.constants
        for (group, _), step_size in zip(self.buffer.groups, step_sizes, strict=True):
            mine = slice(max(group.start, part.start), min(group.stop, part.stop))
            if mine.start < mine.stop:
                own = {name: array[mine] for name, array in arrays.items()}
                self.rule.update(data[mine], grad[mine], step_size, **own)
