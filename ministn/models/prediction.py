"""What a network makes of many images, some at a time, without dropout."""

from collections.abc import Callable, Sequence

import numpy as np

from ministn.backend import to_cpu
from ministn.data import as_batch
from ministn.models.network import Network
from ministn.transformer import Attended

BATCH = 250  # images at a time

# Images uint8 -> logits (N, classes), and where each of the network's transformers looked.
Prediction = tuple[np.ndarray, list[Attended]]
Predict = Callable[[np.ndarray], Prediction]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # the loss will tell
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
    each = zip(*(looks for _, looks in batches), strict=True)  # of a transformer, by batches
    return logits, [Attended(*map(np.concatenate, zip(*parts, strict=True))) for parts in each]
