"""Winograd's convolution (winograd.py) a few tiles at a time, and for which shapes it is faster."""

from functools import cached_property

import numpy as np

from ministn.fast.columns import Convolution
from ministn.fast.winograd import AT, BT, GT, KERNEL, PLACES, TILE, WINDOW, A, G, both_sides, shaped

# Tiles times channels of one block: its transforms, 36 times that, should stay in a core's L2
# (576 KiB of 1 MiB where this was measured). Half and twice that many cost 5 to 20 % more.
BLOCK = 2**12

# Its time over that of columns, measured on one thread at batch 32 and 64 in each direction:
# 0.37 to 0.63 with 32 to 128 channels and kernels on 60x60, 30x30 and 15x15 pixels, 1.00 with 16;
# with 32, 0.82 for tiles that are 0.69 full (10x10 pixels), 1.02 for 0.56 (6x6).
LEAST_CHANNELS = 32
LEAST_FULL = 2 / 3


def pays(size: tuple[int, int], weight: tuple[int, ...]) -> bool:
    """Whether this is at least 10 % faster than columns, for outputs (h, w) and a weight's shape.

    The number of images is left out: how a batch is cut must not change what is computed. Up to
    about 16 tiles in all, transforming the weight can cost more than is gained: 0.2 ms or so.
    """
    kh, kw, channels, kernels = weight
    if (kh, kw) != (KERNEL, KERNEL) or min(channels, kernels) < LEAST_CHANNELS:
        return False
    down, across = (-(-length // TILE) for length in size)
    return size[0] * size[1] >= LEAST_FULL * TILE**2 * down * across


class Tiles(Convolution):
    """The convolution of images (H, W, C) with a weight (3, 3, C, K) by Winograd's transforms."""

    def __init__(
        self, batch: int, shape: tuple[int, ...], weight: np.ndarray, margin: tuple[int, int]
    ) -> None:
        height, width, _ = shape
        above, left = margin
        self._weight = weight
        self._channels, self._kernels = weight.shape[2:]
        self.size = (height + 2 * above - KERNEL + 1, width + 2 * left - KERNEL + 1)
        self._down, self._across = (-(-length // TILE) for length in self.size)

        widest = max(self._channels, self._kernels)
        tiles = max(1, BLOCK // widest)
        self.images = max(1, min(batch, tiles // (self._down * self._across)))
        bands = -(-self._down * self._across // tiles)  # of one image, if it is too large
        self._band = -(-self._down // bands)  # rows of tiles in each
        tiles = self.images * self._band * self._across
        self._memory = np.empty((3, PLACES * tiles * widest), np.float32)

        rows, columns = (n * TILE + KERNEL - 1 for n in (self._down, self._across))
        padded = np.zeros((self.images, rows, columns, self._channels), np.float32)
        self.image = padded[:, above : above + height, left : left + width]
        # (n, down, 6, columns C): the rows of pixels that each row of tiles looks at.
        strips = padded.reshape(self.images, rows, -1)
        strips = np.lib.stride_tricks.sliding_window_view(strips, WINDOW, axis=1)[:, ::TILE]
        self._strips = strips.transpose(0, 1, 3, 2)

    def run(self, n: int, y: np.ndarray | None = None, dy: np.ndarray | None = None) -> None:
        h, w = self.size
        if dy is not None:
            self._whole_dy[:n, :h, :w] = dy
        for start in range(0, self._down, self._band):
            band = slice(start, start + self._band)
            windows = self._windows(n, band)
            if y is not None:
                self._convolve(windows, self._cut(self._whole_y[:n])[:, band])
            if dy is not None:
                self._correlate(windows, self._cut(self._whole_dy[:n])[:, band])
        if y is not None:
            y[...] = self._whole_y[:n, :h, :w]

    def dweight(self) -> np.ndarray:
        """G^T dU G."""
        products = self._dproducts.reshape(WINDOW, WINDOW, -1)
        return both_sides(GT, products).reshape(self._weight.shape)

    def _windows(self, n: int, band: slice) -> np.ndarray:
        """B^T d B of a band of tiles: (36, tiles, C), in the second workspace.

        B^T from the left while the windows' columns, which overlap, are not yet copied apart.
        """
        apart, transformed, _ = self._memory
        strips = self._strips[:n, band]
        left = np.matmul(BT, strips, out=shaped(transformed, strips.shape))
        left = left.reshape(*left.shape[:3], -1, self._channels).transpose(2, 0, 1, 3, 4)
        d = shaped(apart, (WINDOW, WINDOW, *left.shape[1:3], self._across, self._channels))
        for q in range(WINDOW):
            d[:, q] = left[:, :, :, q : q + self._across * TILE : TILE]
        d = d.reshape(WINDOW, WINDOW, -1)
        d = np.matmul(BT, d, out=shaped(transformed, d.shape))
        return d.reshape(PLACES, -1, self._channels)

    def _convolve(self, windows: np.ndarray, y: np.ndarray) -> None:
        """Write A^T [U . windows] A into tiles y (n, down, 4, across, 4, K)."""
        half, _, products = self._memory
        product = shaped(products, (PLACES, windows.shape[1], self._kernels))
        np.matmul(windows, self._transformed_weight, out=product)
        product = product.reshape(WINDOW, WINDOW, -1)
        tiles = y.transpose(2, 4, 0, 1, 3, 5)
        tiles[...] = both_sides(AT, product, half, products).reshape(tiles.shape)

    def _correlate(self, windows: np.ndarray, dy: np.ndarray) -> None:
        """Add windows^T @ (A dy A^T), of tiles dy (n, down, 4, across, 4, K), to dU."""
        tiles, _, half = self._memory
        dy = dy.transpose(2, 4, 0, 1, 3, 5)
        copy = shaped(tiles, dy.shape)
        copy[...] = dy
        dproduct = both_sides(A, copy.reshape(TILE, TILE, -1), half, tiles)
        dproduct = dproduct.reshape(PLACES, -1, self._kernels)
        self._dproducts += np.matmul(windows.transpose(0, 2, 1), dproduct, out=self._dproduct)

    def _cut(self, y: np.ndarray) -> np.ndarray:
        """A view (n, down, 4, across, 4, K) of images (n, 4 down, 4 across, K)."""
        return y.reshape(len(y), self._down, TILE, self._across, TILE, self._kernels)

    @cached_property
    def _transformed_weight(self) -> np.ndarray:
        """U = G g G^T: (36, C, K)."""
        g = np.ascontiguousarray(self._weight).reshape(KERNEL, KERNEL, -1)
        return both_sides(G, g).reshape(PLACES, self._channels, self._kernels)

    @cached_property
    def _dproducts(self) -> np.ndarray:
        """dU, the sum over all tiles so far."""
        return np.zeros((PLACES, self._channels, self._kernels), np.float32)

    @cached_property
    def _dproduct(self) -> np.ndarray:
        return np.empty_like(self._dproducts)

    @cached_property
    def _whole_y(self) -> np.ndarray:
        """(n, 4 down, 4 across, K): y in whole tiles."""
        shape = (self.images, self._down * TILE, self._across * TILE, self._kernels)
        return np.zeros(shape, np.float32)

    @cached_property
    def _whole_dy(self) -> np.ndarray:
        """The same for dy: beyond the edges of dy it stays zero."""
        return np.zeros_like(self._whole_y)
