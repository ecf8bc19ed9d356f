"""ops/dense.py on tensor cores: see dense_tf32.cu. Needs compute capability 8.0."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays

TILE = (128, 64)  # as in the .cu file: rows and columns of a product that a block makes
TERMS = 32  # of the sums, that it takes at a time
BLOCKS = 264  # for the forward pass: two for each of 132 multiprocessors
SHORTEST = 8 * TERMS  # terms worth a block of their own


class Cache(NamedTuple):
    x: Array
    weight: Array


def dense(x: Array, weight: Array, bias: Array) -> tuple[Array, Cache]:
    """x (N, D), weight (D, K), bias (K) -> y (N, K). Raises as in ops; float32 only."""
    sizes = check_arrays(weight=(weight, "D K"), bias=(bias, "K"), x=(x, "N D"))
    n, d, k = sizes["N"], sizes["D"], sizes["K"]
    device = device_holding(x=x)
    x, weight = device.contiguous(x), device.contiguous(weight)
    tiles = _tiles(n, k)
    slices = min(BLOCKS // max(1, tiles[0] * tiles[1]), d // SHORTEST)
    slice_terms = TERMS * max(1, blocks_for(d, TERMS * max(1, slices)))
    partials = device.empty((max(1, blocks_for(d, slice_terms)), n, k), np.float32)
    launch(
        "dense_tf32", "dense_tf32", (*tiles, len(partials)),
        x, weight, partials, n, d, k, slice_terms,
    )  # fmt: skip
    y = device.empty((n, k), np.float32)
    launch(
        "dense_tf32", "dense_tf32_finish", blocks_for(y.size),
        partials, device.contiguous(bias), y, len(partials), y.size, k,
    )  # fmt: skip
    return y, Cache(x, weight)


def dense_backward(
    dy: Array, cache: Cache, need_dx: bool = True, dweight: Array | None = None
) -> tuple[Array | None, Array, Array]:
    """dy (N, K) -> dx (N, D) or None, dweight (D, K), where it is given, and dbias (K)."""
    x, weight = cache
    sizes = check_arrays(x=(x, "N D"), weight=(weight, "D K"), dy=(dy, "N K"))
    n, d, k = sizes["N"], sizes["D"], sizes["K"]
    device = device_holding(dy=dy)
    dy = device.contiguous(dy)
    dx = None
    if need_dx:
        dx = device.empty((n, d), np.float32)
        launch("dense_tf32", "dense_tf32_input_gradient", _tiles(n, d), dy, weight, dx, n, d, k)
    if dweight is None:
        dweight = device.empty((d, k), np.float32)
    dbias = device.empty((k,), np.float32)
    launch(
        "dense_tf32", "dense_tf32_weight_gradient", _tiles(d, k),
        x, dy, dweight, dbias, n, d, k,
    )  # fmt: skip
    return dx, dweight, dbias


def _tiles(rows: int, columns: int) -> tuple[int, int]:
    """How many tiles fill a product of this size."""
    return blocks_for(rows, TILE[0]), blocks_for(columns, TILE[1])
