"""Each kind of network as a value: what it builds, what a record keeps of it, what it refuses."""

from typing import NamedTuple

import numpy as np
import pytest
from helpers import normal

from ministn.data import Form
from ministn.errors import UserError
from ministn.kinds import from_json, to_json
from ministn.models import (
    Alternating,
    Architecture,
    ClassificationCnn,
    Colocaliser,
    CropEncoder,
    FfnSpn,
    PartNetwork,
    Placement,
    PlacementCnn,
    PlanktonNetwork,
    Projected,
    RnnSpn,
    SequenceCnn,
    Shuffled,
    SmallStn,
    Stn,
    SvhnNetwork,
    Trstn,
    Tstn,
    UntiedStn,
)
from ministn.parameter import ParameterBuffer


class Built(NamedTuple):
    """A network for images of a form, its outputs, and how many parameters it learns.

    outputs: for an image, (T, K) of several labels. transformers: in it. too_small: a size that it
    refuses.
    """

    network: Architecture
    form: Form
    outputs: int | tuple[int, ...]
    count: int
    transformers: int
    too_small: tuple[int, ...]


# By kind. Whatever is added has its entry here. Counts are sums over the layers: (inputs + 1) times
# outputs, of convolutions kernel^2 channels and maps.
BUILT = {
    built.network.kind: built
    for built in [
        Built(
            ClassificationCnn(1), Form((17, 27), 2, 5), 5,
            (9 * 2 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128
            + (2 * 3 * 128 + 1) * 625 + 626 * 5,
            0, (7, 60),
        ),
        Built(
            UntiedStn(1, downsample=2, share=0.25), Form((19, 29), classes=5), 5,
            2 * (10 * 8 + (9 * 8 + 1) * 16 + (9 * 16 + 1) * 32)
            + (1 * 1 * 32 + 1) * 156 + 157 * 5 + (4 * 7 * 32 + 1) * 50 + 51 * 6,
            1, (15, 60),
        ),
        Built(
            Tstn(1), Form((17, 27), classes=5), 5,
            10 * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128
            + (2 * 3 * 128 + 1) * 625 + 626 * 5 + (4 * 6 * 128 + 1) * 200 + 201 * 6,
            1, (60, 7),
        ),
        Built(
            Trstn(2, 1.5, glimpses=3), Form((17, 27), 2, 5), 5,
            (9 * 2 + 1) * 32 + (9 * 32 + 1) * (32 + 64) + (9 * 64 + 1) * (64 + 128)
            + (9 * 128 + 1) * 128
            + (1 * 2 * 128 + 1) * 625 + 626 * 5 + 3 * (4 * 6 * 128 + 200 + 1) * 200 + 201 * 6,
            3, (11, 60),
        ),
        Built(
            Alternating(1, 1.5), Form((17, 27), classes=5), 5,
            10 * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128
            + (1 * 2 * 128 + 1) * 625 + 626 * 5 + (4 * 6 * 128 + 1) * 200 + 201 * 6,
            0, (11, 60),
        ),
        Built(
            Shuffled(Trstn(1)), Form((17, 27), classes=5), 5,
            10 * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128
            + (2 * 3 * 128 + 1) * 625 + 626 * 5 + 3 * (4 * 6 * 128 + 200 + 1) * 200 + 201 * 6,
            2, (7, 60),
        ),
        Built(
            SmallStn(), Form((33, 45), classes=5), 5,
            26 * 20 + (25 * 20 + 1) * 20 + (2 * 5 * 20 + 1) * 50 + 51 * 6
            + 10 * 32 + (9 * 32 + 1) * 32 + (1 * 2 * 32 + 1) * 256 + 257 * 5,
            1, (31, 60),
        ),
        Built(
            Stn("cnn", "projective", 2, width=6), Form((28, 34), 2, 5), 5,
            2 * ((25 * 2 + 1) * 20 + (25 * 20 + 1) * 20 + (1 * 2 * 20 + 1) * 20 + 21 * 8)
            + (81 * 4 + 1) * 6 + (49 * 6 + 1) * 6 + (2 * 3 * 6 + 1) * 5,
            2, (60, 27),
        ),
        Built(
            Projected("fcn", transformed=True, width=6), Form((28, 34, 60), classes=5), 5,
            (7 * 8 * 15 + 1) * 32 + 2 * 33 * 32 + 33 * 12
            + (24 * 30 + 1) * 6 + 7 * 6 + 7 * 5,
            1, (28, 27, 60),
        ),
        Built(
            PartNetwork(2), Form((17, 27), 2, 5), 5,
            (25 * 2 + 1) * 16 + (25 * 16 + 1) * 16 + (2 * 3 * 16 + 1) * 32 + 33 * 4
            + 2 * ((9 * 2 + 1) * 16 + (9 * 16 + 1) * 16 + (1 * 1 * 16 + 1) * 32) + (2 * 32 + 1) * 5,
            2, (15, 60),
        ),
        Built(
            CropEncoder(), Form((22, 25), classes=5), 5,
            82 * 32 + (49 * 32 + 1) * 32 + (1 * 2 * 32 + 1) * 5,
            0, (21, 60),
        ),
        Built(
            Colocaliser(), Form((33, 41)), 42,
            82 * 8 + (3 * 4 * 8 + 1) * 32 + 33 * 32 + 33 * 3,
            1, (12, 60),
        ),
        Built(
            RnnSpn(2, dropout=0.2, units=7, state=9), Form((36, 45), 2, 5, (3,)), (3, 5),
            (9 * 2 + 1) * 20 + 2 * (9 * 20 + 1) * 20 + 3 * (1 * 2 * 20 + 9 + 1) * 9 + 10 * 6
            + (9 * 2 + 1) * 32 + 2 * (9 * 32 + 1) * 32 + (1 * 2 * 32 + 1) * 7 + 8 * 5,
            3, (35, 60),
        ),
        Built(
            FfnSpn(2), Form((36, 45), 2, 5, (3,)), (3, 5),
            (9 * 2 + 1) * 20 + 2 * (9 * 20 + 1) * 20 + (1 * 2 * 20 + 1) * 200 + 201 * 6
            + (9 * 2 + 1) * 96 + 2 * (9 * 96 + 1) * 96 + (1 * 2 * 96 + 1) * 400 + 401 * 15,
            1, (60, 35),
        ),
        Built(
            SequenceCnn(convolutions=4), Form((36, 45), 2, 5, (2,)), (2, 5),
            (9 * 2 + 1) * 96 + 3 * (9 * 96 + 1) * 96 + (3 * 5 * 96 + 1) * 400 + 401 * 10,
            0, (35, 60),
        ),
        Built(
            Placement("DL", "T", (1, 1)), Form((48, 53), 2, 5), 5,
            2 * (81 * 2 + 1) * 16 + (49 * 16 + 1) * 32 + (1 * 1 * 32 + 1) * 5
            + 2 * (25 * 16 + 1) * 16 + (4 * 5 * 16 + 1) * 32 + 33 * 6,
            1, (47, 60),
        ),
        Built(
            PlacementCnn("S"), Form((40, 47), 2, 5), 5,
            (81 * 2 + 1) * 16 + (49 * 16 + 1) * 22 + (5 * 6 * 22 + 1) * 5,
            0, (60, 39),
        ),
        Built(
            PlanktonNetwork("SL", (1, 4), 0.0625), Form((31, 49), 2, 5), 5,
            (9 * 2 + 1) * 2 + (9 * 2 + 1) * 2 + (9 * 2 + 1) * 4 + (9 * 4 + 1) * 4
            + (9 * 4 + 1) * 8 + 2 * (9 * 8 + 1) * 8 + (9 * 8 + 1) * 16 + 2 * (9 * 16 + 1) * 16
            + (1 * 2 * 16 + 1) * 32 + 33 * 32 + 33 * 5
            + (31 * 49 * 2 + 1) * 64 + (7 * 11 * 4 + 1) * 64 + 2 * (65 * 64 + 65 * 6),
            1, (60, 30),
        ),
        Built(
            SvhnNetwork("C", (2, 5), 1 / 16, "large"), Form((16, 33), 2, 5, (3,)), (3, 5),
            (25 * 2 + 1) * 3 + (25 * 3 + 1) * 4 + (25 * 4 + 1) * 8 + (25 * 8 + 1) * 10
            + (25 * 10 + 1) * 12 + 3 * (25 * 12 + 1) * 12
            + (1 * 2 * 12 + 1) * 192 + 2 * 193 * 192 + 193 * 15
            + (25 * 4 + 1) * 32 + (4 * 8 * 32 + 1) * 32 + (25 * 12 + 1) * 32 + (1 * 2 * 32 + 1) * 32
            + 2 * ((25 * 32 + 1) * 32 + 33 * 32 + 33 * 6),
            2, (15, 60),
        ),
    ]
}  # fmt: skip
each = pytest.mark.parametrize("kind", BUILT)


@each
def test_what_it_builds(kind):
    value, form, outputs, count, transformers, _ = BUILT[kind]
    network = value.build(form)
    assert network.count == count == sum(p.size for p in network.parameters())
    assert len(network.transformers) == transformers
    for parameters in (network.parameters(), network.fixed_parameters()):
        if parameters:
            ParameterBuffer(parameters, 0)
    shape = (3, *form.size) if len(form.size) == 3 else (3, *form.size, form.channels)
    y, looked = network.predict(abs(normal(*shape)).astype(np.float32))
    one = (outputs,) if isinstance(outputs, int) else outputs
    assert y.shape == (3, *one) and len(looked) == transformers


@each
def test_what_a_record_keeps_of_it(kind):
    value = BUILT[kind].network
    kept = to_json(value)
    assert kept["kind"] == kind and from_json(kept) == value
    with pytest.raises(UserError, match=f"^{kind} has no depth; it has "):
        from_json(kept | {"depth": 3})


@each
def test_images_that_it_cannot_have(kind):
    """Too small ones, and volumes or, of a network for those, images."""
    value, form, *_, too_small = BUILT[kind]
    with pytest.raises(UserError, match=r"must (be|have) at least \d+x\d+"):
        value.build(Form(too_small))
    other = (60, 60) if len(form.size) == 3 else (60, 60, 60)
    with pytest.raises(UserError, match="got .*" + "x".join(map(str, other)) + "$"):
        value.build(Form(other))


@each
def test_channels_are_those_of_the_images(kind):
    """Whatever their number, or it is refused: none is left out."""
    value, form, *_ = BUILT[kind]
    more = Form(form.size, form.channels + 2, form.classes, form.labels)
    if kind in ("projected", "colocaliser"):
        with pytest.raises(UserError, match=r"^the network is for one channel, got 3$"):
            value.build(more)
    else:
        network = value.build(more)
        ParameterBuffer(network.parameters(), 0)
        x = abs(normal(2, *more.shape)).astype(np.float32)
        gone = x.copy()
        gone[..., -1] = 0
        differs = network.predict(x)[0] != network.predict(gone)[0]
        assert differs.reshape(2, -1).any(axis=1).all()


def test_names_differ():
    """Of all that this file builds: a run's folder begins with the name."""
    names = [built.network.name for built in BUILT.values()]
    assert len(set(names)) == len(names)
