"""Grids that are linear in theta: T_theta = M_theta B (the end of STN section 3.2).

A transform with parameters theta_1 .. theta_P is given by P + 1 target grids B_0 .. B_P, each with
a pair (x, y) for every output pixel i:

    T_theta(G_i) = B_0i + sum_p theta_p B_pi

    dtheta_p = sum_i dT_i . B_pi,    dB_0i = sum_n dT_ni,    dB_pi = sum_n theta_np dT_ni

In the paper's letters M_theta = [I, theta_1 I, .., theta_P I], and B has the B_p one below the
other. Attention, affine maps, the thin plate spline and piecewise affine maps differ in B alone
(transformer/transforms/), and B can be learned. The sum over p is one matrix product for all
pixels.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays


class Cache(NamedTuple):
    theta: np.ndarray
    basis: np.ndarray


def basis_grid(theta: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, Cache]:
    """theta (N, P), basis (P + 1, h, w, 2) -> grid (N, h, w, 2).

    Where theta is not finite its grid is NaN or infinite. Raises TypeError for a wrong dtype,
    ValueError for a wrong shape.
    """
    n, (h, w) = check_basis(theta, basis)
    rows = basis.reshape(-1, 2 * h * w)
    with np.errstate(over="ignore", invalid="ignore"):  # inf * 0
        grid = theta @ rows[1:] + rows[0]
    return grid.reshape(n, h, w, 2), Cache(theta, basis)


def basis_grid_backward(
    dgrid: np.ndarray, cache: Cache, need_dbasis: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """dgrid (N, h, w, 2) -> dtheta (N, P), dbasis (P + 1, h, w, 2) or None."""
    theta, basis = cache
    n = len(theta)
    check_arrays(basis=(basis, "B h w 2"), dgrid=(dgrid, f"{n} h w 2"))
    dtheta = grid_products(dgrid, basis[1:])
    if not need_dbasis:
        return dtheta, None
    weights = np.insert(theta, 0, 1, axis=1)
    return dtheta, (weights.T @ dgrid.reshape(n, basis[0].size)).reshape(basis.shape)


def grid_products(grid: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """sum_i grid_ni . basis_pi: grid (N, h, w, 2), basis (P, h, w, 2) -> (N, P)."""
    sizes = check_arrays(basis=(basis, "P h w 2"), grid=(grid, "N h w 2"))
    numbers = 2 * sizes["h"] * sizes["w"]
    with np.errstate(over="ignore", invalid="ignore"):
        return grid.reshape(-1, numbers) @ basis.reshape(-1, numbers).T


def check_basis(theta: np.ndarray, basis: np.ndarray) -> tuple[int, tuple[int, int]]:
    """N and (h, w). Raises TypeError or ValueError for arrays that do not fit."""
    sizes = check_arrays(basis=(basis, "B h w 2"))
    if len(basis) == 0:
        raise ValueError(f"basis must have at least one grid, got shape {basis.shape}")
    n = check_arrays(basis=(basis, "B h w 2"), theta=(theta, f"N {len(basis) - 1}"))["N"]
    return n, (sizes["h"], sizes["w"])
