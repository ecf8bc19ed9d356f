"""2x2 max pooling of one block of images."""

import numpy as np


def candidates(z: np.ndarray) -> list[np.ndarray]:
    """Views (n, h // 2, w // 2, ...) of z (n, h, w, ...): each place of every 2x2 window."""
    h, w = z.shape[1] // 2 * 2, z.shape[2] // 2 * 2
    return [z[:, p:h:2, q:w:2] for p in (0, 1) for q in (0, 1)]


def max_pool(z: list[np.ndarray], y: np.ndarray, winner: np.ndarray) -> None:
    """Write the maximum of four candidates z, shaped like y, into y, and its place into winner."""
    first, *others = z
    y[...] = first
    winner[...] = 0
    for place, candidate in enumerate(others, 1):
        better = candidate > y  # strictly: of equal values the first one stays
        np.maximum(winner, better.view(np.uint8) * np.uint8(place), out=winner)
        np.maximum(y, candidate, out=y)
