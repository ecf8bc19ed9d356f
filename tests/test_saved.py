"""A network in a file: all arrangements come back with what they share, to the last bit, also in
another process; what is damaged or is no network is one clear error.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import test_layers
from helpers import normal
from safetensors.numpy import save_file
from test_architectures import BUILT

from ministn.data import Form
from ministn.errors import UserError
from ministn.fit import Training, fit, load, save
from ministn.fit.saved import _digest, made_of, parts_of
from ministn.layers import (
    Bounded,
    Conv2d,
    Dense,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    Sequential,
    Standardised,
)
from ministn.models import Network, Tstn
from ministn.parameter import ParameterBuffer
from ministn.training import checkpoint
from ministn.transformer import (
    HandOn,
    Iterated,
    Parallel,
    SpatialTransformer,
    placed,
    regression_layer,
)
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import Attention, General, PiecewiseAffine

SHAPE = 11, 13, 2


def ready(network: Network) -> Network:
    """With weights that are no initial values."""
    for parameters in (network.parameters(), network.fixed_parameters()):
        if parameters:
            buffer = ParameterBuffer(parameters, seed=3)
            buffer.data[...] += 0.03 * normal(buffer.data.size)
    return network


def by_hand() -> Network:
    """Transformers in parallel in front, one among the layers, whose network looks with a layer of
    the classifier's, with every kind of argument.
    """
    conv = Conv2d("conv", 4, 3, 3, activation="leaky_relu", slope=np.float32(0.25), bias=False)
    inner = SpatialTransformer(
        Sequential(conv.with_pool(True), Flatten("f"), Dense("d", 5 * 6 * 3, 3),
                   Bounded("b", [0.1, -1, -1], (1, 1, 1))),
        (10, 12), transform=Attention(), path="inner", start=(0.9, 0, 0),
        sampler=Sampler("bicubic", "zeros", 0.5, a=-0.75),
    )  # fmt: skip
    mesh, general = PiecewiseAffine(2, 3), General("general", Attention(), (10, 12))
    one, two = (
        SpatialTransformer(
            Sequential(MaxPool2d("p", 3, 2), Flatten("f"), regression_layer(path, 5 * 6 * 2, mode)),
            (10, 12), transform=mode, path=path,
        )
        for path, mode in (("one", mesh), ("two", general))
    )  # fmt: skip
    last = Sequential(Flatten("f"), Dense("softmax", 10 * 12 * 3, 4), LeakyReLU("l", 0.5))
    standardised = Standardised("s", 0.1, 0.3)
    return Network(Sequential(standardised, inner, conv, last), Parallel(one, two, path="both"))


def head(shape, path):
    return [Flatten(f"{path}/f"), regression_layer(f"{path}/theta", int(np.prod(shape)))]


def placed_as(place: str) -> Network:
    layers = [Conv2d("c", 2, 3), Conv2d("e", 3, 2, pool=True), Flatten("f"), Dense("s", 60, 4)]
    return Network(*placed(place, layers, (0, 1, 1), head, SHAPE, order="left"))


def handing_on() -> Network:
    look = Sequential(Flatten("f"), regression_layer("theta", 11 * 13 * 2))
    front = HandOn(SpatialTransformer(Iterated(look, look), (3, 4)), Flatten("read"))
    return Network(Sequential(Dense("s", 3 * 4 * 2 + 6, 4)), front)


NETWORKS = {
    "by hand": by_hand,
    "handing on": handing_on,
    **{place: lambda place=place: placed_as(place) for place in ("C", "DL", "SL")},
}


def check(network: Network, shape: tuple[int, ...], path) -> Network:
    """Save and load it; what comes back computes and shares the same."""
    save(network, path)
    loaded = load(path)
    x = abs(normal(2, *shape)).astype(np.float32)
    (y, looks), (same, seen) = network.predict(x), loaded.predict(x)
    np.testing.assert_array_equal(y, same)
    for look, other in zip(looks, seen, strict=True):
        np.testing.assert_array_equal(look.theta, other.theta)
    for mine, theirs in zip(network.parameters(), loaded.parameters(), strict=True):
        assert (mine.name, mine.every) == (theirs.name, theirs.every)
    assert parts_of(network) == parts_of(loaded)
    assert [p.name for p in network.localisation_only()] == [
        p.name for p in loaded.localisation_only()
    ]
    return loaded


@pytest.mark.parametrize("name", NETWORKS)
def test_arrangements_come_back(name, tmp_path):
    check(ready(NETWORKS[name]()), SHAPE, tmp_path / "network.safetensors")


@pytest.mark.parametrize("kind", [kind for kind in BUILT if kind != "colocaliser"])
def test_every_paper_s_network_comes_back(kind, tmp_path):
    built = BUILT[kind]
    network = ready(built.network.build(built.form))
    shape = (*built.form.size, built.form.channels)[: 3 if len(built.form.size) == 2 else None]
    check(network, shape[:3], str(tmp_path / "network.safetensors"))


@pytest.mark.parametrize("name", test_layers.LAYERS)
def test_each_layer_is_made_again_as_it_was(name):
    network = Network(Sequential(test_layers.LAYERS[name][0]()))
    assert parts_of(made_of(parts_of(network))) == parts_of(network)


def test_what_is_shared_is_one_again_and_trains_as_before(tmp_path):
    network = ready(Tstn(1).build(Form((9, 9), classes=3)))
    loaded = check(network, (9, 9, 1), tmp_path / "network.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (12, 9, 9), np.uint8)
    training = Training(epochs=1, batch_size=4)
    fits = [fit(n, images, np.arange(12) % 3, training, quiet=True) for n in (network, loaded)]
    assert fits[0].epochs == fits[1].epochs
    ours, theirs = (ready_layers(one) for one in (network, loaded))
    assert ours == theirs > 0


def ready_layers(network: Network) -> int:
    """How many of the classifier's parameters its localisation network has, too."""
    own = {id(p) for p in network.classifier.parameters()}
    return sum(id(p) in own for p in network.front.parameters())


def test_it_is_loaded_in_another_process_and_folder(tmp_path):
    network = ready(by_hand())
    x = abs(normal(2, *SHAPE)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    save(network, tmp_path / "one.safetensors")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.move(tmp_path / "one.safetensors", folder / "model")
    code = (
        "import numpy as np, sys; from ministn.fit import load; sys.path.clear()\n"
        "y, _ = load('model').predict(np.load('../x.npy')); np.save('y.npy', y)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    np.testing.assert_array_equal(np.load(folder / "y.npy"), network.predict(x)[0])


class Squash(Flatten):
    """A layer of one's own."""


@pytest.mark.parametrize("where", ["classifier", "localisation", "network"])
def test_what_is_not_of_the_library_is_named(where, tmp_path):
    own = Squash("squash")
    look = own if where == "localisation" else Flatten("f")
    front = SpatialTransformer(Sequential(look, regression_layer("theta", 286)), (3, 4))
    read = own if where == "classifier" else Flatten("f")
    kind = type("Mine", (Network,), {}) if where == "network" else Network
    network = ready(kind(Sequential(read, Dense("s", 24, 4)), front))
    named = "a part of the network is a Mine" if where == "network" else "'squash' of the network"
    with pytest.raises(UserError, match=f"^{named}.* writes the weights alone$"):
        save(network, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_network_without_weights_and_a_bad_place(tmp_path):
    network = by_hand()
    with pytest.raises(
        UserError, match=r"^the network has no weights yet, conv/weight for one: fi"
    ):
        save(network, tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot save .*no/file: No such file"):
        save(ready(network), tmp_path / "no" / "file")
    with pytest.raises(TypeError, match=r"^path must be a str or a Path, got int"):
        save(network, 3)
    with pytest.raises(TypeError, match=r"^network must be a Network, got Sequential"):
        save(network.classifier, tmp_path / "file")


def test_any_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "file"
    save(ready(handing_on()), path)
    right = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(0, 3000, 17), *rng.integers(0, len(right), 200)]:
        data = bytearray(right)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(UserError) as caught:
            load(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    for length in (0, 7, 100, len(right) - 1):
        path.write_bytes(right[:length])
        with pytest.raises(UserError):
            load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts[0].update(kind="pickle"), "can make: there is no part 'pickle'$"),
        (lambda parts: parts[-1].update(classifier={"part": 99}), "index out of range"),
        (lambda parts: parts[-1].update(classifier=3), "classifier must be a Sequential, got int"),
        (lambda parts: parts.pop(), "the last part must be a Network"),
        (lambda parts: parts.clear(), "index out of range"),
        (lambda parts: parts.insert(0, []), "holds no network"),
        (lambda parts: parts[-2].update(more=1), "unexpected keyword argument"),
        (
            lambda parts: [one.update(features=10**9) for one in parts if one["kind"] == "dense"],
            "its weights are another network's",
        ),
    ],
)
def test_another_description_is_refused(change, message, tmp_path):
    """Also one whose checksum is right: nothing but parts is made of it, and no room is taken."""
    path = tmp_path / "file"
    network = ready(handing_on())
    save(network, path)
    arrays, content = checkpoint.load(path)
    change(content["network"])
    content["sha256"] = _digest(content["network"], arrays)
    del content["format"]
    checkpoint.save(path, arrays, content)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_foreign_files(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(UserError, match="does not exist"):
        load(path)
    with pytest.raises(UserError, match="is not a file"):
        load(tmp_path)
    save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(UserError, match="was not written by ministn"):
        load(path)
    checkpoint.save(path, {"weight": np.zeros(3)}, {"epoch": 3})
    with pytest.raises(UserError, match="is another kind of checkpoint: it has no 'network'"):
        load(path)
    path.write_text(json.dumps({"weights": 3}))
    with pytest.raises(UserError, match="is not a readable checkpoint"):
        load(path)
