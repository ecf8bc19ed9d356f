"""Optimisers over a ParameterBuffer: Lasagne's formulas, updating in place."""

import numpy as np

from ministn.parameter import ParameterBuffer

# Values updated at a time: the five arrays of one block stay in a core's L2 cache.
BLOCK = 16384


class Adam:
    """Adam (Kingma & Ba 2014) in Lasagne's form.

        a_t   = lr * sqrt(1 - beta2^t) / (1 - beta1^t),   t = 1, 2, ...
        m    <- beta1 * m + (1 - beta1) * g
        v    <- beta2 * v + (1 - beta2) * g^2
        p    <- p - a_t * m / (sqrt(v) + epsilon)

    epsilon is added to the *uncorrected* sqrt(v), so it weighs more in the first steps than in
    Kingma & Ba's Algorithm 1, where it meets the corrected one. It is the "efficient" form of
    their section 2.

    State: ``t``, and the flat ``m`` and ``v``, zero at the start.
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
        self.m = np.zeros_like(buffer.data)
        self.v = np.zeros_like(buffer.data)
        self.t = 0

    def step(self, lr: float) -> None:
        """Update every parameter from its gradient; ``lr`` times each group's multiplier."""
        self.t += 1
        correction = np.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)
        number = self.buffer.data.dtype.type  # keep scalars from widening float32 arrays
        beta1, beta2, epsilon = number(self.beta1), number(self.beta2), number(self.epsilon)
        gain1, gain2 = number(1 - self.beta1), number(1 - self.beta2)
        scratch = np.empty(BLOCK, self.buffer.data.dtype)
        for group, multiplier in self.buffer.groups:
            step_size = number(lr * multiplier * correction)
            for start in range(group.start, group.stop, BLOCK):
                block = slice(start, min(start + BLOCK, group.stop))
                p, g = self.buffer.data[block], self.buffer.grad[block]
                m, v, t = self.m[block], self.v[block], scratch[: len(p)]
                m *= beta1
                m += np.multiply(g, gain1, out=t)
                np.multiply(g, g, out=t)
                t *= gain2
                v *= beta2
                v += t
                np.sqrt(v, out=t)
                t += epsilon
                np.divide(m, t, out=t)
                t *= step_size
                p -= t


def step_decay(lr: float, epoch: int, *, factor: float = 0.7, every: int = 20) -> float:
    """Learning rate in ``epoch`` (from 1): multiplied by ``factor`` after every 20 epochs."""
    return lr * factor ** ((epoch - 1) // every)
