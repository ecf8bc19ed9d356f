"""How many threads the linear algebra library uses while something is computed.

The products of a step are too small for several: on cores that others use too they wait for each
other, and a step takes ten times as long. Sums are made in the order that the threads decide.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def limited(threads: int = 1) -> Iterator[None]:
    """Inside this block, or the function it decorates, so many; afterwards as many as before."""
    with _libraries().limit(limits=threads):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """Those that are loaded: looking for them takes as long as a small step."""
    return ThreadpoolController()
