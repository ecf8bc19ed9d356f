"""``python -m ministn.demo``: watch a trained spatial transformer attend, in a few seconds.

Each paper has a small network, trained on embedded digits, whose weights ship in the package. They
come from the runs recorded in reproduce/records/demo/, under the same names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ministn import cli
from ministn.backend import parted
from ministn.data import Split
from ministn.files import check_output
from ministn.kinds import from_json, has, replaced
from ministn.models import Network, prediction
from ministn.ops import as_batch
from ministn.parameter import ParameterBuffer
from ministn.plot.drawing import Figure, save
from ministn.plot.transformers import attended, look
from ministn.runs import Settings, format1
from ministn.training import checkpoint

WEIGHTS = Path(__file__).parent / "weights"
COLUMNS = 8  # images that are drawn


class Demo(NamedTuple):
    """name: of its weights and its record. network: and on what, in words. says: what is measured
    on the test images, by its names in records.
    """

    name: str
    network: str
    says: str

    @property
    def weights(self) -> Path:
        return WEIGHTS / f"{self.name}.safetensors"


DEMOS = {
    "small": Demo(
        "small-stn",
        "small-stn on digits among clutter",
        "looks at the whole digit in {inside:.0%}; mean overlap with the digit's box {overlap:.2f}",
    ),
    "tstn": Demo(
        "tstn",
        "a tied network (TSTN) on digits among clutter",
        "follows the digit: correlation of their centres {correlation:.2f}; mean overlap with the "
        "digit's box {overlap:.2f}",
    ),
    "stn": Demo(
        "stn",
        "an ST-FCN (STN) on digits that are rotated, translated and scaled",
        "follows the digit: correlation of their centres {correlation:.2f}; undoes part of the "
        "distortion: points lie {pose_spread:.1f} pixels off, of {pose_unmoved:.1f}",
    ),
    "rnn-spn": Demo(
        "rnn-spn",
        "an RNN-SPN on three digits in a row, among clutter",
        "its glimpses follow their digits: correlation of the centres {correlation:.2f}; each "
        "covers its own more than another in {glimpses[0][overlaps_most][0]:.0%}, "
        "{glimpses[1][overlaps_most][1]:.0%} and {glimpses[2][overlaps_most][2]:.0%}",
    ),
    "placement": Demo(
        "placement",
        "an STN-SL1 (placement paper) on digits that are translated among clutter",
        "follows the digit: correlation of their centres {correlation:.2f}; shows the digits of a "
        "class with a spread of {final_pixels:.1f} pixels",
    ),
}


def load_network(weights: Path = DEMOS["small"].weights) -> tuple[Network, Settings]:
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


def draw(demo: Demo, network: Network, split: Split, read: np.ndarray) -> Figure:
    """Images with where the transformer looks, and below each what it passes on and what is read.

    read: (N,), or (N, T) where a glimpse is for each of T digits.
    """
    front = network.front
    assert front is not None
    x = as_batch(split.images)
    thetas = parted(front.theta(x), [len(one.start) for one in front.at_input])
    view = look("", front.at_input, 255 * x, thetas, attended)
    rows = 1 + len(view.warped)
    figure = Figure(figsize=(1.5 * COLUMNS, 1.6 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, COLUMNS)
    for column, (label, answer) in enumerate(zip(split.labels, read, strict=True)):
        view.show_grids(axes[0, column], column)
        axes[0, column].set_title(" ".join(map(str, np.atleast_1d(label))))
        for number, digit in enumerate(np.atleast_1d(answer)):
            below = axes[1 + number, column]
            view.show_warped(number, below, column)
            below.set_xlabel(f"read as {digit}")
    figure.suptitle(
        f"{demo.network}\nTop: unseen images, and where it looks. "
        "Below: what it passes on, and what the classifier makes of that."
    )
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status. Raises UserError."""
    parser = cli.Parser(
        prog="python -m ministn.demo",
        description="Draw where a paper's trained spatial transformer looks, on scikit-learn's "
        "digits.",
        epilog="examples:\n"
        "  python -m ministn.demo            (a few seconds; writes ministn-demo.png here)\n"
        "  python -m ministn.demo rnn-spn    (three glimpses; writes ministn-demo-rnn-spn.png)",
    )
    parser.add_argument(
        "demo",
        nargs="?",
        choices=DEMOS,
        default="small",
        metavar="DEMO",
        help=f"one of {', '.join(DEMOS)}; without it small",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PNG",
        help="where to write the picture; default: ministn-demo.png, or ministn-demo-DEMO.png",
    )
    options = parser.parse_args(arguments)
    demo = DEMOS[options.demo]
    name = "" if options.demo == "small" else f"-{options.demo}"
    path = options.out or Path(f"ministn-demo{name}.png")
    check_output(path)

    network, settings = load_network(demo.weights)
    data = replaced(settings.data, "train_size", 1)
    if has(data, "passes"):
        data = replaced(data, "passes", 1)
    test = data.load().test
    logits, looks = prediction.predict(network, test.images)
    read = logits.argmax(-1)
    save(draw(demo, network, test.first(COLUMNS), read[:COLUMNS]), path)

    print(f"{demo.network}: {len(test)} test images it has not seen")
    print(f"  reads {100 * np.mean(read == test.labels):.1f} % of the digits rightly")
    print(f"  {demo.says.format(**test.measure(looks))}")
    print(f"wrote {path}: the first {COLUMNS}, where it looks and what it passes on")
    return 0


if __name__ == "__main__":
    cli.run(main)
