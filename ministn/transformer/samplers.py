"""How a transformer reads its input: STN section 3.3.

"With sampling kernels with a fixed, small spatial support (such as the bilinear kernel),
downsampling with a spatial transformer can cause aliasing effects": pixels between the points are
not seen. ``supersampling`` k puts k x k points into each output pixel and averages what they read.
Where the identity makes an image k times as small, that is k x k average pooling.

The grid is k times as fine, with corners at -1 and +1 as ever, so an output pixel lies at the
mean of its points: the outermost ones (k - 1) / (k h - 1) inside the corners.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ministn.engines import implementation
from ministn.errors import check_count
from ministn.ops.affine_grid import check_size
from ministn.ops.bicubic import check_slope
from ministn.ops.sampling import check_border

KERNELS = ("bilinear", "nearest", "bicubic")
VOLUME_KERNELS = ("trilinear",)


class SamplerCache(NamedTuple):
    """The backward pass and the cache of what was done: of sampling, and of averaging if it was."""

    sampled: tuple[Any, Any]
    averaged: tuple[Any, Any] | None


@dataclass(frozen=True)
class Sampler:
    """Reads images (N, H, W, C) at the points of a grid -> (N, h, w, C).

    kernel: "bilinear", "nearest" (nothing is learnt through it) or "bicubic"; for volumes
    (N, D, H, W) -> (N, d, h, w) "trilinear".
    border, fill: what lies outside the image, see ops/sampling.py. supersampling: of how many
    points both ways each output pixel is the mean. a: of the kernel "bicubic" alone, if not -1/2,
    see ops/bicubic.py.

    Raises ValueError for a kernel, border, fill, supersampling or a that there is not.
    """

    kernel: str = "bilinear"
    border: str = "nearest"
    fill: float = 0.0
    supersampling: int = 1
    a: float | None = None

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS + VOLUME_KERNELS:
            known = ", ".join(map(repr, KERNELS + VOLUME_KERNELS))
            raise ValueError(f"kernel must be one of {known}, got {self.kernel!r}")
        check_border(self.border, self.fill)
        object.__setattr__(self, "supersampling", check_count("supersampling", self.supersampling))
        if self.a is not None:
            if self.kernel != "bicubic":
                raise ValueError(f"a needs kernel 'bicubic', got a {self.a} with {self.kernel!r}")
            object.__setattr__(self, "a", check_slope(self.a))

    def grid_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """(h, w), or (d, h, w), of the grid that gives an output of this size."""
        axes = "d h w" if self.kernel in VOLUME_KERNELS else "h w"
        return tuple(length * self.supersampling for length in check_size(size, axes))

    def forward(self, image: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, SamplerCache]:
        """image (N, H, W, C) at a grid of ``grid_size((h, w))`` -> y (N, h, w, C).

        Raises UserError for a kernel that the image's engine does not have.
        """
        sample, backward = implementation(f"{self.kernel}_sampler", image)
        own = {} if self.a is None else {"a": self.a}
        y, cache = sample(image, grid, border=self.border, fill=self.fill, **own)
        sampled = backward, cache
        if self.supersampling == 1:
            return y, SamplerCache(sampled, None)
        pool = "avg_pool3d" if self.kernel in VOLUME_KERNELS else "avg_pool2d"
        average, backward = implementation(pool, y)
        y, cache = average(y, self.supersampling)
        return y, SamplerCache(sampled, (backward, cache))

    def backward(
        self, dy: np.ndarray, cache: SamplerCache, need_dimage: bool = True
    ) -> tuple[Any, np.ndarray]:
        """dy (N, h, w, C) -> dimage (N, H, W, C) or None, and dgrid."""
        if cache.averaged is not None:
            backward, averaged = cache.averaged
            dy = backward(dy, averaged)
        backward, sampled = cache.sampled
        return backward(dy, sampled, need_dimage)


BILINEAR = Sampler()
