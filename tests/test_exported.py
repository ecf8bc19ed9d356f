"""Networks in PyTorch and as ONNX files: the same outputs, the same slopes, and weights back."""

import json
import sys
from copy import deepcopy
from importlib import import_module

import numpy as np
import pytest
from helpers import normal
from test_architectures import BUILT

from ministn.data import Form
from ministn.errors import UserError
from ministn.interop import from_onnx, from_torch, to_onnx, to_torch
from ministn.interop.trace import traced
from ministn.layers import (
    Bounded,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Tanh,
)
from ministn.models import Network, SmallStn
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.recurrent import GRU
from ministn.transformer import (
    Glimpses,
    HandOn,
    Iterated,
    Parallel,
    Resize,
    SpatialTransformer,
    regression_layer,
)
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import (
    AFFINE,
    Affine3d,
    Attention,
    General,
    PiecewiseAffine,
    Projective,
    Similarity,
    ThinPlateSpline,
    Translation,
)

FORM = Form((6, 9), 2, 3)
SAMPLERS = {
    "zeros": Sampler(border="zeros"),
    "fill": Sampler(border="zeros", fill=0.7),
    "mirror": Sampler(border="mirror"),
    "supersampled": Sampler(supersampling=3),
    "bicubic": Sampler("bicubic", "mirror", a=-0.75),
}
TRANSFORMS = {
    "attention": Attention(),
    "translation": Translation(),
    "similarity": Similarity(),
    "projective": Projective(),
    "tps": ThinPlateSpline(3, 2),
    "piecewise": PiecewiseAffine(2, 3),
    "general": General("transform", Similarity(), (4, 5)),
}


def looking(path, transform=AFFINE, form=FORM, looks=0):
    """A localisation network that reads a flattened image of several channels."""
    features = int(np.prod(form.size)) * form.channels
    recurrent = [GRU(f"{path}/gru", features, 7, looks)] if looks else []
    reading = regression_layer(f"{path}/theta", 7 if looks else features, transform)
    return Sequential(Flatten(f"{path}/flatten"), *recurrent, reading)


def transformer(path="look", transform=AFFINE, sampler=SAMPLERS["zeros"], size=(4, 5), **how):
    return SpatialTransformer(
        looking(path, transform, **how), size, transform=transform, sampler=sampler, path=path
    )


def head(features, *before):
    return Sequential(*before, Flatten("flat"), Dense("scores", features, 3))


def arranged():
    """Networks of one's own, of what the papers' have not got."""
    yield "row", Network(head(10, MaxPool2d("pool", 2)), transformer(size=(2, 10)))
    yield "column", Network(head(8), transformer(size=(4, 1)))
    for name, sampler in SAMPLERS.items():
        yield name, Network(head(40), transformer(sampler=sampler))
    for name, transform in TRANSFORMS.items():
        yield name, Network(head(40), transformer(transform=transform))
    yield "parallel", Network(head(80), Parallel(transformer("one"), transformer("two")))
    handing = HandOn(transformer(), Conv2d("conv", 2, 4, activation=None), Flatten("map"))
    yield "hand on", Network(Sequential(Tanh("tanh"), Dense("scores", 86, 3)), handing)
    crops = Glimpses(transformer(looks=3), glimpses=3)
    yield "crops alone", Network(Sequential(), crops)
    yield (
        "iterated",
        Network(
            head(40),
            SpatialTransformer(
                Iterated(looking("first"), looking("second"), order="left"), (4, 5), path="look"
            ),
        ),
    )
    yield "resized to one row", Network(head(2 * 4, Resize("resize", (1, 4))))
    bent = Bounded("bounds", [*range(-8, 0)], [*range(8)]), Reshape("as image", 2, 2, 2)
    yield "bent", Network(Sequential(
        Conv2d("conv", 2, 4, padding="valid", stride=2, activation="leaky_relu", bias=False),
        Conv2d("conv2", 4, 4, 1, pool=True), LeakyReLU("leaky", 0.2), Flatten("flat"),
        Dense("dense", 8, 8), *bent, Conv2d("conv3", 2, 5), ReLU("relu"),
    ))  # fmt: skip


ARRANGED = dict(arranged())


def volumes():
    """A transformer of volumes, and supersampling in them."""
    form = Form((4, 5, 6), classes=3)
    front = transformer("look", Affine3d(), Sampler("trilinear", supersampling=2), (2, 3, 4),
                        form=form)  # fmt: skip
    return Network(head(24), front), form


def cases():
    yield from ((built.network.kind, lambda b=built: (b.network.build(b.form), b.form))
                for built in BUILT.values())  # fmt: skip
    yield from ((name, lambda n=name: (deepcopy(ARRANGED[n]), FORM)) for name in ARRANGED)
    yield "volumes", volumes


CASES = dict(cases())
each = pytest.mark.parametrize("name", CASES)


def made(name, dtype):
    """A network away from its identity, and three images."""
    network, form = CASES[name]()
    laid_out(network, dtype)
    shape = form.size if len(form.size) == 3 else (*form.size, form.channels)
    return network, form, np.random.default_rng(0).uniform(0, 1, (3, *shape)).astype(dtype)


def laid_out(network, dtype=np.float32, seed=0):
    buffer = ParameterBuffer(network.parameters(), seed, dtype)
    buffer.data += np.random.default_rng(0).normal(0, 0.002, buffer.data.shape)
    if fixed := network.fixed_parameters():
        ParameterBuffer(fixed, seed, dtype)
    return buffer


def there(x, form):
    """Images or maps with their channels first."""
    if x.ndim != 4:
        return x
    return np.ascontiguousarray(x[:, None] if len(form.size) == 3 else x.transpose(0, 3, 1, 2))


def values(network, form):
    """All that is exported: of the alternating network it is what it is at test time."""
    return {name: w.parameter.data.copy() for name, w in traced(network, form).weights.items()}


# -- PyTorch ---------------------------------------------------------------------------------------


@each
def test_pytorch_computes_the_same_and_gives_the_weights_back(name):
    torch = pytest.importorskip("torch")
    network, form, x = made(name, np.float64)
    module = to_torch(network, form)
    with torch.no_grad():
        found = module(torch.from_numpy(there(x, form))).numpy()
    wanted = network.forward(x)[0]
    np.testing.assert_allclose(found, there(wanted, FORM), 0, 1e-10 * np.abs(wanted).max())

    before = values(network, form)
    laid_out(network, np.float64, seed=1)
    from_torch(network, module.state_dict(), form)
    for name_, mine in values(network, form).items():
        np.testing.assert_array_equal(mine, before[name_], err_msg=name_)


@pytest.mark.parametrize("name", ["hand on", "tps", "crops alone", "iterated", "tstn", "general"])
def test_it_learns_the_same(name):
    """Off the pixels both have one slope; what is shared has the sum of its uses."""
    torch = pytest.importorskip("torch")
    network, form, x = made(name, np.float64)
    module = to_torch(network, form)
    for layer in network.classifier.layers:
        layer.rate = 0.0  # of the one with dropout
    y, cache = network.forward(x, Step(0, 0))
    for parameter in network.parameters():
        parameter.grad[...] = 0
    network.backward(np.cos(y), cache)
    torch.sin(module(torch.from_numpy(there(x, form)))).sum().backward()
    for name_, weight in traced(network, form).weights.items():
        found = module.get_parameter(name_.replace("/", ".")).grad.numpy()
        wanted = weight.layout.there(weight.parameter.grad)
        np.testing.assert_allclose(found, wanted, 1e-8, 1e-10 * np.abs(wanted).max(), err_msg=name_)


def test_a_state_dict_is_that_of_layers_written_in_pytorch():
    """Conv2d, MaxPool2d, Flatten and Linear, channel by channel."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    network = Network(head(60, Conv2d("conv", 2, 5, pool=True)))
    theirs = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(60, 3)
    )
    laid_out(network)
    names = {"conv": "0", "scores": "4"}
    state = {name: theirs.state_dict()[f"{names[layer]}.{kind}"]
             for name in ("conv.weight", "conv.bias", "scores.weight", "scores.bias")
             for layer, kind in [name.split(".")]}  # fmt: skip
    from_torch(network, state, FORM)
    x = normal(3, 6, 9, 2).astype(np.float32)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(there(x, FORM))).numpy()
    np.testing.assert_allclose(network.forward(x)[0], wanted, 0, 1e-5)


def test_dropout_is_for_training_and_what_is_fixed_stays():
    torch = pytest.importorskip("torch")
    network, form, x = made("tstn", np.float32)
    module, images = to_torch(network, form), torch.from_numpy(there(x, form))
    assert torch.equal(module(images), module(images))
    module.train()
    assert not torch.equal(module(images), module(images))
    network, form, _ = made("colocaliser", np.float32)
    learning = {name for name, one in to_torch(network, form).named_parameters()
                if one.requires_grad}  # fmt: skip
    assert learning == {parameter.name.replace("/", ".") for parameter in network.parameters()}


def test_another_networks_weights_are_refused_and_nothing_is_written():
    network, form, _ = made("parallel", np.float32)
    state = {
        name.replace("/", "."): value for name, value in traced(network, form).values().items()
    }
    before = values(network, form)
    for change, message in (
        (lambda s: s.pop("one.theta.bias"), "the state dict is of another network: it lacks"),
        (lambda s: s.update(more=np.zeros(1)), "it has an unknown 'more'"),
        (lambda s: s.update({"scores.bias": np.zeros(4)}), r"has shape \(4,\), expected \(3,\)"),
    ):
        other = dict(state)
        change(other)
        with pytest.raises(UserError, match=message):
            from_torch(network, other, form)
    for name_, mine in values(network, form).items():
        np.testing.assert_array_equal(mine, before[name_], err_msg=name_)


# -- ONNX ------------------------------------------------------------------------------------------


@each
def test_onnxruntime_computes_the_same_and_the_file_gives_the_weights_back(name, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    network, form, x = made(name, np.float32)
    path = tmp_path / "network.onnx"
    to_onnx(network, path, form)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": there(x, form)})
    wanted = network.forward(x)[0]
    np.testing.assert_allclose(found, there(wanted, FORM), 0, 1e-5 * np.abs(wanted).max())
    assert session.run(None, {"x": there(x[:1], form)})[0].shape[1:] == found.shape[1:]

    before = values(network, form)
    laid_out(network, seed=1)
    from_onnx(network, path, form)
    for name_, mine in values(network, form).items():
        np.testing.assert_array_equal(mine, before[name_], err_msg=name_)


def test_files_that_are_none(tmp_path):
    pytest.importorskip("onnx")
    network, form, _ = made("tstn", np.float32)
    with pytest.raises(UserError, match=r"nothing\.onnx does not exist"):
        from_onnx(network, tmp_path / "nothing.onnx", form)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(UserError, match=r"text\.onnx is not a readable ONNX file"):
        from_onnx(network, tmp_path / "text.onnx", form)
    to_onnx(network, tmp_path / "it.onnx", form)
    other, form, _ = made("small stn", np.float32)
    with pytest.raises(UserError, match=r"it\.onnx is of another network: "):
        from_onnx(other, tmp_path / "it.onnx", form)
    with pytest.raises(UserError, match="there is no folder"):
        to_onnx(network, tmp_path / "nowhere" / "it.onnx", form)


def test_the_command_compares_networks_and_says_which_are_refused(monkeypatch, tmp_path, capsys):
    for library in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(library)
    command = import_module("ministn.interop.__main__")
    small = [(SmallStn(), Form((33, 34))), (SmallStn(), Form((20, 33)))]
    monkeypatch.setattr(command, "networks", lambda: small)
    path = tmp_path / "networks.json"
    assert command.main(["--json", str(path)]) == 0
    said = capsys.readouterr().out
    assert "refused: images must be at least 32x32 for small-stn, got 20x33\n" in said
    assert said.endswith("2 networks, 0 beyond, 1 refused\n")
    row, refused = json.loads(path.read_text())["networks"]
    assert row["differences"].keys() == command.BOUNDS.keys() and "differences" not in refused
    monkeypatch.setitem(command.BOUNDS, "torch", 0.0)
    assert command.main([]) == 1


# -- what cannot be expressed ----------------------------------------------------------------------


class Own(Layer):
    def forward(self, x, step=None):
        return x, None

    def backward(self, dy, cache, need_dx=True):
        return dy


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network(head(40), transformer(sampler=Sampler("nearest"))),
         "^look: kernel 'nearest' takes the right one of two pixels as near, and that of PyTorch"),
        (Network(head(40), transformer(sampler=Sampler("bicubic"))),
         "^look: kernel 'bicubic' has a = -0.5, and that of PyTorch and ONNX -0.75$"),
        (Network(head(40), transformer(sampler=Sampler(border="wrap"))),
         "^look: border 'wrap' is unknown to PyTorch and ONNX, which have 'nearest', 'zeros'"),
        (Network(Sequential(Own("mine"))), "^mine: a Own cannot be exported"),
        (Network(head(41)), r"^scores: x must be of shape \(41,\), got \(108,\)$"),
        (Network(Sequential(Conv2d("conv", 3, 4))), "^conv: x must have 3 channels, got 2$"),
        (Network(Sequential(Flatten("flat"), Conv2d("conv", 3, 4))),
         r"^conv needs maps \(H, W, C\), got \(108,\)$"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_that_names_the_layer(network, message):
    if network.parameters():
        laid_out(network)
    with pytest.raises(UserError, match=message):
        traced(network, FORM)


def test_a_form_that_is_not_the_networks_is_refused():
    """A picture with its channels as a third axis would go through, as a volume."""
    network = Network(Sequential(Conv2d("conv", None, 2), Flatten("flat"), Dense("y", None, 4)))
    with pytest.raises(UserError, match=r"^the network has no weights yet, conv/weight for one"):
        traced(network, Form((6, 5), 3))
    network.meet((6, 5, 3))
    laid_out(network)
    with pytest.raises(UserError, match=r"^form must be Form\(\(6, 5\), channels=3\) for colour"):
        traced(network, Form((6, 5, 3)))
    with pytest.raises(UserError, match=r"images \(6, 5, 3\), as it has met, got \(5, 6, 3\)$"):
        traced(network, Form((5, 6), 3))
    with pytest.raises(TypeError, match=r"^state must be a Mapping, got Network"):
        from_torch(network, network, Form((6, 5), 3))
    with pytest.raises(TypeError, match=r"^path must be a str or a Path, got Form"):
        to_onnx(network, Form((6, 5), 3), "x.onnx")


def test_a_dense_layer_that_reads_two_orders_is_refused():
    shared = Dense("shared", 8, 8)
    network = Network(Sequential(
        Conv2d("conv", 2, 4, padding="valid", stride=2), MaxPool2d("pool", 1, 2), Flatten("flat"),
        Dense("first", 16, 8), shared, Reshape("map", 2, 2, 2), ReLU("relu"), Conv2d("c", 2, 2, 1),
        Flatten("again"), shared,
    ))  # fmt: skip
    laid_out(network)
    with pytest.raises(UserError, match=r"^shared/weight reads maps of two sizes"):
        traced(network, Form((7, 9), 2))


@pytest.mark.parametrize("export", [to_torch, lambda n, f: to_onnx(n, "x.onnx", f)])
def test_a_missing_library_is_one_line(monkeypatch, export):
    for library in ("torch", "onnx"):
        monkeypatch.setitem(sys.modules, library, None)
    network, form, _ = made("tstn", np.float32)
    with pytest.raises(UserError, match=r"is not installed: pip install -e '\.\[interop\]'$"):
        export(network, form)
