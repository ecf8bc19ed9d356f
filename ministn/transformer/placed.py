"""Where a transformer stands in a classifier, and what its localisation network looks with.

Finnveden, Jansson & Lindeberg 2020, Figures 3 and 4, for a transformer after X layers:

    C     image -> layers[:X] -> transformer -> layers[X:]    of feature maps
    DL    image -> transformer -> layers                      of the image
    SL    image -> transformer -> layers                      of the image

In C the localisation network is a head that reads the map which layers[:X] make of the image: it
looks at what the transformer samples. In DL, deeper localisation, it has copies of layers[:X] below
its head, with parameters of their own; in SL, shared localisation, it has layers[:X] themselves,
whose gradient is the sum of both uses. With X = 0 the three are one network.

Several depths are several looks, each with a head of its own: in C a transformer for each, of the
map at its depth; in DL and SL a transformer whose theta is multiplied up from look to look, see
iterated.py. A depth that is given again looks again with the same head, in all three. So a look may
be added to a trained network, which has the same parameters then.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, TypeVar

from ministn.errors import check_kind, is_whole
from ministn.layers import Layer, Sequential
from ministn.ops.affine_grid import check_size
from ministn.parameter import Parameter
from ministn.shapes import met
from ministn.transformer.iterated import Iterated
from ministn.transformer.samplers import BILINEAR, Sampler
from ministn.transformer.spatial import SpatialTransformer

Made = TypeVar("Made", bound=Layer)

PLACES = "C", "DL", "SL"
ENLARGED = 48  # pixels, a multiple of most strides

Shape = tuple[int, ...]  # (h, w, c) of a map
# The shape of a map and a path -> layers that make theta (N, 6) of it, with names below that path.
Head = Callable[[Shape, str], Sequence[Layer]]


def placed(
    place: str,
    layers: Sequence[Layer],
    depths: Sequence[int],
    head: Head,
    shape: Shape,
    *,
    downsample: float | Sequence[float] = 1,
    order: str = "right",
    sampler: Sampler = BILINEAR,
) -> tuple[Sequential, SpatialTransformer | None, Shape]:
    """A classifier with a transformer in it, the transformer in front of it if there is one, and
    the images' shape, for which both are.

    They are the arguments of a Network: ``Network(*placed("SL", layers, (1,), head, shape))``.

    place: "C", "DL" or "SL", see above. layers: of the classifier, in order; one of them may be a
    block, a Sequential of several. depths: X of each look, as counted in layers, lowest first.
    head: given the (h, w, c) of a map and a path, such as "localisation1" at depth 1, it returns
    layers that end in a regression_layer; it is called once for each depth. shape: (H, W, C) of the
    images. downsample: of the last transformer's output, see SpatialTransformer; the layers that
    follow must be made for it. order, sampler: of all looks, see Iterated.

    DL's copies are named below the head's path: "localisation1/copy/conv1/weight".

    Raises TypeError for a part that is none; ValueError for another place, no depth or one that is
    beyond the layers or below the one before, for layers that make no map at a depth, and as
    SpatialTransformer and Iterated do.
    """
    if not isinstance(place, str) or place not in PLACES:
        got = repr(place) if isinstance(place, str) else type(place).__name__
        raise ValueError(f"place must be 'C', 'DL' or 'SL', got {got}")
    if not callable(head):
        raise TypeError(f"head must be callable, got {type(head).__name__}")
    check_kind("layers", layers, list, tuple)
    layers = Sequential(*layers).layers
    depths = _ascending(depths, len(layers))
    shapes = {depth: map_shape(layers[:depth], shape) for depth in (0, *depths)}
    networks = {
        depth: Sequential(
            *_below(place, layers[:depth], f"localisation{depth}/copy"),
            *_of_head(head(shapes[depth], f"localisation{depth}")),
        )
        for depth in dict.fromkeys(depths)
    }
    looks: dict[int, list[Layer]] = {}  # by the depth of what is sampled
    for depth in depths:
        looks.setdefault(depth if place == "C" else 0, []).append(networks[depth])
    transformers = {
        depth: SpatialTransformer(
            Iterated(*each, order=order, sampler=sampler),
            shapes[depth][:2],
            downsample=downsample if depth == max(looks) else 1,
            sampler=sampler,
            path=f"transformer{depth}",
            field=field(layers[:depth], shape),
        )
        for depth, each in looks.items()
    }
    front = transformers.pop(0, None)
    parts: list[Layer] = []
    for depth in range(len(layers) + 1):
        parts += [transformers[depth]] if depth in transformers else []
        parts += layers[depth : depth + 1]
    return Sequential(*parts), front, shape


def _of_head(layers: Any) -> Sequence[Layer]:
    check_kind("what head returns", layers, list, tuple)
    return layers


def _below(place: str, layers: Sequence[Layer], owner: str) -> Sequence[Layer]:
    """What a localisation network has below its head, of the layers down to its depth."""
    if place == "C":
        return ()
    return layers if place == "SL" else [fresh(Sequential(*layers), owner)]


def map_shape(layers: Sequence[Layer], shape: Shape) -> Shape:
    """(h, w, c) of the map that layers make of an image of shape (H, W, C).

    Copies of them meet a black one. Raises TypeError for what is no layer,
    ValueError for a shape that is not three whole numbers of at least 1, and for layers that cannot
    have such an image or make no map of it.
    """
    made = check_size(shape, "H W C", "shape")
    if layers:
        *_, (_, made) = met(deepcopy(Sequential(*layers)), shape)
    if len(made) != 3:
        raise ValueError(f"layers must make a map (h, w, c) of an image, got {made}")
    return made


def field(layers: Sequence[Layer], shape: Shape) -> tuple[float, float]:
    """How much of an image of shape (H, W, C) the map spans that layers make of it, in x and y.

    From the centre of the map's first cell to that of its last: as many steps as there are cells
    less one, of as many pixels as a larger image must have for one cell more. Of a map that does
    not grow with the image, and of layers that can have no larger one, as where a transformer is
    among them, it is 1. Raises as map_shape does.
    """
    if not layers:
        return 1.0, 1.0
    cells = map_shape(layers, shape)
    try:
        more = map_shape(layers, (shape[0] + ENLARGED, shape[1] + ENLARGED, shape[2]))
    except ValueError:
        more = cells
    y, x = (
        (now - 1) * ENLARGED / (then - now) / max(side - 1, 1) if then > now else 1.0
        for now, then, side in zip(cells[:2], more[:2], shape[:2], strict=True)
    )
    return x, y


def fresh(layer: Made, owner: str) -> Made:
    """A layer of the same kind that shares nothing with it: its parameters begin anew.

    Their names, and the paths of dropout, are those of the layer below ``owner``:
    "owner/conv1/weight". What the layer shares in itself, as where it has one convolution twice,
    the new one shares, too. Raises TypeError for what is no layer or no name.
    """
    check_kind("layer", layer, Layer)
    check_kind("owner", owner, str)
    own: dict[int, Any] = {
        id(p): Parameter(f"{owner}/{p.name}", p.shape, p.initial)
        for p in layer.parameters() + layer.fixed_parameters()
    }
    made = deepcopy(layer, own)
    for one in _within(made):
        if hasattr(one, "path"):
            one.path = f"{owner}/{one.path}"
    return made


def _within(layer: Layer) -> list[Layer]:
    """The layer and all that are in it, each once."""
    found = {id(layer): layer}
    for value in vars(layer).values():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Layer):
                found |= {id(each): each for each in _within(one)}
    return list(found.values())


def _ascending(depths: Sequence[int], most: int) -> list[int]:
    """The depths as Python's whole numbers."""
    if not isinstance(depths, list | tuple) or not depths or not all(map(is_whole, depths)):
        raise ValueError(f"depths must be whole numbers, at least one of them, got {depths!r}")
    if list(depths) != sorted(depths) or not 0 <= min(depths) <= max(depths) <= most:
        raise ValueError(f"depths must go up, from 0 to {most} layers at most, got {depths!r}")
    return [int(depth) for depth in depths]
