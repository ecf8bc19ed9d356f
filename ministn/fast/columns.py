"""Columns (im2col) of a few images at a time, in a workspace small enough to stay in cache."""

from collections.abc import Iterator

import numpy as np

# The columns of one block of images. Above the L2 cache of a core (1/2 to 2 MiB) they are slow to
# read back, far below it the calls for each block show: 1/4 MiB and 8 MiB cost about 10 % more.
BLOCK_BYTES = 2**20


class Columns:
    """The workspace for images of one shape (H, W, C); every block of a batch uses it again.

    Fill ``image[:n]``, n <= ``images``. Then ``matrix(n)`` is (n h w, kh kw C): for each output
    pixel one row, the window of its image, framed by ``margin`` zeros, that it looks at. The
    next call overwrites it.
    """

    def __init__(
        self, batch: int, shape: tuple[int, ...], kernel: tuple[int, int], margin: tuple[int, int]
    ) -> None:
        height, width, channels = shape
        above, left = margin
        framed = (height + 2 * above, width + 2 * left)
        self.size = (framed[0] - kernel[0] + 1, framed[1] - kernel[1] + 1)  # (h, w)
        values = self.size[0] * self.size[1] * kernel[0] * kernel[1] * channels
        self.images = max(1, min(batch, BLOCK_BYTES // (4 * values)))
        padded = np.zeros((self.images, *framed, channels), np.float32)
        self.image = padded[:, above : above + height, left : left + width]
        # A view (n, h, w, C, kh, kw), which shows whatever is later written into image.
        self._windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
        self._memory = np.empty(self.images * values, np.float32)

    def matrix(self, n: int) -> np.ndarray:
        windows = self._windows[:n]
        _, h, w, channels, kh, kw = windows.shape
        memory = self._memory[: windows.size]
        if channels == 1:
            # A window's row is only kw numbers long, so a loop over windows would cost more than
            # the copying. Transposed, whole rows of the image are copied; BLAS takes either.
            memory.reshape(kh, kw, n, h, w)[...] = windows[:, :, :, 0].transpose(3, 4, 0, 1, 2)
            return memory.reshape(kh * kw, n * h * w).T
        memory.reshape(n, h, w, kh, kw, channels)[...] = windows.transpose(0, 1, 2, 4, 5, 3)
        return memory.reshape(n * h * w, kh * kw * channels)

    def blocks(self, batch: int) -> Iterator[tuple[slice, int]]:
        """The batch in slices of at most ``images``, each with its length n."""
        for start in range(0, batch, self.images):
            stop = min(start + self.images, batch)
            yield slice(start, stop), stop - start


def add_windows(windows: np.ndarray, shape: tuple[int, ...], margin: tuple[int, int]) -> np.ndarray:
    """windows (kh, kw, C, n, h, w) -> their sum (n, H, W, C), each where it was cut out.

    The gradient of cutting out windows. One addition of whole image rows for each p, q.
    """
    kh, kw, channels, n, h, w = windows.shape
    height, width, _ = shape
    above, left = margin
    padded = np.zeros((channels, n, height + 2 * above, width + 2 * left), windows.dtype)
    for p in range(kh):
        for q in range(kw):
            padded[:, :, p : p + h, q : q + w] += windows[p, q]
    return padded[:, :, above : above + height, left : left + width].transpose(1, 2, 3, 0)
