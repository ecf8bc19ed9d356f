"""Two-dimensional convolution (in the networks' sense: the kernel is not flipped).

    y_nijk = bias_k + sum_p sum_q sum_c x_n,(si+p),(sj+q),c weight_pqck    x padded with zeros

s is the stride. Written as one matrix product: each output pixel's window of x becomes a row of
``columns``.

    columns (N h w, kh kw C) @ weight (kh kw C, K) -> y (N h w, K)

    dweight = columns^T dy
    dbias_k = sum_nij dy_nijk
    dx_nuvc = sum_p sum_q sum_k dy_n,(u-p),(v-q),k weight_pqck             s = 1

x_uv meets weight_pq on its way to y_(u-p),(v-q), hence the last line. Counting p and q backwards
turns u - p into u + p', so dx is again a convolution: of dy, padded so that every product is met,
with the kernel flipped in both directions and its two channel axes exchanged. A larger stride
leaves out all but every s-th row and column of what stride 1 gives: their dy are zeros.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_count


class Cache(NamedTuple):
    x: np.ndarray  # the columns, kh kw times larger than x, are made again from it
    weight: np.ndarray
    margin: tuple[int, int]  # rows and columns of zeros put on each side of x
    stride: int
    has_bias: bool


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    padding: str = "same",
    stride: int = 1,
) -> tuple[np.ndarray, Cache]:
    """x (N, H, W, C), weight (kh, kw, C, K), bias (K) or None -> y (N, h, w, K).

    padding "same" keeps h = H and w = W; "valid" has no padding: h = H - kh + 1. Kernels are odd.
    With stride s, h is ceil(H / s) or ceil((H - kh + 1) / s).
    Raises TypeError for a wrong dtype, ValueError for a wrong shape or as checked_margin does.
    """
    sizes = check_arrays(**conv_arrays(x, weight, bias))
    margin = checked_margin(sizes, padding, stride=stride)
    stride = int(stride)
    y = _convolve(x, weight, margin, stride)
    if bias is not None:
        y += bias
    return y, Cache(x, weight, margin, stride, bias is not None)


def conv2d_backward(
    dy: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """dy (N, h, w, K) -> dx (N, H, W, C) or None, dweight (kh, kw, C, K), dbias (K) or None."""
    x, weight, margin, stride, has_bias = cache
    kh, kw, _, kernels = weight.shape
    height, width = convolved_size(x.shape, weight.shape, margin)
    h, w = convolved_size(x.shape, weight.shape, margin, stride)
    check_arrays(x=(x, "N H W C"), dy=(dy, f"N {h} {w} {kernels}"))

    columns = _columns(x, (kh, kw), margin, stride)
    dweight = (columns.T @ dy.reshape(len(columns), kernels)).reshape(weight.shape)
    dbias = dy.sum(axis=(0, 1, 2)) if has_bias else None
    dx = None
    if need_dx:
        flipped = weight[::-1, ::-1].transpose(0, 1, 3, 2)  # (kh, kw, K, C)
        every = np.zeros((len(x), height, width, kernels), dy.dtype)
        every[:, ::stride, ::stride] = dy
        dx = _convolve(every, flipped, (kh - 1 - margin[0], kw - 1 - margin[1]))
    return dx, dweight, dbias


def conv_arrays(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> dict[str, tuple]:
    """What check_arrays is asked of a convolution."""
    arrays = {"weight": (weight, "kh kw C K")}
    arrays |= {} if bias is None else {"bias": (bias, "K")}
    return arrays | {"x": (x, "N H W C")}  # last: of a layer's arrays it is the one to blame


def check_padding(padding: str) -> None:
    """Raise ValueError for one that there is not."""
    if padding not in ("same", "valid"):
        raise ValueError(f"padding must be 'same' or 'valid', got {padding!r}")


def checked_margin(
    sizes: dict[str, int], padding: str, window: int = 1, stride: int = 1
) -> tuple[int, int]:
    """Rows and columns of zeros that a convolution puts on each side of x.

    sizes: of H, W, kh, kw, C and K. window: side of the windows that are pooled afterwards, 1 for
    none. Raises ValueError for a wrong padding or stride, an even kernel or an x too small to fill
    one window.
    """
    kh, kw = sizes["kh"], sizes["kw"]
    check_padding(padding)
    stride = check_count("stride", stride)
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"weight must have an odd height and width, got {kh} by {kw}")
    margin = (kh // 2, kw // 2) if padding == "same" else (0, 0)
    more = (window - 1) * stride
    height, width = kh - 2 * margin[0] + more, kw - 2 * margin[1] + more
    if sizes["H"] < height or sizes["W"] < width:
        raise ValueError(
            f"x must be at least {height} by {width} pixels, got {sizes['H']} by {sizes['W']}"
        )
    return margin


def convolved_size(
    shape: tuple[int, ...], weight: tuple[int, ...], margin: tuple[int, int], stride: int = 1
) -> tuple[int, int]:
    """(h, w) of what images of shape (N, H, W, C) become with a weight (kh, kw, C, K)."""
    h, w = (shape[axis + 1] + 2 * margin[axis] - weight[axis] for axis in (0, 1))
    return h // stride + 1, w // stride + 1


def _convolve(
    x: np.ndarray, weight: np.ndarray, margin: tuple[int, int], stride: int = 1
) -> np.ndarray:
    """x (N, H, W, C) with a margin of zeros, weight (kh, kw, C, K) -> (N, h, w, K)."""
    kh, kw, channels, kernels = weight.shape
    h, w = convolved_size(x.shape, weight.shape, margin, stride)
    columns = _columns(x, (kh, kw), margin, stride)
    return (columns @ weight.reshape(kh * kw * channels, kernels)).reshape(len(x), h, w, kernels)


def _columns(
    x: np.ndarray, kernel: tuple[int, int], margin: tuple[int, int], stride: int
) -> np.ndarray:
    """(N h w, kh kw C): one row for each output pixel, the window of x that it looks at."""
    padded = np.pad(x, ((0, 0), (margin[0],) * 2, (margin[1],) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    n, h, w, channels, kh, kw = windows.shape
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(n * h * w, kh * kw * channels)
