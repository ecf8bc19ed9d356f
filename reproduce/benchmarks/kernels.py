"""Each operation of the papers' networks on both sides: our kernels, and what PyTorch calls.

Where ours does in one kernel what PyTorch does in several, all of those are called. Both sides
get the same random numbers. Shapes are those of images of ``canvas`` pixels a side, 60 in the
papers, and of the features that two or three poolings leave of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from benchmarks import costs
from benchmarks.costs import Cost
from benchmarks.pytorch import TorchDevice
from ministn import cuda, models, ops
from ministn.backend import Device
from ministn.cuda.adam import Schedule
from ministn.data import Form
from ministn.randomness import Step

aten = torch.ops.aten
IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
Results = dict[str, Any]  # arrays by name, in the side's own layout


class Pair(NamedTuple):
    """One operation on both sides; without results where they rightly differ."""

    name: str
    costs: list[Cost]
    ours: Callable[[], Results]
    theirs: Callable[[], Results]


class Places(NamedTuple):
    """Where the two compute, the sizes that all operations share, and where numbers come from."""

    ours: Device
    theirs: TorchDevice
    batch: int
    canvas: int
    rng: np.random.Generator

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape, np.float32)


def convolution(
    channels: int, kernels: int, halvings: int, pool: bool, places: Places
) -> list[Pair]:
    """A 3x3 convolution block on maps that were halved some times: its three passes.

    Both of our gradients begin with dy and undo ReLU and pool as they read it. PyTorch does that
    once, here in its input gradient; its weight gradient is given the result.
    """
    ours, theirs, n, canvas, _ = places
    side = canvas // 2**halvings
    x, bias = places.normal(n, side, side, channels), places.normal(kernels)
    weight = places.normal(3, 3, channels, kernels) / np.float32(np.sqrt(9 * channels))
    gpu_x, gpu_weight, gpu_bias = map(ours.to_gpu, (x, weight, bias))
    y, cache = cuda.conv_block(gpu_x, gpu_weight, gpu_bias, pool=pool)
    dy = places.normal(*y.shape)
    gpu_dy = ours.to_gpu(dy)
    family, gate, margin = cache.family, cache.gate, cache.margin

    torch_x, torch_weight, torch_bias = theirs.maps(x), theirs.kernels(weight), theirs.tensor(bias)
    torch_dy = theirs.maps(dy)

    def block() -> tuple[torch.Tensor, ...]:
        z = functional.relu(functional.conv2d(torch_x, torch_weight, torch_bias, padding=1))
        return (z, *aten.max_pool2d_with_indices(z, [2, 2])) if pool else (z, z)

    def undone() -> torch.Tensor:
        dz = torch_dy
        if pool:
            sizes = [2, 2], [2, 2], [0, 0], [1, 1]  # window, stride, padding, dilation
            dz = aten.max_pool2d_with_indices_backward(dz, z, *sizes, False, winner[0])
        return aten.threshold_backward(dz, z, 0)

    def gradients(dz: torch.Tensor, wanted: list[bool]) -> tuple[torch.Tensor, ...]:
        sizes = [1, 1], [1, 1], [1, 1]  # stride, padding, dilation
        return aten.convolution_backward(
            dz, torch_x, torch_weight, [kernels], *sizes, False, [0, 0], 1, wanted
        )

    def our_weight_gradient() -> Results:
        dweight, dbias = family.weight_gradient(gpu_x, gpu_dy, gate, (3, 3), margin, pool)
        return {"dweight": dweight, "dbias": dbias}

    def their_weight_gradient() -> Results:
        _, dweight, dbias = gradients(dz, [False, True, True])
        return {"dweight": dweight, "dbias": dbias}

    z, _, *winner = block()
    dz = undone()
    cost, _ = costs.convolution(x.shape, kernels, pool=pool)
    name = f"conv {channels}->{kernels} {side}x{side}" + " pool" * pool
    return [
        Pair(
            name + " forward",
            [cost],
            lambda: {"y": cuda.conv_block(gpu_x, gpu_weight, gpu_bias, pool=pool)[0]},
            lambda: {"y": block()[1]},
        ),
        Pair(
            name + " input gradient",
            [cost],
            lambda: {
                "dx": family.input_gradient(gpu_dy, gate, gpu_weight, margin, x.shape[1:3], pool)
            },
            lambda: {"dx": gradients(undone(), [True, False, False])[0]},
        ),
        Pair(name + " weight gradient", [cost], our_weight_gradient, their_weight_gradient),
    ]


def dense(halvings: int, features: int, places: Places) -> list[Pair]:
    """A dense layer on 128 maps that were halved some times, forward and backward."""
    ours, theirs, n, canvas, _ = places
    d = (canvas // 2**halvings) ** 2 * 128
    x, dy, bias = places.normal(n, d), places.normal(n, features), places.normal(features)
    weight = places.normal(d, features) / np.float32(np.sqrt(d))
    gpu_x, gpu_weight, gpu_bias, gpu_dy = map(ours.to_gpu, (x, weight, bias, dy))
    _, cache = cuda.dense(gpu_x, gpu_weight, gpu_bias)
    torch_x, torch_bias, torch_dy = map(theirs.tensor, (x, bias, dy))
    torch_weight = theirs.tensor(np.ascontiguousarray(weight.T))  # in PyTorch's order

    def our_backward() -> Results:
        return dict(
            zip(("dx", "dweight", "dbias"), cuda.dense_backward(gpu_dy, cache), strict=True)
        )

    def their_backward() -> Results:
        dweight = torch_dy.T @ torch_x
        return {"dx": torch_dy @ torch_weight, "dweight": dweight, "dbias": torch_dy.sum(0)}

    cost = costs.dense(n, d, features)
    return [
        Pair(
            f"dense {d}->{features} forward",
            [cost],
            lambda: {"y": cuda.dense(gpu_x, gpu_weight, gpu_bias)[0]},
            lambda: {"y": functional.linear(torch_x, torch_weight, torch_bias)},
        ),
        Pair(f"dense {d}->{features} backward", [cost] * 2, our_backward, their_backward),
    ]


def sampler(channels: int, halvings: int, places: Places) -> list[Pair]:
    """The bilinear sampler: forward, to the grid alone, and to image and grid.

    PyTorch's gradient to the image adds atomically, in an order that changes from run to run.
    """
    ours, theirs, n, canvas, _ = places
    side = canvas // 2**halvings
    image = places.normal(n, side, side, channels)
    theta = IDENTITY + np.float32(0.2) * places.normal(n, 2, 3)
    grid, _ = ops.affine_grid(theta, (side, side))
    dy = places.normal(*image.shape)
    gpu_image, gpu_grid, gpu_dy = map(ours.to_gpu, (image, grid, dy))
    _, cache = cuda.bilinear_sampler(gpu_image, gpu_grid)
    # grid_sample makes contiguous (N, C, H, W) whatever it gets, so it gets that.
    torch_image, torch_dy = (theirs.maps(array).contiguous() for array in (image, dy))
    torch_grid = theirs.tensor(grid)

    def our_backward(need_dimage: bool) -> Results:
        dimage, dgrid = cuda.bilinear_sampler_backward(gpu_dy, cache, need_dimage)
        return {"dimage": dimage, "dgrid": dgrid} if need_dimage else {"dgrid": dgrid}

    def their_backward(need_dimage: bool) -> Results:
        dimage, dgrid = aten.grid_sampler_2d_backward(
            torch_dy, torch_image, torch_grid, 0, 1, True, [need_dimage, True]
        )
        return {"dimage": dimage, "dgrid": dgrid} if need_dimage else {"dgrid": dgrid}

    def pair(what: str, arrays: str, ours: Callable, theirs: Callable) -> Pair:
        cost = costs.sampler(n, side**2, side**2, channels, arrays=arrays)
        return Pair(f"sampler {side}x{side}x{channels} {what}", [cost], ours, theirs)

    return [
        pair(
            "forward",
            "image grid y",
            lambda: {"y": cuda.bilinear_sampler(gpu_image, gpu_grid)[0]},
            lambda: {
                "y": functional.grid_sample(
                    torch_image, torch_grid, padding_mode="border", align_corners=True
                )
            },
        ),
        pair(
            "gradient to grid",
            "dy image grid dgrid",
            partial(our_backward, False),
            partial(their_backward, False),
        ),
        pair(
            "gradient to image and grid",
            "dy image grid dgrid dimage",
            partial(our_backward, True),
            partial(their_backward, True),
        ),
    ]


def adam(places: Places) -> list[Pair]:
    """An update of the parameters of the TSTN of Architecture 1."""
    ours, theirs, _, canvas, _ = places
    shapes = [p.shape for p in models.Tstn(1).build(Form((canvas, canvas))).parameters()]
    size = sum(int(np.prod(shape)) for shape in shapes)
    p, g = ours.to_gpu(places.normal(size)), ours.to_gpu(places.normal(size))
    m, v = ours.zeros((size,), np.float32), ours.zeros((size,), np.float32)
    number, halted = ours.zeros((1,), np.uint32), ours.zeros((1,), np.int32)
    schedule = Schedule(ours.to_gpu(np.full(1, 1e-3, np.float32)), number, halted)
    parameters = [torch.nn.Parameter(theirs.tensor(places.normal(*shape))) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.Adam(parameters, fused=True)

    def our_step() -> Results:
        cuda.adam(p, g, m, v, schedule, 0.9, 0.999, 1e-8)
        return {}

    def their_step() -> Results:
        optimizer.step()
        return {}

    return [Pair(f"Adam {size} parameters", [costs.adam(size)], our_step, their_step)]


def cross_entropy(places: Places) -> list[Pair]:
    """The loss of ten classes and its gradient."""
    ours, theirs, n, _, rng = places
    logits, labels = places.normal(n, 10), rng.integers(0, 10, n)
    gpu_logits, gpu_labels = ours.to_gpu(logits), ours.to_gpu(labels.astype(np.int32))
    torch_logits, torch_labels = theirs.tensor(logits).requires_grad_(), theirs.tensor(labels)

    def our_passes() -> Results:
        loss, cache = cuda.softmax_cross_entropy(gpu_logits, gpu_labels)
        return {"loss": loss, "dlogits": cuda.softmax_cross_entropy_backward(cache)}

    def their_passes() -> Results:
        loss = functional.cross_entropy(torch_logits, torch_labels)
        (dlogits,) = torch.autograd.grad(loss, torch_logits)
        return {"loss": loss.detach().reshape(1), "dlogits": dlogits}

    name = f"softmax and cross-entropy {n}x10, both passes"
    return [Pair(name, [costs.cross_entropy(n, 10)], our_passes, their_passes)]


def dropout(places: Places) -> list[Pair]:
    """Dropout of the classifier's 625 neurons, and its gradient. The two draw other masks."""
    ours, theirs, n, *_ = places
    x, dy = places.normal(n, 625), places.normal(n, 625)
    gpu_x, gpu_dy = ours.to_gpu(x), ours.to_gpu(dy)
    step = Step(0, ours.zeros((1,), np.uint32))
    torch_x, torch_dy = theirs.tensor(x), theirs.tensor(dy)

    def our_passes() -> Results:
        _, cache = cuda.dropout(gpu_x, 0.5, step, 1)
        cuda.dropout_backward(gpu_dy, cache)
        return {}

    def their_passes() -> Results:
        _, keep = aten.native_dropout(torch_x, 0.5, True)
        aten.native_dropout_backward(torch_dy, keep, 2.0)
        return {}

    name = f"dropout {n}x625, both passes"
    return [Pair(name, [costs.dropout(n, 625)], our_passes, their_passes)]


# Each makes the pairs of one operation, which share their arrays.
OPERATIONS: list[Callable[[Places], list[Pair]]] = [
    partial(convolution, 1, 32, 0, True),
    partial(convolution, 32, 32, 0, True),
    partial(convolution, 32, 64, 1, True),
    partial(convolution, 64, 64, 1, True),
    partial(convolution, 64, 128, 2, False),
    partial(convolution, 128, 128, 2, False),
    partial(dense, 2, 200),
    partial(dense, 3, 625),
    partial(sampler, 1, 0),
    partial(sampler, 32, 1),
    adam,
    cross_entropy,
    dropout,
]
