"""ops/dropout.py on a GPU: see dropout.cu."""

import math
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import Array, Device, device_holding, device_of
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.dropout import check_options, rows
from ministn.randomness import Step


class Cache(NamedTuple):
    keep: Array  # uint8, of x's shape: 1 where an element was kept
    scale: float  # of those


def dropout(x: Array, rate: float, step: Step, stream: int) -> tuple[Array, Cache]:
    """Drop each element of x (N, ...) with probability rate: exactly those that ops drops.

    step.number may lie on the device, as an array (1,) of uint32: it is read when the kernel runs.
    Raises as in ops, and TypeError for a dtype other than float32.
    """
    check_arrays(x=(x, rows(x)))
    rate = check_options(rate, step, stream) * step.dropout
    device = device_holding(x=x)
    y = device.empty(x.shape, np.float32)
    keep = device.empty(x.shape, np.uint8)
    first_counter, offset = divmod(step.first_row * math.prod(x.shape[1:]), 4)
    scale = 1 / (1 - rate)
    launch(
        "dropout",
        "dropout",
        blocks_for(offset + x.size, 4 * 256) if x.size else 0,
        *(device.contiguous(x), y, keep, _on_device(device, step.number)),
        *(x.size, first_counter, offset, step.call, stream),
        *(step.seed & 0xFFFFFFFF, step.seed >> 32),
        *(math.ceil(rate * 2**32), scale),
    )
    return y, Cache(keep, scale)


def dropout_backward(dy: Array, cache: Cache) -> Array:
    """The gradient dx, of x's shape: only what was kept carries one."""
    keep, scale = cache
    check_arrays(dy=(dy, " ".join(map(str, keep.shape))))
    device = device_holding(dy=dy)
    dx = device.empty(keep.shape, np.float32)
    launch(
        "dropout",
        "dropout_backward",
        blocks_for(dx.size),
        *(device.contiguous(dy), keep, dx, dx.size, scale),
    )
    return dx


def _on_device(device: Device, number: Any) -> Array:
    """A step's number as an array (1,); filling one does not wait for the GPU."""
    if device_of(number) is not None:
        if number.shape != (1,):
            raise ValueError(f"step.number must have shape (1,), got {number.shape}")
        return number
    array = device.empty((1,), np.uint32)
    array.fill(number)
    return array
