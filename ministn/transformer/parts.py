"""Windows of one image that one localisation network moves, each read by a network of its own.

STN section 4.3 and its appendix: N transformers side by side of which only the place is predicted,
the scale is fixed. "A single localisation network" gives all 2 N numbers, and begins with windows
that tile the image; each window has a part description network, what these make of them is joined:

    t_1 .. t_N = f_loc(U),    V_n = U at s G + t_n,    y = [f_1(V_1) .. f_N(V_N)]

``windows`` is the first half, ``Towers`` the other.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from ministn.backend import joined, parted
from ministn.errors import check_arrays, check_count, check_kind
from ministn.initializers import ZEROS, Constant
from ministn.layers import Dense, Layer, Sequential
from ministn.parameter import Parameter, unique
from ministn.randomness import Step
from ministn.transformer.arrangements import Glimpses
from ministn.transformer.samplers import BILINEAR, Sampler
from ministn.transformer.spatial import SpatialTransformer
from ministn.transformer.thetas import tiled
from ministn.transformer.transforms import Size, Translation


def windows(
    looking: Sequence[Layer],
    in_features: int | None,
    count: int,
    size: Size,
    *,
    scale: float = 0.5,
    sampler: Sampler = BILINEAR,
    path: str = "windows",
) -> Glimpses:
    """The front of such a network: images (N, H, W, C) -> windows (N, count, h, w, C).

    looking: layers of the localisation network, (N, H, W, C) -> (N, in_features); a dense layer of
    2 count numbers follows, whose weights are zero at first and whose biases are thetas.tiled.
    size: (h, w) of each window. scale: of its sides over the image's. sampler: see
    SpatialTransformer. path: in front of parameters' names.

    Raises as Translation, SpatialTransformer and ``tiled`` do.
    """
    starts = tiled(count, scale)
    theta = Dense(
        f"{path}/theta",
        in_features,
        starts.size,
        initial=ZEROS,
        initial_bias=Constant(starts.ravel()),
    )
    transformer = SpatialTransformer(
        Sequential(*looking, theta, Apart(f"{path}/apart", count)),
        size,
        transform=Translation(scale),
        sampler=sampler,
        path=path,
    )
    path = f"{path}/glimpses"
    return Glimpses(transformer, glimpses=count, path=path, starts=starts.tolist())


class Apart(Layer):
    """What a network says of ``count`` things, each in a row of its own: (N, T P) -> (N T, P).

    The first image's come first, as Glimpses wants them.
    """

    def __init__(self, path: str, count: int) -> None:
        super().__init__(path)
        self.count = check_count("count", count)

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, "N D"))
        if x.shape[1] % self.count:
            raise ValueError(f"x must have columns of {self.count} things, got {x.shape[1]}")
        y = x.reshape(len(x) * self.count, x.shape[1] // self.count)
        return y, None if step is None else x.shape

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        images, columns = cache
        check_arrays(dy=(dy, f"{images * self.count} {columns // self.count}"))
        return dy.reshape(cache) if need_dx else None


class Towers(Layer):
    """A network for each of T crops, and what they make of them side by side.

    x (N, T, h, w, C) -> y (N, D_1 + .. + D_T), of networks (N, h, w, C) -> (N, D_t), those of
    ``networks`` in turn. One that is there twice reads two of them.

    Raises TypeError for a network that is no Layer, ValueError where there is none.
    """

    def __init__(self, *networks: Layer, path: str = "towers") -> None:
        super().__init__(path)
        for network in networks:
            check_kind("a network", network, Layer)
        self.networks = networks
        check_count("networks", len(networks))

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, Sequence[Any] | None]:
        each = zip(self.networks, self._crops(x), strict=True)
        found, caches = zip(*(network.forward(crop, step) for network, crop in each), strict=True)
        for features in found:
            check_arrays(features=(features, "N D"))
        y = joined(found)
        return y, None if step is None else ([f.shape[1] for f in found], x.shape, caches)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        widths, shape, caches = cache
        check_arrays(dy=(dy, f"{shape[0]} {sum(widths)}"))
        each = zip(self.networks, parted(dy, widths), caches, strict=True)
        dcrops: list[Any] = [network.backward(part, own, need_dx) for network, part, own in each]
        if not need_dx:
            return None
        flat = [dcrop.reshape(len(dcrop), prod(shape[2:])) for dcrop in dcrops]
        return joined(flat).reshape(shape)

    def _crops(self, x: np.ndarray) -> list[np.ndarray]:
        """(N, T, h, w, C) -> (N, h, w, C) of each network."""
        count = len(self.networks)
        check_arrays(x=(x, f"N {count} h w C"))
        images, _, *crop = x.shape
        flat = x.reshape(images, count * prod(crop))
        return [part.reshape(images, *crop) for part in parted(flat, [prod(crop)] * count)]

    def parameters(self) -> list[Parameter]:
        return unique(p for network in self.networks for p in network.parameters())

    def outside_localisation(self) -> list[Parameter]:
        return unique(p for network in self.networks for p in network.outside_localisation())

    def fixed_parameters(self) -> list[Parameter]:
        return unique(p for network in self.networks for p in network.fixed_parameters())

    @property
    def transformers(self) -> Sequence[Any]:
        return [one for network in self.networks for one in network.transformers]

    def thetas(self, cache: Any) -> Sequence[np.ndarray]:
        each = zip(self.networks, cache[2], strict=True)
        return [theta for network, kept in each for theta in network.thetas(kept)]

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        each = zip(self.networks, self._crops(x), strict=True)
        found, looks = zip(*(network.predict(crop) for network, crop in each), strict=True)
        return joined(found), [one for looked in looks for one in looked]

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of every network's layers, all joined last."""
        found = []
        for network, crop in zip(self.networks, self._crops(x), strict=True):
            for path, y in network.outputs(crop, step):
                yield path, y
            found.append(y)
        yield self.path, joined(found)
