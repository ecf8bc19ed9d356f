"""Can a transformer on feature maps undo what one on the image undoes? (Finnveden 2020, section II)

Trains the placement paper's classifier on rotated MNIST digits, then rotates, scales and shifts
unseen ones, and measures of the maps behind its convolutions: how much of what has changed does the
best affine warp of the maps leave, and how much a warp of the image? The paper proves the answer;
here it has numbers. The table and the figure of reproduce/README.md are made from
reproduce/records/placement-theory.json, which --out has written.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from papers import placement_theory

from ministn import cli
from ministn.data import Distorted, as_batch, sources
from ministn.data.sources import EMBEDDED, MNIST
from ministn.errors import check_whole
from ministn.files import check_output, write_atomically
from ministn.fit import train_on_batch
from ministn.layers import Layer, Sequential
from ministn.metrics.alignment import best_affine, residual
from ministn.models import Network
from ministn.models.placement import PlacementCnn
from ministn.ops import affine_grid, bilinear_sampler
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import generator
from ministn.runs import environment
from ministn.transformer import inverse, theta_of

STEPS, BATCH, LR, SEED = 2000, 64, 0.001, 0  # of Adam
DIGITS, CANVAS = 200, 72  # a canvas on which no digit leaves the maps, whatever is done to it
STRIDES = {1: 2, 2: 4}  # pixels of the image from one point of a map to the next, by its depth

# What is done to the image: degrees clockwise, size, and a shift in points of the map.
CHANGES: dict[str, tuple[float, float, float]] = {
    "shifted by one point of the map": (0.0, 1.0, 1.0),
    "shifted by half a point": (0.0, 1.0, 0.5),
    "rotated by 15 degrees": (15.0, 1.0, 0.0),
    "rotated by 45 degrees": (45.0, 1.0, 0.0),
    "rotated by 90 degrees": (90.0, 1.0, 0.0),
    "scaled by 0.7": (0.0, 0.7, 0.0),
    "scaled by 1.4": (0.0, 1.4, 0.0),
}
EXAMPLE, SHOWN = "rotated by 90 degrees", 3  # of which maps are drawn

EXAMPLES = """\
examples:
  python reproduce/placement_theory.py                 two minutes on two cores
  python reproduce/placement_theory.py --data digits   scikit-learn's digits, nothing to download
"""


def warped(images: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """images (N, H, W, C), theta (1, 2, 3) for all of them."""
    grid, _ = affine_grid(np.repeat(theta, len(images), axis=0), images.shape[1:3])
    return bilinear_sampler(images, grid)[0]


class Changed:
    """Images to which something is done, and the maps of both at one depth."""

    def __init__(
        self, layers: Sequence[Layer], images: np.ndarray, depth: int, change: str
    ) -> None:
        self._convolutions = Sequential(*layers[:depth])
        turn, size, points = CHANGES[change]
        width = images.shape[2] - 1
        shift = 2 * points * STRIDES[depth] / width
        self.back = theta_of(np.array([turn]), np.array([size]), np.array([[shift, 0.0]]))
        self.images = warped(images, inverse(self.back))
        self.before, self.after = self.maps(images), self.maps(self.images)
        # The maps see less of the canvas than there is, so a shift is more of their width.
        margin = width / (STRIDES[depth] * (self.before.shape[2] - 1))
        self._starts = np.concatenate([self.back * [1, 1, margin], np.eye(2, 3)[None]])

    def maps(self, images: np.ndarray) -> np.ndarray:
        return self._convolutions.forward(images.astype(np.float32))[0]

    def best_affine(self) -> tuple[np.ndarray, float]:
        """Of the maps: theta (2, 3), and what it leaves."""
        return best_affine(self.before, self.after, self._starts)

    def image_warped(self) -> np.ndarray:
        """The maps of the images warped back."""
        return self.maps(warped(self.images, self.back))


def measured(layers: Sequence[Layer], images: np.ndarray) -> list[dict[str, Any]]:
    """The residuals of each change: of the maps as they are, of their best warp, of the image's."""
    rows = []
    for depth, name in product(STRIDES, CHANGES):
        changed = Changed(layers, images, depth, name)
        rows.append(
            {
                "depth": depth,
                "change": name,
                "as_they_are": residual(changed.before, changed.after),
                "maps_warped": changed.best_affine()[1],
                "image_warped": residual(changed.before, changed.image_warped()),
            }
        )
    return rows


def example(layers: Sequence[Layer], images: np.ndarray) -> dict[str, Any]:
    """The maps of a digit that vary most, before and after EXAMPLE, and warped back."""
    changed = Changed(layers, images, 1, EXAMPLE)
    theta, _ = changed.best_affine()
    most = np.argsort(-changed.before[0].std(axis=(0, 1)))[:SHOWN]
    shown = {
        "before": changed.before,
        "after": changed.after,
        "maps_warped": warped(changed.after.astype(np.float64), theta[None]),
        "image_warped": changed.image_warped(),
    }
    maps = {name: each[0][..., most].round(3).tolist() for name, each in shown.items()}
    both = {"image": images, "changed": changed.images}
    return {
        "change": EXAMPLE,
        **{n: x[0, :, :, 0].round(3).tolist() for n, x in both.items()},
    } | maps


def padded(digits: np.ndarray) -> np.ndarray:
    """uint8 (N, h, w) in the middle of a canvas: (N, CANVAS, CANVAS, 1) from 0 to 1, float64."""
    before = (CANVAS - digits.shape[1]) // 2
    after = CANVAS - digits.shape[1] - before
    wide = np.pad(digits, ((0, 0), (before, after), (before, after)))
    return as_batch(wide).astype(np.float64)


def trained(network: Network, images: np.ndarray, labels: np.ndarray, steps: int) -> list[float]:
    """Steps of Adam from the initial values, on whole batches, in another order each time round;
    their losses.
    """
    optimizer = Optimizer(Adam(), ParameterBuffer(network.parameters(), SEED))
    losses = []
    for step in range(steps):
        epoch, batch = divmod(step, len(images) // BATCH)
        order = generator(SEED, "shuffle", epoch + 1).permutation(len(images))
        rows = order[batch * BATCH :][:BATCH]
        losses.append(
            train_on_batch(network, optimizer, images[rows], labels[rows], lr=LR, seed=SEED)
        )
    return losses


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    given = sys.argv[1:] if words is None else words
    parser = cli.Parser(
        prog="python reproduce/placement_theory.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", choices=(MNIST, EMBEDDED), default=MNIST, help="whose digits; default: mnist"
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="as in table3.py --help")
    parser.add_argument(
        "--steps", type=int, default=STEPS, help=f"to train the classifier for; default: {STEPS}"
    )
    parser.add_argument(
        "--digits", type=int, default=DIGITS, help=f"to change and look at; default: {DIGITS}"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="to write a record to; default: none"
    )
    options = parser.parse_args(words)
    check_whole(steps=options.steps, digits=options.digits)
    if options.out is not None:
        check_output(options.out)
    start = time.perf_counter()
    source, folder = options.data, options.data_dir
    data = Distorted("R", source).load(folder)
    rotated = data.train.epoch(1)
    network = PlacementCnn("R").build(Distorted("R", source).form)
    losses = trained(network, rotated.images, rotated.labels, options.steps)
    y, _ = network.predict(as_batch(data.test.images))
    error = 100 * float((y.argmax(1) != data.test.labels).mean())
    digits = padded(sources.load(source, folder)["test"].images[: options.digits])
    layers = network.classifier.layers
    record = {
        "format": 1,
        "command": shlex.join(["python", "reproduce/placement_theory.py", *given]),
        **environment.commit(),
        "source_sha256": environment.source_sha256(),
        "versions": environment.versions(),
        "device": environment.device(),
        "data_sha256": data.sha256,
        "settings": {
            "data": source, "seed": SEED, "steps": options.steps, "batch_size": BATCH, "lr": LR,
            "digits": len(digits), "canvas": CANVAS,
        },
        "loss": float(np.mean(losses[-100:])),
        "test_error": error,
        "residuals": measured(layers, digits),
        "example": example(layers, digits[:1]),
        "wall_seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    if options.out is not None:
        write_atomically(options.out, (json.dumps(record) + "\n").encode())
    print(placement_theory.report(record))
    return 0


if __name__ == "__main__":
    cli.run(main)
