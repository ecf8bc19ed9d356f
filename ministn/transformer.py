"""The spatial transformer: localisation network + grid generator + sampler (STN section 3)."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import device_of
from ministn.initializers import ZEROS, Constant
from ministn.layers import Dense, Sequential
from ministn.parameter import Parameter, unique
from ministn.randomness import Step
from ministn.samplers import BILINEAR, Sampler, SamplerCache
from ministn.transforms import AFFINE, Transform


class Warp(NamedTuple):
    """What going back through sampler and grid generator needs."""

    grid_cache: Any
    sampler_cache: SamplerCache


class TransformerCache(NamedTuple):
    """theta (N, 2, 3), which whoever trains may want to watch, and what the parts kept.

    Of a transform that is not affine it is the affine transform nearest to it: Transform.affine.
    """

    theta: np.ndarray
    localisation: Any
    warp: Warp


def regression_layer(path: str, in_features: int, transform: Transform = AFFINE) -> Dense:
    """The last layer of a localisation network: (N, D) -> theta (N, P), at first the identity.

    STN section 3.1 calls for it; the weights begin at zero, so every image gets the identity.
    """
    return Dense(
        path,
        in_features,
        len(transform.identity),
        initial=ZEROS,
        initial_bias=Constant(transform.identity),
    )


class SpatialTransformer:
    """Warps its input by the transform that a localisation network predicts from it.

    It is a layer, see layers.py: it may stand anywhere in a Sequential, and several one after
    another.

    localisation: (N, H, W, C) -> (N, P). size: (h, w) of the output. transform: what the P numbers
    mean, see transforms.py. sampler: how the input is read between its pixels and outside, see
    samplers.py. path: its name in messages.

    Volumes (N, D, H, W) are transformed to size (d, h, w) by Affine3d and Sampler("trilinear").

    forward: U (N, H, W, C) -> V (N, h, w, C). The input has two uses, as what is looked at and as
    what is sampled; where ``need_dx`` is true its gradient is the sum of both.
    """

    def __init__(
        self,
        localisation: Sequential,
        size: tuple[int, ...],
        *,
        transform: Transform = AFFINE,
        sampler: Sampler = BILINEAR,
        path: str = "transformer",
    ) -> None:
        self.path = path
        self.localisation = localisation
        self.size = size
        self.transform = transform
        self.sampler = sampler

    def theta(self, x: np.ndarray) -> np.ndarray:
        """theta = f_loc(U), (N, P), in evaluation mode."""
        return self.localisation.forward(x)[0]

    def warp(self, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """V: ``x`` sampled at T_theta(G), in evaluation mode. theta: (N, P) in any shape."""
        return self._warp(x, theta.reshape(len(theta), -1))[0]

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """V, and theta (N, 2, 3) as TransformerCache has it, in evaluation mode."""
        theta = self.theta(x)
        y, grid, _ = self._warp(x, theta)
        return y, self.transform.affine(theta, grid)

    def _warp(self, x: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, Warp]:
        """V, T_theta(G) and what going back needs."""
        grid, grid_cache = self.transform.forward(theta, self.sampler.grid_size(self.size))
        y, sampler_cache = self.sampler.forward(x, grid)
        return y, grid, Warp(grid_cache, sampler_cache)

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, TransformerCache | None]:
        theta, localisation_cache = self.localisation.forward(x, step)
        y, grid, warp = self._warp(x, theta)
        if step is None:
            return y, None
        affine = self.transform.affine(theta, grid)
        return y, TransformerCache(affine, localisation_cache, warp)

    def backward(
        self, dy: np.ndarray, cache: TransformerCache, need_dx: bool = True
    ) -> np.ndarray | None:
        warp = cache.warp
        dx_sampled, dgrid = self.sampler.backward(dy, warp.sampler_cache, need_dx)
        dtheta = self.transform.backward(dgrid, warp.grid_cache)
        dx_looked_at = self.localisation.backward(dtheta, cache.localisation, need_dx)
        return dx_sampled + dx_looked_at if need_dx else None

    def parameters(self) -> list[Parameter]:
        return self.localisation.parameters() + self.transform.parameters()

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of every layer of the localisation network, and V last."""
        theta = x
        for layer in self.localisation.layers:
            theta, _ = layer.forward(theta, step)
            yield f"{layer.path} in the localisation network", theta
        yield self.path, self.warp(x, theta)


class ParallelCache(NamedTuple):
    """theta (N, 2, 3) of the first transformer, as TransformerCache has it, and all caches."""

    theta: np.ndarray
    each: Sequence[TransformerCache]


class Parallel:
    """Several transformers of one input, their outputs joined along the channels: STN section 3.4.

    U (N, H, W, C) -> (N, h, w, K C) of K transformers, the first one's channels first. It is a
    layer as each of them is. What is watched while it learns is the first one's theta.

    Raises ValueError unless the transformers' outputs have one size.
    """

    def __init__(self, *transformers: SpatialTransformer, path: str = "transformers") -> None:
        if len({tuple(transformer.size) for transformer in transformers}) != 1:
            sizes = ", ".join(str(transformer.size) for transformer in transformers) or "none"
            raise ValueError(f"transformers must have outputs of one size, got {sizes}")
        self.path = path
        self.transformers = transformers

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, ParallelCache | None]:
        warped, caches = zip(*(t.forward(x, step) for t in self.transformers), strict=True)
        return _joined(warped), None if step is None else ParallelCache(caches[0].theta, caches)

    def backward(
        self, dy: np.ndarray, cache: ParallelCache, need_dx: bool = True
    ) -> np.ndarray | None:
        parts = _parted(dy, len(self.transformers))
        gradients: list[Any] = [
            transformer.backward(part, own, need_dx)
            for transformer, part, own in zip(self.transformers, parts, cache.each, strict=True)
        ]
        return sum(gradients[1:], start=gradients[0]) if need_dx else None

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The joined outputs and the first transformer's theta (N, 2, 3), in evaluation mode."""
        warped, thetas = zip(*(t.predict(x) for t in self.transformers), strict=True)
        return _joined(warped), thetas[0]

    def parameters(self) -> list[Parameter]:
        return unique(p for t in self.transformers for p in t.parameters())

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of every transformer's layers and of each transformer, all joined last."""
        warped = []
        for transformer in self.transformers:
            for path, y in transformer.outputs(x, step):
                yield path, y
            warped.append(y)
        yield self.path, _joined(warped)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """K arrays (N, h, w, C) -> (N, h, w, K C)."""
    *rows, channels = parts[0].shape
    y = _empty_like(parts[0], (*rows, len(parts), channels))
    for k, part in enumerate(parts):
        y[..., k, :] = part
    return y.reshape(*rows, len(parts) * channels)


def _parted(y: np.ndarray, count: int) -> list[np.ndarray]:
    """The opposite: copies, for kernels take no views."""
    *rows, channels = y.shape
    parts = [_empty_like(y, (*rows, channels // count)) for _ in range(count)]
    for k, part in enumerate(parts):
        part[...] = y.reshape(*rows, count, channels // count)[..., k, :]
    return parts


def _empty_like(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape, of the type and on the engine of ``x``."""
    device = device_of(x)
    return np.empty(shape, x.dtype) if device is None else device.empty(shape, x.dtype)
