"""theta between this package's convention and PyTorch's default one.

Here -1 and +1 are the *centres* of the first and the last pixel: ``align_corners=True`` in
PyTorch, whose grids and samplers then agree with ours (border "nearest" is its padding_mode
"border", "zeros" is "zeros", "mirror" is "reflection"), values and gradients. They differ in what
is a matter of choice: half-way between two pixels its "nearest" takes the even one, ours the right
one; on the first row and column its "border" has slope 0, ours that of the first cell; its bicubic
kernel has a = -3/4, ours -1/2 unless told otherwise. By default PyTorch has
``align_corners=False``: there -1 and +1 are the outer *edges* of these pixels, half a pixel
further out. Pixel p of an axis of n pixels is at

    g = 2 p / (n - 1) - 1    here,        g' = (2 p + 1) / n - 1    there,

and p taken out of the two, g' = g (n - 1) / n: one centre, two units of length. Both of theta's
sides are in these units. With (h, w) the size of the output and (H, W) that of the input,

    x_s' = theta' (x_t', y_t', 1)    is    x_s = theta (x_t, y_t, 1)    for

    theta = [W/(W-1)    0   ]  theta'  [(w-1)/w     0      0]
            [   0    H/(H-1)]          [   0     (h-1)/h   0]
                                       [   0        0      1]

On an output axis of length 1 the only coordinate is 0 in both conventions, and theta's column for
it counts for nothing: it is left as it is. On an input axis of length 1 all coordinates are the
same pixel here, but not there.
"""

import numpy as np

from ministn.backend import device_of
from ministn.errors import check_arrays
from ministn.ops.affine_grid import check_size

Size = tuple[int, int]


def theta_from_half_pixel(theta: np.ndarray, input_size: Size, output_size: Size) -> np.ndarray:
    """PyTorch's theta (N, 2, 3) for align_corners=False -> ours (N, 2, 3) for the same points.

    input_size: (H, W) of the sampled image, at least (2, 2); output_size: (h, w) of the grid.
    Raises TypeError for a wrong dtype, ValueError for a wrong shape or size.
    """
    return theta * _factors(theta, input_size, output_size)


def theta_to_half_pixel(theta: np.ndarray, input_size: Size, output_size: Size) -> np.ndarray:
    """Our theta (N, 2, 3) -> PyTorch's for align_corners=False, as in theta_from_half_pixel."""
    return theta / _factors(theta, input_size, output_size)


def _factors(theta: np.ndarray, input_size: Size, output_size: Size) -> np.ndarray:
    """(2, 3), on theta's engine: what each entry of PyTorch's theta is multiplied by."""
    check_arrays(theta=(theta, "N 2 3"))
    (height, width), (h, w) = (
        check_size(size, name=name)
        for name, size in (("input_size", input_size), ("output_size", output_size))
    )
    if min(height, width) == 1:
        raise ValueError(f"input_size must be at least (2, 2), got {input_size!r}")
    rows = np.array([width / (width - 1), height / (height - 1)])
    columns = np.array([(w - 1) / w if w > 1 else 1, (h - 1) / h if h > 1 else 1, 1])
    factors = (rows[:, None] * columns).astype(theta.dtype)
    device = device_of(theta)
    return factors if device is None else device.to_gpu(factors)
