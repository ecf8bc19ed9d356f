"""Alignment in several steps: a localisation network that looks again at what it has aligned."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ministn.engines import implementation
from ministn.errors import check_arrays, check_kind
from ministn.layers import Layer
from ministn.parameter import Parameter, unique
from ministn.randomness import Step
from ministn.transformer.samplers import BILINEAR, Sampler
from ministn.transformer.spatial import Warp
from ministn.transformer.transforms import AFFINE

ORDERS = "right", "left"


class Again(NamedTuple):
    """What one more look kept. composed: the backward pass and the cache of the product."""

    warp: Warp
    localisation: Any
    composed: tuple[Any, Any]


class IteratedCache(NamedTuple):
    """What the first look kept, and each of the others."""

    first: Any
    again: Sequence[Again]


class Iterated(Layer):
    """A localisation network that predicts theta in K steps, each looking at what was aligned.

    U (N, H, W, C) -> theta_K (N, 6), of K localisation networks f_k, each (N, H, W, C) -> (N, 6):

        theta_1 = f_1(U)
        theta_k = theta_k-1 f_k(U at T_theta_k-1(G))      for order "right"
        theta_k = f_k(U at T_theta_k-1(G)) theta_k-1      for order "left"

    as products of 3x3 matrices with a last row 0 0 1. It is what a SpatialTransformer has in the
    place of its localisation network: that one samples U at T_theta_K(G). So each f_k looks at U
    sampled once, at its own size, and V is U sampled once, however many steps there are.

    order: "right" is the placement paper (Finnveden et al. 2020, section III-A), where a step acts
    in the frame of what it has seen: theta is that of warping what has been warped. "left" is
    IC-STN (Lin & Lucey 2017, M(dp) M(p)): a step acts in the coordinates of the image. sampler: how
    the f_k's inputs are read, best as the transformer reads it.

    One network may be given several times: it is one, and its gradient the sum of its uses. Each
    use has dropout masks of its own (Step.call is k), others than those of the layers that the f_k
    share with a classifier. Where ``need_dx`` is true dx is the sum of U's K uses as what is
    sampled and what is looked at. With one network it computes what that network computes.

    Raises ValueError for no network or an order that there is not, TypeError for a part that is
    none; in forward ValueError where a network gives other than 6 numbers for each image.
    """

    def __init__(
        self,
        *localisations: Layer,
        order: str = "right",
        sampler: Sampler = BILINEAR,
        path: str = "iterated",
    ) -> None:
        super().__init__(path)
        for localisation in localisations:
            check_kind("a localisation network", localisation, Layer)
        if not localisations:
            raise ValueError("localisations must be at least 1, got 0")
        if order not in ORDERS:
            raise ValueError(f"order must be 'right' or 'left', got {order!r}")
        check_kind("sampler", sampler, Sampler)
        self.localisations = localisations
        self.order = order
        self.sampler = sampler

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, IteratedCache | None]:
        first, *others = self.localisations
        theta, first_cache = first.forward(x, _use(step, 1))
        check_arrays(theta=(theta, f"{len(x)} 6"))  # only affine transforms are composed
        again = []
        for k, localisation in enumerate(others, 2):
            aligned, warp = self._aligned(x, theta)
            increment, cache = localisation.forward(aligned, _use(step, k))
            check_arrays(theta=(increment, f"{len(x)} 6"))
            theta, composed = self._composed(theta, increment)
            again.append(Again(warp, cache, composed))
        return theta, None if step is None else IteratedCache(first_cache, again)

    def backward(
        self, dy: np.ndarray, cache: IteratedCache, need_dx: bool = True
    ) -> np.ndarray | None:
        check_arrays(dy=(dy, "N 6"))
        first, *others = self.localisations
        dtheta, dx = dy, []
        for localisation, kept in reversed(list(zip(others, cache.again, strict=True))):
            compose_backward, composed = kept.composed
            gradients = compose_backward(dtheta.reshape(-1, 2, 3), composed)
            dtheta, dincrement = (d.reshape(-1, 6) for d in self._factors(*gradients))
            daligned = localisation.backward(dincrement, kept.localisation)
            assert daligned is not None
            dx_sampled, dgrid = self.sampler.backward(daligned, kept.warp.sampler_cache, need_dx)
            dtheta = dtheta + AFFINE.backward(dgrid, kept.warp.grid_cache)
            dx.append(dx_sampled)
        dx_looked_at: Any = first.backward(dtheta, cache.first, need_dx)
        return sum(dx, start=dx_looked_at) if need_dx else None

    def _composed(self, theta: np.ndarray, increment: np.ndarray) -> tuple[np.ndarray, Any]:
        """The product (N, 6) of theta and what one more look predicts."""
        compose, backward = implementation("compose", theta)
        matrices = theta.reshape(-1, 2, 3), increment.reshape(-1, 2, 3)
        product, cache = compose(*self._factors(*matrices))
        return product.reshape(-1, 6), (backward, cache)

    def _factors(self, theta: np.ndarray, increment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The left and the right one; of those, or of their gradients, theta's and the other's."""
        return (theta, increment) if self.order == "right" else (increment, theta)

    def _aligned(self, x: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, Warp]:
        """x sampled at T_theta(G), as large as it is."""
        grid, grid_cache = AFFINE.forward(theta, self.sampler.grid_size(x.shape[1:3]))
        aligned, sampler_cache = self.sampler.forward(x, grid)
        return aligned, Warp(grid_cache, sampler_cache)

    def parameters(self) -> list[Parameter]:
        return unique(p for one in self.localisations for p in one.parameters())

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of every layer of each network, as often as it looks, and theta last."""
        first, *others = self.localisations
        for path, y in first.outputs(x, _use(step, 1)):
            yield path, y
        theta = y
        for k, localisation in enumerate(others, 2):
            aligned, _ = self._aligned(x, theta)
            for path, y in localisation.outputs(aligned, _use(step, k)):
                yield path, y
            theta, _ = self._composed(theta, y)
        yield self.path, theta


def _use(step: Any, k: int) -> Any:
    """The step as the k-th look sees it; None is evaluation."""
    return step and replace(step, call=step.call + k)
