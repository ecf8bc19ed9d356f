"""Images at another size, without a transformer that could move."""

from typing import Any

import numpy as np

from ministn.backend import device_of
from ministn.errors import check_arrays, check_kind
from ministn.layers import Layer
from ministn.ops.affine_grid import check_size
from ministn.randomness import Step
from ministn.transformer.samplers import BILINEAR, Sampler
from ministn.transformer.transforms import AFFINE


class Resize(Layer):
    """What a transformer with an output of this size shows while its theta is the identity.

    U (N, H, W, C) -> V (N, h, w, C). size: (h, w); raises as check_size does. sampler: how U is
    read, see samplers.py; TypeError for what is none.
    """

    def __init__(self, path: str, size: tuple[int, int], sampler: Sampler = BILINEAR) -> None:
        super().__init__(path)
        check_kind("sampler", sampler, Sampler)
        self.size = check_size(size)
        self.sampler = sampler

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, "N H W C"))
        device, shape = device_of(x), (len(x), len(AFFINE.identity))
        theta = np.zeros(shape, x.dtype) if device is None else device.zeros(shape, x.dtype)
        theta[:, 0] = theta[:, 4] = 1
        grid, _ = AFFINE.forward(theta, self.sampler.grid_size(self.size))
        y, cache = self.sampler.forward(x, grid)
        return y, None if step is None else cache

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        return self.sampler.backward(dy, cache)[0] if need_dx else None
