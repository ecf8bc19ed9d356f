"""The update of Adam on a GPU: see adam.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays


class Schedule(NamedTuple):
    """Step sizes in device memory, for a captured graph that takes many steps.

    values: (count,) float32; step number s has values[s % count]. number: (1,) uint32, steps done
    so far. halted: (1,) int32; while it is not 0 nothing is updated.
    """

    values: Array
    number: Array
    halted: Array


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

    Raises TypeError for another dtype, ValueError for a wrong shape.
    """
    check_arrays(p=(p, "S"), g=(g, "S"), m=(m, "S"), v=(v, "S"))
    if not isinstance(step_size, Schedule):
        step_size = _constant(p, step_size)
    values, number, halted = step_size
    launch(
        "adam", "adam", blocks_for(p.size),
        p, g, m, v, values, values.size, number, halted,
        beta1, beta2, 1 - beta1, 1 - beta2, epsilon, p.size,
    )  # fmt: skip


def _constant(p: Array, step_size: float) -> Schedule:
    device = device_holding(p=p)
    values = device.empty((1,), np.float32)
    values.fill(step_size)
    return Schedule(values, device.zeros((1,), np.uint32), device.zeros((1,), np.int32))
