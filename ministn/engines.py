"""The one place that chooses who computes an operation.

``ops`` is the readable engine: plain NumPy, float32 or float64. ``fast`` holds float32 twins of
the operations that dominate training. A twin has the same name and the same arguments.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ministn import fast, ops

Pair = tuple[Callable[..., Any], Callable[..., Any]]

_only_ops = False


def implementation(name: str, x: np.ndarray) -> Pair:
    """The (forward, backward) pair of operation ``name`` for arrays like ``x``.

    A layer keeps the pair in its cache, so the two never come from different engines.
    """
    use_fast = not _only_ops and x.dtype == np.float32 and hasattr(fast, name)
    engine = fast if use_fast else ops
    return getattr(engine, name), getattr(engine, name + "_backward")


@contextmanager
def readable_only() -> Iterator[None]:
    """Inside this block even float32 arrays go through ``ops``."""
    global _only_ops
    before, _only_ops = _only_ops, True
    try:
        yield
    finally:
        _only_ops = before
