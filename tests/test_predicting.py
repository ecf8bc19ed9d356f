"""What a network makes of one's own images, some at a time, and where its transformers look."""

import numpy as np
import pytest
from helpers import normal
from test_saved import SHAPE, by_hand, handing_on, placed_as, ready
from test_shapes import glimpsing

from ministn.errors import UserError
from ministn.fit import predict
from ministn.layers import Dense, Flatten, Layer, Sequential
from ministn.models import Network, prediction
from ministn.ops import as_batch
from ministn.plot import draw, draw_transformer

IMAGES = np.random.default_rng(0).integers(0, 256, (7, *SHAPE), np.uint8)


def test_bytes_and_floats_some_at_a_time(monkeypatch):
    """So few that memory does not grow with their number, and with the last few."""
    network, seen = ready(by_hand()), []
    y, looks = network.predict(as_batch(IMAGES))
    right = Network.predict
    monkeypatch.setattr(prediction, "BATCH", 3)
    monkeypatch.setattr(Network, "predict", lambda self, x: seen.append(len(x)) or right(self, x))
    for images in (IMAGES, as_batch(IMAGES)):
        found, looked = predict(network, images)
        np.testing.assert_allclose(found, y, rtol=1e-5)
        assert len(looked) == len(looks) == len(network.transformers) == 3
        for one, other in zip(looks, looked, strict=True):
            np.testing.assert_allclose(other.theta, one.theta, rtol=1e-5, atol=1e-6)
    assert seen == [3, 3, 1] * 2


@pytest.mark.parametrize("call", [predict, draw])
def test_what_cannot_be_looked_at(call):
    network = ready(by_hand())
    network.meet(SHAPE)
    for images, error, message in (
        (IMAGES / 255, TypeError, r"^images must be bytes, .* got float64: .astype\(np.float32\)$"),
        (
            IMAGES[0],
            ValueError,
            r"\(N, 11, 13, 2\), .*met them, got \(11, 13, 2\) of one.*\[None\]$",
        ),
        (IMAGES[..., 0], ValueError, r"^images must have .* has met them, got \(7, 11, 13\)$"),
        (IMAGES[:, :9], ValueError, r"^images must have .*, got \(7, 9, 13, 2\)$"),
        (IMAGES[:0], ValueError, r"^images must have at least one pixel"),
        (np.full(IMAGES.shape, np.nan, np.float32), ValueError, "^images must be finite, 7 of 7"),
        (list(IMAGES), TypeError, r"^images must be one array, .*ministn.data.resized does$"),
    ):
        with pytest.raises(error, match=message) as caught:
            call(network, images)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"no weights yet, .* for one: fit or load it first$"):
        call(by_hand(), IMAGES)
    with pytest.raises(TypeError, match=r"^network must be a Network, got Tensor"):
        call(type("Tensor", (), {})(), IMAGES)


def panels(figure) -> list[np.ndarray]:
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


@pytest.mark.parametrize("name", ["by hand", "C", "SL", "handing on", "glimpses"])
def test_each_arrangement_is_given_what_it_has_in_the_network(name):
    made = {"by hand": by_hand, "handing on": handing_on, "glimpses": lambda: glimpsing(True)}
    network = ready(made[name]() if name in made else placed_as(name))
    size = {"glimpses": (9, 11, 2)}.get(name, SHAPE)
    x = abs(normal(2, *size)).astype(np.float32)
    found = network.at_work(x)
    arranged = {id(one) for front, _ in found for one in front.transformers}
    assert arranged == {id(one) for one in network.transformers}
    layers: list[Layer] = [] if network.front is None else [network.front]
    for layer in (*layers, *network.classifier.layers):
        if layer.transformers:
            (front, given), *found = found
            assert front is layer
            np.testing.assert_array_equal(given, x)
        x = layer.forward(x)[0]
    assert not found


def test_any_transformer_is_drawn():
    network = ready(placed_as("C"))
    x = as_batch(IMAGES)
    for number, (front, given) in enumerate(network.at_work(x[:4])):
        drawn, wanted = draw(network, IMAGES, number, rows=4), draw_transformer(front, given)
        assert len(panels(drawn)) == 4 * 3
        for one, other in zip(panels(drawn), panels(wanted), strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(panels(draw(network, np.concatenate([IMAGES] * 2)))) == 8 * 3
    with pytest.raises(UserError, match=r"the network has 2, numbered from 0; got 2$"):
        draw(network, IMAGES, 2)


def test_there_may_be_none_to_draw():
    network = ready(Network(Sequential(Flatten("f"), Dense("s", 286, 4))))
    with pytest.raises(UserError, match=r"the network has none; got 0$"):
        draw(network, IMAGES)


def test_a_network_that_has_met_nothing_says_which_layer_it_is():
    with pytest.raises(ValueError, match=r"^one: x must have shape \(N, D=60\), got \(7, 48\)$"):
        predict(ready(by_hand()), IMAGES[:, :9])
