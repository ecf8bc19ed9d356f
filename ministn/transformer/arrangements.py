"""Several transformers of one input, and one that hands theta on (STN section 3.4)."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import joined, parted, to_cpu
from ministn.errors import check_arrays, check_kind
from ministn.layers import Layer, Sequential
from ministn.parameter import Parameter, unique
from ministn.randomness import Step
from ministn.transformer.spatial import Attended, SpatialTransformer, TransformerCache


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
        """(N, K P), the theta of one transformer after the other, in evaluation mode, in NumPy."""
        return np.concatenate([to_cpu(t.theta(x)) for t in self.at_input], axis=1)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, list[Attended]]:
        """The joined outputs, and where the transformers looked, in evaluation mode."""
        warped, looks = zip(*(t.predict(x) for t in self.at_input), strict=True)
        return joined(warped), [one for looked in looks for one in looked]

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


class HandOnCache(NamedTuple):
    """What the parts kept."""

    transformer: TransformerCache
    reader: Any


class HandOn(Layer):
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
        check_kind("transformer", transformer, SpatialTransformer)
        super().__init__(path)
        self.transformer = transformer
        self.reader = Sequential(*layers)

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

    def parameters(self) -> list[Parameter]:
        return unique(self.transformer.parameters() + self.reader.parameters())

    def outside_localisation(self) -> list[Parameter]:
        return self.reader.outside_localisation()

    def fixed_parameters(self) -> list[Parameter]:
        return self.reader.fixed_parameters()

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of the transformer's layers and V, of the layers that read it, and y."""
        yield from self.transformer.outputs(x, step)
        features, theta, _ = self.transformer.forward_with_theta(x, step)
        for path, y in self.reader.outputs(features, step):
            yield path, y
            features = y
        yield self.path, joined([features, theta])


Front = SpatialTransformer | Parallel | HandOn  # what may stand in front of a network
