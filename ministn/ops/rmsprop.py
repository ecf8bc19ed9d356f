"""The update of RMSprop, in place over flat arrays: the formulas are in ministn/optimizers.py."""

import numpy as np

from ministn.errors import check_arrays, check_number, check_share, check_written
from ministn.ops.adam import BLOCK


def rmsprop(
    p: np.ndarray, g: np.ndarray, a: np.ndarray, step_size: float, rho: float, epsilon: float
) -> None:
    """Update p and a from the gradient g: flat arrays of one dtype and length.

    Raises as adam does.
    """
    check_arrays(p=(p, "n"), g=(g, "n"), a=(a, "n"))
    check_written(p=p, a=a)
    step_size, epsilon = check_number("step_size", step_size), check_number("epsilon", epsilon, 0)
    rho = check_share("rho", rho)
    number = p.dtype.type  # keep scalars from widening float32 arrays
    gain = number(1 - rho)
    scratch = np.empty(min(BLOCK, p.size), p.dtype)
    for start in range(0, p.size, BLOCK):
        block = slice(start, start + BLOCK)
        t = scratch[: len(p[block])]
        np.multiply(g[block], g[block], out=t)
        t *= gain
        a[block] *= number(rho)
        a[block] += t
        np.add(a[block], number(epsilon), out=t)
        np.sqrt(t, out=t)
        np.divide(g[block], t, out=t)
        t *= number(step_size)
        p[block] -= t
