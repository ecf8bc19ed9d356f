"""Step sizes where a captured graph can read them."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.errors import check_number


class Schedule(NamedTuple):
    """Step sizes in device memory, for a captured graph that takes many steps.

    values: (count,) float32; step number s has values[s % count]. number: (1,) uint32, steps done
    so far. halted: (1,) int32; while it is not 0 nothing is updated.
    """

    values: Array
    number: Array
    halted: Array


def as_schedule(p: Array, step_size: float | Schedule) -> Schedule:
    """The schedule itself, or one on the device of ``p`` that has but this step size.

    Raises ValueError for one that is no finite number.
    """
    if isinstance(step_size, Schedule):
        return step_size
    device = device_holding(p=p)
    values = device.empty((1,), np.float32)
    values.fill(check_number("step_size", step_size))
    return Schedule(values, device.zeros((1,), np.uint32), device.zeros((1,), np.int32))
