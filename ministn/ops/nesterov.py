"""The update by Nesterov's momentum, in place over flat arrays: see ministn/optimizers.py."""

import numpy as np

from ministn.errors import check_arrays, check_number, check_share, check_written
from ministn.ops.adam import BLOCK


def nesterov(
    p: np.ndarray,
    g: np.ndarray,
    v: np.ndarray,
    decay: np.ndarray,
    step_size: float,
    momentum: float,
) -> None:
    """Update p and v from the gradient g and each value's decay: flat, of one dtype and length.

    Raises as adam does.
    """
    check_arrays(p=(p, "n"), g=(g, "n"), v=(v, "n"), decay=(decay, "n"))
    check_written(p=p, v=v)
    step_size, momentum = check_number("step_size", step_size), check_share("momentum", momentum)
    number = p.dtype.type  # keep scalars from widening float32 arrays
    scratch = np.empty(min(BLOCK, p.size), p.dtype)
    for start in range(0, p.size, BLOCK):
        block = slice(start, start + BLOCK)
        t = scratch[: len(p[block])]
        np.multiply(decay[block], p[block], out=t)
        t += g[block]
        t *= number(step_size)
        v[block] *= number(momentum)
        v[block] -= t
        p[block] -= t
        p[block] += np.multiply(v[block], number(momentum), out=t)
