"""What an operation costs at least: its arithmetic, and the bytes that have to be moved.

A GPU needs at least the time of the arithmetic or of the bytes, whichever is longer:

    floor = max(flops / fastest matrix product, bytes / fastest copy)

Arithmetic is that of convolutions and matrix products, two for each product and its addition;
all other operations wait for memory, so none is counted there. Bytes are those of every array
that goes in or comes out, each once.
"""

from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any, NamedTuple

from ministn.cuda import choice, conv_tf32
from ministn.layers import Conv2d, Dense, MaxPool2d, Sequential
from ministn.models import Network
from ministn.ops.conv2d import checked_margin

FLOAT = 4  # bytes

Row = dict[str, Any]  # an entry of the record


class Cost(NamedTuple):
    """rate: the precision of the arithmetic, "fp32" or "tf32"."""

    flops: int
    bytes: int
    rate: str = "fp32"


class Ceilings(NamedTuple):
    """The most that the GPU was seen to do in a second. flops: by rate."""

    bytes: float
    flops: dict[str, float]


def floor(costs: Iterable[Cost], ceilings: Ceilings) -> float:
    """Seconds that the operations need at least, one after another."""
    return sum(max(c.flops / ceilings.flops[c.rate], c.bytes / ceilings.bytes) for c in costs)


def compared(seconds: dict[str, list[float]], least: list[Cost], ceilings: Ceilings) -> Row:
    """An entry of the record, from the seconds of every round."""
    row: Row = {
        side: {"median": median(times), "minimum": min(times)} for side, times in seconds.items()
    }
    ours = row["ours"]["median"]
    for side, theirs in row.items():
        if side != "ours":
            theirs["ratio"] = ours / theirs["median"]
    bytes_moved, flops = sum(cost.bytes for cost in least), sum(cost.flops for cost in least)
    return row | {
        "bytes": bytes_moved,
        "flops": flops,
        "bytes_per_second": bytes_moved / ours,
        "flops_per_second": flops / ours,
        "share_of_ceiling": floor(least, ceilings) / ours,
    }


def convolution(
    x: tuple[int, int, int, int],
    kernels: int,
    *,
    pool: bool,
    kernel: int = 3,
    padding: str = "same",
) -> tuple[Cost, tuple[int, int, int, int]]:
    """x (N, H, W, C) -> the cost of any of a convolution block's three passes; y (N, h, w, K).

    Forward reads x, weight and bias and writes y and gate; the gradients read dy and gate and
    either the weight, to write dx, or x, to write dweight and dbias: the same sizes each time. A
    gate is one byte for each output. With a pool three of four elements of dz are zero, and still
    counted, because no kernel can leave them out; what belongs to no whole window is not. The rate
    is that of the kernels that the shape table chooses in the precision in force.
    """
    n, height, width, channels = x
    sizes = {"H": height, "W": width, "kh": kernel, "kw": kernel}
    margin, side = checked_margin(sizes, padding), 2 if pool else 1
    h = (height + 2 * margin[0] - kernel + 1) // side
    w = (width + 2 * margin[1] - kernel + 1) // side
    family = choice.convolution((kernel, kernel), margin, channels, kernels)
    weight, y = kernel**2 * channels * kernels, n * h * w * kernels
    cost = Cost(
        flops=2 * weight * n * h * w * side**2,
        bytes=FLOAT * (n * height * width * channels + weight + kernels + y) + y,
        rate="tf32" if family is conv_tf32 else "fp32",
    )
    return cost, (n, h, w, kernels)


def dense(n: int, d: int, k: int) -> Cost:
    """Any of a dense layer's three products: x (n, d), weight (d, k), bias (k) and y (n, k)."""
    rate = "tf32" if choice.dense_on_tensor_cores() else "fp32"
    return Cost(2 * n * d * k, FLOAT * (n * d + d * k + k + n * k), rate)


def sampler(n: int, points: int, pixels: int, channels: int, *, arrays: str) -> Cost:
    """A pass of the sampler over these arrays, of "image grid y", each with or without a d."""
    sizes = {"image": n * pixels * channels, "grid": n * points * 2, "y": n * points * channels}
    return Cost(0, FLOAT * sum(sizes[array.removeprefix("d")] for array in arrays.split()))


def adam(parameters: int) -> Cost:
    """p, m and v are read and written, g is read."""
    return Cost(0, 7 * FLOAT * parameters)


def cross_entropy(n: int, classes: int) -> Cost:
    """Forward and backward: logits and labels in, the loss and dlogits out."""
    return Cost(0, FLOAT * (2 * n * classes + n + 1))


def dropout(n: int, d: int) -> Cost:
    """Forward and backward: x, y, dy and dx, and a byte for what was kept, out and in."""
    return Cost(0, (4 * FLOAT + 2) * n * d)


def training_step(network: Network, size: tuple[int, int], n: int) -> list[Cost]:
    """Of a step on n images: convolutions, dense layers, sampler and Adam, the rest being small."""
    costs: list[Cost] = []
    height, width = size
    transformer = network.transformer
    if transformer is not None:
        assert isinstance(transformer.localisation, Sequential)
        costs += _stack(transformer.localisation, (n, height, width, 1), need_dx=False)
        pixels = height * width
        height, width = transformer.size
        points = height * width
        costs.append(sampler(n, points, pixels, 1, arrays="image grid y"))
        costs.append(sampler(n, points, pixels, 1, arrays="dy image grid dgrid"))
    costs += _stack(network.classifier, (n, height, width, 1), need_dx=transformer is not None)
    costs.append(adam(sum(parameter.size for parameter in network.parameters())))
    return costs


def _stack(stack: Sequential, x: tuple[int, int, int, int], need_dx: bool) -> Iterator[Cost]:
    """Of all passes through a stack; its first layer that learns makes dx only if it is needed."""
    passes = 3 if need_dx else 2
    for layer in stack.layers:
        match layer:
            case MaxPool2d():
                x = (x[0], x[1] // 2, x[2] // 2, x[3])
            case Conv2d():
                kernel, _, _, kernels = layer.weight.shape
                cost, x = convolution(
                    x, kernels, pool=layer.pool, kernel=kernel, padding=layer.padding
                )
                yield from [cost] * passes
                passes = 3
            case Dense():
                yield from [dense(x[0], *layer.weight.shape)] * passes
