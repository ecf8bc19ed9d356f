"""The update by Nesterov's momentum on a GPU: see nesterov.cu."""

from ministn.backend import Array
from ministn.cuda.launch import blocks_for, launch
from ministn.cuda.schedule import Schedule, as_schedule
from ministn.errors import check_arrays, check_share


def nesterov(
    p: Array, g: Array, v: Array, decay: Array, step_size: float | Schedule, momentum: float
) -> None:
    """Update p and v in place from the gradient g and each value's decay: (S,) each, float32.

    Raises TypeError for another dtype, ValueError for a wrong shape or number.
    """
    check_arrays(p=(p, "S"), g=(g, "S"), v=(v, "S"), decay=(decay, "S"))
    momentum = check_share("momentum", momentum)
    values, number, halted = as_schedule(p, step_size)
    launch(
        "nesterov", "nesterov", blocks_for(p.size),
        p, g, v, decay, values, values.size, number, halted, momentum, p.size,
    )  # fmt: skip
