"""The MNIST networks of the placement paper: their sizes, their parts, how they begin."""

from math import sqrt

import numpy as np
import pytest
from helpers import normal

from ministn.data import Form
from ministn.data.distorted import RECIPES
from ministn.errors import UserError
from ministn.models import Placement, PlacementCnn
from ministn.models.placement import SIZES, table
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step

CANVAS = {"R": "R", "T": "TC", "S": "S"}  # the sets as data/distorted.py calls them
NETWORKS = {(sizes, one.name): one for sizes in SIZES for one in table(sizes)}


def form(sizes):
    return Form((RECIPES[CANVAS[sizes]].canvas,) * 2)


# By hand, from the layers.
COUNTS = {
    "R": {"placement-cnn": 55_526, "stn-c0": 55_152, "stn-c1": 55_136, "stn-dl1": 56_448},
    "T": {"placement-cnn": 66_692, "stn-c0": 65_374, "stn-c1": 67_472, "stn-dl1": 67_184},
    "S": {"placement-cnn": 134_972, "stn-c0": 133_308, "stn-c1": 132_408, "stn-dl1": 133_720},
}
SHARED = {"R": 55_136, "T": 65_872, "S": 132_408}


@pytest.mark.parametrize("sizes", SIZES)
def test_parameters_are_counted_exactly_and_keep_to_the_papers_budget(sizes):
    counts = {one.name: one.build(form(sizes)).count for one in table(sizes)}
    assert counts == COUNTS[sizes] | {"stn-sl1": SHARED[sizes]}
    least, most = (130_000, 140_000) if sizes == "S" else (50_000, 70_000)
    assert all(least <= count <= most for count in counts.values())
    assert max(counts.values()) < 1.05 * min(counts.values())


@pytest.mark.parametrize("sizes", SIZES)
def test_a_localisation_networks_own_parameters(sizes):
    own = {"R": (27_430, 27_414), "T": (37_652, 38_150), "S": (59_086, 58_186)}[sizes]
    for depth, place in ((0, "C"), (1, "C"), (1, "SL")):
        made = Placement(place, sizes, (depth,)).build(form(sizes))
        assert sum(p.size for p in made.localisation_only()) == own[depth]


@pytest.mark.parametrize(
    ("sizes", "name", "given", "made"),
    [
        ("R", "stn-c0", (28, 28, 1), (28, 28)),
        ("R", "stn-c1", (10, 10, 16), (10, 10)),
        ("T", "stn-sl1", (60, 60, 1), (30, 30)),
        ("T", "stn-c1", (26, 26, 16), (13, 13)),
        ("S", "stn-dl1", (112, 112, 1), (112, 112)),
        ("S", "stn-c1", (52, 52, 16), (52, 52)),
    ],
)
def test_what_is_transformed_and_how_large_it_comes_out(sizes, name, given, made):
    network = NETWORKS[sizes, name].build(form(sizes))
    ParameterBuffer(network.parameters(), 0)
    (transformer,) = network.transformers
    assert transformer.size == made
    x = abs(normal(2, *given)).astype(np.float32)
    assert transformer.theta(x).tolist() == [[1, 0, 0, 0, 1, 0]] * 2
    assert (network.front is transformer) == (name != "stn-c1")
    assert network.predict(abs(normal(2, *form(sizes).size, 1)).astype(np.float32))[0].shape == (
        2,
        10,
    )


def test_all_but_the_transform_layer_begins_uniform_in_one_over_the_root_of_fan_in():
    for one in NETWORKS.values():
        network = one.build(form(one.sizes))
        ParameterBuffer(network.parameters(), 3)
        values = {p.name: p.data for p in network.parameters()}
        for name, data in values.items():
            if "/theta/" in name:
                continue
            weight = values[name.replace("/bias", "/weight")]
            bound = 1 / sqrt(np.prod(weight.shape[:-1]))
            assert abs(data).max() <= bound
            if data.size > 500:
                assert abs(data).max() > 0.98 * bound
                assert abs(data.mean()) < 0.1 * bound
            assert len(np.unique(data)) == data.size or data.size > 2**12


@pytest.mark.parametrize("sizes", SIZES)
def test_what_they_look_at_first_has_mean_0_and_deviation_1(sizes):
    """Classifier and localisation networks alike: of images that have those of the set."""
    mean, deviation = SIZES[sizes].pixels
    image = mean + deviation * normal(1, *form(sizes).size, 1)
    for one in table(sizes):
        network = one.build(form(sizes))
        ParameterBuffer(network.parameters(), 0, np.float64)
        first = [network.classifier.layers[0]]
        if network.front is not None:
            (looking,) = network.front.localisation.localisations
            first.append(looking.layers[0])
        for layer in first:
            found = next(y for _, y in layer.outputs(image, Step(0, 0)))
            assert abs(found.mean()) < 0.1 and 0.9 < found.std() < 1.1


def test_they_begin_with_one_classifier():
    """Of one seed, R and S: those behind and around a transformer; and SL1 has what C1 has."""
    for sizes in ("R", "S"):
        begun = []
        for place, depth in (("C", 0), ("C", 1), ("DL", 1), ("SL", 1)):
            network = Placement(place, sizes, (depth,)).build(form(sizes))
            ParameterBuffer(network.parameters(), 0)
            begun.append({p.name: p.data for p in network.parameters()})
        for other in begun[1:]:
            for name in (name for name in begun[0] if name.startswith("classifier/")):
                np.testing.assert_array_equal(begun[0][name], other[name])
        assert {name: data.tobytes() for name, data in begun[1].items()} == {
            name: data.tobytes() for name, data in begun[3].items()
        }


@pytest.mark.parametrize("place", ["C", "DL", "SL"])
def test_one_more_look_loads_the_same_weights(place):
    shapes = [
        {p.name: p.shape for p in Placement(place, "T", depths).build(form("T")).parameters()}
        for depths in ((1,), (1, 1), (1, 1, 1))
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_names_are_the_papers():
    assert Placement("SL", "R").name == "stn-sl1"
    assert Placement("C", "R", (0, 1, 1)).name == "stn-c011"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Placement("X", "R"), "place must be one of C, DL, SL, got 'X'"),
        (lambda: Placement("C", "Q"), "sizes must be one of R, T, S, got 'Q'"),
        (lambda: PlacementCnn(3), "sizes must be one of R, T, S, got 3"),
        (lambda: Placement("C", "R", ()), "depths must be whole numbers, at least one of them"),
        (lambda: Placement("C", "R", 1), "depths must be whole numbers, at least one of them"),
        (lambda: Placement("C", "R", (2,)), r"depths must be 0 or 1 and go up, got \(2,\)"),
        (lambda: Placement("C", "R", (1, 0)), r"depths must be 0 or 1 and go up, got \(1, 0\)"),
    ],
)
def test_what_there_is_not_is_refused(make, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make()
