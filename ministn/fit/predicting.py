"""What a network makes of images of your own."""

import numpy as np

from ministn.backend import Array, device_of
from ministn.fast.threads import limited
from ministn.fit.arguments import check_met, checked_images
from ministn.models import Network, prediction
from ministn.models.network import weights_of
from ministn.models.prediction import Prediction


@limited()
def predict(network: Network, images: np.ndarray) -> Prediction:
    """Logits (N, classes), and where each of ``network.transformers`` looked; without dropout.

    images: (N, H, W) or (N, H, W, C), bytes or float32, as those that it was trained on. So many
    are computed at a time that memory does not grow with their number.

    Raises TypeError or ValueError for images that cannot be, or are of another shape than those
    that the network has met; UserError for a network without weights.
    """
    return prediction.predict(network, network_images(network, images))


def network_images(network: Network, images: np.ndarray) -> Array:
    """The images where a network computes with them. Raises as ``predict`` does."""
    parameters = weights_of(network)
    images = checked_images(images)
    check_met(network, images)
    device = device_of(parameters[0].data) if parameters else None
    return images if device is None else device.to_gpu(images)
