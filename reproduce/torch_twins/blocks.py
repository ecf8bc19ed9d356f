"""The placement paper's networks for SVHN and plankton: its sections IV-B and IV-C."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from ministn.data import Form
from ministn.errors import UserError
from ministn.models import PlanktonNetwork, SvhnNetwork
from ministn.ops.leaky_relu import SLOPE
from torch_twins.layers import Convolution, Dense, Regression, rectified
from torch_twins.placement import Placed, Plain, Shape, Standardised, image_of

SVHN_MAPS = 48, 64, 128, 160, 192, 192, 192, 192
PLANKTON_MAPS = 32, 32, 64, 64, 128, 128, 128, 256, 256, 256

Layers = list[nn.Module]


class Stack(NamedTuple):
    """A classifier's blocks, and the map in front of each and behind the last."""

    blocks: Layers
    shapes: list[Shape]


def svhn(network: SvhnNetwork, form: Form) -> Placed | Plain:
    """One for house numbers. Raises UserError for several looks."""
    (labels,), units = form.labels, round(3072 * network.width)
    pixels = 0.454, 0.226

    def stack(owner: str) -> Stack:
        """5x5, every second one from the first with a pool; dropout behind all but the first."""
        shape = image_of(form)
        blocks: Layers = []
        shapes = [shape]
        for number, usual in enumerate(SVHN_MAPS, 1):
            maps = round(usual * network.width)
            layers: Layers = [] if number > 1 else [Standardised(*pixels)]
            path = f"{owner}classifier/conv{number}"
            layers += rectified([Convolution(path, shape[2], maps, 5, "same")])
            shape = *shape[:2], maps
            if number % 2 and number < len(SVHN_MAPS):
                layers.append(nn.MaxPool2d(2))
                shape = shape[0] // 2, shape[1] // 2, maps
            layers += [nn.Dropout(0.5)] if number > 1 else []
            blocks.append(nn.Sequential(*layers))
            shapes.append(shape)
        return Stack(blocks, shapes)

    def head(shape: Shape, path: str) -> Layers:
        if network.head == "small":
            return _neurons(shape, path, 32)
        rows, columns, channels = shape
        return [
            *rectified([Convolution(f"{path}/conv1", channels, 32, 5, "same")]),
            nn.MaxPool2d(2),
            *rectified([Convolution(f"{path}/conv2", 32, 32, 5, "same")]),
            *_neurons((rows // 2, columns // 2, 32), path, 32),
        ]

    own = stack("")
    reader: Layers = [nn.Flatten()]
    maps = own.shapes[-1]
    for number in (1, 2, 3):
        reader += rectified([Dense(f"classifier/dense{number}", maps, units)])
        reader.append(nn.Dropout(0.5))
        maps = 1, 1, units
    softmax = Dense("classifier/softmax", maps, labels * form.classes)
    reader += [softmax, nn.Unflatten(1, (labels, form.classes))]
    return _placed(network, own, reader, stack, head, Standardised(*pixels), "zeros")


def plankton(network: PlanktonNetwork, form: Form) -> Placed | Plain:
    """One for plankton. Raises UserError for several looks."""
    units = round(512 * network.width)
    pixels = 0.046, 0.144

    def stack(owner: str) -> Stack:
        """3x3, leaky; behind the second, fourth, seventh and tenth a pool of 3x3."""
        shape = image_of(form)
        blocks: Layers = []
        shapes = [shape]
        for number, usual in enumerate(PLANKTON_MAPS, 1):
            maps = round(usual * network.width)
            path = f"{owner}classifier/conv{number}"
            convolution = Convolution(path, shape[2], maps, 3, "same")
            layers = [*([] if number > 1 else [Standardised(*pixels)]), convolution]
            layers.append(nn.LeakyReLU(SLOPE))
            shape = *shape[:2], maps
            if number in (2, 4, 7, 10):
                layers.append(nn.MaxPool2d(3, 2))
                shape = (shape[0] - 1) // 2, (shape[1] - 1) // 2, maps
            blocks.append(nn.Sequential(*layers))
            shapes.append(shape)
        return Stack(blocks, shapes)

    own = stack("")
    reader: Layers = [nn.Flatten()]
    maps = own.shapes[-1]
    for number in (1, 2):
        dense = Dense(f"classifier/dense{number}", maps, units)
        reader += [nn.Dropout(0.5), dense, nn.LeakyReLU(SLOPE)]
        maps = 1, 1, units
    reader += [nn.Dropout(0.5), Dense("classifier/softmax", maps, form.classes)]

    def head(shape: Shape, path: str) -> Layers:
        return _neurons(shape, path, 64)

    return _placed(network, own, reader, stack, head, Standardised(*pixels), "border")


def _placed(
    network: SvhnNetwork | PlanktonNetwork,
    own: Stack,
    reader: Layers,
    stack: Callable[[str], Stack],
    head: Callable[[Shape, str], Layers],
    standardised: nn.Module,
    outside: str,
) -> Placed | Plain:
    """own, reader: the classifier. stack: another one's blocks, with paths below an owner."""
    if network.place is None:
        return Plain(*own.blocks, *reader)
    if len(network.depths) != 1:
        raise UserError(f"{network.name} has no twin yet: only one look has")
    (depth,) = network.depths
    path, of_a_map = f"localisation{depth}", network.place == "C" and depth > 0
    below: Layers = []
    if depth == 0:
        below = [standardised]
    elif network.place == "SL":
        below = own.blocks[:depth]
    elif network.place == "DL":
        below = stack(f"{path}/copy/").blocks[:depth]
    first = depth if of_a_map else 0
    return Placed(
        nn.Sequential(*own.blocks[:first]),
        nn.Sequential(*own.blocks[first:], *reader),
        nn.Sequential(*below, *head(own.shapes[depth], path)),
        of_a_map,
        own.shapes[first],
        outside,
    )


def _neurons(shape: Shape, path: str, units: int) -> Layers:
    dense = [Dense(f"{path}/dense1", shape, units), Dense(f"{path}/dense2", (1, 1, units), units)]
    return [nn.Flatten(), *rectified(dense), Regression(f"{path}/theta", units)]
