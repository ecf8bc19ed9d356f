"""Ways to get the backward pass of each operation wrong: see faults.py."""

from typing import Any

import numpy as np

from ministn.gradcheck.breaking import (
    Function,
    How,
    cached,
    first,
    incoming,
    only,
    other_border,
    overwriting,
    result,
    skipped,
    truncated,
)


def transposed(array: np.ndarray) -> np.ndarray:
    """The transpose's values in the array's own shape: a mistake that no shape gives away."""
    return array.T.reshape(array.shape)


def without_edges(image: np.ndarray) -> np.ndarray:
    """(N, H, W, C) with zeros all around."""
    part = np.zeros_like(image)
    part[:, 1:-1, 1:-1] = image[:, 1:-1, 1:-1]
    return part


def next_pixel(image: np.ndarray) -> np.ndarray:
    """(N, H, W, C) moved by one column."""
    return np.roll(image, 1, axis=2)


def windows_overwriting(right: Function) -> Function:
    """Windows with the same winner overwrite each other's gradient."""

    def wrong(dy: np.ndarray, cache: Any) -> np.ndarray:
        dx = right(dy, cache)
        for i, j in np.ndindex(dy.shape[1:3]):
            alone = np.zeros_like(dy)
            alone[:, i, j] = dy[:, i, j]
            share = right(alone, cache)
            dx = np.where(share != 0, share, dx)
        return dx

    return wrong


def per_axis(x: float, y: float) -> How:
    """dgrid's x and y, each times a number."""
    return result(lambda dgrid: dgrid * [x, y], 1)


def mirrored(coordinate: np.ndarray) -> np.ndarray:
    """The point at the same place of its cell, seen from the other side."""
    return 2 * np.floor(coordinate) + 1 - coordinate


def without_translation(matrix: np.ndarray) -> np.ndarray:
    """(N, 2, 3) with a zero last column."""
    return matrix * [1, 1, 0]


def turned_over(matrix: np.ndarray) -> np.ndarray:
    """(N, 2, 3) with the transpose of its 2x2 part."""
    return np.concatenate([matrix[:, :, :2].swapaxes(1, 2), matrix[:, :, 2:]], axis=2)


def of_each_moment(**changes: Function) -> How:
    """Change what a GRU keeps of each t."""

    def changed(moment: Any) -> Any:
        return moment._replace(**{name: f(getattr(moment, name)) for name, f in changes.items()})

    return cached(moments=lambda moments: [*map(changed, moments)])


def states_after(right: Function) -> Function:
    """dW_h is made of h_t, where h_t-1 belongs."""

    def wrong(dy: np.ndarray, cache: Any) -> Any:
        moments = [
            moment._replace(from_h=moment.from_h._replace(x=cache.y[:, t]))
            for t, moment in enumerate(cache.moments)
        ]
        return right(dy, cache._replace(moments=moments))

    return wrong


DIVISOR_FORGOTTEN = [1, 1, 1, 1, 1, 1, 0, 0]

# The sampler's checks sample images 7 wide and 5 high: half sizes (W-1)/2 = 3 and (H-1)/2 = 2.
HALF_X, HALF_Y = 3.0, 2.0

# (the check, what is broken): {the mistake: how it is made}
OPERATION_FAULTS: dict[tuple[str, str], dict[str, How]] = {
    ("conv2d 3x3 same", "ops.conv2d_backward"): {
        "dx has the wrong sign": result(np.negative),
        "dx from a kernel that is not flipped": cached(weight=lambda w: w[::-1, ::-1]),
        "dx from a kernel flipped in one direction": cached(weight=lambda w: w[::-1]),
        "dx with input and output channels exchanged": cached(
            weight=lambda w: w.swapaxes(2, 3).reshape(w.shape)
        ),
        "dx is lost at the border": result(without_edges),
        "dweight has the wrong sign": result(np.negative, 1),
        "dweight has rows and columns exchanged": result(lambda dw: dw.swapaxes(0, 1), 1),
        "dweight is flipped": result(lambda dw: dw[::-1, ::-1], 1),
        "dweight without the windows over the border": only(1, incoming(without_edges)),
        "dbias is the mean over the batch": result(lambda dbias: dbias / 2, 2),
        "dbias of the first image only": only(2, first(0)),
        "dbias of the first row only": only(2, first(1)),
    },
    ("conv2d 5x3 valid", "ops.conv2d_backward"): {
        "dx is moved by a pixel": result(next_pixel),
        "dx is lost at the border": result(without_edges),
        "dweight from columns moved by a pixel": cached(x=next_pixel),
    },
    ("max_pool2d", "ops.max_pool2d_backward"): {
        "the winner counted from the end of the window": cached(winner=lambda k: 3 - k),
        "the winner's row and column exchanged": cached(winner=lambda k: k // 2 + k % 2 * 2),
        "always the first of the window": cached(winner=np.zeros_like),
        "dy is shared out over the window": result(lambda dx: dx / 4),
        "the dropped row comes first": result(lambda dx: np.roll(dx, 1, axis=1)),
    },
    ("max_pool2d 3x3, stride 2", "ops.max_pool2d_backward"): {
        "windows that overlap overwrite each other": windows_overwriting,
        "the winner's row and column exchanged": cached(winner=lambda k: k // 3 + k % 3 * 3),
        "dx is moved by a pixel": result(next_pixel),
    },
    ("avg_pool2d", "ops.avg_pool2d_backward"): {
        "the sum, not the mean": result(lambda dx: 4 * dx),
        "the factor 1 / size, not 1 / size^2": result(lambda dx: 2 * dx),
        "the dropped column comes first": result(next_pixel),
    },
    ("avg_pool3d", "ops.avg_pool3d_backward"): {
        "the sum, not the mean": result(lambda dx: 8 * dx),
        "the factor 1 / size^2, not 1 / size^3": result(lambda dx: 2 * dx),
        "the dropped layer comes first": result(lambda dx: np.roll(dx, 1, axis=1)),
    },
    ("projection", "ops.projection_backward"): {
        "the sum, not the mean": result(lambda dx: 5 * dx),
        "the first layer only": result(lambda dx: 5 * dx * np.eye(5)[0].reshape(5, 1, 1)),
        "rows and columns exchanged": result(lambda dx: dx.swapaxes(2, 3).reshape(dx.shape)),
    },
    ("bilinear nearest, 2x2 points a pixel", "transformer.samplers.Sampler.backward"): {
        "the sum over the points, not their mean": only(1, result(lambda dgrid: 4 * dgrid, 1)),
    },
    ("relu", "ops.relu_backward"): {
        "the gate is forgotten": skipped,
        "the gate is the wrong way round": cached(y=lambda y: 1.0 * (y == 0)),
        "dx has the wrong sign": result(np.negative),
    },
    ("leaky_relu", "ops.leaky_relu_backward"): {
        "the slope is forgotten": cached(slope=lambda slope: 1.0),
        "what is negative gets no gradient": cached(slope=lambda slope: 0.0),
        "the slope is on the wrong side": cached(y=np.negative),
    },
    ("tanh", "ops.tanh_backward"): {
        "dy goes through as it is": skipped,
        "1 - y, not 1 - y^2": lambda right: lambda dy, cache: dy * (1 - cache.y),
        "dx has the wrong sign": result(np.negative),
    },
    ("sigmoid", "ops.sigmoid_backward"): {
        "dy goes through as it is": skipped,
        "y and 1 - y of another element": cached(y=lambda y: np.roll(y, 1)),
        "dx has the wrong sign": result(np.negative),
    },
    ("conv_block 3x3 same, pool", "ops.conv_block_backward"): {
        "dx has the wrong sign": result(np.negative),
        "the gate of the ReLU is forgotten": cached(
            rectified=lambda c: c._replace(y=np.ones_like(c.y))
        ),
        "the pool's winner counted from the end": cached(
            pooled=lambda c: c._replace(winner=3 - c.winner)
        ),
        "dbias before the gate of the ReLU": only(
            2, cached(rectified=lambda c: c._replace(y=np.ones_like(c.y)))
        ),
        "dweight is multiplied by the pool's area": result(lambda dw: 4 * dw, 1),
    },
    ("conv_block 3x3 same", "ops.conv_block_backward"): {
        "dbias is the mean over the batch": result(lambda dbias: dbias / 2, 2),
        "dweight before the gate of the ReLU": only(
            1, cached(rectified=lambda c: c._replace(y=np.ones_like(c.y)))
        ),
    },
    ("conv_block leaky ReLU, pool", "ops.conv_block_backward"): {
        "the slope is forgotten": cached(rectified=lambda c: c._replace(slope=1.0)),
        "what is negative gets no gradient": cached(rectified=lambda c: c._replace(slope=0.0)),
        "dbias before the slope": only(2, cached(rectified=lambda c: None)),
    },
    ("conv_block no activation, pool", "ops.conv_block_backward"): {
        "always the first of the window": cached(
            pooled=lambda c: c._replace(winner=np.zeros_like(c.winner))
        ),
    },
    ("dense", "ops.dense_backward"): {
        "dx has the wrong sign": result(np.negative),
        "dx from the weight not transposed": cached(weight=transposed),
        "dweight is transposed": result(transposed, 1),
        "dweight is the mean over the batch": result(lambda dw: dw / 3, 1),
        "dbias of the first row only": only(2, first(0)),
        "dbias is summed along the wrong axis": result(lambda dbias: dbias[:3], 2),
    },
    ("gru T = 3", "ops.gru_backward"): {
        "dx has the wrong sign": result(np.negative),
        "nothing comes back from t + 1": truncated,
        "u weighs what is kept": of_each_moment(update=lambda u: (1 - u[0], u[1])),
        "r is forgotten": of_each_moment(reset=lambda r: (np.ones_like(r[0]), r[1])),
        "the product that r resets is forgotten": of_each_moment(g_c=np.zeros_like),
        "what u lets go is forgotten": of_each_moment(h=np.zeros_like),
        "dW_h from h_t": states_after,
        "dW_x has r and u exchanged": result(lambda dweight: dweight[:, [1, 0, 2]], 1),
        "dbias is the mean over the batch": result(lambda dbias: dbias / 3, 3),
    },
    ("dropout", "ops.dropout_backward"): {
        "the factor 1 / (1 - rate) is forgotten": cached(mask=np.sign),
        "the factor is 1 / rate": cached(mask=lambda mask: np.sign(mask) / 0.3),
        "the factor is there twice": cached(mask=np.square),
        "the mask is forgotten": skipped,
        "the mask is another step's": cached(mask=lambda mask: np.roll(mask, 1, axis=0)),
    },
    ("dropout images", "ops.dropout_backward"): {
        "the mask is the same for all channels": cached(
            mask=lambda mask: np.broadcast_to(mask[..., :1], mask.shape)
        ),
    },
    ("softmax_cross_entropy", "ops.softmax_cross_entropy_backward"): {
        "dlogits has the wrong sign": result(np.negative),
        "the sum over the batch, not the mean": result(lambda dlogits: 5 * dlogits),
        "the label belongs to the next image": cached(labels=lambda labels: np.roll(labels, 1)),
        "p is not normalised": cached(p=lambda p: p / p.max(axis=1, keepdims=True)),
        "dloss is forgotten": lambda right: lambda cache, dloss: right(cache),
    },
    ("softmax_cross_entropy epsilon", "ops.softmax_cross_entropy_backward"): {
        "epsilon is forgotten": cached(epsilon=lambda epsilon: 0.0),
        "epsilon is there twice": cached(epsilon=lambda epsilon: 2 * epsilon),
    },
    ("triplet_hinge", "ops.triplet_hinge_backward"): {
        "dattended has the wrong sign": result(np.negative),
        "drandom has the wrong sign": result(np.negative, 1),
        "the sum over the pairs, not the mean": cached(total=lambda total: 1),
        "n and m of the pairs exchanged": cached(pairs=lambda pairs: pairs[:, ::-1]),
        "the other of a pair gets no gradient": result(lambda d: d * [[1], [0], [1], [1], [1]]),
        "the last pair only": cached(pairs=lambda pairs: pairs[-1:]),
    },
    ("affine_grid", "ops.affine_grid_backward"): {
        "dtheta has the wrong sign": result(np.negative),
        "x and y exchanged": incoming(lambda dgrid: dgrid[..., ::-1]),
        "theta is column-major": result(lambda d: d.transpose(0, 2, 1).reshape(d.shape)),
        "no gradient for the translation": result(lambda dtheta: dtheta * [1, 1, 0]),
        "x runs from right to left": cached(xt=lambda xt: xt[::-1]),
        "the mean over the points, not the sum": result(lambda dtheta: dtheta / 15),
    },
    ("affine_grid_3d", "ops.affine_grid_3d_backward"): {
        "dtheta has the wrong sign": result(np.negative),
        "x and z exchanged": incoming(lambda dgrid: dgrid[..., ::-1]),
        "no gradient for the translation": result(lambda dtheta: dtheta * [1, 1, 1, 0]),
        "z runs from back to front": cached(zt=lambda zt: zt[::-1]),
    },
    ("basis_grid", "ops.basis_grid_backward"): {
        "dtheta has the wrong sign": result(np.negative),
        "x and y exchanged": incoming(lambda dgrid: dgrid[..., ::-1]),
        "theta_p gets the gradient of B_p-1": only(
            0, cached(basis=lambda basis: np.roll(basis, 1, axis=0))
        ),
        "no gradient for B_0": result(lambda d: np.concatenate([0 * d[:1], d[1:]]), 1),
        "dbasis of the first image only": only(1, first(0)),
        "dbasis without theta": only(1, cached(theta=np.ones_like)),
    },
    ("projective_grid", "ops.projective_grid_backward"): {
        "dtheta has the wrong sign": result(np.negative),
        "x and y exchanged": incoming(lambda dgrid: dgrid[..., ::-1]),
        "d is taken for 1": cached(divisor=np.ones_like),
        "d is taken for constant": result(lambda dtheta: dtheta * DIVISOR_FORGOTTEN),
        "d has the wrong sign beyond the horizon": cached(divisor=np.abs),
        "x runs from right to left": cached(xt=lambda xt: xt[::-1]),
    },
    ("projective_grid on the horizon", "ops.projective_grid_backward"): {
        "d has a gradient on the horizon": cached(horizon=np.zeros_like),
    },
    ("compose", "ops.compose_backward"): {
        "dleft has the wrong sign": result(np.negative),
        "dleft without the translation of the right": only(0, cached(right=without_translation)),
        "no gradient for the left translation": result(without_translation),
        "dright from the left not transposed": only(1, cached(left=turned_over)),
    },
    ("bilinear_sampler nearest", "ops.bilinear_sampler_backward"): {
        "dimage has the wrong sign": result(np.negative),
        "dgrid has the wrong sign": per_axis(-1, -1),
        "the factors (W-1)/2 and (H-1)/2 are missing": per_axis(1 / HALF_X, 1 / HALF_Y),
        "(W-1)/2 and (H-1)/2 are exchanged": per_axis(HALF_Y / HALF_X, HALF_X / HALF_Y),
        "W/2 and H/2 instead": per_axis((HALF_X + 0.5) / HALF_X, (HALF_Y + 0.5) / HALF_Y),
        "x and y of dgrid exchanged": result(lambda dgrid: dgrid[..., ::-1], 1),
        "the weights of left and right exchanged": cached(xs=mirrored),
        "points that share a pixel overwrite each other": overwriting,
        "dgrid of the first channel only": only(1, first(3)),
        "dimage all goes to the first image": result(
            lambda d: np.stack([d.sum(axis=0), *np.zeros_like(d[1:])])
        ),
        "the border is 'zeros'": other_border,
    },
    ("bilinear_sampler zeros", "ops.bilinear_sampler_backward"): {
        "the border is 'nearest'": other_border,
        "dimage is lost at the border": result(without_edges),
        "the weights of top and bottom exchanged": cached(ys=mirrored),
    },
    ("bilinear_sampler zeros, fill", "ops.bilinear_sampler_backward"): {
        "the fill is forgotten": cached(image=without_edges),
    },
    ("bilinear_sampler mirror", "ops.bilinear_sampler_backward"): {
        "the border is 'nearest'": cached(border=lambda border: "nearest"),
        "the border is 'wrap'": cached(border=lambda border: "wrap"),
    },
    ("bilinear_sampler wrap", "ops.bilinear_sampler_backward"): {
        "the border is 'nearest'": cached(border=lambda border: "nearest"),
        "the border is 'mirror'": cached(border=lambda border: "mirror"),
    },
    ("trilinear_sampler nearest", "ops.trilinear_sampler_backward"): {
        "dvolume has the wrong sign": result(np.negative),
        "dgrid has the wrong sign": result(np.negative, 1),
        "x and z of dgrid exchanged": result(lambda dgrid: dgrid[..., ::-1], 1),
        "dgrid is in voxels": result(lambda dgrid: dgrid / [3, 1.5, 2], 1),
        "the points' axes are (z, y, x)": cached(grid=lambda grid: grid[..., ::-1]),
        "points that share a voxel overwrite each other": overwriting,
        "the border is 'mirror'": cached(border=lambda border: "mirror"),
    },
    ("trilinear_sampler zeros, fill", "ops.trilinear_sampler_backward"): {
        "the fill is forgotten": cached(volume=without_edges),
    },
    ("nearest_sampler nearest", "ops.nearest_sampler_backward"): {
        "dimage has the wrong sign": result(np.negative),
        "points that share a pixel overwrite each other": overwriting,
        "the pixel's row is the one above": cached(n=lambda n: np.maximum(n - 1, 0)),
        "the pixel's column is the next": cached(m=lambda m: np.minimum(m + 1, 6)),
    },
    ("nearest_sampler zeros", "ops.nearest_sampler_backward"): {
        "dimage is lost at the border": result(without_edges),
    },
    ("bicubic_sampler nearest", "ops.bicubic_sampler_backward"): {
        "dimage has the wrong sign": result(np.negative),
        "dgrid has the wrong sign": per_axis(-1, -1),
        "(W-1)/2 and (H-1)/2 are exchanged": per_axis(HALF_Y / HALF_X, HALF_X / HALF_Y),
        "the weights are counted from the other side": cached(
            columns=lambda axis: axis._replace(weight=axis.weight[..., ::-1])
        ),
        "the outer rows have no weight": cached(
            rows=lambda axis: axis._replace(weight=axis.weight * [0, 1, 1, 0])
        ),
        "the outer columns have no slope": cached(
            columns=lambda axis: axis._replace(slope=axis.slope * [0, 1, 1, 0])
        ),
        "points that share a pixel overwrite each other": overwriting,
    },
    ("bicubic_sampler zeros, fill", "ops.bicubic_sampler_backward"): {
        "the fill is forgotten": cached(image=without_edges),
    },
    ("theta, grid, sample nearest", "ops.bilinear_sampler_backward"): {
        "dgrid is in pixels, (W-1)/2 is missing": per_axis(1 / 4, 1 / 2.5),
    },
    ("theta, grid, sample zeros", "ops.affine_grid_backward"): {
        "x and y exchanged": incoming(lambda dgrid: dgrid[..., ::-1]),
    },
}
