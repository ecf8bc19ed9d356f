"""What the best warp of feature maps leaves, from the record of ../placement_theory.py."""

from math import floor
from typing import Any

import numpy as np

from papers.layout import columns, pipes, wrapped

EXACT, MUCH = 0.001, 0.1  # of the maps' variation

HEADER = ["maps of", "the image is", "as they are", "maps warped", "image warped"]
MEASURES = "as_they_are", "maps_warped", "image_warped"
WORDS = (
    "How far the maps of {digits} unseen digits are from those before the image was changed, as a "
    "share of their variation (sums of squares over the maps' inscribed disc): as they are; after "
    "the one affine warp of them that comes nearest; and where instead the image was warped back. "
    "The classifier was trained on rotated digits ({steps} steps of {batch_size}), of "
    "which it reads {error:.1f} % wrongly."
)


def report(record: dict[str, Any], *, markdown: bool = False) -> str:
    """The table and what it says, for a terminal or Markdown."""
    words = WORDS.format(error=record["test_error"], **record["settings"])
    rows = [
        [f"conv{row['depth']}", row["change"], *(f"{row[name]:.4f}" for name in MEASURES)]
        for row in record["residuals"]
    ]
    command = f"`{record['command']}`" if markdown else record["command"]
    if markdown:
        return "\n\n".join([words, pipes(HEADER, rows), f"**{verdict(record)}**", command])
    text = [*wrapped(words), "", *columns(HEADER, rows), "", *wrapped(verdict(record)), command]
    return "\n".join(text)


def verdict(record: dict[str, Any]) -> str:
    """Whether the paper's theorem shows in these numbers."""
    rows = record["residuals"]
    shifts = [row for row in rows if row["change"].startswith("shifted by one")]
    others = [row for row in rows if row["change"].startswith(("rotated", "scaled"))]
    undone = max(row["maps_warped"] for row in shifts)
    left = min(row["maps_warped"] for row in others)
    times = min(row["maps_warped"] / max(row["image_warped"], 1e-9) for row in others)
    holds = undone < EXACT and left > MUCH and times > 1
    return (
        f"The theorem {'shows' if holds else 'does not show'} in these maps: of a shift by whole "
        f"strides the best warp of them leaves at most {undone:.1g} (asked: below {EXACT:g}), of a "
        f"rotation or scaling at least {left:.2f} (asked: above {MUCH:g}), {floor(times)} times "
        "what warping the image leaves or more."
    )


def figure(record: dict[str, Any]) -> Any:
    """Some maps of one digit: before and after the change, and undone in both ways."""
    from matplotlib.figure import Figure  # it takes a second, and --help does not wait

    from ministn.plot.drawing import caption, show_image

    example = record["example"]
    sides = {
        "before": ("upright", example["image"]),
        "after": (example["change"], example["changed"]),
        "maps_warped": ("its maps warped back", example["changed"]),
        "image_warped": ("the image warped back", example["image"]),
    }
    white = np.max(example["before"], axis=(0, 1)) / 255  # of each map
    drawing = Figure(figsize=(7, 1.8 * (len(white) + 1) + 0.5), layout="constrained")
    axes = drawing.subplots(len(white) + 1, len(sides))
    for column, (name, (words, image)) in enumerate(sides.items()):
        axes[0, column].set_title(words, fontsize=9)
        show_image(axes[0, column], 255 * np.asarray(image))
        maps = np.asarray(example[name]) / white
        for channel in range(len(white)):
            show_image(axes[channel + 1, column], maps[..., channel])
    caption(
        drawing,
        f"The {len(white)} maps behind conv1 that vary most, of one digit. Moving a map's values "
        "back does not give the upright digit's map: another filter has seen the turned edge.",
    )
    return drawing
