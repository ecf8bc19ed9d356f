"""What a task is asked: by workers, by steps on a GPU, after each epoch, and by ``fit``."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ministn.backend import Array
from ministn.data import Split
from ministn.models.prediction import Prediction
from ministn.transformer import Attended


@dataclass(frozen=True)
class Evaluation:
    """loss: mean over the split. correct: bool, one for each answer that can be wrong.

    attended: None without a transformer.
    """

    loss: float
    correct: np.ndarray
    attended: Attended | None

    @property
    def error(self) -> float:
        """In percent."""
        return 100.0 * int((~self.correct).sum()) / self.correct.size


class Task(Protocol):
    """y: what the network makes of a batch, on its engine, as the labels are."""

    def loss(self, y: Array, labels: Array) -> tuple[Any, Any]:
        """The batch's loss, a float or (1,) on a GPU, and what going back needs."""

    def loss_backward(self, cache: Any, weight: float = 1.0) -> Array:
        """weight times the gradient dy."""

    def answers(self, y: Array, labels: Array) -> tuple[Array, Array]:
        """Scores (M, T, K) and labels (M, T) of M answers, made on the engine without arithmetic.

        An answer is wrong where any of its T labels has not the first maximum of its K scores.
        """

    def per_image(self, labels: Array) -> int:
        """How many answers an image has. labels: of a batch or a split."""

    def judge(self, predicted: Prediction, split: Split) -> Evaluation:
        """What predictions for a split come to, in NumPy."""


def wrong(task: Task, y: np.ndarray, labels: np.ndarray) -> int:
    """How many answers are, in NumPy; on a GPU cuda/outcome.cu counts them."""
    scores, truth = task.answers(y, labels)
    return int((scores.argmax(-1) != truth).any(-1).sum())
