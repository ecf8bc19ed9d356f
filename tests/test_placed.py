"""Transformers at any depth of a classifier: each arrangement is the network built by hand."""

import numpy as np
import pytest
from helpers import normal

from ministn.data import Form
from ministn.fit import Training, fit
from ministn.gradcheck.check import check_gradients
from ministn.gradcheck.networks import loss_problem, perturbed
from ministn.initializers import HeUniform
from ministn.layers import Conv2d, Dense, Dropout, Flatten, LeakyReLU, MaxPool2d, ReLU, Sequential
from ministn.models import Network, Tstn
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.recurrent import GRU
from ministn.transformer import (
    Iterated,
    Resize,
    SpatialTransformer,
    fresh,
    map_shape,
    placed,
    regression_layer,
)
from ministn.transformer.placed import field
from ministn.transformer.samplers import Sampler

STEP = Step(seed=5, number=7)
N, SHAPE, CLASSES = 2, (13, 18, 2), 5


def layers(shape=SHAPE, dropout=0.2):
    """Of a classifier: a block, a layer, a block, and the rest."""
    height, width, channels = shape
    return [
        Sequential(Conv2d("classifier/conv1", channels, 3, pool=True), Dropout("drop1", dropout)),
        Conv2d("classifier/conv2", 3, 4, padding="valid"),
        Sequential(Conv2d("classifier/conv3", 4, 3, activation=None), LeakyReLU("leaky")),
        Flatten("classifier/flatten"),
        Dense("classifier/dense", (height // 2 - 2) * (width // 2 - 2) * 3, 6),
        ReLU("classifier/relu"),
        Dense("classifier/softmax", 6, CLASSES),
    ]


def head(shape, path):
    return [
        Flatten(f"{path}/flatten"),
        Dense(f"{path}/dense", int(np.prod(shape)), 7, initial=HeUniform(0.5)),
        ReLU(f"{path}/relu"),
        regression_layer(f"{path}/theta", 7),
    ]


def network(place, depths, made=None, **options):
    return Network(*placed(place, made or layers(), depths, head, SHAPE, **options))


def laid_out(made, dtype=np.float64):
    return perturbed(ParameterBuffer(made.parameters(), 0, dtype))


def results(made, buffer, x, dy):
    """Logits and theta in training, and all gradients by name."""
    buffer.zero_grad()
    y, cache = made.forward(x, STEP)
    made.backward(dy, cache)
    named = {p.name: p.grad.copy() for p in made.parameters()}
    return [y, *made.thetas(cache), *(named[name] for name in sorted(named))]


def check_same(*networks):
    """The same numbers and gradients, by parameters of the same names."""
    x, dy, found = normal(N, *SHAPE), normal(N, CLASSES), []
    for made in networks:
        found.append(results(made, laid_out(made), x, dy))
        assert [p.name for p in made.parameters()] == [p.name for p in networks[0].parameters()]
        assert all(p.grad.any() for p in made.parameters())
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


# ---- against networks built by hand


def test_at_depth_0_the_three_are_one_network():
    front = SpatialTransformer(Iterated(Sequential(*head(SHAPE, "localisation0"))), SHAPE[:2])
    by_hand = Network(Sequential(*layers()), front)
    check_same(by_hand, *(network(place, (0,)) for place in ("C", "DL", "SL")))


def test_a_feature_map_is_transformed():
    made = layers()
    shape = map_shape(made[:2], SHAPE)
    assert shape == (4, 7, 4)
    inner = SpatialTransformer(Iterated(Sequential(*head(shape, "localisation2"))), shape[:2])
    check_same(Network(Sequential(*made[:2], inner, *made[2:])), network("C", (2,)))


def test_layers_are_shared():
    made = layers()
    looking = Sequential(*made[:2], *head(map_shape(made[:2], SHAPE), "localisation2"))
    front = SpatialTransformer(Iterated(looking), SHAPE[:2])
    check_same(Network(Sequential(*made), front), network("SL", (2,)))


def test_layers_are_copied():
    made, below = layers(), "localisation2/copy"
    copies = [
        Sequential(
            Conv2d(f"{below}/classifier/conv1", 2, 3, pool=True), Dropout(f"{below}/drop1", 0.2)
        ),
        Conv2d(f"{below}/classifier/conv2", 3, 4, padding="valid"),
    ]
    looking = Sequential(*copies, *head((4, 7, 4), "localisation2"))
    front = SpatialTransformer(Iterated(looking), SHAPE[:2])
    check_same(Network(Sequential(*made), front), network("DL", (2,)))


def test_a_shared_transformer_is_a_tstn():
    """Where the classifier's last pooling is a layer of its own, so that three are shared.

    It then follows the bias, so that sums are rounded otherwise.
    """
    form = Form((16, 19), 2, CLASSES)
    tied = Tstn(1).build(form)
    *shared, third = tied.classifier.layers[:3]
    rest = tied.classifier.layers[3:]
    made = [*shared, third.with_pool(False), MaxPool2d("pool"), *rest]
    its_head = tied.front.localisation.layers[3:]
    other = Network(*placed("SL", made, (3,), lambda shape, path: its_head, (16, 19, 2)))
    buffer, x, dy = laid_out(tied), normal(N, 16, 19, 2), normal(N, CLASSES)
    found = [results(one, buffer, x, dy) for one in (tied, other)]
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order", ["right", "left"])
@pytest.mark.parametrize("place", ["SL", "DL"])
def test_several_depths_and_looks_align_the_image_in_steps(place, order):
    """Figure 4, below; a depth that is given twice has one head, and one copy."""
    sampler = Sampler(border="zeros", fill=0.5)
    made, looks = layers(), {}
    for depth in (0, 1, 3):
        shape, path = map_shape(made[:depth], SHAPE), f"localisation{depth}"
        below = (
            [fresh(Sequential(*made[:depth]), f"{path}/copy")] if place == "DL" else made[:depth]
        )
        looks[depth] = Sequential(*below, *head(shape, path))
    each = [looks[depth] for depth in (0, 1, 1, 3)]
    front = SpatialTransformer(
        Iterated(*each, order=order, sampler=sampler), SHAPE[:2], sampler=sampler
    )
    by_hand = Network(Sequential(*made), front)
    check_same(by_hand, network(place, (0, 1, 1, 3), order=order, sampler=sampler))


def test_several_depths_of_feature_maps_have_a_transformer_each():
    """Figure 4, above; a depth that is given twice has one, which looks twice."""
    made, inner = layers(), {}
    for depth in (0, 1, 3):
        shape = map_shape(made[:depth], SHAPE)
        look = Sequential(*head(shape, f"localisation{depth}"))
        inner[depth] = SpatialTransformer(Iterated(*[look] * (1 + (depth == 1))), shape[:2])
    classifier = made[0], inner[1], *made[1:3], inner[3], *made[3:]
    check_same(Network(Sequential(*classifier), inner[0]), network("C", (0, 1, 1, 3)))


@pytest.mark.parametrize("place", ["C", "DL", "SL"])
def test_another_look_has_the_same_parameters(place):
    once, again, thrice = (network(place, (1,) * times) for times in (1, 2, 3))
    shapes = [{p.name: p.shape for p in made.parameters()} for made in (once, again, thrice)]
    assert shapes[0] == shapes[1] == shapes[2]
    x, seen = normal(N, *SHAPE), []
    for made in (once, again, thrice):
        laid_out(made)
        seen.append(made.predict(x)[1][0].theta)
    assert abs(seen[0] - seen[1]).min() > 0 and abs(seen[1] - seen[2]).min() > 0


@pytest.mark.parametrize(("place", "last"), [("C", (3, 4)), ("DL", (6, 9)), ("SL", (6, 9))])
def test_only_the_last_output_is_smaller(place, last):
    classifier, front, _ = placed(place, layers(), (0, 1), head, SHAPE, downsample=2)
    sizes = [one.size for one in Network(classifier, front).transformers]
    assert sizes == ([SHAPE[:2], last] if place == "C" else [last])


def test_the_head_is_told_what_it_reads():
    told = []

    def noting(shape, path):
        told.append((shape, path))
        return head(shape, path)

    for place in ("C", "DL", "SL"):
        placed(place, layers(), (0, 1, 2, 2), noting, SHAPE)
    maps = [(SHAPE, "localisation0"), ((6, 9, 3), "localisation1"), ((4, 7, 4), "localisation2")]
    assert told == maps * 3


def test_it_is_for_images_of_the_shape_that_it_was_told():
    """Be they of another, its transformer would shrink them without a word."""
    made = network("SL", (1,))
    assert made.shape == SHAPE
    images = np.zeros((4, SHAPE[0] + 1, *SHAPE[1:]), np.uint8)
    with pytest.raises(ValueError, match=r"^images must have shape \(N, 13, 18, 2\), as the netw"):
        fit(made, images, np.zeros(4, np.uint8), Training(epochs=1))


# ---- gradients


@pytest.mark.parametrize(("place", "order"), [("C", "right"), ("DL", "left"), ("SL", "right")])
def test_gradients_of_three_looks_at_two_depths(place, order):
    problem = loss_problem(network(place, (1, 1, 2), order=order), SHAPE)
    gradients = problem.gradients()
    check_gradients(problem.value, problem.arrays, gradients, eps=1e-6, elements=6, directions=3)
    assert all(gradient.any() for gradient in gradients.values())


def test_shared_gradients_are_the_sum_of_all_uses():
    """Against copies with the same values: of one's own in each look."""
    shared, apart = network("SL", (1, 2)), network("DL", (1, 2))
    laid_out(shared)
    values = {p.name: p for p in shared.parameters()}
    ParameterBuffer(apart.parameters(), 0, np.float64)
    owners = {p.name: p.name.rpartition("/copy/")[2] for p in apart.parameters()}
    for p in apart.parameters():
        p.data[...] = values[owners[p.name]].data
    x, dy = normal(N, *SHAPE), normal(N, CLASSES)
    # Without dropout, whose masks have the layers' paths.
    for made in (shared, apart):
        for p in made.parameters():
            p.forget()
        _, cache = made.forward(x, Step(5, 7, dropout=0))
        made.backward(dy, cache)
    summed = {name: np.zeros_like(p.grad) for name, p in values.items()}
    for p in apart.parameters():
        summed[owners[p.name]] += p.grad
    assert sorted(owners.values()).count("classifier/conv1/weight") == 3
    for name, p in values.items():
        np.testing.assert_allclose(p.grad, summed[name], rtol=1e-9, atol=1e-12)


# ---- copies, and shapes of maps


def test_a_fresh_layer_begins_anew():
    conv = Conv2d("conv", 2, 3)
    block = Sequential(conv, Dropout("drop"), conv.with_pool(True), GRU("gru", 3, 2, 1))
    buffer = ParameterBuffer(block.parameters(), 0)
    made = fresh(block, "own")
    assert [p.name for p in made.parameters()] == [f"own/{p.name}" for p in block.parameters()]
    assert made.layers[0].weight is made.layers[2].weight is not conv.weight
    assert [one.path for one in made.layers] == ["own/conv", "own/drop", "own/conv", "own/gru"]
    assert [one.path for one in block.layers] == ["conv", "drop", "conv", "gru"]
    assert made.layers[2].pool and not made.layers[0].pool
    assert not any("data" in vars(p) for p in made.parameters())
    before = buffer.data.copy()
    again = ParameterBuffer([*block.parameters(), *made.parameters()], 0)
    np.testing.assert_array_equal(again.data[: before.size], before)
    for p, other in zip(block.parameters(), made.parameters(), strict=True):
        assert p.initial is other.initial and p.shape == other.shape
        assert not p.data.any() or not np.array_equal(p.data, other.data)


def test_what_is_inside_a_fresh_transformer_is_fresh():
    inner = SpatialTransformer(Iterated(Sequential(*head((4, 5, 2), "look"))), (4, 5), path="inner")
    made = fresh(inner, "own")
    assert made.path == "own/inner" and made.localisation.path == "own/iterated"
    assert made.localisation.localisations[0].layers[1].path == "own/look/dense"
    assert {p.name.split("/")[0] for p in made.parameters()} == {"own"}


def test_the_shape_of_a_map_is_that_of_a_run_and_leaves_layers_alone():
    made = layers()
    assert map_shape([], SHAPE) == SHAPE
    assert [map_shape(made[:depth], SHAPE) for depth in (1, 2, 3)] == [
        (6, 9, 3), (4, 7, 4), (4, 7, 3)
    ]  # fmt: skip
    assert not any("data" in vars(p) for one in made for p in one.parameters())


def test_a_maps_field_is_the_way_from_its_first_cell_to_its_last():
    """Counted by hand: after 'valid' 9x9 and 2x2, cells lie 2 pixels apart."""
    valid = Conv2d("conv1", 2, 3, 9, padding="valid", pool=True)
    assert field([], SHAPE) == (1, 1)
    assert field([valid], (60, 28, 2)) == (9 * 2 / 27, 25 * 2 / 59)
    pools = [Conv2d("conv", 2, 3), MaxPool2d("pool1", 3, 2), MaxPool2d("pool2", 3, 2)]
    assert field(pools, (95, 95, 2)) == (22 * 4 / 94, 22 * 4 / 94)
    inner = SpatialTransformer(Sequential(*head((13, 18, 2), "look")), (5, 6))
    assert field([inner], SHAPE) == field([Resize("resize", (5, 6))], SHAPE) == (1, 1)
    _, front, _ = placed("SL", layers(), (1,), head, SHAPE)
    assert front.field == (1, 1)
    (behind,) = network("C", (1,)).transformers
    assert behind.field == (8 * 2 / 17, 5 * 2 / 12)


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"place": "X"}, ValueError, "place must be 'C', 'DL' or 'SL', got 'X'"),
        ({"depths": ()}, ValueError, r"depths must be whole numbers, at least one of them, got"),
        ({"depths": 1}, ValueError, "depths must be whole numbers, at least one of them, got 1"),
        ({"depths": (1, 0)}, ValueError, r"depths must go up, from 0 to 7 layers at most, got"),
        ({"depths": (8,)}, ValueError, r"depths must go up, from 0 to 7 layers at most, got"),
        ({"depths": (4,)}, ValueError, r"layers must make a map \(h, w, c\) of an image, got"),
        ({"shape": (13, 18)}, ValueError, r"shape must be three whole numbers \(H, W, C\), got"),
        ({"shape": (13, 18, 1)}, ValueError, r"classifier/conv1: x must have shape \(N, H, W, C=2"),
        ({"layers": [3]}, TypeError, "a layer must be a Layer, got int"),
        ({"head": 3}, TypeError, "head must be callable, got int"),
        ({"order": "up"}, ValueError, "order must be 'right' or 'left', got 'up'"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_placed_is_refused(change, error, message):
    given = {"place": "SL", "layers": layers(), "depths": (1,), "head": head, "shape": SHAPE}
    with pytest.raises(error, match=f"^{message}"):
        placed(**given | change)
