"""A run's attention as it learns, as the STN paper's videos show it: a GIF, a frame per epoch."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ministn.errors import check_kind
from ministn.files import write_atomically
from ministn.plot.shared import Record, check_words, named
from ministn.plot.transformers import Examples

DPI = 100
MILLISECONDS = 250  # that a frame is shown
LONG = 1500  # the same of the first and the last
COLOURS = 128  # more are hardly to be told apart, and cost bytes


def attention_gif(record: Record, path: Path, name: Sequence[str] = ()) -> None:
    """Write the grids on the example images, and below what is passed on, after every epoch.

    name: of the network, then what is special about the run; else that of the record's settings.

    The first of the frames, one more than epochs, is the beginning. The same record gives the same
    bytes. Raises UserError for a record of a network without a transformer or without an epoch, and
    when the disk is full or not writable.
    """
    check_kind("path", path, Path)
    check_words("name", name)
    frames = [
        Image.fromarray(pixels) for pixels in _frames(Examples(record), name or named(record))
    ]
    # One palette for all, or colours would change from frame to frame; with white and black in it.
    some = np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]])
    palette = Image.fromarray(some).quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    buffer = BytesIO()
    first.save(
        buffer,
        "GIF",
        save_all=True,
        append_images=rest,
        duration=[LONG, *[MILLISECONDS] * (len(rest) - 1), LONG],
        loop=0,
    )
    write_atomically(path, buffer.getvalue())


def _frames(examples: Examples, name: Sequence[str]) -> Iterator[np.ndarray]:
    """The pixels (h, w, 3) of each frame."""
    record, count = examples.record, len(examples.images)
    rows = 1 + len(examples.transformers)
    figure = Figure(figsize=(1.35 * count, 1.4 * rows + 0.3), dpi=DPI, layout="compressed")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(rows, count, squeeze=False)
    setting = ", ".join([*name, f"seed {record['settings'].seed}"])
    last = len(record["epochs"])
    for epoch in range(last + 1):
        figure.suptitle(f"{setting}: epoch {epoch} of {last}", x=0.01, ha="left")
        view = examples.view(epoch)
        for line, (word, show) in zip(grid, view.panels(plain=False), strict=True):
            for row, axes in enumerate(line):
                axes.clear()
                show(axes, row)
            line[0].set_ylabel(word)
        canvas.draw()
        figure.set_layout_engine("none")  # nothing moves after the first frame
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()
