"""The samplers at points exactly on pixels, half-way between them, on the border and outside.

There the checker has to find the kinks, every one of them and no other. Along an axis of n pixels
V bends or jumps at the positions p in pixels

    bilinear   border "nearest"  0, 1 .. n-1          "zeros"  -1, 0 .. n          else all whole p
    trilinear  where bilinear does
    nearest    border "nearest"  1/2, 3/2 .. n-3/2    "zeros"  -1/2, 1/2 .. n-1/2  else all half p
    bicubic    nowhere: what jumps is its curvature
"""

from functools import partial
from typing import Any

import numpy as np

from ministn import ops
from ministn.gradcheck.check import (
    GradientError,
    Report,
    check_gradients,
    operation_problem,
    written,
)
from ministn.randomness import generator
from ministn.transformer.samplers import VOLUME_KERNELS

# Width, height, depth. half = 4, 2, 1, so that the positions are the sampler's to the last bit.
LENGTHS = 9, 5, 3
BEYOND = 3  # pixels on each side of the image
INSIDE = 1.3  # of the other axes: a place without a kink

# So small a step that a jump of the curvature, some ten per pixel, is not taken for a kink.
WITHOUT_CURVATURE = {"bicubic": {"eps": 1e-7, "tolerance": 1e-5}}


def check_kinks(kernel: str, border: str) -> Report:
    """Raises GradientError where a gradient is wrong or a kink is missing or too many."""
    of_volumes = kernel in VOLUME_KERNELS
    name, axes, channels = ("volume", 3, ()) if of_volumes else ("image", 2, (2,))
    lengths = LENGTHS[:axes]
    points = np.concatenate([_along(axis, lengths) for axis in range(axes)])
    half = (np.array(lengths) - 1) / 2
    arrays = {
        name: generator(0, "gradcheck arrays").normal(size=(1, *reversed(lengths), *channels)),
        "grid": (points / half - 1).reshape(*[1] * axes, -1, axes),
    }
    problem = operation_problem(
        partial(getattr(ops, f"{kernel}_sampler"), border=border),
        getattr(ops, f"{kernel}_sampler_backward"),
        arrays,
    )
    options: dict[str, Any] = WITHOUT_CURVATURE.get(kernel, {})
    report = check_gradients(
        problem.value, problem.arrays, problem.gradients(), max_kinks=1.0, **options
    )
    expected = {
        "grid" + written((*[0] * axes, point, axis))
        for (point, axis), p in np.ndenumerate(points)
        if is_kink(kernel, border, float(p), lengths[axis])
    }
    for place in sorted(expected ^ set(report.kinks)):
        found = "is not found" if place in expected else "is none"
        raise GradientError(f"{place}: a kink {found}", place)
    return report


def _along(axis: int, lengths: tuple[int, ...]) -> np.ndarray:
    """Points (P, axes) in pixels along one axis: every half pixel."""
    along = np.arange(-BEYOND, lengths[axis] + BEYOND, 0.5)
    points = np.full((len(along), len(lengths)), INSIDE)
    points[:, axis] = along
    return points


def is_kink(kernel: str, border: str, position: float, n: int) -> bool:
    """Whether V bends or jumps at this position, in pixels of an axis of n."""
    if kernel == "bicubic" or position % 1 != (0.5 if kernel == "nearest" else 0):
        return False
    margin = {"nearest": 0, "zeros": 1}.get(border, np.inf)
    return -margin <= position <= n - 1 + margin
