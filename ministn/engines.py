"""The one place that chooses who computes an operation.

``ops`` is the readable engine: plain NumPy, float32 or float64. ``fast`` holds float32 twins of
the operations that dominate training, ``cuda`` float32 twins, for arrays on a GPU, of all that the
papers' tables need. A twin has the same name and the same arguments.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from ministn import cuda, fast, ops
from ministn.backend import device_of
from ministn.errors import UserError

Pair = tuple[Callable[..., Any], Callable[..., Any]]

_only_ops = False


def implementation(name: str, x: Any) -> Pair:
    """The (forward, backward) pair of operation ``name`` for arrays like ``x``.

    A layer keeps the pair in its cache, so the two never come from different engines. Raises
    UserError for an operation that has no twin on the GPU.
    """
    engine = _engine(name, x)
    return getattr(engine, name), getattr(engine, name + "_backward")


def function(name: str, x: Any) -> Callable[..., Any]:
    """What has no backward pass: the function ``name`` for arrays like ``x``."""
    return getattr(_engine(name, x), name)


def _engine(name: str, x: Any) -> ModuleType:
    if device_of(x) is not None:
        if not hasattr(cuda, name):
            raise UserError(f"{name} does not run on a GPU: use another operation, or the CPU")
        return cuda
    use_fast = not _only_ops and getattr(x, "dtype", None) == np.float32 and hasattr(fast, name)
    return fast if use_fast else ops


@contextmanager
def readable_only() -> Iterator[None]:
    """Inside this block even float32 NumPy arrays go through ``ops``."""
    global _only_ops
    before, _only_ops = _only_ops, True
    try:
        yield
    finally:
        _only_ops = before
