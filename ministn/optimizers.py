"""Optimisers over a ParameterBuffer: Lasagne's formulas, updating in place.

A rule is a value: how parameters follow from their gradients. An Optimizer is a rule at work.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from ministn.backend import Array, assign
from ministn.engines import function
from ministn.errors import (
    ABOVE_0,
    FROM_0,
    FROM_0_BELOW_1,
    check_arrays,
    check_flags,
    check_kind,
    check_numbers,
    check_whole,
)
from ministn.kinds import kind
from ministn.parameter import ParameterBuffer


class Rule(ABC):
    """How a step changes parameters p, given their gradients g.

    moments: names of the arrays like p that change with it, zero at first; they are in checkpoints.
    kind: its name there, see kinds.py. Making one raises UserError for numbers that cannot be.
    """

    kind: ClassVar[str]
    moments: ClassVar[tuple[str, ...]] = ()

    @property
    def words(self) -> str:
        """Its name for a reader."""
        return type(self).__name__

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

    def __post_init__(self) -> None:
        check_numbers(FROM_0_BELOW_1, beta1=self.beta1, beta2=self.beta2)
        check_numbers(ABOVE_0, epsilon=self.epsilon)

    def step_size(self, lr: float, t: int) -> float:
        """a_t."""
        return lr * (np.sqrt(1 - self.beta2**t) / (1 - self.beta1**t))

    def update(self, p: Array, g: Array, step_size: Any, **arrays: Array) -> None:
        adam = function("adam", p)
        adam(p, g, arrays["m"], arrays["v"], step_size, self.beta1, self.beta2, self.epsilon)


@kind("rmsprop")
class RMSprop(Rule):
    """RMSprop (Tieleman & Hinton 2012) in Lasagne's form.

        a    <- rho * a + (1 - rho) * g^2
        p    <- p - lr * g / sqrt(a + epsilon)

    epsilon is added within the root, where the default weighs like 1e-3 outside it, which is where
    PyTorch adds its own. a begins at 0, so the first steps are up to 1 / sqrt(1 - rho) times as
    long as later ones.
    """

    rho: float = 0.9
    epsilon: float = 1e-6

    moments: ClassVar[tuple[str, ...]] = ("a",)

    def __post_init__(self) -> None:
        check_numbers(FROM_0_BELOW_1, rho=self.rho)
        check_numbers(ABOVE_0, epsilon=self.epsilon)

    def update(self, p: Array, g: Array, step_size: Any, **arrays: Array) -> None:
        function("rmsprop", p)(p, g, arrays["a"], step_size, self.rho, self.epsilon)


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
    """

    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_biases: bool = False

    moments: ClassVar[tuple[str, ...]] = ("v",)

    def __post_init__(self) -> None:
        check_numbers(FROM_0_BELOW_1, momentum=self.momentum)
        check_numbers(FROM_0, weight_decay=self.weight_decay)
        check_flags(decay_biases=self.decay_biases)

    @property
    def words(self) -> str:
        return f"momentum {self.momentum:g}"

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


@kind("nesterov")
class Nesterov(SGD):
    """SGD with Nesterov's momentum in Lasagne's form, and weight decay as SGD has it.

        v    <- momentum * v - lr * (g + decay * p)
        p    <- p + momentum * v - lr * (g + decay * p)        with the new v

    p is already where the velocity would take it next: there Nesterov takes the slope. At a
    constant learning rate this is PyTorch's. It is a kind of its own and no field of SGD, so that
    records of SGD stay as they are.
    """

    @property
    def words(self) -> str:
        return f"Nesterov's momentum {self.momentum:g}"

    def update(self, p: Array, g: Array, step_size: Any, **arrays: Array) -> None:
        nesterov = function("nesterov", p)
        nesterov(p, g, arrays["v"], arrays["decay"], step_size, self.momentum)


def check_clipping(clip: float | None, clip_norm: float | None) -> None:
    """Raise UserError for limits on a gradient that cannot be; None is no limit."""
    limits = {"clip": clip, "clip_norm": clip_norm}
    check_numbers(ABOVE_0, **{name: limit for name, limit in limits.items() if limit is not None})


class Optimizer:
    """A rule at work on the parameters of a buffer.

    clip, clip_norm: limits on the gradient, None for none: see ``limit``. moments, constants: flat
    arrays like the buffer's, by name: see Rule. t: the calls of ``step``; whoever calls ``limit``
    and ``update`` counts for itself. Raises UserError for limits that cannot be, TypeError for what
    is no rule or no buffer.
    """

    def __init__(
        self,
        rule: Rule,
        buffer: ParameterBuffer,
        clip: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        check_kind("rule", rule, Rule)
        check_kind("buffer", buffer, ParameterBuffer)
        check_clipping(clip, clip_norm)
        self.rule, self.buffer = rule, buffer
        self.clip, self.clip_norm = clip, clip_norm
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
        """Limit the gradient, then update every parameter; ``lr`` times each group's multiplier.

        Raises UserError, and changes nothing, for an lr that cannot be, and as ``update`` does.
        """
        self.buffer.check_tied()
        step_sizes = self.step_sizes(lr, self.t + 1)
        self.limit()
        self.update(step_sizes)
        self.t += 1

    def step_sizes(self, lr: float, t: int) -> list[float | None]:
        """What step ``t``, counted from 1, multiplies each group's direction with; None where the
        group does not learn. Each counts the steps in which it does: in the n-th its rate is

            lr * multiplier * min(n / warm_up, 1)

        Raises UserError for numbers that cannot be.
        """
        check_numbers(FROM_0, lr=lr)
        check_whole(t=t)
        found: list[float | None] = []
        for _, multiplier, every, warm_up in self.buffer.groups:
            before, late = divmod(t - 1, every)
            n = before + 1
            rate = lr * multiplier * min(n / warm_up, 1.0)
            found.append(None if late else self.rule.step_size(rate, n))
        return found

    def limit(
        self, grad: Array | None = None, over_ranks: Callable[[Any], Any] = lambda squares: squares
    ) -> None:
        """Limit the whole gradient of a step, of all parameters together, in place:

            each value to [-clip, clip]
            then all times min(n, clip_norm) / (n + 1e-7), where n is their norm

        as Lasagne's total_norm_constraint has it. grad: flat, the buffer's own unless given. Where
        it is a rank's part, over_ranks makes of the part's sum of squares that of the whole.
        """
        grad = self.buffer.grad if grad is None else grad
        if self.clip is not None:
            function("clip", grad)(grad, self.clip)
        if self.clip_norm is not None:
            squares = over_ranks(function("sum_of_squares", grad)(grad))
            function("limit_norm", grad)(grad, squares, self.clip_norm)

    def update(
        self,
        step_sizes: list[Any],
        grad: np.ndarray | None = None,
        part: slice | None = None,
    ) -> None:
        """Update every parameter from its gradient as it is, with a step size for each group; None
        leaves a group and its moments as they are.

        grad: flat, the buffer's own unless given. part: of the flat arrays, to update only that.
        Raises UserError, and updates nothing, where a parameter lies elsewhere by now.
        """
        check_kind("step_sizes", step_sizes, list, tuple)
        if len(step_sizes) != len(self.buffer.groups):
            raise ValueError(
                f"step_sizes must be {len(self.buffer.groups)} for as many groups of parameters, "
                f"got {len(step_sizes)}"
            )
        if part is not None:
            check_kind("part", part, slice)
        self.buffer.check_tied()
        data = self.buffer.data
        grad = self.buffer.grad if grad is None else grad
        check_arrays(grad=(grad, f"{data.size}"))
        part = slice(0, len(data)) if part is None else part
        arrays = self.moments | self.constants
        for group, step_size in zip(self.buffer.groups, step_sizes, strict=True):
            mine = slice(max(group.part.start, part.start), min(group.part.stop, part.stop))
            if mine.start < mine.stop and step_size is not None:
                own = {name: array[mine] for name, array in arrays.items()}
                self.rule.update(data[mine], grad[mine], step_size, **own)
