"""What each transform and sampler is as operations on arrays whose channels come first.

A transform that is linear in theta is one product with its grids B, see ops/basis_grid.py. -1 and
+1 are the centres of the first and the last pixel here: there ``align_corners`` is true.
"""

import numpy as np

from ministn.errors import UserError
from ministn.interop import layout
from ministn.interop.graph import Graph, Value
from ministn.ops.affine_grid import pixel_centres, targets
from ministn.ops.projective_grid import NEAR
from ministn.transformer.samplers import VOLUME_KERNELS, Sampler
from ministn.transformer.transforms import (
    Affine,
    Affine3d,
    General,
    Linear,
    Projective,
    Transform,
)

PADDING = {"nearest": "border", "zeros": "zeros", "mirror": "reflection"}  # ours: theirs
KERNELS = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}  # ours: ONNX's
BICUBIC_A = -0.75  # theirs


def warped(
    graph: Graph,
    transform: Transform,
    sampler: Sampler,
    x: Value,
    theta: Value,
    size: tuple[int, ...],
    looks: int = 1,
) -> Value:
    """x sampled at T_theta(G), of this size. looks: thetas, and so crops, of each image of x."""
    grid = grid_of(graph, transform, graph.plain(theta), sampler.grid_size(size))
    if sampler.kernel in VOLUME_KERNELS:
        crop = sampled(graph, sampler, graph.reshaped(x, 1, *x.shape), grid)
        return graph.reshaped(averaged(graph, sampler, crop, (1, *size)), *size)
    x = graph.channels_first(x)
    height, width, channels = *size, x.shape[2]
    h, w, _ = grid.shape
    if looks > 1:  # one below the other they are one tall grid
        grid = graph.reshaped(grid, looks * h, w, 2)
    crop = sampled(graph, sampler, x, grid)
    if looks > 1:
        cut = graph.add("Reshape", crop, to=(-1, channels, looks, h, w))
        apart = graph.add("Transpose", cut, axes=(0, 2, 1, 3, 4))
        crop = graph.add("Reshape", apart, to=(-1, channels, h, w))
    maps = height, width, channels
    return averaged(graph, sampler, crop._replace(shape=(h, w, channels), maps=maps), maps)


def averaged(graph: Graph, sampler: Sampler, x: Value, shape: tuple[int, ...]) -> Value:
    """The mean of the points of each pixel, where it has several."""
    if sampler.supersampling == 1:
        return x._replace(shape=shape)
    size = sampler.supersampling
    volume = len(shape) == 4
    return graph.add("AveragePool", x, shape=shape, maps=x.maps, size=size, volume=volume)


def sampled(graph: Graph, sampler: Sampler, x: Value, grid: Value) -> Value:
    """Raises UserError for a sampler that they have not got."""
    if sampler.kernel == "nearest":
        raise UserError(
            f"{graph.path}: kernel 'nearest' takes the right one of two pixels as near, and that "
            "of PyTorch and ONNX the even one"
        )
    if sampler.kernel == "bicubic" and sampler.a != BICUBIC_A:
        raise UserError(
            f"{graph.path}: kernel 'bicubic' has a = {-0.5 if sampler.a is None else sampler.a:g}, "
            f"and that of PyTorch and ONNX {BICUBIC_A:g}"
        )
    if sampler.border not in PADDING:
        raise UserError(
            f"{graph.path}: border {sampler.border!r} is unknown to PyTorch and ONNX, which have "
            + ", ".join(map(repr, PADDING))
        )
    if sampler.fill:  # the kernel's weights have the sum 1
        x = graph.add("Sub", x, graph.constant([sampler.fill]))
    mode, border = KERNELS[sampler.kernel], PADDING[sampler.border]
    y = graph.add("GridSample", x, grid, mode=mode, border=border)
    return graph.add("Add", y, graph.constant([sampler.fill])) if sampler.fill else y


def grid_of(graph: Graph, transform: Transform, theta: Value, size: tuple[int, ...]) -> Value:
    """T_theta(G): (N, h, w, 2). Raises UserError for a transform of one's own."""
    shape = *size, len(size)
    if isinstance(transform, Affine | Affine3d):
        matrix = graph.reshaped(theta, len(size), len(size) + 1)
        if min(size) > 1:
            return graph.add("AffineGrid", matrix, shape=shape, size=size)
        # Of an axis of one pixel onnxruntime has the coordinate 1, where PyTorch and we have 0.
        return points_last(graph, at_targets(graph, matrix, size), size)
    if isinstance(transform, Projective):
        return projective(graph, theta, size)
    numbers = int(np.prod(shape))
    if isinstance(transform, General):
        if size != transform.size:
            raise UserError(f"{graph.path}: B is learned at size {transform.size}, got {size}")
        whole = layout.as_it_is(transform.basis.shape[0], numbers)
        rows = graph.parameter(transform.basis, whole)
        first = graph.add("Slice", rows, axis=0, start=0, end=1)
        others = graph.add("Slice", rows, axis=0, start=1, end=None)
    elif isinstance(transform, Linear):
        grids = transform.grids(size, graph.dtype).reshape(-1, numbers)
        first, others = graph.constant(grids[:1]), graph.constant(grids[1:])
    else:
        raise UserError(
            f"{graph.path}: a {type(transform).__name__} cannot be exported; of transforms only "
            "those of ministn are known there"
        )
    sum_ = graph.add("MatMul", theta, others, shape=(numbers,))
    return graph.reshaped(graph.add("Add", sum_, first), *shape)


def projective(graph: Graph, theta: Value, size: tuple[int, ...]) -> Value:
    """The grid of ops/projective_grid.py, its horizon too."""
    shape = (1, size[0] * size[1])
    offsets = graph.add("MatMul", theta, graph.constant(np.eye(8, 9)), shape=(9,))
    matrix = graph.reshaped(
        graph.add("Add", offsets, graph.constant(np.eye(3).reshape(1, 9))), 3, 3
    )
    rows = at_targets(graph, matrix, size)
    u, v, d = (
        graph.add("Slice", rows, shape=shape, axis=1, start=row, end=row + 1) for row in range(3)
    )
    near, zero = graph.constant([NEAR]), graph.constant([0])
    beside = graph.add("Where", graph.add("Less", d, zero), graph.constant([-NEAR]), near)
    beside = beside._replace(shape=d.shape)
    horizon = graph.add("Less", graph.add("Abs", d), near)
    divisor = graph.add("Where", horizon, beside, d)
    pairs = graph.add(
        "Concat", graph.add("Div", u, divisor), graph.add("Div", v, divisor),
        shape=(2, shape[1]), axis=1,
    )  # fmt: skip
    return points_last(graph, pairs, size)


def at_targets(graph: Graph, matrix: Value, size: tuple[int, ...]) -> Value:
    """A matrix (N, R, 3), or (N, R, 4), times every target (x, y, 1), or (x, y, z, 1)."""
    axes = [
        pixel_centres(length, graph.dtype).reshape(-1, *[1] * number)
        for number, length in enumerate(reversed(size))
    ]
    points = targets(*axes).T
    shape = matrix.shape[0], points.shape[1]
    return graph.add("MatMul", matrix, graph.constant(points), shape=shape)


def points_last(graph: Graph, rows: Value, size: tuple[int, ...]) -> Value:
    """x's, y's, one row each (N, 2, h w), as a grid (N, h, w, 2)."""
    count, length = rows.shape
    last = graph.add("Transpose", rows, shape=(length, count), axes=(0, 2, 1))
    return graph.reshaped(last, *size, count)
