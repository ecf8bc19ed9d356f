"""What training steps came to, kept on the GPU until the host asks: see outcome.cu."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from ministn.backend import Array, Device
from ministn.cuda.launch import launch
from ministn.ops.left_image import LEFT_BELOW, POINTS


class Log:
    """One entry for each of an epoch's ``batches``, and how far training has come.

    number: (1,) uint32, steps done. halted: (1,) int32, 1 from the first step on whose loss was
    not finite; number then stays at that step.
    """

    def __init__(self, device: Device, batches: int) -> None:
        self.device = device
        self.batches = batches
        self.number = device.zeros((1,), np.uint32)
        self.halted = device.zeros((1,), np.int32)
        self._losses = device.zeros((batches,), np.float32)
        self._errors = device.zeros((batches,), np.int32)
        self._left = device.zeros((batches,), np.int32)

    def note(self, loss: Array, scores: Array, labels: Array, thetas: Sequence[Array]) -> None:
        """Write the step's entry: loss (1,), scores (M, T, K), labels (M, T) int32, of each
        transformer theta (n, 2, 3).

        Each of M answers is wrong where any of its T labels has not the first maximum of its K
        scores. Of what has left the images, the entry has the largest count.

        Raises ValueError for scores and labels of other shapes.
        """
        if scores.ndim != 3 or labels.shape != scores.shape[:2]:
            raise ValueError(
                "scores must have shape (M, T, K) and labels (M, T), got "
                f"{scores.shape} and {labels.shape}"
            )
        contiguous = self.device.contiguous
        launch(
            "outcome", "note_loss", 1,
            contiguous(scores), contiguous(labels), loss, self.number, self.batches, *scores.shape,
            self._losses, self._errors, self.halted,
        )  # fmt: skip
        for place, theta in enumerate(thetas):
            launch(
                "outcome", "note_left", 1,
                contiguous(theta), _axis(self.device), POINTS, math.ceil(LEFT_BELOW * POINTS**2),
                self.number, self.batches, len(theta), place, self._left,
            )  # fmt: skip

    def count_step(self) -> None:
        """The step is done; has no effect once halted."""
        launch("outcome", "count_step", 1, self.number, self.halted)

    def start(self, number: int) -> None:
        """The next step is step ``number``."""
        self.number.fill(number)
        self.halted.fill(0)

    def read(self, first: int) -> list[tuple[int, float, int, int]]:
        """(number, loss, errors, left) of the steps from ``first`` on. Waits for the GPU.

        At most the last ``batches`` steps are known. A step that halted training is the last.
        """
        to_cpu = self.device.to_cpu
        end = int(to_cpu(self.number)[0]) + int(to_cpu(self.halted)[0])
        losses, errors, left = map(to_cpu, (self._losses, self._errors, self._left))
        places = ((number, number % self.batches) for number in range(first, end))
        return [(n, float(losses[i]), int(errors[i]), int(left[i])) for n, i in places]


@cache
def _axis(device: Device) -> Array:
    return device.to_gpu(np.linspace(-1.0, 1.0, POINTS))
