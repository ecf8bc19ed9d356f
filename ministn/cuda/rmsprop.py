"""The update of RMSprop on a GPU: see rmsprop.cu."""

from ministn.backend import Array
from ministn.cuda.launch import blocks_for, launch
from ministn.cuda.schedule import Schedule, as_schedule
from ministn.errors import check_arrays, check_number, check_share


def rmsprop(
    p: Array, g: Array, a: Array, step_size: float | Schedule, rho: float, epsilon: float
) -> None:
    """Update p and a in place from the gradient g: (S,) each, float32.

    Raises TypeError for another dtype, ValueError for a wrong shape or number.
    """
    check_arrays(p=(p, "S"), g=(g, "S"), a=(a, "S"))
    rho, epsilon = check_share("rho", rho), check_number("epsilon", epsilon, 0)
    values, number, halted = as_schedule(p, step_size)
    launch(
        "rmsprop", "rmsprop", blocks_for(p.size),
        p, g, a, values, values.size, number, halted, rho, 1 - rho, epsilon, p.size,
    )  # fmt: skip
