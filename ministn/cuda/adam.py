"""The update of Adam on a GPU: see adam.cu."""

from ministn.backend import Array
from ministn.cuda.launch import blocks_for, launch
from ministn.cuda.schedule import Schedule, as_schedule
from ministn.errors import check_arrays, check_number, check_share


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step_size: float | Schedule,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    """Update p, m and v in place from the gradient g: (S,) each, float32.

    Raises TypeError for another dtype, ValueError for a wrong shape or number.
    """
    check_arrays(p=(p, "S"), g=(g, "S"), m=(m, "S"), v=(v, "S"))
    beta1, beta2 = check_share("beta1", beta1), check_share("beta2", beta2)
    epsilon = check_number("epsilon", epsilon, 0)
    values, number, halted = as_schedule(p, step_size)
    launch(
        "adam", "adam", blocks_for(p.size),
        p, g, m, v, values, values.size, number, halted,
        beta1, beta2, 1 - beta1, 1 - beta2, epsilon, p.size,
    )  # fmt: skip
