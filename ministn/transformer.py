"""The spatial transformer: localisation network + grid generator + sampler (STN section 3)."""

from typing import Any, NamedTuple

import numpy as np

from ministn.initializers import ZEROS, Constant
from ministn.layers import Dense, Sequential
from ministn.parameter import Parameter
from ministn.randomness import Step
from ministn.samplers import BILINEAR, Sampler, SamplerCache
from ministn.transforms import AFFINE, Transform


class Warp(NamedTuple):
    """What going back through sampler and grid generator needs."""

    grid_cache: Any
    sampler_cache: SamplerCache


class TransformerCache(NamedTuple):
    """theta (N, 2, 3), which whoever trains may want to watch, and what the parts kept.

    Of a transform that is not affine it is the affine transform nearest to it: Transform.affine.
    """

    theta: np.ndarray
    localisation: Any
    warp: Warp


def regression_layer(path: str, in_features: int, transform: Transform = AFFINE) -> Dense:
    """The last layer of a localisation network: (N, D) -> theta (N, P), at first the identity.

    STN section 3.1 calls for it; the weights begin at zero, so every image gets the identity.
    """
    return Dense(
        path,
        in_features,
        len(transform.identity),
        initial=ZEROS,
        initial_bias=Constant(transform.identity),
    )


class SpatialTransformer:
    """Warps its input by the transform that a localisation network predicts from it.

    localisation: (N, H, W, C) -> (N, P). size: (h, w) of the output. transform: what the P numbers
    mean, see transforms.py. sampler: how the input is read between its pixels and outside, see
    samplers.py.

    forward: U (N, H, W, C) -> V (N, h, w, C). The input has two uses, as what is looked at and as
    what is sampled; where ``need_dx`` is true its gradient is the sum of both.
    """

    def __init__(
        self,
        localisation: Sequential,
        size: tuple[int, int],
        *,
        transform: Transform = AFFINE,
        sampler: Sampler = BILINEAR,
    ) -> None:
        self.localisation = localisation
        self.size = size
        self.transform = transform
        self.sampler = sampler

    def theta(self, x: np.ndarray) -> np.ndarray:
        """theta = f_loc(U), (N, P), in evaluation mode."""
        return self.localisation.forward(x)[0]

    def warp(self, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """V: ``x`` sampled at T_theta(G), in evaluation mode. theta: (N, P) in any shape."""
        return self._warp(x, theta.reshape(len(theta), -1))[0]

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """V, and theta (N, 2, 3) as TransformerCache has it, in evaluation mode."""
        theta = self.theta(x)
        y, grid, _ = self._warp(x, theta)
        return y, self.transform.affine(theta, grid)

    def _warp(self, x: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, Warp]:
        """V, T_theta(G) and what going back needs."""
        grid, grid_cache = self.transform.forward(theta, self.sampler.grid_size(self.size))
        y, sampler_cache = self.sampler.forward(x, grid)
        return y, grid, Warp(grid_cache, sampler_cache)

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, TransformerCache | None]:
        theta, localisation_cache = self.localisation.forward(x, step)
        y, grid, warp = self._warp(x, theta)
        if step is None:
            return y, None
        affine = self.transform.affine(theta, grid)
        return y, TransformerCache(affine, localisation_cache, warp)

    def backward(
        self, dy: np.ndarray, cache: TransformerCache, need_dx: bool = True
    ) -> np.ndarray | None:
        warp = cache.warp
        dx_sampled, dgrid = self.sampler.backward(dy, warp.sampler_cache, need_dx)
        dtheta = self.transform.backward(dgrid, warp.grid_cache)
        dx_looked_at = self.localisation.backward(dtheta, cache.localisation, need_dx)
        return dx_sampled + dx_looked_at if need_dx else None

    def parameters(self) -> list[Parameter]:
        return self.localisation.parameters() + self.transform.parameters()
