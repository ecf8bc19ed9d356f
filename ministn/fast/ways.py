"""Which way of computing a convolution is the fastest: counted from its shape.

Forward, and for the weight's gradient alone, the images are convolved, by columns or by tiles. For
the gradient of x there are two ways:

by x    The images once more, by columns or tiles, and the same steps backwards from dz: as few
        products as forward, but what windows share must be added up.
by dz   dz with the flipped kernel, by tiles. Nothing is added up, but the result is as large as x:
        with 7x7 'valid' kernels on 10x10 pixels that is 100/16 of the products.

The costs below are nanoseconds for one image, fitted to 49 shapes in each direction on one thread
of an AVX-512 processor (13 to 444 GFLOP/s). The way they choose took at most 1.4 times as long as
the fastest, in the mean 1.03 times.
"""

from typing import NamedTuple

# By columns: to copy a number into them, a product, to add a number up.
COPY, PRODUCT, ADD = 0.14, 0.010, 0.82
# By tiles: to transform a number, one of the products, to bring a number back and add it up, and
# for each number of a transformed weight.
TRANSFORM, TILE_PRODUCT, RETURN, WEIGHT = 0.4, 0.0072, 1.7, 0.6
LANES = 16  # kernels are computed that many at a time
IMAGES = 32  # that share a transformed weight; as many as there are would make a sum of two halves
# of a batch another than the whole's

WINDOWS = {3: (6, 8), 5: (8,), 7: (8,)}  # sides of windows, by the kernel's
LEAST = 8  # channels and kernels for tiles: with fewer the calls count, and columns are exacter


class Way(NamedTuple):
    """window: the side of the tiles' windows, None for columns."""

    window: int | None = None
    by_dz: bool = False


def forward(size: tuple[int, int], weight: tuple[int, ...], stride: int) -> Way:
    """To convolve images with a weight of this shape to (h, w) outputs, or for dweight alone."""
    _, _, channels, kernels = weight
    costs = {Way(): COPY * _columns(size, weight) + _products(size, weight)}
    for window in _windows(weight, stride):
        numbers = _tiles(size, weight[0], window)
        costs[Way(window)] = (
            TRANSFORM * numbers * (channels + kernels)
            + _tile_products(numbers, channels, kernels)
            + WEIGHT * window**2 * channels * kernels / IMAGES
        )
    return min(costs, key=costs.__getitem__)


def backward(
    size: tuple[int, int], image: tuple[int, int], weight: tuple[int, ...], stride: int
) -> Way:
    """The same for the gradients of (H, W) images and of the weight."""
    _, _, channels, kernels = weight
    columns = _columns(size, weight)
    costs = {Way(): (COPY + ADD) * columns + 2 * _products(size, weight)}
    for window in _windows(weight, stride):
        transformed = 3 * WEIGHT * window**2 * channels * kernels / IMAGES
        numbers = _tiles(size, weight[0], window)
        costs[Way(window)] = (
            TRANSFORM * numbers * (channels + kernels)
            + RETURN * numbers * channels
            + 2 * _tile_products(numbers, channels, kernels)
            + transformed
        )
        numbers = _tiles(image, weight[0], window)
        costs[Way(window, by_dz=True)] = (
            TRANSFORM * numbers * (kernels + 2 * channels)
            + 2 * _tile_products(numbers, kernels, channels)
            + transformed
        )
    return min(costs, key=costs.__getitem__)


def _windows(weight: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """The windows that there are for a weight."""
    kh, kw, channels, kernels = weight
    possible = kh == kw and stride == 1 and min(channels, kernels) >= LEAST
    return WINDOWS.get(kh, ()) if possible else ()


def _columns(size: tuple[int, int], weight: tuple[int, ...]) -> int:
    """Numbers in the columns of an image."""
    kh, kw, channels, _ = weight
    return size[0] * size[1] * kh * kw * channels


def _products(size: tuple[int, int], weight: tuple[int, ...]) -> float:
    return PRODUCT * _columns(size, weight) * _whole(weight[3])


def _tiles(size: tuple[int, int], kernel: int, window: int) -> int:
    """Numbers of each channel in the windows of an image whose result has this size."""
    down, across = (-(-length // (window - kernel + 1)) for length in size)
    return down * across * window**2


def _tile_products(numbers: int, channels: int, kernels: int) -> float:
    return TILE_PRODUCT * numbers * channels * _whole(kernels)


def _whole(kernels: int) -> int:
    return -(-kernels // LANES) * LANES
