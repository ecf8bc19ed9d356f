"""Ways to break a backward pass that is right, and to put the broken one in its place.

Each takes what to change and returns a function from the right backward pass to the wrong one.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from ministn.ops.sampling import framed

Function = Callable[..., Any]
How = Callable[[Function], Function]


def result(change: Function, position: int = 0) -> How:
    """Change the gradient that is returned, or the one at ``position`` of several."""

    def how(right: Function) -> Function:
        def wrong(*arguments: Any, **options: Any) -> Any:
            found = right(*arguments, **options)
            if not isinstance(found, tuple):
                return change(found)
            return _with(found, position, change(found[position]))

        return wrong

    return how


def incoming(change: Function) -> How:
    """Change dy."""
    return lambda right: lambda dy, *rest, **options: right(change(dy), *rest, **options)


def first(axis: int, count: int = 1) -> How:
    """Only the first ``count`` entries of dy along ``axis`` take part."""

    def change(dy: np.ndarray) -> np.ndarray:
        part = np.zeros_like(dy)
        keep = (slice(None),) * axis + (slice(0, count),)
        part[keep] = dy[keep]
        return part

    return incoming(change)


def cached(**changes: Function) -> How:
    """Change fields of the cache."""

    def change(argument: Any) -> Any:
        if not hasattr(argument, "_replace"):
            return argument
        fields = {name: field(getattr(argument, name)) for name, field in changes.items()}
        return argument._replace(**fields)

    return lambda right: lambda *arguments: right(*map(change, arguments))


def only(position: int, how: How) -> How:
    """Break one of several gradients and leave the others right."""

    def broken(right: Function) -> Function:
        def wrong(*arguments: Any, **options: Any) -> Any:
            found = right(*arguments, **options)
            return _with(found, position, how(right)(*arguments, **options)[position])

        return wrong

    return broken


def _with(found: tuple, position: int, changed: Any) -> tuple:
    return (*found[:position], changed, *found[position + 1 :])


def skipped(right: Function) -> Function:
    """The operation passes dy on as if it were not there."""
    return lambda dy, cache: dy


def overwriting(right: Function) -> Function:
    """Points that share a pixel overwrite each other's gradient, as image[n, m] = dy would."""

    def wrong(dy: np.ndarray, cache: Any, need_dimage: bool = True) -> Any:
        dimage, dgrid = right(dy, cache)
        for point in np.ndindex(dy.shape[:3]):
            alone = np.zeros_like(dy)
            alone[point] = dy[point]
            share, _ = right(alone, cache)
            dimage = np.where(share != 0, share, dimage)
        return dimage, dgrid

    return wrong


def other_border(right: Function) -> Function:
    """Points outside the image are treated as the other border would have them."""

    def wrong(dy: np.ndarray, cache: Any, need_dimage: bool = True) -> Any:
        if cache.border == "zeros":
            return right(dy, cache._replace(image=cache.image[:, 1:-1, 1:-1], border="nearest"))
        return right(dy, cache._replace(image=framed(cache.image, "zeros", 0), border="zeros"))

    return wrong


def truncated(right: Function) -> Function:
    """A GRU's states hand nothing back to the state before."""

    def wrong(dy: np.ndarray, cache: Any, *need_dx: bool) -> Any:
        alone = [
            right(dy[:, [t]], cache._replace(y=cache.y[:, [t]], moments=[moment]), *need_dx)
            for t, moment in enumerate(cache.moments)
        ]
        return tuple(map(sum, zip(*alone, strict=True)))

    return wrong


def last_use_only(right: Function) -> Function:
    """grad = instead of grad +=: of two uses, the one that goes backward last is left."""

    def wrong(layer: Any, *arguments: Any, **options: Any) -> Any:
        for parameter in layer.parameters():
            parameter.grad.fill(0)
        return right(layer, *arguments, **options)

    return wrong


def first_use_only(right: Function) -> Function:
    """A parameter that has a gradient already gets no more."""

    def wrong(layer: Any, *arguments: Any, **options: Any) -> Any:
        before = [(parameter, parameter.grad.copy()) for parameter in layer.parameters()]
        dx = right(layer, *arguments, **options)
        for parameter, grad in before:
            if grad.any():
                parameter.grad[...] = grad
        return dx

    return wrong


def run_twice(right: Function) -> Function:
    """The backward pass runs twice, and adds up twice."""

    def wrong(*arguments: Any, **options: Any) -> Any:
        right(*arguments, **options)
        return right(*arguments, **options)

    return wrong


def arriving(change: Function) -> How:
    """Change the dy that a layer's backward pass is given."""
    return lambda right: (
        lambda layer, dy, *rest, **options: right(layer, change(dy), *rest, **options)
    )


# The gradient is lost on its way to this layer, as where need_dx is forgotten.
nothing_arrives = arriving(lambda dy: 0 * dy)


def passed_on(right: Function) -> Function:
    """A layer passes dy on as if it were not there."""
    return lambda layer, dy, *rest, **options: dy


def nothing_returned(right: Function) -> Function:
    """The layer gives no gradient to its input."""
    return lambda *arguments, **options: 0 * right(*arguments, **options)


def channels_first(right: Function) -> Function:
    """Flattened values go back as they would in the layout (N, C, H, W)."""

    def wrong(layer: Any, dy: np.ndarray, cache: Any, need_dx: bool = True) -> Any:
        n, height, width, channels = cache
        return dy.reshape(n, channels, height, width).transpose(0, 2, 3, 1)

    return wrong


def located(target: str) -> tuple[Any, str]:
    """Whose attribute "module.function" or "module.Class.method" of ministn is, and its name.

    The module may lie in a folder: "folder.module.function".
    """
    *modules, name = target.split(".")
    kind = modules.pop() if modules[-1][0].isupper() else None
    owner = import_module(".".join(["ministn", *modules]))
    return getattr(owner, kind) if kind else owner, name


@contextmanager
def replaced(target: str, how: How) -> Iterator[None]:
    """Break a function or method of ministn, as ``located`` finds it, while the block runs.

    A function is replaced in every module that has imported it.
    """
    owner, name = located(target)
    owners = [owner]
    if not isinstance(owner, type):
        loaded = [m for key, m in sys.modules.items() if key.startswith("ministn.")]
        owners = [m for m in loaded if getattr(m, name, None) is getattr(owner, name)]
    right = getattr(owners[0], name)
    own = [vars(one).get(name) for one in owners]  # None where a class inherits it
    wrong = how(right)
    for one in owners:
        setattr(one, name, wrong)
    try:
        yield
    finally:
        for one, before in zip(owners, own, strict=True):
            delattr(one, name) if before is None else setattr(one, name, before)
