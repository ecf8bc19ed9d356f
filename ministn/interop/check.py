"""Whether exported networks compute what ours do: every network of the papers, on soft noise.

In float32 a bound must leave room for rounding, which networks that look again at what they have
sampled make larger; so PyTorch is compared in float64, too, where it is as good as exact.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from ministn.data import Cub, Form
from ministn.interop.extras import needed
from ministn.interop.onnx_file import model_of
from ministn.interop.pytorch import to_torch
from ministn.models import (
    NETWORKS,
    Alternating,
    Architecture,
    Colocaliser,
    CropEncoder,
    PartNetwork,
    PlanktonNetwork,
    Shuffled,
    SvhnNetwork,
    Trstn,
    placement,
    plankton,
    projection,
    rnn_spn,
    stn,
    svhn,
)
from ministn.parameter import ParameterBuffer
from ministn.randomness import generator

IMAGES = 3
MOVED = 0.002  # by which parameters are off their initial values, so that no theta is the identity
SOFT = 2.0  # pixels: the width of the noise's spots, for images change little from pixel to pixel
BOUNDS = {"torch": 1e-5, "onnxruntime": 1e-5, "torch float64": 1e-10}


class Checked(NamedTuple):
    """A network, and how far outputs are from ours, relative to the largest: for each of BOUNDS."""

    network: Architecture
    form: Form
    parameters: int
    differences: dict[str, float]


def networks() -> Iterator[tuple[Architecture, Form]]:
    """Those of all papers, at their sizes; of house numbers and plankton a quarter as wide."""
    cluttered, digits, several = Form((60, 60)), Form((42, 42)), Form((100, 100), labels=(3,))
    for one in (*NETWORKS.values(), Alternating(1), Trstn(1), Shuffled(NETWORKS["arch1-tstn"])):
        yield one, cluttered
    yield from ((one, digits) for one in stn.TABLE)
    yield from ((one, Form((42, 42), 2, 19)) for one in stn.ADDITION)
    yield from ((one, Form((60, 60, 60))) for one in projection.PROJECTED)
    yield CropEncoder(), Form((22, 22))
    yield Colocaliser(), Form((84, 84))
    yield from ((one, several) for one in rnn_spn.TABLE)
    sizes = {"R": Form((28, 28)), "T": Form((60, 60)), "S": Form((112, 112))}
    yield from ((one, form) for name, form in sizes.items() for one in placement.table(name))
    for one in svhn.TABLE:
        narrow = SvhnNetwork(one.place, one.depths, 0.25, one.head)
        yield narrow, Form((64, 64), 3, 11, (5,))
    for one in plankton.TABLE:
        yield PlanktonNetwork(one.place, one.depths, 0.25), Form((95, 95), classes=121)
    yield from ((PartNetwork(windows), Cub("drawn").form) for windows in (0, 2, 4))


def check(network: Architecture, form: Form) -> Checked:
    """Compare one network. Raises UserError as to_torch and to_onnx do."""
    torch, runtime = needed("torch"), needed("onnxruntime")
    volume = len(form.size) == 3
    shape = (IMAGES, *form.size, *([] if volume else [form.channels]))
    soft = [0, *[SOFT] * len(form.size), *([] if volume else [0])]
    noise = gaussian_filter(generator(0, "exported networks").uniform(size=shape), soft)
    images = (noise - noise.min()) / np.ptp(noise)
    found: dict[str, float] = {}

    for dtype in (np.float32, np.float64):
        built = network.build(form)
        buffer = ParameterBuffer(built.parameters(), 0, dtype)
        buffer.data += generator(1, "exported networks").normal(0, MOVED, buffer.data.shape)
        if fixed := built.fixed_parameters():
            ParameterBuffer(fixed, 0, dtype)
        x = images.astype(dtype)
        there = np.ascontiguousarray(x[:, None] if volume else x.transpose(0, 3, 1, 2))
        with torch.no_grad():
            theirs = {"torch": to_torch(built, form)(torch.from_numpy(there)).numpy()}
        if dtype == np.float64:
            theirs = {"torch float64": theirs["torch"]}
        else:
            session = runtime.InferenceSession(
                model_of(built, form).SerializeToString(), providers=["CPUExecutionProvider"]
            )
            (theirs["onnxruntime"],) = session.run(None, {"x": there})
        ours: Any = built.forward(x)[0]
        largest = np.abs(ours).max()
        found |= {name: float(np.abs(y - ours).max() / largest) for name, y in theirs.items()}
    return Checked(network, form, built.count, found)
