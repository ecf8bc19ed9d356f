"""Winograd's convolution (winograd.py) a few tiles at a time."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from ministn.fast.columns import Convolution
from ministn.fast.winograd import both_sides, shaped, transforms
from ministn.ops.conv2d import convolved_size

# Tiles times channels of one block: its transforms, some 50 times that, should stay in a core's L2
# cache. Half and twice that many cost 5 to 20 % more, and so do fewer tiles than these.
BLOCK = 2**12
LEAST_TILES = 64


class Tiles(Convolution):
    """The convolution of images (H, W, C) with a weight (r, r, C, K) by Winograd's transforms.

    window: the side of the windows that they transform. Tiles are a multiple of a pool's windows.
    """

    def __init__(
        self,
        batch: int,
        shape: tuple[int, ...],
        weight: np.ndarray,
        margin: tuple[int, int],
        window: int,
        pool: int = 1,
    ) -> None:
        height, width, channels = shape
        above, left = margin
        kernel, _, _, kernels = self._shape = weight.shape
        self._weight, self._kernels, self._channels = weight, kernels, channels
        self._transforms = transforms(kernel, window)
        self._tile, self._window = tile, window = self._transforms.tile, window
        self._pieces = pieces = -(-kernel // self._transforms.piece)
        self._pool = pool
        h, w = convolved_size((batch, *shape), weight.shape, margin)
        self.size = h // pool, w // pool
        self._down, self._across = (-(-length * pool // tile) for length in self.size)

        tiles = max(LEAST_TILES, BLOCK // max(channels, kernels))
        self.images = max(1, min(batch, tiles // (self._down * self._across)))
        bands = -(-self._down * self._across // tiles)  # of one image, if it is too large
        self._band = -(-self._down // bands)  # rows of tiles in each
        more = pieces - 1  # rows and columns of windows that only the pieces further on see
        rows, columns = (  # of whole windows; an image may have some that no tile needs
            max((tiles + more) * tile + self._transforms.piece - 1, length + 2 * zeros)
            for tiles, length, zeros in zip((self._down, self._across), shape, margin, strict=False)
        )
        tiles, seen = self.images * self._band, self.images * (self._band + more)
        strips = seen * columns * channels * window
        windows = seen * (self._across + more) * channels * window**2
        products = tiles * self._across * max(pieces**2 * channels, kernels) * window**2
        self._memory = np.empty((3, max(strips, windows, products)), np.float32)
        self._empty = True  # dU is

        self._padded = np.zeros((self.images, rows, columns, channels), np.float32)
        self._inside = (slice(above, above + height), slice(left, left + width))
        self.image = self._padded[:, *self._inside]
        # (n, down, window, columns C): the rows of pixels that each row of tiles looks at.
        pixels = self._padded.reshape(self.images, rows, -1)
        pixels = np.lib.stride_tricks.sliding_window_view(pixels, window, axis=1)
        self._strips = pixels[:, ::tile].transpose(0, 1, 3, 2)

    def forward(self, n: int, dy: np.ndarray | None = None) -> np.ndarray:
        if dy is not None:
            self._fill(n, dy)
        for band in self._bands():
            windows = self._windows(n, band)
            self._convolve(windows, self._tiles(self._whole_y, n, band))
            if dy is not None:
                self._correlate(windows, self._spread(self._tiles(self._whole_dy, n, band)))
        h, w = self.size
        return self._whole_y[:, :, :n, :h, :w]

    def backward(self, n: int, dy: np.ndarray, dx: np.ndarray | None = None) -> None:
        self._fill(n, dy)
        if dx is not None:
            self._dpadded[:n] = 0
        for band in self._bands():
            windows = self._windows(n, band)
            dproducts = self._spread(self._tiles(self._whole_dy, n, band))
            self._correlate(windows, dproducts)
            if dx is not None:
                self._return(dproducts, n, band)
        if dx is not None:
            dx[...] = self._dpadded[:n, *self._inside]

    def _bands(self) -> Iterator[slice]:
        """Rows of tiles, of which one workspace holds the transforms."""
        for start in range(0, self._down, self._band):
            yield slice(start, min(start + self._band, self._down))

    def _fill(self, n: int, dy: np.ndarray) -> None:
        """Copy dy into whole tiles."""
        h, w = self.size
        self._whole_dy[:, :, :n, :h, :w] = dy

    def dweight(self) -> np.ndarray:
        """G^T dU G."""
        kernel, kernel, channels, kernels = self._shape
        pieces, side = self._pieces, self._transforms.piece
        products = self._dproducts.reshape(self._window, self._window, -1)
        g = both_sides(self._transforms.G.T, products)
        g = g.reshape(side, side, pieces, pieces, channels, kernels).transpose(2, 0, 3, 1, 4, 5)
        return g.reshape(pieces * side, -1, channels, kernels)[:kernel, :kernel]

    def _windows(self, n: int, band: slice) -> np.ndarray:
        """B^T d B of all windows of a band of tiles: (places, tiles, pieces C).

        B^T from the left while the windows' columns, which overlap, are not yet copied apart.
        """
        apart, transformed, _ = self._memory
        transform = self._transforms.B.T
        strips = self._strips[:n, band.start : band.stop + self._pieces - 1]
        left = np.matmul(transform, strips, out=shaped(transformed, strips.shape))
        left = left.reshape(*left.shape[:3], -1, self._channels).transpose(2, 0, 1, 3, 4)
        across = self._across + self._pieces - 1
        d = shaped(apart, (self._window, *left.shape[:3], across, self._channels))
        for q in range(self._window):
            d[:, q] = left[:, :, :, self._places(q)]
        d = d.reshape(self._window, self._window, -1)
        d = np.matmul(transform, d, out=shaped(transformed, d.shape))
        d = d.reshape(self._window**2, n, -1, across, self._channels)
        return self._seen(d) if self._pieces > 1 else d.reshape(len(d), -1, self._channels)

    def _seen(self, d: np.ndarray) -> np.ndarray:
        """All windows d (places, n, down, across, C) -> those that each tile's pieces see."""
        pieces = np.lib.stride_tricks.sliding_window_view(d, (self._pieces,) * 2, axis=(2, 3))
        pieces = pieces.transpose(0, 1, 2, 3, 5, 6, 4)
        copy = shaped(self._copies, pieces.shape)
        copy[...] = pieces
        return copy.reshape(len(d), -1, self._pieces**2 * self._channels)

    def _convolve(self, windows: np.ndarray, tiles: np.ndarray) -> None:
        """Write A^T [U . windows] A into tiles of y."""
        half, _, products = self._memory
        product = shaped(products, (*windows.shape[:2], self._kernels))
        np.matmul(windows, self._transformed_weight, out=product)
        product = product.reshape(self._window, self._window, -1)
        tiles[...] = both_sides(self._transforms.A.T, product, half, products).reshape(tiles.shape)

    def _spread(self, tiles: np.ndarray) -> np.ndarray:
        """A dy A^T of tiles of dy: (places, tiles, K), in the first workspace."""
        spread, _, half = self._memory
        copy = shaped(spread, tiles.shape)
        copy[...] = tiles
        copy = copy.reshape(self._tile, self._tile, -1)
        dproducts = both_sides(self._transforms.A, copy, half, spread)
        return dproducts.reshape(self._window**2, -1, self._kernels)

    def _correlate(self, windows: np.ndarray, dproducts: np.ndarray) -> None:
        """Add windows^T @ dproducts to dU."""
        windows = windows.transpose(0, 2, 1)
        if self._empty:
            np.matmul(windows, dproducts, out=self._dproducts)
            self._empty = False
        else:
            self._dproducts += np.matmul(windows, dproducts, out=self._dproduct)

    def _return(self, dproducts: np.ndarray, n: int, band: slice) -> None:
        """Add B [U . dproducts] B^T to the padded dx: _windows backwards."""
        spread, left, windows = self._memory
        weight = self._transformed_weight.transpose(0, 2, 1)
        d = shaped(windows, (*dproducts.shape[:2], weight.shape[2]))
        np.matmul(dproducts, weight, out=d)
        if self._pieces > 1:
            d = self._unseen(d, n, left)
        d = d.reshape(self._window, self._window, -1)
        d = np.matmul(self._transforms.B, d, out=shaped(spread, d.shape))
        across = self._across + self._pieces - 1
        d = d.reshape(self._window, self._window, n, -1, across, self._channels)
        strips = shaped(left, (*d.shape[:1], *d.shape[2:4], *self._padded.shape[2:]))
        strips[...] = 0
        for q in range(self._window):
            strips[:, :, :, self._places(q)] += d[:, q]
        flat = strips.reshape(self._window, -1)
        rows = np.matmul(self._transforms.B, flat, out=shaped(spread, flat.shape))
        for p, row in enumerate(rows.reshape(strips.shape)):
            first = p + band.start * self._tile
            self._dpadded[:n, first : first + row.shape[1] * self._tile : self._tile] += row

    def _unseen(self, d: np.ndarray, n: int, memory: np.ndarray) -> np.ndarray:
        """_seen backwards: the sum of what the pieces give to each window."""
        pieces = d.reshape(len(d), n, -1, self._across, self._pieces, self._pieces, self._channels)
        down, across, more = pieces.shape[2], self._across, self._pieces - 1
        windows = shaped(memory, (len(d), n, down + more, across + more, self._channels))
        windows[...] = 0
        for i, j in np.ndindex(self._pieces, self._pieces):
            windows[:, :, i : i + down, j : j + across] += pieces[..., i, j, :]
        return windows

    def _places(self, q: int) -> slice:
        """Column q of every window, in a row of pixels."""
        return slice(q, q + (self._across + self._pieces - 1) * self._tile, self._tile)

    def _tiles(self, whole: np.ndarray, n: int, band: slice) -> np.ndarray:
        """A view of some tiles of y or dy: both sides of a tile, each in two axes, then n, down,
        across and K.
        """
        side = self._tile // self._pool
        shape = (self._pool, self._pool, n, self._down, side, self._across, side, self._kernels)
        tiles = whole[:, :, :n].reshape(shape)[:, :, :, band]
        return tiles.transpose(4, 0, 6, 1, 2, 3, 5, 7)

    @cached_property
    def _transformed_weight(self) -> np.ndarray:
        """U = G g G^T: (places, pieces C, K)."""
        kernel, kernel, channels, kernels = self._shape
        pieces, side = self._pieces, self._transforms.piece
        g = np.zeros((pieces * side, pieces * side, channels, kernels), np.float32)
        g[:kernel, :kernel] = self._weight
        g = g.reshape(pieces, side, pieces, side, channels, kernels).transpose(1, 3, 0, 2, 4, 5)
        u = both_sides(self._transforms.G, g.reshape(side, side, -1))
        return u.reshape(self._window**2, -1, kernels)

    @cached_property
    def _copies(self) -> np.ndarray:
        """Workspace for the windows of all pieces of a tile side by side."""
        return np.empty(self._memory.shape[1], np.float32)

    @cached_property
    def _dproducts(self) -> np.ndarray:
        """dU, the sum over all tiles so far."""
        channels = self._pieces**2 * self._channels
        return np.zeros((self._window**2, channels, self._kernels), np.float32)

    @cached_property
    def _dproduct(self) -> np.ndarray:
        return np.empty_like(self._dproducts)

    @cached_property
    def _whole_y(self) -> np.ndarray:
        """y in whole tiles."""
        side = self._tile // self._pool
        size = self.images, self._down * side, self._across * side
        return np.zeros((self._pool, self._pool, *size, self._kernels), np.float32)

    @cached_property
    def _whole_dy(self) -> np.ndarray:
        """The same for dy: beyond the edges of dy it stays zero."""
        return np.zeros_like(self._whole_y)

    @cached_property
    def _dpadded(self) -> np.ndarray:
        return np.empty_like(self._padded)
