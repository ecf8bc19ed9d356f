"""ops/basis_grid.py on a GPU: see basis_grid.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.basis_grid import check_basis

IMAGES, PRODUCTS, WARPS = 8, 4, 8  # of a block, as in basis_grid.cu


class Cache(NamedTuple):
    theta: Array
    basis: Array


def basis_grid(theta: Array, basis: Array) -> tuple[Array, Cache]:
    """theta (N, P), basis (P + 1, h, w, 2) -> grid (N, h, w, 2).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    n, (h, w) = check_basis(theta, basis)
    device = device_holding(theta=theta)
    theta, basis = device.contiguous(theta), device.contiguous(basis)
    grid = device.empty((n, h, w, 2), np.float32)
    size = 2 * h * w
    launch(
        "basis_grid",
        "basis_grid",
        (blocks_for(size), blocks_for(n, IMAGES)),
        *(theta, basis, grid),
        *(n, len(basis) - 1, size),
    )
    return grid, Cache(theta, basis)


def basis_grid_backward(
    dgrid: Array, cache: Cache, need_dbasis: bool = True
) -> tuple[Array, Array | None]:
    """dgrid (N, h, w, 2) -> dtheta (N, P), dbasis (P + 1, h, w, 2) or None."""
    theta, basis = cache
    check_arrays(basis=(basis, "B h w 2"), dgrid=(dgrid, f"{len(theta)} h w 2"))
    device = device_holding(dgrid=dgrid)
    dgrid = device.contiguous(dgrid)
    dtheta = grid_products(dgrid, basis[1:])
    if not need_dbasis:
        return dtheta, None
    dbasis = device.empty(basis.shape, np.float32)
    size = dbasis[0].size
    launch(
        "basis_grid",
        "basis_grid_dbasis",
        (blocks_for(size), len(basis)),
        *(dgrid, theta, dbasis),
        *(len(theta), len(basis) - 1, size),
    )
    return dtheta, dbasis


def grid_products(grid: Array, basis: Array) -> Array:
    """sum_i grid_ni . basis_pi: grid (N, h, w, 2), basis (P, h, w, 2) -> (N, P)."""
    sizes = check_arrays(basis=(basis, "P h w 2"), grid=(grid, "N h w 2"))
    device = device_holding(grid=grid)
    products = device.empty((sizes["N"], sizes["P"]), np.float32)
    launch(
        "basis_grid",
        "grid_products",
        (blocks_for(sizes["P"], WARPS), blocks_for(sizes["N"], PRODUCTS)),
        *(device.contiguous(grid), device.contiguous(basis), products),
        *(sizes["N"], sizes["P"], 2 * sizes["h"] * sizes["w"]),
    )
    return products
