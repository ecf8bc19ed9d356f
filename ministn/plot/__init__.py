"""Figures: transformers at work, and from records only: attention, its GIF, results, curves.

Markers, line styles and filling say the same as the colours, for print in grey.
"""

from ministn.plot.animation import attention_gif
from ministn.plot.epochs import COLLAPSE, curves, learning_curves, overlap_figure
from ministn.plot.seeds import seeds_figure
from ministn.plot.shared import LOOKS
from ministn.plot.transformers import attention_figure, draw_transformer, grid_figure

__all__ = [
    "COLLAPSE",
    "LOOKS",
    "attention_figure",
    "attention_gif",
    "curves",
    "draw_transformer",
    "grid_figure",
    "learning_curves",
    "overlap_figure",
    "seeds_figure",
]
