"""What predictions for a split come to."""

from dataclasses import dataclass

import numpy as np

from ministn.data import Split
from ministn.models.prediction import Predict
from ministn.ops import softmax_cross_entropy
from ministn.transformer import Attended


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


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # the loss will tell
def evaluate(predict: Predict, split: Split) -> Evaluation:
    """Judge the predictions for a split."""
    logits, looked = predict(split.images)
    loss, _ = softmax_cross_entropy(logits, split.labels)
    return Evaluation(loss, logits.argmax(1) == split.labels, looked)
