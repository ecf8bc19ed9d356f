"""The spatial transformer: localisation network + grid generator + sampler (STN section 3)."""

from typing import Any, NamedTuple

import numpy as np

from ministn.engines import implementation
from ministn.layers import Sequential
from ministn.parameter import Parameter
from ministn.randomness import Step
from ministn.samplers import BILINEAR, Sampler, SamplerCache


class Warp(NamedTuple):
    """What going back through sampler and grid generator needs."""

    grid_backward: Any
    grid_cache: Any
    sampler_cache: SamplerCache


class TransformerCache(NamedTuple):
    """theta (N, 2, 3), which whoever trains may want to watch, and what the parts kept."""

    theta: np.ndarray
    localisation: Any
    warp: Warp


class SpatialTransformer:
    """Warps its input by the affine transform that a localisation network predicts from it.

    localisation: (N, H, W, C) -> (N, 6). size: (h, w) of the output.
    sampler: how the input is read between its pixels and outside, see samplers.py.

    forward: U (N, H, W, C) -> V (N, h, w, C). The input has two uses, as what is looked at and as
    what is sampled; where ``need_dx`` is true its gradient is the sum of both.
    """

    def __init__(
        self, localisation: Sequential, size: tuple[int, int], *, sampler: Sampler = BILINEAR
    ) -> None:
        self.localisation = localisation
        self.size = size
        self.sampler = sampler

    def theta(self, x: np.ndarray) -> np.ndarray:
        """theta = f_loc(U), (N, 2, 3), in evaluation mode."""
        return self.localisation.forward(x)[0].reshape(-1, 2, 3)

    def warp(self, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """V: ``x`` sampled at T_theta(G), in evaluation mode."""
        return self._warp(x, theta)[0]

    def _warp(self, x: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, Warp]:
        affine_grid, affine_grid_backward = implementation("affine_grid", x)
        grid, grid_cache = affine_grid(theta, self.sampler.grid_size(self.size))
        y, sampler_cache = self.sampler.forward(x, grid)
        return y, Warp(affine_grid_backward, grid_cache, sampler_cache)

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, TransformerCache | None]:
        parameters, localisation_cache = self.localisation.forward(x, step)
        theta = parameters.reshape(-1, 2, 3)
        y, warp = self._warp(x, theta)
        return y, None if step is None else TransformerCache(theta, localisation_cache, warp)

    def backward(
        self, dy: np.ndarray, cache: TransformerCache, need_dx: bool = True
    ) -> np.ndarray | None:
        warp = cache.warp
        dx_sampled, dgrid = self.sampler.backward(dy, warp.sampler_cache, need_dx)
        dtheta = warp.grid_backward(dgrid, warp.grid_cache)
        dx_looked_at = self.localisation.backward(
            dtheta.reshape(-1, 6), cache.localisation, need_dx
        )
        return dx_sampled + dx_looked_at if need_dx else None

    def parameters(self) -> list[Parameter]:
        return self.localisation.parameters()
