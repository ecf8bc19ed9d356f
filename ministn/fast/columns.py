"""Columns (im2col) of a few images at a time, in a workspace small enough to stay in cache."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from itertools import product

import numpy as np

from ministn.fast.winograd import shaped
from ministn.ops.conv2d import convolved_size

# The columns of one block of images. Above the L2 cache of a core (1/2 to 2 MiB) they are slow to
# read back, far below it the calls for each block show: 1/4 MiB and 8 MiB cost about 10 % more.
BLOCK_BYTES = 2**20


class Convolution(ABC):
    """The workspace for images of one shape (H, W, C) and one weight; all blocks of a batch use it.

    Fill ``image[:n]``, n <= ``images``, then ``run(n, ...)``; the next block overwrites it.
    ``margin``: rows and columns of zeros on each side of an image. ``pool``: side p of the windows
    that are pooled afterwards, 1 for none. The output comes in p x p parts, one for each place in a
    window, so that what is compared lies apart in the same order; what fills no window is left out.
    """

    image: np.ndarray  # (images, H, W, C)
    images: int  # in a block
    size: tuple[int, int]  # (h, w): windows of the output

    @abstractmethod
    def forward(self, n: int, dy: np.ndarray | None = None) -> np.ndarray:
        """The convolution of image[:n], (p, p, n, h, w, K), until the next call.

        What dy, of the same shape, gives to the weight is added to dweight.
        """

    @abstractmethod
    def backward(self, n: int, dy: np.ndarray, dx: np.ndarray | None = None) -> None:
        """Add to dweight what dy gives, and write into dx (n, H, W, C) what it gives to image[:n].

        By columns dx is for p = 1.
        """

    @abstractmethod
    def dweight(self) -> np.ndarray:
        """(kh, kw, C, K): the weight's gradient from every dy so far."""

    def blocks(self, batch: int) -> Iterator[tuple[slice, int]]:
        """The batch in slices of at most ``images``, each with its length n."""
        for start in range(0, batch, self.images):
            stop = min(start + self.images, batch)
            yield slice(start, stop), stop - start


class Columns(Convolution):
    """The convolution as a matrix product: for a kernel of any size."""

    def __init__(
        self,
        batch: int,
        shape: tuple[int, ...],
        weight: np.ndarray,
        margin: tuple[int, int],
        stride: int = 1,
        pool: int = 1,
    ) -> None:
        height, width, channels = shape
        above, left = margin
        kh, kw, _, kernels = weight.shape
        framed = (height + 2 * above, width + 2 * left)
        h, w = convolved_size((batch, *shape), weight.shape, margin, stride)
        h, w = self.size = h // pool, w // pool
        values = h * w * pool**2 * kh * kw * channels
        self.images = max(1, min(batch, BLOCK_BYTES // max(1, 4 * values)))
        padded = np.zeros((self.images, *framed, channels), np.float32)
        self.image = padded[:, above : above + height, left : left + width]
        # A view (p, p, n, h, w, C, kh, kw), which shows whatever is later written into image.
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(1, 2))
        windows = windows[:, ::stride, ::stride][:, : h * pool, : w * pool]
        windows = windows.reshape(self.images, h, pool, w, pool, channels, kh, kw)
        self._windows = windows.transpose(2, 4, 0, 1, 3, 5, 6, 7)
        self._memory = np.empty(self.images * values, np.float32)
        self._shape, self._margin, self._stride = weight.shape, margin, stride
        self._weight = weight.reshape(kh * kw * channels, kernels)
        self._dweight = np.zeros(self._weight.shape, np.float32)

    def forward(self, n: int, dy: np.ndarray | None = None) -> np.ndarray:
        """columns of x @ weight"""
        matrix = self.matrix(n)
        y = shaped(self._y, (len(matrix), self._weight.shape[1]))
        np.matmul(matrix, self._weight, out=y)
        if dy is not None:
            self._correlate(matrix, dy)
        return y.reshape(*self._windows.shape[:2], n, *self.size, self._shape[3])

    def backward(self, n: int, dy: np.ndarray, dx: np.ndarray | None = None) -> None:
        """dweight = (columns of x)^T @ dy,    dcolumns = dy @ weight^T, added up to dx"""
        dy = self._correlate(self.matrix(n), dy)
        if dx is not None:
            assert self._windows.shape[:2] == (1, 1), "dx is for outputs in one part"
            kh, kw, channels, _ = self._shape
            if channels > self.size[1]:
                dcolumns = (dy @ self._weight.T).reshape(n, *self.size, kh, kw, channels)
                windows = dcolumns.transpose(3, 4, 0, 1, 2, 5)
            else:
                dcolumns = (self._weight @ dy.T).reshape(kh, kw, channels, n, *self.size)
                windows = dcolumns.transpose(0, 1, 3, 4, 5, 2)
            dx[...] = add_windows(windows, dx.shape[1:], self._margin, self._stride)

    def _correlate(self, matrix: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """Add to dweight, and return dy as a matrix."""
        dy = dy.reshape(len(matrix), self._shape[3])
        self._dweight += matrix.T @ dy
        return dy

    def dweight(self) -> np.ndarray:
        return self._dweight.reshape(self._shape)

    @cached_property
    def _y(self) -> np.ndarray:
        """Memory for the result of a block."""
        pool, _, *pixels = self._windows.shape[:5]
        return np.empty(pool**2 * math.prod(pixels) * self._shape[3], np.float32)

    def matrix(self, n: int) -> np.ndarray:
        """(p p n h w, kh kw C): for each output pixel one row, the window of image it sees."""
        windows = self._windows[:, :, :n]
        *pixels, channels, kh, kw = windows.shape
        memory = self._memory[: windows.size]
        if channels == 1:
            # A window's row is only kw numbers long, so a loop over windows would cost more than
            # the copying. Transposed, whole rows of the image are copied; BLAS takes either.
            memory.reshape(kh, kw, *pixels)[...] = np.moveaxis(
                windows[..., 0, :, :], (-2, -1), (0, 1)
            )
            return memory.reshape(kh * kw, math.prod(pixels)).T
        memory.reshape(*pixels, kh, kw, channels)[...] = np.moveaxis(windows, 5, -1)
        return memory.reshape(math.prod(pixels), kh * kw * channels)


def add_windows(
    windows: np.ndarray, shape: tuple[int, ...], margin: tuple[int, int], stride: int = 1
) -> np.ndarray:
    """windows (kh, kw, n, h, w, C) -> their sum (n, H, W, C), each where it was cut out.

    The gradient of cutting out windows. One addition for each p, q, of rows of pixels where these
    lie side by side in memory, else of channels: NumPy is slow where the rows are short. Where
    there are fewer pixels than places in a window, one for each pixel, of whole windows.
    """
    kh, kw, n, h, w, channels = windows.shape
    height, width, _ = shape
    above, left = margin
    framed = height + 2 * above, width + 2 * left
    if windows.strides[5] == windows.itemsize:
        padded = np.zeros((n, *framed, channels), windows.dtype)
    else:
        padded = np.zeros((channels, n, *framed), windows.dtype).transpose(1, 2, 3, 0)
    if h * w < kh * kw:
        for i, j in product(range(h), range(w)):
            window = padded[:, stride * i : stride * i + kh, stride * j : stride * j + kw]
            window += windows[:, :, :, i, j].transpose(2, 0, 1, 3)
    else:
        for p, q in product(range(kh), range(kw)):
            padded[:, p : p + stride * h : stride, q : q + stride * w : stride] += windows[p, q]
    return padded[:, above : above + height, left : left + width]
