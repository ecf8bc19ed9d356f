"""Which way of computing a convolution is the fastest: counted from its shape.

Forward, and for the weight's gradient alone, the images are convolved, by columns or by tiles. For
the gradient of x there are two ways:

by x    The images once more, by columns or tiles, and the same steps backwards from dz: as few
        products as forward, but what windows share must be added up.
by dz   dz with the flipped kernel, by tiles. Nothing is added up, but the result is as large as x:
        with 7x7 'valid' kernels on 10x10 pixels that is 100/16 of the products.

The costs below are nanoseconds for one image, fitted to 49 shapes in each direction on one thread
of an AVX-512 processor. The way they choose took 1.02 times as long as the fastest in the mean, and
1.3 times at most.
"""

from typing import NamedTuple

from ministn.fast.winograd import transforms

# By columns: to copy a number into them, a product, to add a number up, to begin a row of them.
COPY, PRODUCT, ADD, ROW = 0.18, 0.0093, 0.45, 6.5
# By tiles: to transform a number, one of the products, to bring a number back and add it up, and
# for each number of a transformed weight.
TRANSFORM, TILE_PRODUCT, RETURN, WEIGHT = 0.40, 0.0092, 1.84, 0.50
LANES = 16  # kernels are computed that many at a time
IMAGES = 32  # that share a transformed weight; as many as there are would make a sum of two halves
# of a batch another than the whole's

WINDOWS = {3: (6, 8), 5: (8,), 7: (7, 8)}  # sides of windows, by the kernel's
ROUNDING = 1.1  # how many times as fast those of 8 must be, for they round most
LEAST = 8  # channels and kernels for tiles: with fewer the calls count, and columns are exacter


class Way(NamedTuple):
    """window: the side of the tiles' windows, None for columns."""

    window: int | None = None
    by_dz: bool = False


def forward(size: tuple[int, int], weight: tuple[int, ...], stride: int) -> Way:
    """To convolve images with a weight of this shape to (h, w) outputs, or for dweight alone."""
    costs = forward_costs(size, weight, stride)
    return min(costs, key=costs.__getitem__)


def backward(
    size: tuple[int, int], image: tuple[int, int], weight: tuple[int, ...], stride: int
) -> Way:
    """The same for the gradients of (H, W) images and of the weight."""
    costs = backward_costs(size, image, weight, stride)
    return min(costs, key=costs.__getitem__)


def forward_costs(size: tuple[int, int], weight: tuple[int, ...], stride: int) -> dict[Way, float]:
    """Nanoseconds for an image by each way that there is, see forward."""
    _, _, channels, kernels = weight
    columns = _columns(size, weight)
    costs = {Way(): COPY * columns + PRODUCT * columns * _whole(kernels)}
    for window in _windows(weight, stride):
        tiles = _Tiles(size, channels, kernels, weight[0], window)
        costs[Way(window)] = tiles.cost(products=1)
    return costs


def backward_costs(
    size: tuple[int, int], image: tuple[int, int], weight: tuple[int, ...], stride: int
) -> dict[Way, float]:
    """The same of backward."""
    _, _, channels, kernels = weight
    columns = _columns(size, weight)
    each = COPY + ADD + ROW / max(1, size[1], channels) + 2 * PRODUCT * _whole(kernels)
    costs = {Way(): each * columns}
    for window in _windows(weight, stride):
        tiles = _Tiles(size, channels, kernels, weight[0], window)
        costs[Way(window)] = tiles.cost(products=2, returned=tiles.numbers(True) * channels)
        tiles = _Tiles(image, kernels, channels, weight[0], window)
        back = TRANSFORM * tiles.numbers() * channels
        costs[Way(window, by_dz=True)] = tiles.cost(products=2) + back
    return costs


class _Tiles(NamedTuple):
    """A convolution by tiles to (h, w) outputs."""

    size: tuple[int, int]
    channels: int
    kernels: int
    kernel: int
    window: int

    def cost(self, products: int, returned: int = 0) -> float:
        """With so many matrix products, and numbers to be brought back to their windows."""
        pieces = self.pieces**2
        weight = self.window**2 * pieces * self.channels * self.kernels
        numbers = self.numbers()
        copies = COPY * numbers * pieces * self.channels if pieces > 1 else 0
        cost = (
            TRANSFORM * (self.numbers(windows=True) * self.channels + numbers * self.kernels)
            + products * TILE_PRODUCT * numbers * pieces * self.channels * _whole(self.kernels)
            + copies
            + RETURN * returned
            + (2 * products - 1) * WEIGHT * weight / IMAGES
        )
        return cost * (ROUNDING if self.window == 8 else 1)

    def numbers(self, windows: bool = False) -> int:
        """In the tiles of an image, or in all windows that they see, of each channel."""
        more = self.pieces - 1 if windows else 0
        tile = transforms(self.kernel, self.window).tile
        down, across = (-(-length // tile) for length in self.size)
        return (down + more) * (across + more) * self.window**2

    @property
    def pieces(self) -> int:
        """Of the kernel, along each side."""
        return -(-self.kernel // transforms(self.kernel, self.window).piece)


def _windows(weight: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """The windows that there are for a weight."""
    kh, kw, channels, kernels = weight
    possible = kh == kw and stride == 1 and min(channels, kernels) >= LEAST
    return WINDOWS.get(kh, ()) if possible else ()


def _columns(size: tuple[int, int], weight: tuple[int, ...]) -> int:
    """Numbers in the columns of an image."""
    kh, kw, channels, _ = weight
    return size[0] * size[1] * kh * kw * channels


def _whole(kernels: int) -> int:
    return -(-kernels // LANES) * LANES
