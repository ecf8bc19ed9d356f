"""Layers that learn from the one before how large their input is, wrong sizes, and the table."""

from math import prod

import numpy as np
import pytest

from ministn.data import Form
from ministn.errors import UserError
from ministn.fit import Training, fit, load, save
from ministn.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, Sequential
from ministn.models import Network, Tstn
from ministn.parameter import Parameter, ParameterBuffer
from ministn.recurrent import GRU
from ministn.shapes import met
from ministn.transformer import (
    Glimpses,
    HandOn,
    Iterated,
    Parallel,
    SpatialTransformer,
    map_shape,
    placed,
    regression_layer,
)

SHAPE = 9, 11, 2


def look(path: str, known: bool, inputs: int = prod(SHAPE)) -> list[Layer]:
    return [Flatten(f"{path}/f"), regression_layer(f"{path}/theta", inputs if known else None)]


def front(known: bool, path: str = "look") -> SpatialTransformer:
    return SpatialTransformer(Sequential(*look(path, known)), (5, 4))


def plain(known: bool) -> Network:
    conv = Conv2d("conv", 2 if known else None, 3, pool=True)
    layers = conv, Flatten("f"), Dense("softmax", 12 if known else None, 4)
    return Network(Sequential(*layers), front(known))


def parallel(known: bool) -> Network:
    layers = Flatten("f"), Dense("softmax", 80 if known else None, 4)
    return Network(Sequential(*layers), Parallel(front(known), front(known, "other")))


def handing_on(known: bool) -> Network:
    dense = Dense("softmax", 46 if known else None, 4)
    return Network(Sequential(dense), HandOn(front(known), Flatten("f")))


def glimpsing(known: bool) -> Network:
    gru = GRU("gru", prod(SHAPE) if known else None, 3, 2)
    theta = Sequential(Flatten("f"), gru, regression_layer("theta", 3 if known else None))
    read = Flatten("g"), Dense("dense", 40 if known else None, 4)
    return Network(Sequential(), Glimpses(SpatialTransformer(theta, (5, 4)), *read, glimpses=2))


def again(known: bool) -> Network:
    each = Iterated(*(Sequential(*look(path, known)) for path in "ab"))
    layers = Flatten("f"), Dense("softmax", prod(SHAPE) if known else None, 4)
    return Network(Sequential(*layers), SpatialTransformer(each, SHAPE[:2]))


def looking_with_the_classifier(known: bool, place: str = "SL") -> Network:
    layers = [
        Conv2d("one", 2 if known else None, 3, pool=True),
        Conv2d("two", 3 if known else None, 2),
        Flatten("f"),
        Dense("softmax", 40 if known else None, 4),
    ]

    def head(shape, path):
        return look(path, known, prod(shape))

    classifier, front, _ = placed(place, layers, (0, 1), head, SHAPE)
    return Network(classifier, front)


NETWORKS = {
    "plain": plain,
    "parallel": parallel,
    "handing on": handing_on,
    "glimpses": glimpsing,
    "iterated": again,
    **{
        place: lambda known, place=place: looking_with_the_classifier(known, place)
        for place in ("C", "DL", "SL")
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_was_not_told_is_the_one_that_was(name):
    told, met = NETWORKS[name](True), NETWORKS[name](False)
    assert any(None in parameter.shape for parameter in met.parameters())
    met.meet(SHAPE)
    told.meet(SHAPE)
    assert not any(hasattr(p, "data") for n in (told, met) for p in n.parameters())
    assert repr(told.parameters()) == repr(met.parameters()) and repr(told) == repr(met)
    for network in (told, met):
        ParameterBuffer(network.parameters(), seed=1)
    x = np.random.default_rng(0).random((2, *SHAPE), np.float32)
    np.testing.assert_array_equal(told.predict(x)[0], met.predict(x)[0])
    shapes = met.outputs
    assert all(str(path) for path in shapes) and list(shapes.values())[-1] in ((4,), (2, 4))


def test_fit_tells_it_and_a_file_keeps_it(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, *SHAPE), np.uint8)
    labels, training = np.arange(12) % 4, Training(epochs=1)
    found = []
    for known in (True, False):
        network = plain(known)
        fit(network, images, labels, training, quiet=True)
        found.append(network)
    for one, other in zip(*(network.parameters() for network in found), strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    save(found[1], tmp_path / "file")
    assert repr(load(tmp_path / "file")) == repr(found[0]) and "9x11x2" in repr(found[0])


def test_a_shared_layer_is_told_once():
    conv = Conv2d("conv", None, 3, pool=True)
    network = Network(
        Sequential(conv, Flatten("f"), Dense("s", None, 4)),
        SpatialTransformer(
            Sequential(conv.with_pool(False), Flatten("f"), regression_layer("theta", None)), (5, 4)
        ),
        shape=SHAPE,
    )
    assert network.parameters()[0].shape == (3, 3, 2, 3)
    assert sum(p.name == "conv/weight" for p in network.parameters()) == 1


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Flatten("f"), Dense("softmax", 200, 4)], r"^softmax: .*\(N, D=200\), got \(1, 198\)$"),
        ([Conv2d("conv", 3, 4)], r"^conv: x must have .*\(N, H, W, C=3\), got \(1, 9, 11, 2\)$"),
        ([Dense("softmax", None, 4)], r"^softmax: x must have shape .*got \(1, 9, 11, 2\)$"),
        ([MaxPool2d("a", 4), MaxPool2d("b", 3)], r"^b: .*\(2, 2\)|^b: "),
        ([Sequential(Flatten("f"), Dense("in", 3, 4))], r"^in: .*D=3.*198"),
    ],
)
def test_a_wrong_size_names_layer_expected_and_given(layers, message):
    first = Conv2d("first", None, 2)
    network = Network(Sequential(first, *layers))
    with pytest.raises(ValueError, match=message):
        network.meet(SHAPE)
    assert first.weight.shape == (3, 3, None, 2) and network.shape is None
    assert not hasattr(first.weight, "data")


def test_images_of_another_shape_do_not_change_what_is_known():
    network = plain(False)
    network.meet(SHAPE)
    with pytest.raises(ValueError, match=r"^look/theta: x must have shape \(N, D=198\), got"):
        network.meet((9, 12, 2))
    assert network.shape == SHAPE and network.outputs["softmax"] == (4,)
    with pytest.raises(ValueError, match=r"^shape must be"):
        network.meet((9, 12))


def test_what_does_not_know_its_input_cannot_be_laid_out():
    network = plain(False)
    with pytest.raises(
        UserError, match=r"'conv/weight' \(3, 3, None, 3\) .* network.meet\(shape\)"
    ):
        ParameterBuffer(network.parameters(), seed=0)
    with pytest.raises(ValueError, match="shape must be whole numbers"):
        Parameter("p", (None, 0.5), np.zeros)


def test_weights_stay_as_they_are():
    network = plain(True)
    buffer = ParameterBuffer(network.parameters(), 0, np.float64)
    before = buffer.data.copy()
    network.meet(SHAPE)
    np.testing.assert_array_equal(buffer.data, before)
    buffer.check_tied()


def test_a_map_s_shape_needs_no_sizes():
    layers = [Conv2d("one", None, 3, pool=True), Conv2d("two", None, 5, padding="valid")]
    assert map_shape(layers, SHAPE) == (2, 3, 5) and map_shape([], SHAPE) == SHAPE
    assert layers[0].weight.shape == (3, 3, None, 3)
    assert [path for path, _ in met(Sequential(*layers), SHAPE)] == ["one", "two"]


def test_the_table():
    network = Tstn(1).build(Form((20, 20)))
    network.meet((20, 20, 1))
    title, _, first, *rows, total = repr(network).splitlines()
    assert title == "Network, images 20x20x1"
    assert first.split() == ["transformer", "SpatialTransformer", "20x20x1"]
    assert rows[0].split() == ["classifier/conv1", "Conv2d", "10x10x32", "320"]
    assert rows[0].startswith("  c") and rows[7].startswith("c")
    assert rows[7].split() == ["classifier/conv1", "Conv2d", "10x10x32", "shared"]
    assert total.split() == ["in", "all", f"{network.count:,}"]
    counted = [int(row.split()[-1].replace(",", "")) for row in rows if row[-1].isdigit()]
    assert sum(n for n, row in zip(counted, rows, strict=False)) >= network.count


def test_a_table_of_layers_alone():
    assert repr(Conv2d("conv", 2, 3)).splitlines()[1].split() == ["conv", "Conv2d", "57"]
    lines = repr(Sequential(Conv2d("conv", None, 3), Flatten("f"))).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["conv", "Conv2d", "?"], ["f", "Flatten"], ["in", "all", "?"]
    ]  # fmt: skip
