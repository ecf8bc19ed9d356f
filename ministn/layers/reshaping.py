"""Layers that give the same numbers another shape."""

from math import prod
from typing import Any

import numpy as np

from ministn.errors import check_arrays, check_count
from ministn.layers.layer import Layer
from ministn.randomness import Step


class Flatten(Layer):
    """(N, H, W, C), or (N, D, H, W), -> (N, H * W * C), rows in the order of the axes."""

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, "N H W C"))
        return x.reshape(len(x), prod(x.shape[1:])), None if step is None else x.shape

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        check_arrays(dy=(dy, f"{cache[0]} {prod(cache[1:])}"))
        return dy.reshape(cache) if need_dx else None


class Reshape(Layer):
    """(N, D) -> (N, *shape), row by row in the order of the axes: say, K scores of T labels.

    Raises ValueError for a shape of other than whole numbers of at least 1.
    """

    def __init__(self, path: str, *shape: int) -> None:
        super().__init__(path)
        self.shape = tuple(check_count("shape", length) for length in shape)

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, f"N {prod(self.shape)}"))
        return x.reshape(len(x), *self.shape), None if step is None else x.shape

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        check_arrays(dy=(dy, " ".join(map(str, (cache[0], *self.shape)))))
        return dy.reshape(cache) if need_dx else None
