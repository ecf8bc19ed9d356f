"""Classification by softmax and cross entropy: one label for each image, or T of them."""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from ministn.backend import Array
from ministn.data import Split
from ministn.engines import implementation
from ministn.errors import ABOVE_0, UserError, check_numbers
from ministn.kinds import kind
from ministn.models.prediction import Prediction
from ministn.tasks.task import Evaluation, Task

COUNTS, OVER = ("label", "sequence"), ("mean", "sum")


class Cache(NamedTuple):
    """shape: of y. factor: of the mean loss over all labels. backward, kept: of that mean."""

    shape: tuple[int, ...]
    factor: float
    backward: Any
    kept: Any


@kind("classification")
class Classification(Task):
    """y (N, K), logits, against labels (N,); y (N, T, K) against labels (N, T).

        loss = 1/N sum_n mean_t -log p_n,t,label(n,t)      over="mean"
        loss = 1/N sum_n sum_t  -log p_n,t,label(n,t)      over="sum"

    counts: what is judged, every label, or every sequence, which is wrong where any of its labels
    is. epsilon: what is added to p, None for nothing, see ops/softmax_cross_entropy.py. Raises
    UserError for other values.
    """

    counts: str = "label"
    over: str = "mean"
    epsilon: float | None = None

    queued: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, known in (("counts", COUNTS), ("over", OVER)):
            if getattr(self, name) not in known:
                raise UserError(f"{name} must be {' or '.join(known)}, got {getattr(self, name)}")
        if self.epsilon is not None:
            check_numbers(ABOVE_0, epsilon=self.epsilon)

    def answers(self, y: Array, labels: Array) -> tuple[Array, Array]:
        """Every label by itself, (N T, 1, K) and (N T, 1), or every sequence: as they are.

        Raises ValueError for other shapes.
        """
        _check(y, labels)
        if self.counts == "sequence" and labels.ndim == 2:
            return y, labels
        return y.reshape(labels.size, 1, y.shape[-1]), labels.reshape(labels.size, 1)

    def per_image(self, labels: Array) -> int:
        """T where each of several labels counts by itself."""
        return labels.shape[1] if self.counts == "label" and labels.ndim == 2 else 1

    def loss(self, y: Array, labels: Array) -> tuple[Any, Cache]:
        """The loss, a float or (1,) on a GPU. Raises as softmax_cross_entropy and answers do."""
        _check(y, labels)
        logits, flat = y.reshape(labels.size, y.shape[-1]), labels.reshape(labels.size)
        forward, backward = implementation("softmax_cross_entropy", logits)
        mean, kept = forward(logits, flat, self.epsilon or 0.0)
        factor = float(y.shape[1]) if self.over == "sum" and y.ndim == 3 else 1.0
        return mean if factor == 1 else mean * factor, Cache(y.shape, factor, backward, kept)

    def loss_backward(self, cache: Cache, weight: float = 1.0) -> Array:
        """weight times the gradient dy."""
        return cache.backward(cache.kept, weight * cache.factor).reshape(cache.shape)

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # the loss will tell
    def judge(self, predicted: Prediction, split: Split) -> Evaluation:
        """What predictions for a split come to, in NumPy."""
        y, looked = predicted
        loss, _ = self.loss(y, split.labels)
        scores, labels = self.answers(y, split.labels)
        right = (scores.argmax(-1) == labels).all(-1)
        shape = split.labels.shape if self.counts == "label" else len(y)
        return Evaluation(loss, right.reshape(shape), looked)


def _check(y: Array, labels: Array) -> None:
    if y.ndim not in (2, 3) or labels.shape != y.shape[:-1]:
        if labels.shape == y.shape:
            raise ValueError(
                f"labels must be whole numbers {y.shape[:-1]}, got {labels.shape}: if they are "
                "one-hot, labels.argmax(-1) makes numbers of them"
            )
        raise ValueError(
            "y must have shape (N, K) with labels (N,), or (N, T, K) with labels (N, T), got "
            f"{y.shape} with {labels.shape}"
        )
