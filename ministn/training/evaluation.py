"""What a network makes of a split, without dropout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ministn.backend import to_cpu
from ministn.data import Split, as_batch
from ministn.models import Network
from ministn.ops import softmax_cross_entropy
from ministn.transformer import Attended

BATCH = 250  # images at a time

# Images uint8 -> logits (N, classes) and where transformers in front looked, None without any.
Prediction = tuple[np.ndarray, Attended | None]
Predict = Callable[[np.ndarray], Prediction]


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy. correct: (N,) bool. attended: None without a transformer."""

    loss: float
    correct: np.ndarray
    attended: Attended | None

    @property
    def error(self) -> float:
        """In percent."""
        return 100.0 * int((~self.correct).sum()) / len(self.correct)


def predict(network: Network, images: np.ndarray) -> Prediction:
    """What a network makes of images on its engine, in NumPy."""
    batches = [
        network.predict(as_batch(images[start : start + BATCH]))
        for start in range(0, len(images), BATCH)
    ]
    return joined([(to_cpu(logits), looked) for logits, looked in batches])


def joined(batches: Sequence[Prediction]) -> Prediction:
    """The predictions for one batch after the other as those for all images."""
    logits = np.concatenate([y for y, _ in batches])
    looked = [found for _, found in batches if found is not None]
    if not looked:
        return logits, None
    return logits, Attended(*(np.concatenate(arrays) for arrays in zip(*looked, strict=True)))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # the loss will tell
def evaluate(predict: Predict, split: Split) -> Evaluation:
    """Judge the predictions for a split."""
    logits, looked = predict(split.images)
    loss, _ = softmax_cross_entropy(logits, split.labels)
    return Evaluation(loss, logits.argmax(1) == split.labels, looked)
