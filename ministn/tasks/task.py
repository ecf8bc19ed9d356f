"""What a task is asked: by workers, by steps on a GPU, after each epoch, and by ``fit``."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ministn.backend import Array
from ministn.data import Split
from ministn.models import Network
from ministn.models.prediction import Prediction
from ministn.transformer import Attended


@dataclass(frozen=True)
class Evaluation:
    """loss: mean over the split. correct: bool, one for each answer that can be wrong: (N,), or
    (N, A) where an image has several.

    attended: of each transformer in front, none without one.
    """

    loss: float
    correct: np.ndarray
    attended: Sequence[Attended]

    @property
    def error(self) -> float:
        """Share of the answers, in percent."""
        return _error(self.correct)

    def errors(self, split: str) -> dict[str, float]:
        """Entries of a record: of the answers, and of images with any wrong one of several."""
        found = {f"{split}_error": self.error}
        if self.correct.ndim == 1:
            return found
        return found | {f"{split}_sequence_error": _error(np.all(self.correct, axis=1))}


def _error(correct: np.ndarray) -> float:
    return 100.0 * int((~correct).sum()) / correct.size


class Task(ABC):
    """What is learned, as a value: see kinds.py.

    divisible: whether the loss is a mean over the images, so that each worker finds that of its
    own; otherwise one of them finds it from what all have made. queued: whether steps may be queued
    and captured on a GPU: fixed shapes, device operations only, no branch on a device value, no
    draw on the host. Then ``answers`` says what is wrong, else ``wrong`` does, and steps are plain
    ones, on either engine.
    """

    kind: ClassVar[str]
    divisible: ClassVar[bool] = True
    queued: ClassVar[bool] = False

    def prepare(self, network: Network, split: Any, seed: int) -> "Task":
        """The task, ready for a network before its first step and for a training split."""
        return self

    def equip(self, network: Network) -> None:  # noqa: B027 - most tasks have nothing to give
        """Give a network alike, as each worker has one, what ``prepare`` has found for it."""

    @abstractmethod
    def loss(self, y: Array, labels: Any) -> tuple[Any, Any]:
        """The loss, a float or (1,) on a GPU, and what going back needs.

        y: what the network makes of a batch, on its engine. labels: of that batch, see Split.batch.
        """

    @abstractmethod
    def loss_backward(self, cache: Any, weight: float = 1.0) -> Array:
        """weight times the gradient dy."""

    def answers(self, y: Array, labels: Array) -> tuple[Array, Array]:
        """Scores (M, T, K) and labels (M, T) of M answers, made on the engine without arithmetic.

        An answer is wrong where any of its T labels has not the first maximum of its K scores. Of
        tasks that are queued.
        """
        raise NotImplementedError(f"{type(self).__name__} is not queued")

    def wrong(self, y: Array, labels: Any, thetas: Sequence[Array]) -> int:
        """How many answers are. thetas (N, 2, 3): of each transformer."""
        scores, truth = self.answers(y, labels)
        return int((scores.argmax(-1) != truth).any(axis=-1).sum())

    def per_image(self, labels: np.ndarray) -> int:
        """How many answers an image has, given the labels of a split."""
        return 1

    @abstractmethod
    def judge(self, predicted: Prediction, split: Split) -> Evaluation:
        """What predictions for a split come to, in NumPy."""
