"""What shapes pass through layers: told to those that do not know it, and shown in a table.

A layer may be built without the size of its input, None, which follows from the layer before. Its
weight's shape has None there until an image is met.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ministn.ops.affine_grid import check_size
from ministn.randomness import Step

Shape = tuple[int, ...]  # of one image's part of an array

INSIDE = " in the localisation network"  # what Layer.outputs adds to paths


def met(layer: Any, shape: Shape) -> list[tuple[str, Shape]]:
    """(path, shape of the output) of all that is in a layer, for an image of a shape (H, W, C).

    In order of execution, see Layer.outputs. One black image passes through; what has no weights
    yet has none afterwards. Weights that did not know the size of their input know it then.

    Raises ValueError for a shape that is not three whole numbers of at least 1, and, with the
    layer's path, for an input that a layer cannot have; then no weight knows more than before.
    """
    parameters = [*layer.parameters(), *layer.fixed_parameters()]
    before = [dict(vars(parameter)) for parameter in parameters]
    dtypes = {own["data"].dtype for own in before if "data" in own} or {np.dtype(np.float32)}
    image = np.zeros((1, *check_size(shape, "H W C", "shape")), dtypes.pop())
    found = []
    try:
        for parameter, own in zip(parameters, before, strict=True):
            if "data" not in own and None not in parameter.shape:
                parameter.data = np.zeros(parameter.shape, image.dtype)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for path, y in layer.outputs(image, Step(0, 0)):
                found.append((path, y.shape[1:]))
    except BaseException:
        for parameter, own in zip(parameters, before, strict=True):
            vars(parameter).clear()
            vars(parameter).update(own)
        raise
    for parameter, own in zip(parameters, before, strict=True):
        if "data" not in own:
            del parameter.data
    return found


def table(layer: Any, shapes: dict[str, Shape], title: str = "") -> str:
    """All that is in a layer: its path, kind, output, as far as ``shapes`` has it, and parameters.

    What a layer has in it stands below it, further in. A parameter counts where it is first.
    """
    seen: set[int] = set()
    rows = [("layer", "kind", "output", "parameters")]
    for depth, inside, one in walk(layer):
        own = [p for p in one.parameters() if id(p) not in seen]
        below = {id(p) for _, _, other in walk(one) if other is not one for p in other.parameters()}
        own = [p for p in own if id(p) not in below]
        seen |= {id(p) for p in own}
        shared = not own and not below and one.parameters()
        path = getattr(one, "path", "")
        if path:
            shape = shapes.get(path + inside * INSIDE, ())
            count = "shared" if shared else _counted(own) if own else ""
            rows.append(("  " * depth + path, type(one).__name__, "x".join(map(str, shape)), count))
    rows.append(("in all", "", "", _counted(layer.parameters())))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{path:{widths[0]}}  {kind:{widths[1]}}  {shape:>{widths[2]}}  {count:>{widths[3]}}"
        for path, kind, shape, count in rows
    ]
    return "\n".join([title] * bool(title) + [line.rstrip() for line in lines])


def walk(layer: Any, depth: int = 0, inside: int = 0) -> Iterator[tuple[int, int, Any]]:
    """(how far in, in how many localisation networks, layer) of it and of all that it has in it."""
    yield depth, inside, layer
    depth += hasattr(layer, "path")
    for name, held in vars(layer).items():
        for one in held if isinstance(held, (list, tuple)) else [held]:
            if hasattr(one, "outputs"):
                yield from walk(one, depth, inside + (name == "localisation"))


def _counted(parameters: Any) -> str:
    """Numbers in them, as far as they are known."""
    known = all(None not in parameter.shape for parameter in parameters)
    return f"{sum(parameter.size for parameter in parameters):,}" if known else "?"
