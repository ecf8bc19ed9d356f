"""TSTN Tables 1 and 2, and the network of the Lasagne Recipes notebook."""

from torch import nn

from ministn.data import Form
from ministn.errors import UserError
from ministn.models import ClassificationCnn, SmallStn, Tstn, UntiedStn
from ministn.models.architecture import plane
from torch_twins.layers import Classifier, Convolution, Dense, Regression, rectified


def cnn(network: ClassificationCnn, form: Form) -> Classifier:
    """The classification CNN alone."""
    convolutions = _convolutions("classifier", network.architecture)
    return Classifier(_classifier(convolutions, plane(form), form.classes))


def untied(network: UntiedStn, form: Form) -> Classifier:
    """A localisation CNN with convolutions of its own in front of it. Raises UserError for less
    than the paper's maps and neurons.
    """
    own = _convolutions("localisation", network.architecture)
    return _behind(network, form, _convolutions("classifier", network.architecture), own)


def tied(network: Tstn, form: Form) -> Classifier:
    """Both CNNs have the same convolutions. Raises UserError as ``untied`` does."""
    convolutions = _convolutions("classifier", network.architecture)
    return _behind(network, form, convolutions, convolutions)


def _behind(
    network: UntiedStn,
    form: Form,
    classifying: list[list[Convolution]],
    looking: list[list[Convolution]],
) -> Classifier:
    if network.share is not None:
        raise UserError(f"{network.name} has a twin with the paper's maps and neurons only")
    size = plane(form)
    shown = int(size[0] // network.downsample), int(size[1] // network.downsample)
    return Classifier(
        _classifier(classifying, shown, form.classes), [_localisation(looking, size)], shown
    )


def _convolutions(owner: str, architecture: int) -> list[list[Convolution]]:
    """Three layers of one or two 3x3 convolutions."""
    layers = []
    for number, (channels, kernels) in enumerate([(1, 32), (32, 64), (64, 128)], 1):
        path = f"{owner}/conv{number}"
        if architecture == 1:
            layers.append([Convolution(path, channels, kernels, 3, "same")])
        else:
            layers.append(
                [
                    Convolution(path + "_1", channels, kernels, 3, "same"),
                    Convolution(path + "_2", kernels, kernels, 3, "same"),
                ]
            )
    return layers


def _classifier(
    layers: list[list[Convolution]], size: tuple[int, int], classes: int
) -> nn.Sequential:
    maps = (size[0] // 8, size[1] // 8, 128)
    stack = [module for layer in layers for module in (*rectified(layer), nn.MaxPool2d(2))]
    return nn.Sequential(
        *stack,
        nn.Flatten(),
        Dense("classifier/dense", maps, 625),
        nn.ReLU(),
        nn.Dropout(0.5),
        Dense("classifier/softmax", (1, 1, 625), classes),
    )


def _localisation(layers: list[list[Convolution]], size: tuple[int, int]) -> nn.Sequential:
    maps = (size[0] // 4, size[1] // 4, 128)
    return nn.Sequential(
        *rectified(layers[0]),
        nn.MaxPool2d(2),
        *rectified(layers[1]),
        nn.MaxPool2d(2),
        *rectified(layers[2]),
        nn.Flatten(),
        Dense("localisation/dense", maps, 200),
        nn.ReLU(),
        Regression("localisation/theta", 200),
    )


def small(network: SmallStn, form: Form) -> Classifier:
    """The notebook's: all convolutions 'valid', the image shrunk by three."""
    size = plane(form)
    looked_at = [(side // 2 - 4) // 2 - 4 for side in size]
    shown = (size[0] // 3, size[1] // 3)
    read = [((side - 2) // 2 - 2) // 2 for side in shown]
    localisation = nn.Sequential(
        nn.MaxPool2d(2),
        Convolution("localisation/conv1", 1, 20, 5, "valid"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Convolution("localisation/conv2", 20, 20, 5, "valid"),
        nn.ReLU(),
        nn.Flatten(),
        Dense("localisation/dense", (looked_at[0], looked_at[1], 20), 50),
        nn.ReLU(),
        Regression("localisation/theta", 50),
    )
    classifier = nn.Sequential(
        Convolution("classifier/conv1", 1, 32, 3, "valid"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Convolution("classifier/conv2", 32, 32, 3, "valid"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        Dense("classifier/dense", (read[0], read[1], 32), 256),
        nn.ReLU(),
        Dense("classifier/softmax", (1, 1, 256), form.classes),
    )
    return Classifier(classifier, [localisation], shown)
