"""What is learned: the loss with its backward pass, what counts as wrong, how a split is judged."""

from ministn.tasks.classification import Classification
from ministn.tasks.colocalisation import Colocalisation
from ministn.tasks.task import Evaluation, Task

__all__ = ["Classification", "Colocalisation", "Evaluation", "Task"]
