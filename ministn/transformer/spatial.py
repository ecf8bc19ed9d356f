"""The spatial transformer: localisation network + grid generator + sampler (STN section 3)."""

from collections.abc import Iterator, Sequence
from copy import copy
from fractions import Fraction
from math import inf, prod
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import to_cpu
from ministn.errors import check_arrays, check_kind, check_list
from ministn.initializers import ZEROS, Constant
from ministn.layers import Dense, Layer
from ministn.ops.affine_grid import check_size
from ministn.ops.dropout import rows
from ministn.parameter import Parameter
from ministn.randomness import Step
from ministn.shapes import INSIDE
from ministn.transformer.samplers import BILINEAR, Sampler, SamplerCache
from ministn.transformer.transforms import AFFINE, Transform

FRAME = (4, 4)  # points of the grid by which transformers are judged


class Warp(NamedTuple):
    """What going back through sampler and grid generator needs."""

    grid_cache: Any
    sampler_cache: SamplerCache


class Attended(NamedTuple):
    """Where a transformer looks in its input, in NumPy.

    theta: (N, 2, 3), as TransformerCache has it. grid: (N, 4, 4, 2), what T_theta makes of a
    regular grid of 4x4 points: what metrics/pose.py compares with a pose. field: (N, 2), the
    transformer's, for each image.
    """

    theta: np.ndarray
    grid: np.ndarray
    field: np.ndarray


class TransformerCache(NamedTuple):
    """theta (N, 2, 3), which whoever trains may want to watch, and what the parts kept.

    Of a transform that is not affine it is the affine transform nearest to it: Transform.affine.
    """

    theta: np.ndarray
    localisation: Any
    warp: Warp


def regression_layer(
    path: str,
    in_features: int | None,
    transform: Transform = AFFINE,
    start: Sequence[float] | None = None,
) -> Dense:
    """The last layer of a localisation network: (N, D) -> theta (N, P), at first the identity.

    STN section 3.1 calls for it; the weights begin at zero, so every image gets the identity, or
    ``start``, P numbers.
    """
    check_kind("transform", transform, Transform)
    identity = transform.identity
    first = identity if start is None else check_list("start", start, len(identity))
    return Dense(path, in_features, len(first), initial=ZEROS, initial_bias=Constant(first))


def downsampled(size: tuple[int, ...], factor: float | Sequence[float]) -> tuple[int, ...]:
    """floor(H / d), and so for each axis of a size (H, W): what a network's next layers are given.

    factor: d, one for all axes or one for each, (per height, per width); fractions as they are
    written, so that 1.1 makes 30 of 33. What is less than a pixel becomes 0.

    Raises TypeError for what is no number, ValueError for one that is not above 0 and finite, for
    another number of them, or for a size as check_size does.
    """
    size = check_size(size, "d h w" if np.size(size) == 3 else "h w")
    one = isinstance(factor, Real) or not np.ndim(factor)
    factors: list[Any] = [factor] * len(size) if one else list(factor)  # type: ignore[arg-type]
    for each in factors:
        if not isinstance(each, Real) or isinstance(each, bool | np.bool_):
            raise TypeError(f"downsample must be a number or one for each axis, got {factor!r}")
        if not 0 < float(each) < inf:
            raise ValueError(f"downsample must be a number above 0, got {each}")
    if len(factors) != len(size):
        raise ValueError(f"downsample must be {len(size)} numbers for size {size}, got {factor!r}")
    # In binary 33 / 1.1 is a little less than 30.
    exact = [Fraction(str(each)) for each in factors]
    return tuple(side // d for side, d in zip(size, exact, strict=True))


class SpatialTransformer(Layer):
    """Warps its input by the transform that a localisation network predicts from it.

    It is a layer, see layers/: it may stand anywhere in a Sequential, and several one after
    another.

    localisation: (N, H, W, C) -> (N, P). size: (h, w) of the output; with downsample it is the
    input's (H, W), and ``size`` of the transformer, (floor(H / d), floor(W / d)), the output's: see
    downsampled. transform: what the P numbers
    mean, see transforms/. sampler: how the input is read between its pixels and outside, see
    samplers.py. path: its name in messages. start: the theta that the localisation network begins
    with, if it is not the transform's identity; for figures. field: how much of the image its input
    spans, from the first cell's centre to the last one's, in x and y: what a shift of 1 there is in
    the image; for measures. 1 where the input is the image.

    Volumes (N, D, H, W) are transformed to size (d, h, w) by Affine3d and Sampler("trilinear").

    forward: U (N, H, W, C) -> V (N, h, w, C). The input has two uses, as what is looked at and as
    what is sampled; where ``need_dx`` is true its gradient is the sum of both.

    Raises TypeError for a part that is none, as a class is not; ValueError for a size that is
    not whole numbers of at least 1, one for each axis, a start that is not P numbers, or a field
    that is not two; either
    as downsampled does, and ValueError where that leaves nothing.
    """

    def __init__(
        self,
        localisation: Layer,
        size: tuple[int, ...],
        *,
        downsample: float | Sequence[float] = 1,
        transform: Transform = AFFINE,
        sampler: Sampler = BILINEAR,
        path: str = "transformer",
        start: Sequence[float] | None = None,
        field: Sequence[float] = (1.0, 1.0),
    ) -> None:
        super().__init__(path)
        check_kind("localisation", localisation, Layer)
        check_kind("transform", transform, Transform)
        check_kind("sampler", sampler, Sampler)
        identity = transform.identity
        self.start = identity if start is None else check_list("start", start, len(identity))
        self.field = check_list("field", field, 2)
        self.localisation = localisation
        whole = check_size(size, transform.axes)
        self.size = downsampled(whole, downsample)
        if min(self.size) < 1:
            raise ValueError(f"downsample {downsample} leaves nothing of size {whole}")
        self.transform = transform
        self.sampler = sampler

    def starting(self, start: Sequence[float]) -> "SpatialTransformer":
        """The same transformer, sharing all that it is made of, with another start."""
        twin = copy(self)
        twin.start = check_list("start", start, len(self.transform.identity))
        return twin

    @property
    def transformers(self) -> Sequence["SpatialTransformer"]:
        """Itself."""
        return (self,)

    @property
    def at_input(self) -> Sequence["SpatialTransformer"]:
        """Those that look at the layer's own input: itself."""
        return (self,)

    def thetas(self, cache: TransformerCache) -> Sequence[np.ndarray]:
        return (cache.theta,)

    def theta(self, x: np.ndarray) -> np.ndarray:
        """theta = f_loc(U), (N, P), in evaluation mode."""
        return self.localisation.forward(x)[0]

    def warp(self, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """V: ``x`` sampled at T_theta(G), in evaluation mode. theta: (N, P) in any shape.

        Raises ValueError for more or fewer than the images of x.
        """
        check_arrays(x=(x, "N H W C"), theta=(theta, rows(theta)))
        return self._warp(x, theta.reshape(len(theta), prod(theta.shape[1:])))[0]

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, list[Attended]]:
        """V, and where the transformer looked, in evaluation mode."""
        theta = self.theta(x)
        y, grid, _ = self._warp(x, theta)
        pose = self.transform.resized(theta, grid, FRAME)
        affine = self.transform.affine(theta, grid)
        return y, [Attended(to_cpu(affine), to_cpu(pose), np.tile(self.field, (len(x), 1)))]

    def at_work(self, x: np.ndarray) -> Iterator[tuple["SpatialTransformer", np.ndarray]]:
        yield self, x

    def _warp(self, x: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, Warp]:
        """V, T_theta(G) and what going back needs."""
        grid, grid_cache = self.transform.forward(theta, self.sampler.grid_size(self.size))
        y, sampler_cache = self.sampler.forward(x, grid)
        return y, grid, Warp(grid_cache, sampler_cache)

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, TransformerCache | None]:
        y, _, cache = self.forward_with_theta(x, step)
        return y, cache

    def forward_with_theta(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, np.ndarray, TransformerCache | None]:
        """V, theta (N, P), and the cache."""
        theta, localisation_cache = self.localisation.forward(x, step)
        y, grid, warp = self._warp(x, theta)
        if step is None:
            return y, theta, None
        affine = self.transform.affine(theta, grid)
        return y, theta, TransformerCache(affine, localisation_cache, warp)

    def backward(
        self,
        dy: np.ndarray,
        cache: TransformerCache,
        need_dx: bool = True,
        dtheta: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """dy (N, h, w, C) -> dx. dtheta (N, P): from theta's other use, where it has one."""
        warp = cache.warp
        dx_sampled, dgrid = self.sampler.backward(dy, warp.sampler_cache, need_dx)
        dtheta_sampled = self.transform.backward(dgrid, warp.grid_cache)
        dtheta = dtheta_sampled if dtheta is None else dtheta_sampled + dtheta
        dx_looked_at = self.localisation.backward(dtheta, cache.localisation, need_dx)
        return dx_sampled + dx_looked_at if need_dx else None

    def parameters(self) -> list[Parameter]:
        return self.localisation.parameters() + self.transform.parameters()

    def outside_localisation(self) -> list[Parameter]:
        return []

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of every layer of the localisation network, and V last."""
        for path, theta in self.localisation.outputs(x, step):
            yield path + INSIDE, theta
        yield self.path, self.warp(x, theta)
