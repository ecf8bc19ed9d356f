"""Layers that make images smaller, or images of volumes."""

from ministn.errors import check_count
from ministn.layers.layer import WithoutParameters
from ministn.ops.max_pool2d import check_windows


class MaxPool2d(WithoutParameters):
    """Max pooling of size x size pixels, every ``stride`` pixels: (N, H, W, C) -> (N, h, w, C).

    h = (H - size) // stride + 1, and w likewise. stride: None for windows that tile the image.
    """

    operation = "max_pool2d"

    def __init__(self, path: str, size: int = 2, stride: int | None = None) -> None:
        self.size, self.stride = check_windows(size, stride)
        super().__init__(path, size=self.size, stride=self.stride)


class AvgPool2d(WithoutParameters):
    """Average pooling of size x size pixels: (N, H, W, C) -> (N, H // size, W // size, C)."""

    operation = "avg_pool2d"

    def __init__(self, path: str, size: int = 2) -> None:
        self.size = check_count("size", size)
        super().__init__(path, size=self.size)


class AvgPool3d(AvgPool2d):
    """Of size^3 voxels: (N, D, H, W) -> (N, D // size, H // size, W // size)."""

    operation = "avg_pool3d"


class Projection(WithoutParameters):
    """The mean of volumes along their depth, as images: (N, D, H, W) -> (N, H, W, 1)."""

    operation = "projection"
