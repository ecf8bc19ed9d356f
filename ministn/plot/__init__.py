"""Figures: transformers at work, and from a record: attention, and its GIF.

Markers, line styles and filling say the same as the colours, for print in grey.
"""

from ministn.plot import backend  # noqa: F401  (before all that imports Matplotlib)
from ministn.plot.animation import attention_gif
from ministn.plot.transformers import (
    Examples,
    attention_figure,
    draw,
    draw_transformer,
    grid_figure,
)

__all__ = [
    "Examples",
    "attention_figure",
    "attention_gif",
    "draw",
    "draw_transformer",
    "grid_figure",
]
