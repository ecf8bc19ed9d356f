"""How nearly an affine warp of feature maps undoes what a transformation of the image did to them.

A transformer in front of a network undoes a transformation T of the image f by sampling it where
T's inverse says. One that stands on feature maps Gamma(f) can do no other than move their values,
and that is not enough (Finnveden et al. 2020, section II): T moves them, and changes the channels
too, as an edge that is turned is seen by other filters. Only for a shift by whole strides is
Gamma(T f) the same values elsewhere. So, with W_A for sampling at T_A(G),

    residual = min_A sum |W_A Gamma(T f) - Gamma(f)|^2 / sum |Gamma(f) - mean|^2

over images, channels and points of the maps' inscribed disc, with the mean of each channel of each
image. It is 0 where an affine warp undoes T, and 1 is as far as these means are.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from ministn.errors import as_float64, check_arrays
from ministn.ops import affine_grid, affine_grid_backward
from ministn.ops import bilinear_sampler as sample
from ministn.ops import bilinear_sampler_backward as sample_backward


def residual(maps: np.ndarray, moved: np.ndarray) -> float:
    """The distance of ``moved`` to ``maps`` as they are, without a minimum over A.

    maps, moved: (N, H, W, C). Raises as best_affine does.
    """
    value, _ = _loss(maps, moved)(np.eye(2, 3))
    return value


def best_affine(
    maps: np.ndarray, moved: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, float]:
    """The affine warp of ``moved`` that comes nearest to ``maps``: theta (2, 3), its residual.

    maps, moved: (N, H, W, C), Gamma(f) and Gamma(T f). starts: thetas (S, 2, 3), from each of which
    the best is looked for; more of them find no worse one. Raises TypeError or ValueError for
    others, and ValueError for maps that do not vary or no start.
    """
    starts, loss = as_float64("starts", starts), _loss(maps, moved)
    check_arrays(starts=(starts, "S 2 3"))
    if not len(starts):
        raise ValueError("starts must be at least one theta, got none")
    found = [minimize(loss, start.reshape(6), jac=True, method="BFGS") for start in starts]
    best = min(found, key=lambda one: float(one.fun))
    return best.x.reshape(2, 3), float(best.fun)


def _loss(maps: np.ndarray, moved: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """The residual as a function of theta, six numbers, and its gradient (6,)."""
    maps, moved = as_float64("maps", maps), as_float64("moved", moved)
    check_arrays(maps=(maps, "N H W C"), moved=(moved, "N H W C"))
    size = maps.shape[1:3]
    # All images have one theta, so their channels are those of one image.
    maps, moved = (np.concatenate([*each], axis=-1)[None] for each in (maps, moved))
    identity = np.eye(2, 3)[None]
    inside = np.hypot(*np.moveaxis(affine_grid(identity, size)[0], -1, 0))[..., None] <= 1
    variation = (inside * (maps - maps.mean(axis=(1, 2), where=inside, keepdims=True)) ** 2).sum()
    if variation == 0:
        raise ValueError("maps must vary, got a constant in every channel")

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        grid, grid_cache = affine_grid(theta.reshape(1, 2, 3), size)
        warped, cache = sample(moved, grid)
        left = inside * (warped - maps)
        _, dgrid = sample_backward(2 / variation * left, cache, False)
        dtheta = affine_grid_backward(dgrid, grid_cache)
        return float((left**2).sum() / variation), dtheta.reshape(6)

    return loss
