"""Every operation as problems for the checker: odd, non-square shapes, all away from kinks."""

from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np

from ministn import ops
from ministn.gradcheck.check import Problem, operation_problem
from ministn.ops.projective_grid import NEAR
from ministn.ops.sampling import BORDERS
from ministn.randomness import Step, generator
from ministn.transformer.samplers import KERNELS, Sampler

Arrays = dict[str, np.ndarray]
Draw = Callable[[np.random.Generator], Arrays]
Build = Callable[[], Problem]


def operation(name: str, draw: Draw, **options: Any) -> Build:
    """ops.<name> at drawn arrays; looked up at each call, so that a fault can take its place."""
    return lambda: operation_problem(
        lambda **arrays: getattr(ops, name)(**arrays, **options),
        lambda dy, cache: getattr(ops, name + "_backward")(dy, cache),
        draw(generator(0, "gradcheck arrays")),
    )


def normal(**shapes: tuple[int, ...]) -> Draw:
    """Standard normal arrays of the given shapes."""
    return lambda rng: {name: rng.normal(size=shape) for name, shape in shapes.items()}


def off_zero(*shape: int) -> Draw:
    """x with magnitudes from 0.1 to 1, so that no ReLU is near its kink."""
    return lambda rng: {"x": rng.uniform(0.1, 1, shape) * rng.choice([-1, 1], shape)}


def distinct(*shape: int) -> Draw:
    """x with values at least 0.1 apart, so that no pooling window has two near winners."""
    return lambda rng: {"x": rng.permutation(int(np.prod(shape))).reshape(shape) / 10}


def block(x: tuple[int, ...], weight: tuple[int, ...], bias: bool = True, **options: Any) -> Build:
    """conv_block where the sums are clear of each other in every pool and of the ReLU's kink."""
    stride = {"stride": options.get("stride", 1)}

    def clear(arrays: Arrays, margin: float = 0.02) -> bool:
        sums, _ = ops.conv2d(arrays["x"], arrays["weight"], padding=options["padding"], **stride)
        if options["pool"]:
            h, w = sums.shape[1] // 2 * 2, sums.shape[2] // 2 * 2
            tiles = [sums[:, i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]
            *_, second, sums = np.sort(tiles, axis=0)
            if (sums - second).min() < margin:
                return False
        return bool(np.abs(sums + arrays.get("bias", 0)).min() > margin)

    draw = normal(x=x, weight=weight, **({"bias": weight[-1:]} if bias else {}))
    return operation(
        "conv_block", lambda rng: next(filter(clear, map(draw, repeat(rng)))), **options
    )


def points(image: tuple[int, ...], size: tuple[int, ...]) -> Draw:
    """An image and a grid on and up to three pixels around it, never near a whole pixel.

    Or a volume (N, D, H, W) and a grid in it, if size is (d, h, w).
    """
    axes = len(size)

    def draw(rng: np.random.Generator) -> Arrays:
        sides = np.array(image[axes:0:-1])
        shape = (image[0], *size, axes)
        pixels = rng.integers(-3, sides + 2, shape) + rng.uniform(0.2, 0.8, shape)
        half = np.maximum(sides - 1, 1) / 2
        sampled = "image" if axes == 2 else "volume"
        return {sampled: rng.normal(size=image), "grid": pixels / half - 1}

    return draw


def sampler(image: tuple[int, ...], size: tuple[int, ...], **options: Any) -> Build:
    """A Sampler; the kernel "nearest" gives the grid no gradient, so only the image is checked."""
    made = Sampler(**options)

    def build() -> Problem:
        arrays = points(image, made.grid_size(size))(generator(0, "gradcheck arrays"))
        fixed = {"grid": arrays.pop("grid")} if made.kernel == "nearest" else {}
        return operation_problem(
            lambda **arrays: made.forward(*(arrays | fixed).values()),
            lambda dy, cache: made.backward(dy, cache)[: len(arrays)],
            arrays,
        )

    return build


def homographies(n: int, size: tuple[int, int]) -> Draw:
    """theta with pixels on both sides of the horizon, and none near it."""

    def clear(theta: np.ndarray) -> bool:
        divisor = ops.projective_grid(theta[None], size)[1].divisor
        return bool(np.abs(divisor).min() > 0.1 and divisor.min() < 0)

    def draw(rng: np.random.Generator) -> Arrays:
        thetas = filter(clear, (rng.normal(size=8) for _ in repeat(None)))
        return {"theta": np.stack([next(thetas) for _ in range(n)])}

    return draw


def on_the_horizon(rng: np.random.Generator) -> Arrays:
    """theta with p_7 next to -1 and p_8 = 0: in the last column d is half of NEAR."""
    divisor = [NEAR / 2 - 1, 0.0]
    return {"theta": np.concatenate([rng.normal(size=(2, 6)), [divisor] * 2], axis=1)}


def warp(image: tuple[int, ...], size: tuple[int, int], border: str) -> Build:
    """theta -> grid -> sample as one operation, with every sample off the whole pixels."""
    n, height, width, _ = image
    half = np.array([width - 1, height - 1]) / 2

    def off_grid(theta: np.ndarray) -> bool:
        pixels = ops.affine_grid(theta[None], size)[0] * half + half
        return bool(np.all(abs(pixels % 1 - 0.5) < 0.3))

    def draw(rng: np.random.Generator) -> Arrays:
        thetas = filter(off_grid, (rng.uniform(-0.9, 0.9, (2, 3)) for _ in repeat(None)))
        return {
            "theta": np.stack([next(thetas) for _ in range(n)]),
            "image": rng.normal(size=image),
        }

    def forward(theta: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, Any]:
        grid, grid_cache = ops.affine_grid(theta, size)
        y, sampler_cache = ops.bilinear_sampler(image, grid, border=border)
        return y, (grid_cache, sampler_cache)

    def backward(dy: np.ndarray, cache: Any) -> tuple[np.ndarray, np.ndarray | None]:
        grid_cache, sampler_cache = cache
        dimage, dgrid = ops.bilinear_sampler_backward(dy, sampler_cache)
        return ops.affine_grid_backward(dgrid, grid_cache), dimage

    return lambda: operation_problem(forward, backward, draw(generator(0, "gradcheck arrays")))


def loss(epsilon: float = 0.0) -> Problem:
    """Softmax cross-entropy; its backward pass takes the loss's own gradient last."""
    labels = np.array([2, 0, 6, 2, 1])
    return operation_problem(
        lambda logits: ops.softmax_cross_entropy(logits, labels, epsilon),
        lambda dy, cache: ops.softmax_cross_entropy_backward(cache, float(dy)),
        normal(logits=(5, 7))(generator(0, "gradcheck arrays")),
    )


def conv2d(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    padding: str,
    bias: bool = True,
    **options: Any,
) -> Build:
    shapes = {"x": x, "weight": weight} | ({"bias": weight[-1:]} if bias else {})
    return operation("conv2d", normal(**shapes), padding=padding, **options)


def recurrent(steps: int) -> Build:
    """A GRU. Its first step, from h_0 = 0, says nothing of W_h, which is fixed where it is all."""
    draw = normal(x=(3, 5), weight_x=(5, 3, 4), bias=(3, 4), weight_h=(4, 3, 4))

    def build() -> Problem:
        arrays = draw(generator(0, "gradcheck arrays"))
        fixed = {"weight_h": arrays.pop("weight_h")} if steps == 1 else {}

        def backward(dy: np.ndarray, cache: Any) -> tuple[Any, ...]:
            dx, dweight_x, dweight_h, dbias = ops.gru_backward(dy, cache)
            return (dx, dweight_x, dbias, dweight_h)[: len(arrays)]

        return operation_problem(
            lambda **arrays: ops.gru(**arrays, **fixed, steps=steps), backward, arrays
        )

    return build


def triplets() -> Problem:
    """The co-localisation loss, over pairs that share images; some are active and some are not."""
    pairs = np.array([[0, 1], [1, 0], [2, 3], [0, 2], [3, 4], [4, 2]])

    def clear(arrays: Arrays) -> bool:
        n, m = pairs.T
        attended, random = arrays["attended"], arrays["random"]
        h = ((attended[n] - attended[m]) ** 2 - (attended[n] - random[n]) ** 2).sum(axis=1) + 1
        return bool(np.abs(h).min() > 0.02 and 2 <= (h > 0).sum() <= 4)

    draw = normal(attended=(5, 7), random=(5, 7))
    rng = generator(0, "gradcheck arrays")
    return operation_problem(
        lambda **arrays: ops.triplet_hinge(**arrays, pairs=pairs),
        lambda dy, cache: ops.triplet_hinge_backward(cache, float(dy)),
        next(filter(clear, map(draw, repeat(rng)))),
    )


# {operation: {what is special about a problem: the problem}}
OPERATIONS: dict[str, dict[str, Build]] = {
    "conv2d": {
        "3x3 same": conv2d((2, 5, 7, 3), (3, 3, 3, 4), "same"),
        "5x5 same": conv2d((2, 6, 7, 2), (5, 5, 2, 3), "same"),
        "1x3 same": conv2d((3, 4, 5, 2), (1, 3, 2, 4), "same"),
        "3x3 same, one column": conv2d((2, 5, 1, 3), (3, 3, 3, 2), "same"),
        "3x3 valid": conv2d((2, 5, 7, 3), (3, 3, 3, 4), "valid"),
        "5x3 valid": conv2d((2, 7, 6, 3), (5, 3, 3, 4), "valid"),
        "3x1 valid, no bias": conv2d((1, 5, 4, 2), (3, 1, 2, 3), "valid", bias=False),
        "3x3 same, stride 2": conv2d((2, 6, 7, 2), (3, 3, 2, 3), "same", stride=2),
        "5x3 valid, stride 3": conv2d((2, 9, 8, 2), (5, 3, 2, 3), "valid", stride=3),
    },
    "max_pool2d": {
        "": operation("max_pool2d", distinct(2, 5, 7, 3)),
        "3x3": operation("max_pool2d", distinct(2, 7, 4, 3), size=3),
        "3x3, stride 2": operation("max_pool2d", distinct(2, 8, 5, 3), size=3, stride=2),
        "2x2, stride 3": operation("max_pool2d", distinct(2, 5, 6, 2), size=2, stride=3),
    },
    "avg_pool2d": {
        "": operation("avg_pool2d", normal(x=(2, 5, 7, 3))),
        "3x3": operation("avg_pool2d", normal(x=(2, 7, 4, 3)), size=3),
    },
    "avg_pool3d": {
        "": operation("avg_pool3d", normal(x=(2, 5, 4, 3))),
        "3x3x3": operation("avg_pool3d", normal(x=(2, 3, 7, 4)), size=3),
    },
    "projection": {"": operation("projection", normal(x=(2, 5, 4, 3)))},
    "relu": {"": operation("relu", off_zero(2, 5, 7, 3))},
    "leaky_relu": {
        "": operation("leaky_relu", off_zero(2, 5, 7, 3)),
        "slope 1/10": operation("leaky_relu", off_zero(5, 7), slope=0.1),
    },
    "tanh": {"": operation("tanh", normal(x=(2, 5, 3)))},
    "sigmoid": {"": operation("sigmoid", normal(x=(2, 5, 3)))},
    "conv_block": {
        "3x3 same": block((2, 5, 7, 3), (3, 3, 3, 4), padding="same", pool=False),
        "3x3 same, pool": block((2, 5, 7, 3), (3, 3, 3, 4), padding="same", pool=True),
        "5x5 valid, pool": block((2, 9, 8, 2), (5, 5, 2, 3), padding="valid", pool=True),
        "1x3 valid": block((2, 4, 5, 3), (1, 3, 3, 2), padding="valid", pool=False),
        "leaky ReLU, pool": block(
            (2, 5, 7, 3), (3, 3, 3, 4), padding="same", pool=True, activation="leaky_relu"
        ),
        "leaky ReLU, stride 2, no bias": block(
            *((2, 7, 6, 2), (3, 3, 2, 3), False),
            padding="same",
            stride=2,
            pool=False,
            activation="leaky_relu",
            slope=0.1,
        ),
        "no activation, no bias": block(
            (2, 5, 4, 2), (3, 3, 2, 3), False, padding="valid", pool=False, activation=None
        ),
        "no activation, pool": block(
            (2, 5, 7, 1), (3, 3, 1, 4), padding="same", pool=True, activation=None
        ),
    },
    "dense": {"": operation("dense", normal(x=(3, 5), weight=(5, 4), bias=(4,)))},
    "gru": {f"T = {steps}": recurrent(steps) for steps in (1, 2, 3, 4, 5)},
    "dropout": {
        "": operation("dropout", normal(x=(5, 7)), rate=0.3, step=Step(1, 2), stream=3),
        "images": operation("dropout", normal(x=(3, 2, 3, 5)), rate=0.3, step=Step(1, 2), stream=3),
    },
    "softmax_cross_entropy": {"": loss, "epsilon": lambda: loss(0.3)},
    "triplet_hinge": {"": triplets},
    "affine_grid": {
        "": operation("affine_grid", normal(theta=(2, 2, 3)), size=(3, 5)),
        "one row": operation("affine_grid", normal(theta=(3, 2, 3)), size=(1, 4)),
    },
    "affine_grid_3d": {
        "": operation("affine_grid_3d", normal(theta=(2, 3, 4)), size=(2, 3, 5)),
        "one layer": operation("affine_grid_3d", normal(theta=(3, 3, 4)), size=(1, 4, 2)),
    },
    "basis_grid": {"": operation("basis_grid", normal(theta=(3, 4), basis=(5, 2, 5, 2)))},
    "projective_grid": {
        "": operation("projective_grid", homographies(3, (4, 5)), size=(4, 5)),
        "one row": operation("projective_grid", homographies(2, (1, 4)), size=(1, 4)),
        "on the horizon": operation("projective_grid", on_the_horizon, size=(3, 4)),
    },
    "compose": {"": operation("compose", normal(left=(3, 2, 3), right=(3, 2, 3)))},
    "bilinear_sampler": {
        "nearest": operation("bilinear_sampler", points((2, 5, 7, 3), (4, 6))),
        "zeros": operation("bilinear_sampler", points((2, 5, 7, 3), (4, 6)), border="zeros"),
        "zeros, fill": operation(
            "bilinear_sampler", points((2, 6, 5, 1), (3, 4)), border="zeros", fill=1.5
        ),
        "one row": operation("bilinear_sampler", points((3, 1, 6, 2), (4, 5))),
        "mirror": operation("bilinear_sampler", points((2, 3, 4, 3), (4, 6)), border="mirror"),
        "wrap": operation("bilinear_sampler", points((2, 3, 4, 3), (4, 6)), border="wrap"),
    },
    "nearest_sampler": {
        "nearest": sampler((2, 5, 7, 3), (4, 6), kernel="nearest"),
        "zeros": sampler((2, 5, 7, 3), (4, 6), kernel="nearest", border="zeros"),
        "mirror": sampler((2, 3, 4, 3), (4, 6), kernel="nearest", border="mirror"),
        "wrap": sampler((2, 3, 4, 3), (4, 6), kernel="nearest", border="wrap"),
    },
    "bicubic_sampler": {
        "nearest": operation("bicubic_sampler", points((2, 5, 7, 3), (4, 6))),
        "zeros, fill": operation(
            "bicubic_sampler", points((2, 6, 5, 1), (3, 4)), border="zeros", fill=1.5
        ),
        "mirror": operation("bicubic_sampler", points((2, 3, 4, 3), (4, 6)), border="mirror"),
        "wrap, a = -3/4": operation(
            "bicubic_sampler", points((2, 3, 4, 3), (4, 6)), border="wrap", a=-0.75
        ),
    },
    "trilinear_sampler": {
        "nearest": operation("trilinear_sampler", points((2, 5, 4, 7), (3, 2, 4))),
        "zeros, fill": operation(
            "trilinear_sampler", points((2, 4, 7, 5), (2, 4, 3)), border="zeros", fill=1.5
        ),
        "mirror": operation("trilinear_sampler", points((2, 3, 4, 2), (2, 3, 4)), border="mirror"),
        "wrap": operation("trilinear_sampler", points((2, 3, 4, 2), (2, 3, 4)), border="wrap"),
        "one layer": operation("trilinear_sampler", points((2, 1, 4, 5), (3, 2, 4))),
    },
}

# Several operations, one after another.
TOGETHER: dict[str, Build] = {
    **{
        f"{kernel} {border}, 2x2 points a pixel": sampler(
            (2, 5, 6, 2), (2, 3), kernel=kernel, border=border, supersampling=2
        )
        for kernel in KERNELS
        for border in BORDERS
    },
    "bicubic zeros, a = -3/4, 2x2 points a pixel": sampler(
        (2, 5, 6, 2), (2, 3), kernel="bicubic", border="zeros", supersampling=2, a=-0.75
    ),
    "trilinear nearest, 2x2x2 points a voxel": sampler(
        (2, 5, 7, 4), (2, 1, 3), kernel="trilinear", border="nearest", supersampling=2
    ),
    "theta, grid, sample nearest": warp((3, 6, 9, 2), (2, 3), "nearest"),
    "theta, grid, sample zeros": warp((3, 7, 5, 2), (3, 2), "zeros"),
}
