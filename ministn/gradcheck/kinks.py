"""The samplers at points exactly on pixels, half-way between them, on the border and outside.

There the checker has to find the kinks, every one of them and no other. Along an axis of n pixels
V bends or jumps at the positions p in pixels

    bilinear  border "nearest"  0, 1 .. n-1          "zeros"  -1, 0 .. n          else all whole p
    nearest   border "nearest"  1/2, 3/2 .. n-3/2    "zeros"  -1/2, 1/2 .. n-1/2  else all half p
    bicubic   nowhere: what jumps is its curvature
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

# half = 4 and 2, so that the positions are the sampler's to the last bit.
WIDTH, HEIGHT = 9, 5
BEYOND = 3  # pixels on each side of the image
INSIDE = 1.3  # of the other axis: a place without a kink

# So small a step that a jump of the curvature, some ten per pixel, is not taken for a kink.
WITHOUT_CURVATURE = {"bicubic": {"eps": 1e-7, "tolerance": 1e-5}}


def check_kinks(kernel: str, border: str) -> Report:
    """Raises GradientError where a gradient is wrong or a kink is missing or too many."""
    across, down = (np.arange(-BEYOND, n + BEYOND, 0.5) for n in (WIDTH, HEIGHT))
    x = np.concatenate([across, np.full(len(down), INSIDE)])
    y = np.concatenate([np.full(len(across), INSIDE), down])
    half = np.array([WIDTH - 1, HEIGHT - 1]) / 2
    arrays = {
        "image": generator(0, "gradcheck arrays").normal(size=(1, HEIGHT, WIDTH, 2)),
        "grid": (np.stack([x, y], axis=-1) / half - 1)[None, None],
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
        "grid" + written((0, 0, point, axis))
        for axis, (coordinate, n) in enumerate([(x, WIDTH), (y, HEIGHT)])
        for point, p in enumerate(coordinate)
        if is_kink(kernel, border, float(p), n)
    }
    for place in sorted(expected ^ set(report.kinks)):
        found = "is not found" if place in expected else "is none"
        raise GradientError(f"{place}: a kink {found}", place)
    return report


def is_kink(kernel: str, border: str, position: float, n: int) -> bool:
    """Whether V bends or jumps at this position, in pixels of an axis of n."""
    if kernel == "bicubic" or position % 1 != {"bilinear": 0, "nearest": 0.5}[kernel]:
        return False
    margin = {"nearest": 0, "zeros": 1}.get(border, np.inf)
    return -margin <= position <= n - 1 + margin
