"""How many threads the linear algebra library uses while something is computed.

The products of a step are too small for several: on cores that others use too they wait for each
other, and a step takes ten times as long. Sums are made in the order that the threads decide.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


@contextmanager
def limited(threads: int = 1) -> Iterator[None]:
    """Inside this block, or the function it decorates, so many; afterwards as many as before."""
    with _libraries(len(sys.modules)).limit(limits=threads):
        yield


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """Those that are loaded: looking for them takes as long as a small step, so it is done again
    only where there are other modules than before, which may have brought others.
    """
    return ThreadpoolController()
