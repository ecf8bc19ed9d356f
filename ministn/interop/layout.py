"""Arrays in the order in which PyTorch and ONNX keep them: channels first, outputs first.

    maps             (N, H, W, C)        there (N, C, H, W)
    convolution      (kh, kw, C, K)      there (K, C, kh, kw)
    dense            (D, K)              there (K, D)
    dense, behind maps that were flattened: (H W C, K), there (K, C H W)

since a flatten goes through the axes in their order, here with the channels last. Each is a reshape
and an exchange of axes, and so is the way back.
"""

from typing import Any, NamedTuple

Maps = tuple[int, int, int]  # (H, W, C)


class Layout(NamedTuple):
    """An array of ours is cut into ``split``, whose axes are put in the order ``axes``, and what
    they make is of ``shape`` there.
    """

    split: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def there(self, array: Any) -> Any:
        """Of ours theirs."""
        return array.reshape(self.split).transpose(self.axes).reshape(self.shape)

    def back(self, array: Any, shape: tuple[int, ...]) -> Any:
        """Of theirs ours, of this shape."""
        cut = array.reshape([self.split[axis] for axis in self.axes])
        order = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return cut.transpose(order).reshape(shape)


def as_it_is(*shape: int) -> Layout:
    """Of a bias, say."""
    return Layout(shape, tuple(range(len(shape))), shape)


def convolution(height: int, width: int, channels: int, kernels: int) -> Layout:
    """Of a weight (height, width, channels, kernels)."""
    return Layout(
        (height, width, channels, kernels), (3, 2, 0, 1), (kernels, channels, height, width)
    )


def dense(features: int, outputs: int, maps: Maps | None = None) -> Layout:
    """Of a weight (features, outputs), the features being flattened maps if any are given."""
    if maps is None:
        return Layout((features, outputs), (1, 0), (outputs, features))
    height, width, channels = maps
    return Layout((height * width, channels, outputs), (2, 1, 0), (outputs, features))
