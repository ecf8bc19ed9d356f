"""Transformers side by side, one that hands theta on (STN section 3.4), one that looks T times."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import joined, parted, to_cpu
from ministn.errors import check_arrays, check_count, check_kind
from ministn.layers import Layer, Sequential
from ministn.ops.dropout import rows
from ministn.parameter import Parameter, unique
from ministn.randomness import Step
from ministn.shapes import INSIDE
from ministn.transformer.spatial import (
    FRAME,
    Attended,
    SpatialTransformer,
    TransformerCache,
    Warp,
)


class ParallelCache(NamedTuple):
    """What each transformer kept."""

    each: Sequence[TransformerCache]


class Parallel(Layer):
    """Several transformers of one input, their outputs joined along the channels: STN section 3.4.

    U (N, H, W, C) -> (N, h, w, K C) of K transformers, the first one's channels first. It is a
    layer as each of them is. Each is watched, and attention is measured for each.

    Raises TypeError for anything but SpatialTransformers, ValueError unless their outputs have one
    size.
    """

    def __init__(self, *transformers: SpatialTransformer, path: str = "transformers") -> None:
        for transformer in transformers:
            check_kind("a transformer in parallel", transformer, SpatialTransformer)
        if len({tuple(transformer.size) for transformer in transformers}) != 1:
            sizes = ", ".join(str(transformer.size) for transformer in transformers) or "none"
            raise ValueError(f"transformers must have outputs of one size, got {sizes}")
        super().__init__(path)
        self.at_input = transformers

    @property
    def transformers(self) -> Sequence[SpatialTransformer]:
        return self.at_input

    def thetas(self, cache: ParallelCache) -> Sequence[np.ndarray]:
        return [kept.theta for kept in cache.each]

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, ParallelCache | None]:
        warped, caches = zip(*(t.forward(x, step) for t in self.at_input), strict=True)
        return joined(warped), None if step is None else ParallelCache(caches)

    def backward(
        self, dy: np.ndarray, cache: ParallelCache, need_dx: bool = True
    ) -> np.ndarray | None:
        count = len(self.at_input)
        check_arrays(dy=(dy, "N h w C"))
        if dy.shape[-1] % count:
            raise ValueError(f"dy must have channels of {count} transformers, got {dy.shape[-1]}")
        parts = parted(dy, [dy.shape[-1] // count] * count)
        gradients: list[Any] = [
            transformer.backward(part, own, need_dx)
            for transformer, part, own in zip(self.at_input, parts, cache.each, strict=True)
        ]
        return sum(gradients[1:], start=gradients[0]) if need_dx else None

    def theta(self, x: np.ndarray) -> np.ndarray:
        """(N, K P), the theta of one transformer after the other, in evaluation mode."""
        return joined([t.theta(x) for t in self.at_input])

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, list[Attended]]:
        """The joined outputs, and where the transformers looked, in evaluation mode."""
        warped, looks = zip(*(t.predict(x) for t in self.at_input), strict=True)
        return joined(warped), [one for looked in looks for one in looked]

    def at_work(self, x: np.ndarray) -> Iterator[tuple["Parallel", np.ndarray]]:
        yield self, x

    def parameters(self) -> list[Parameter]:
        return unique(p for t in self.at_input for p in t.parameters())

    def outside_localisation(self) -> list[Parameter]:
        return []

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of every transformer's layers and of each transformer, all joined last."""
        warped = []
        for transformer in self.at_input:
            for path, y in transformer.outputs(x, step):
                yield path, y
            warped.append(y)
        yield self.path, joined(warped)


class _Read(Layer):
    """A transformer, and layers that read what it shows: they are part of this layer."""

    def __init__(self, transformer: SpatialTransformer, layers: Sequence[Layer], path: str) -> None:
        check_kind("transformer", transformer, SpatialTransformer)
        super().__init__(path)
        self.transformer = transformer
        self.reader = Sequential(*layers)

    def parameters(self) -> list[Parameter]:
        return unique(self.transformer.parameters() + self.reader.parameters())

    def outside_localisation(self) -> list[Parameter]:
        return self.reader.outside_localisation()

    def fixed_parameters(self) -> list[Parameter]:
        return self.reader.fixed_parameters()


class HandOnCache(NamedTuple):
    """What the parts kept."""

    transformer: TransformerCache
    reader: Any


class HandOn(_Read):
    """A transformer that hands theta on, past the layers that read V: STN section 3.4.

    U (N, H, W, C) -> (N, D + P): what ``layers`` make of V, (N, D), and beside it theta, since "it
    explicitly encodes the transformation, and hence the pose, of a region or object". It is a
    layer as the transformer itself is. theta has two uses:

        y = [layers(V), theta],    dtheta = what comes through the grid + the last P columns of dy

    Raises TypeError for a transformer that is not a SpatialTransformer, as Parallel is not; in
    forward ValueError where the layers make anything but (N, D): the last one should flatten.
    """

    def __init__(
        self, transformer: SpatialTransformer, *layers: Layer, path: str = "theta handed on"
    ) -> None:
        super().__init__(transformer, layers, path)

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, HandOnCache | None]:
        warped, theta, cache = self.transformer.forward_with_theta(x, step)
        features, reader_cache = self.reader.forward(warped, step)
        check_arrays(features=(features, "N D"))
        y = joined([features, theta])
        return y, None if cache is None else HandOnCache(cache, reader_cache)

    def backward(
        self, dy: np.ndarray, cache: HandOnCache, need_dx: bool = True
    ) -> np.ndarray | None:
        handed = len(self.transformer.transform.identity)
        check_arrays(dy=(dy, "N K"))
        dfeatures, dtheta = parted(dy, [dy.shape[-1] - handed, handed])
        dwarped = self.reader.backward(dfeatures, cache.reader)
        assert dwarped is not None
        return self.transformer.backward(dwarped, cache.transformer, need_dx, dtheta)

    @property
    def transformers(self) -> Sequence[SpatialTransformer]:
        """The one that hands theta on, and those among the layers that read."""
        return [self.transformer, *self.reader.transformers]

    @property
    def at_input(self) -> Sequence[SpatialTransformer]:
        """Those that look at the layer's own input: the one that hands theta on."""
        return (self.transformer,)

    def thetas(self, cache: HandOnCache) -> Sequence[np.ndarray]:
        return [cache.transformer.theta, *self.reader.thetas(cache.reader)]

    def theta(self, x: np.ndarray) -> np.ndarray:
        """The transformer's theta (N, P), in evaluation mode."""
        return self.transformer.theta(x)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, list[Attended]]:
        """y, and where the transformers looked, in evaluation mode."""
        warped, looked = self.transformer.predict(x)
        features, others = self.reader.predict(warped)
        return joined([features, self.theta(x)]), looked + others

    def at_work(self, x: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        yield self, x
        yield from self.reader.at_work(self.transformer.forward(x)[0])

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of the transformer's layers and V, of the layers that read it, and y."""
        yield from self.transformer.outputs(x, step)
        features, theta, _ = self.transformer.forward_with_theta(x, step)
        for path, y in self.reader.outputs(features, step):
            yield path, y
            features = y
        yield self.path, joined([features, theta])


class GlimpsesCache(NamedTuple):
    """theta (N T, 2, 3), as TransformerCache has it, and what the parts kept."""

    theta: np.ndarray
    localisation: Any
    warp: Warp
    reader: Any


class Glimpses(_Read):
    """A transformer that looks T times at one input, and layers that read each crop: RNN-SPN 3.2.

    U (N, H, W, C) -> y (N, T, K). The localisation network has a recurrent state, for T steps, and
    gives a theta of each:

        c = f_conv(U),    h_t = GRU(c, h_t-1),    theta_t = g(h_t)        RNN-SPN (5) to (7)
        V_t = U at T_theta_t(G),    y_t = layers(V_t)

    The layers are the same for all t, and read all N T crops as one batch, so that their gradient
    is the sum of T uses. U has T + 1 uses, as what is sampled and as what is looked at; where
    ``need_dx`` is true its gradient is the sum of these. Without layers y is (N, T, h, w, C).

    transformer: its localisation network gives (N T, P), the T thetas of the first image first, as
    a GRU and a Dense behind it do. Each glimpse is watched, and attention is measured for each,
    as if there were T transformers. starts: (T, P), the thetas that it begins with where the
    glimpses have one each, see SpatialTransformer.

    Raises TypeError for a transformer that is not a SpatialTransformer, as Parallel is not, and
    ValueError for ``glimpses``, T, that are not a whole number of at least 1; in forward ValueError
    where there are not so many thetas.
    """

    def __init__(
        self,
        transformer: SpatialTransformer,
        *layers: Layer,
        glimpses: int,
        path: str = "glimpses",
        starts: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__(transformer, layers, path)
        self.glimpses = check_count("glimpses", glimpses)
        self._at_input = (transformer,) * self.glimpses
        if starts is not None:
            if np.shape(starts)[:1] != (self.glimpses,):
                raise ValueError(
                    f"starts must be {self.glimpses} thetas, got shape {np.shape(starts)}"
                )
            self._at_input = tuple(transformer.starting(start) for start in starts)

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, GlimpsesCache | None]:
        theta, localisation_cache = self.transformer.localisation.forward(x, step)
        crops, grid, warp = self._warp(x, theta)
        features, reader_cache = self.reader.forward(crops, step and self._of_crops(step))
        y = features.reshape(len(x), self.glimpses, *features.shape[1:])
        if step is None:
            return y, None
        affine = self.transformer.transform.affine(theta, grid)
        return y, GlimpsesCache(affine, localisation_cache, warp, reader_cache)

    def backward(
        self, dy: np.ndarray, cache: GlimpsesCache, need_dx: bool = True
    ) -> np.ndarray | None:
        transformer, warp = self.transformer, cache.warp
        check_arrays(dy=(dy, rows(dy).replace("N", f"{len(cache.theta) // self.glimpses}", 1)))
        dfeatures = dy.reshape(len(dy) * self.glimpses, *dy.shape[2:])
        dcrops = self.reader.backward(dfeatures, cache.reader)
        assert dcrops is not None
        dx_sampled, dgrid = transformer.sampler.backward(
            self._stacked(dcrops), warp.sampler_cache, need_dx
        )
        dtheta = transformer.transform.backward(self._apart(dgrid), warp.grid_cache)
        dx_looked_at = transformer.localisation.backward(dtheta, cache.localisation, need_dx)
        return dx_sampled + dx_looked_at if need_dx else None

    def _warp(self, x: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, Warp]:
        """V (N T, h, w, C), T_theta(G) and what going back needs.

        The grids of an image, one below the other, are one tall grid: so all T read it where it
        lies, and the sampler adds up what they give it on the way back.
        """
        transform, sampler = self.transformer.transform, self.transformer.sampler
        check_arrays(theta=(theta, f"{len(x) * self.glimpses} {len(transform.identity)}"))
        grid, grid_cache = transform.forward(theta, sampler.grid_size(self.transformer.size))
        y, sampler_cache = sampler.forward(x, self._stacked(grid))
        return self._apart(y), grid, Warp(grid_cache, sampler_cache)

    def _stacked(self, rows: np.ndarray) -> np.ndarray:
        """(N T, h, ..) -> (N, T h, ..)."""
        count, height, *rest = rows.shape
        return rows.reshape(count // self.glimpses, self.glimpses * height, *rest)

    def _apart(self, stacked: np.ndarray) -> np.ndarray:
        """(N, T h, ..) -> (N T, h, ..)."""
        count, height, *rest = stacked.shape
        return stacked.reshape(count * self.glimpses, height // self.glimpses, *rest)

    def _each(self, rows: np.ndarray) -> list[np.ndarray]:
        """(N T, ..) -> (N, ..) of each glimpse."""
        return [rows[t :: self.glimpses] for t in range(self.glimpses)]

    def _of_crops(self, step: Step) -> Step:
        """The step as the layers see it: each image is T rows of their batch."""
        return replace(step, first_row=step.first_row * self.glimpses)

    @property
    def transformers(self) -> Sequence[SpatialTransformer]:
        """The transformer, once for each glimpse, and so those among the layers."""
        inside = [one for one in self.reader.transformers for _ in range(self.glimpses)]
        return [*self.at_input, *inside]

    @property
    def at_input(self) -> Sequence[SpatialTransformer]:
        """Those that look at the layer's own input: the transformer, once for each glimpse."""
        return self._at_input

    def thetas(self, cache: GlimpsesCache) -> Sequence[np.ndarray]:
        found = cache.theta, *self.reader.thetas(cache.reader)
        return [each for theta in found for each in self._each(theta)]

    def theta(self, x: np.ndarray) -> np.ndarray:
        """(N, T P), theta of one glimpse after the other, in evaluation mode."""
        theta = self.transformer.theta(x)
        return theta.reshape(len(x), self.glimpses * theta.shape[1])

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, list[Attended]]:
        """y, where each glimpse was, and where the layers' transformers looked in it."""
        theta = self.transformer.theta(x)
        crops, grid, _ = self._warp(x, theta)
        features, others = self.reader.predict(crops)
        transform = self.transformer.transform
        pose = transform.resized(theta, grid, FRAME)
        fields = np.tile(self.transformer.field, (len(theta), 1))
        looks = Attended(to_cpu(transform.affine(theta, grid)), to_cpu(pose), fields), *others
        each = [
            Attended(*parts) for look in looks for parts in zip(*map(self._each, look), strict=True)
        ]
        return features.reshape(len(x), self.glimpses, *features.shape[1:]), each

    def at_work(self, x: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        yield self, x
        yield from self.reader.at_work(self._warp(x, self.transformer.theta(x))[0])

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of the localisation network's layers, V, of the layers, and y."""
        for path, theta in self.transformer.localisation.outputs(x, step):
            yield path + INSIDE, theta
        y, _, _ = self._warp(x, theta)
        yield self.transformer.path, y
        for path, found in self.reader.outputs(y, self._of_crops(step)):
            yield path, found
            y = found
        yield self.path, y.reshape(len(x), self.glimpses, *y.shape[1:])


Front = SpatialTransformer | Parallel | HandOn | Glimpses  # what may stand in front of a network
