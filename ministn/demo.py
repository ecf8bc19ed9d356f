"""``python -m ministn.demo``: watch a trained spatial transformer attend, in a few seconds.

Runs small-stn on embedded digits among clutter, with weights that ship in the package. They come
from the run recorded in reproduce/records/demo/small-stn.json.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ministn import cli
from ministn.data import Split
from ministn.files import check_output
from ministn.kinds import from_json, replaced
from ministn.metrics.attention import inside, overlap, quadrilateral
from ministn.models import Network
from ministn.ops import as_batch
from ministn.parameter import ParameterBuffer
from ministn.plot.drawing import Figure, draw_outline, save, show_image
from ministn.runs import Settings, format1
from ministn.training import checkpoint

WEIGHTS = Path(__file__).parent / "weights" / "small-stn.safetensors"
PICTURE = Path("ministn-demo.png")
COLUMNS = 8


def load_network(weights: Path = WEIGHTS) -> tuple[Network, Settings]:
    """The network of a best.safetensors, and the settings it was trained with.

    Raises UserError for a file that is missing, damaged or of another network.
    """
    arrays, content = checkpoint.load(weights)
    settings = _settings(*(checkpoint.entry(weights, content, n) for n in ("settings", "epoch")))
    network = settings.network.build(settings.data.form)
    buffer = ParameterBuffer(network.parameters(), seed=0)
    checkpoint.fill(weights, arrays, buffer.views(buffer.data))
    return network, settings


def _settings(found: dict[str, Any], epochs: int) -> Settings:
    """A checkpoint's, in either format: there the number of epochs is left out."""
    if "kind" not in found:
        return format1.settings({"epochs": None if found.get("iterations") else epochs} | found)
    if found["training"]["iterations"] is None:
        found = found | {"training": found["training"] | {"epochs": epochs}}
    settings: Settings = from_json(found)
    return settings


def draw(split: Split, theta: np.ndarray, warped: np.ndarray, read: np.ndarray) -> Figure:
    """Each image with its attended quadrilateral, and below it what the classifier saw."""
    size = split.images.shape[1:]
    figure = Figure(figsize=(1.5 * COLUMNS, 4.1), layout="constrained")
    axes = figure.subplots(2, COLUMNS)
    for i, quad in enumerate(quadrilateral(theta, size)):
        above, below = axes[0, i], axes[1, i]
        show_image(above, split.images[i], margin=0.12)
        draw_outline(above, quad)
        show_image(below, 255 * warped[i, ..., 0])
        below.set_xlabel(f"read as {read[i]}")
        above.set_title(f"a {split.labels[i]}")
    figure.suptitle(
        "Top: unseen digits among clutter, and where the spatial transformer looks.\n"
        "Bottom: the image it passes on, and what the classifier makes of it."
    )
    return figure


def main() -> int:
    parser = cli.Parser(
        prog="python -m ministn.demo",
        description="Draw where a trained spatial transformer looks, on scikit-learn's digits.",
        epilog=f"example:\n  python -m ministn.demo    (a few seconds; writes {PICTURE} here)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=PICTURE,
        metavar="PNG",
        help=f"where to write the picture; default: {PICTURE}",
    )
    arguments = parser.parse_args()
    check_output(arguments.out)

    network, settings = load_network()
    test = replaced(settings.data, "train_size", 1).load().test
    logits, looks = network.predict(as_batch(test.images))
    assert network.transformer is not None
    theta = looks[0].theta
    read = logits.argmax(1)

    shown = Split(*(array[:COLUMNS] for array in vars(test).values()))
    warped = network.transformer.warp(as_batch(shown.images), theta[:COLUMNS])
    save(draw(shown, theta[:COLUMNS], warped, read), arguments.out)

    quads = quadrilateral(theta, test.images.shape[1:])
    print(f"small-stn on {len(test)} test images of embedded digits it has not seen:")
    print(f"  reads {100 * np.mean(read == test.labels):.1f} % rightly")
    print(
        f"  looks at the whole digit in {100 * inside(quads, test.boxes).mean():.0f} %; "
        f"mean overlap with the digit's box {overlap(quads, test.boxes).mean():.2f}"
    )
    print(f"wrote {arguments.out}: the first {COLUMNS}, where it looks and what it passes on")
    return 0


if __name__ == "__main__":
    cli.run(main)
