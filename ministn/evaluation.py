"""What a network makes of a split, without dropout."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ministn.backend import to_cpu
from ministn.data import Split
from ministn.engines import function
from ministn.models import Network
from ministn.ops import softmax_cross_entropy

BATCH = 250  # images at a time

# Images (N, H, W) uint8 -> logits (N, classes) and theta (N, 2, 3), None without a transformer.
Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy. correct: (N,) bool. theta: (N, 2, 3), None for a plain CNN."""

    loss: float
    correct: np.ndarray
    theta: np.ndarray | None

    @property
    def error(self) -> float:
        """In percent."""
        return 100.0 * int((~self.correct).sum()) / len(self.correct)


def predict(network: Network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """A network's logits and theta, in NumPy, for images on its engine."""
    as_batch = function("as_batch", images)
    batches = [
        network.predict(as_batch(images[start : start + BATCH]))
        for start in range(0, len(images), BATCH)
    ]
    logits = np.concatenate([to_cpu(y) for y, _ in batches])
    thetas = [to_cpu(theta) for _, theta in batches if theta is not None]
    return logits, np.concatenate(thetas) if thetas else None


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # the loss will tell
def evaluate(predict: Predict, split: Split) -> Evaluation:
    """Judge the predictions for a split."""
    logits, theta = predict(split.images)
    loss, _ = softmax_cross_entropy(logits, split.labels)
    return Evaluation(loss, logits.argmax(1) == split.labels, theta)
