"""Which kernels compute a convolution or a dense layer: by shape, and by the precision in force."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ministn.backend import Array, Device
from ministn.cuda import conv_exact, conv_first, conv_tf32
from ministn.errors import UserError

PRECISIONS = ("fp32", "tf32")
TF32_CAPABILITY = 80

_precision = "fp32"


class Convolution(Protocol):
    """A module of kernels for the convolution block (ops/conv_block.py), its three passes.

    x (N, H, W, C), weight (kh, kw, C, K), bias (K), y, dy and gate (N, h, w, K): contiguous, their
    shapes already checked. margin: rows and columns of zeros on each side of x. gate: uint8, see
    gate.cuh.
    """

    def forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        margin: tuple[int, int],
        pool: bool,
        slope: float = 0.0,
    ) -> tuple[Array, Array]:
        """y and gate. slope: of the activation below zero, 0 of ReLU, 1 of none.

        But with ReLU every gate is open, and it is the caller who multiplies dy by the slope.
        """

    def input_gradient(
        self,
        dy: Array,
        gate: Array,
        weight: Array,
        margin: tuple[int, int],
        size: tuple[int, int],
        pool: bool,
    ) -> Array:
        """dx (N, H, W, C) for size = (H, W)."""

    def weight_gradient(
        self,
        x: Array,
        dy: Array,
        gate: Array,
        kernel: tuple[int, int],
        margin: tuple[int, int],
        pool: bool,
    ) -> tuple[Array, Array]:
        """dweight (kh, kw, C, K) for kernel = (kh, kw), dbias (K)."""


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Inside this block "fp32" computes products in float32, "tf32" on tensor cores.

    TF32 rounds the factors of a product to 10 bits after the first; sums stay float32.
    """
    global _precision
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    before, _precision = _precision, name
    try:
        yield
    finally:
        _precision = before


def check_precision(name: str, device: Device | None) -> None:
    """Raise UserError unless products can be computed so."""
    if name == "tf32" and device is None:
        raise UserError("precision tf32 needs --gpu: the CPU computes in fp32")
    if name == "tf32" and device is not None and device.capability < TF32_CAPABILITY:
        raise UserError(
            f"precision tf32 needs a GPU of compute capability {TF32_CAPABILITY / 10}, "
            f"{device.name} has {device.capability / 10}: use fp32"
        )


def convolution(
    kernel: tuple[int, int], margin: tuple[int, int], channels: int, kernels: int
) -> Convolution:
    """The shape table: the module whose kernels compute this convolution.

    3x3 of one channel                                       conv_first    float32
    3x3 "same", channels and kernels multiples of 32, tf32   conv_tf32     tensor cores
    everything else                                          conv_exact    float32
    """
    if kernel == (3, 3) and channels == 1 and margin in ((0, 0), (1, 1)):
        return conv_first
    whole_tiles = channels % 32 == 0 and kernels % 32 == 0
    if _precision == "tf32" and kernel == (3, 3) and margin == (1, 1) and whole_tiles:
        return conv_tf32
    return conv_exact


def dense_on_tensor_cores() -> bool:
    """Whether a dense layer runs on our tensor core kernels rather than on cuBLAS."""
    return _precision == "tf32"
