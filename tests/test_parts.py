"""Windows that one localisation network moves, and the towers that read them."""

import numpy as np
import pytest
from helpers import normal

from ministn.data import Split
from ministn.gradcheck.networks import perturbed
from ministn.layers import Conv2d, Dense, Dropout, Flatten, Sequential
from ministn.models import Network
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.training.examples import shown
from ministn.transformer import (
    Apart,
    Glimpses,
    Parallel,
    SpatialTransformer,
    Towers,
    regression_layer,
    tiled,
    windows,
)
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import Translation

STEP = Step(seed=5, number=7)
N, T, SIZE, OUTPUT, K = 3, 3, (7, 9), (4, 5), 4
FEATURES = 7 * 9 * 3


def looking():
    return [Conv2d("looking", 2, 3), Flatten("flat")]


def tower(number, inside=None):
    """One that gives as many features as its number says, and two more."""
    layers = [] if inside is None else [inside]
    return Sequential(
        *layers,
        Conv2d(f"tower{number}/conv", 2, 2),
        Flatten(f"tower{number}/flat"),
        Dense(f"tower{number}/dense", OUTPUT[0] * OUTPUT[1] * 2, number + 2),
    )


def network(inside=None, **how):
    """inside: a layer in front of the last tower."""
    towers = [tower(n, inside if n == T else None) for n in range(1, T + 1)]
    joined = sum(n + 2 for n in range(1, T + 1))
    front = windows(looking(), FEATURES, T, OUTPUT, **how)
    return Network(Sequential(Towers(*towers), Dense("softmax", joined, K)), front)


def laid_out(made, dtype=np.float64, device=None):
    buffer = ParameterBuffer(made.parameters(), 0, dtype, device)
    return perturbed(buffer) if device is None else buffer


def by_hand(made, **how):
    """The same of Parallel transformers, each with columns of the last layer of its own."""
    looked, scale = looking(), how.get("scale", 0.5)
    sampler = how.get("sampler", Sampler())
    transformers = [
        SpatialTransformer(
            Sequential(*looked, Dense(f"theta{t}", FEATURES, 2)),
            OUTPUT, transform=Translation(scale), sampler=sampler,
        )
        for t in range(T)
    ]  # fmt: skip
    towers = [tower(n) for n in range(1, T + 1)]
    last = Dense("softmax", sum(n + 2 for n in range(1, T + 1)), K)
    parts = Parallel(*transformers), Sequential(*towers, last)
    values = {p.name: p.data for p in made.parameters()}
    for part in parts:
        buffer = ParameterBuffer(part.parameters(), 0, np.float64)
        for p in buffer.parameters:
            if p.name.startswith("theta"):
                t, kind = int(p.name[5]), p.name.split("/")[1]
                p.data[...] = values[f"windows/theta/{kind}"][..., 2 * t : 2 * t + 2]
            else:
                p.data[...] = values[p.name]
    return parts[0], towers, last


@pytest.mark.parametrize(
    "how",
    [{}, {"scale": 0.7, "sampler": Sampler(border="zeros", supersampling=2)}],
    ids=["halves", "averaged"],
)
def test_they_are_transformers_in_parallel_with_one_localisation_network(how):
    """Outputs and gradients, against as many localisation networks that share their layers."""
    made = network(**how)
    buffer = laid_out(made)
    side_by_side, towers, last = by_hand(made, **how)
    x, dy = normal(N, *SIZE, 2), normal(N, K)
    y, cache = made.forward(x, STEP)
    made.backward(dy, cache)

    crops, front_cache = side_by_side.forward(x, STEP)
    each = np.split(crops, T, axis=3)
    read = [one.forward(crop, STEP) for one, crop in zip(towers, each, strict=True)]
    features, caches = zip(*read, strict=True)
    expected, last_cache = last.forward(np.concatenate(features, axis=1), STEP)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
    ends = np.cumsum([f.shape[1] for f in features[:-1]])
    dfeatures = np.split(last.backward(dy, last_cache), ends, axis=1)
    dcrops = [t.backward(d, c) for t, d, c in zip(towers, dfeatures, caches, strict=True)]
    side_by_side.backward(np.concatenate(dcrops, axis=3), front_cache, need_dx=False)
    found = {p.name: p.grad for p in buffer.parameters}
    columns = {p.name: p.grad for p in side_by_side.parameters()}
    wanted = {p.name: p.grad for part in (*towers, last) for p in part.parameters()} | columns
    for kind in ("weight", "bias"):
        parts = [wanted.pop(f"theta{t}/{kind}") for t in range(T)]
        wanted[f"windows/theta/{kind}"] = np.concatenate(parts, axis=-1)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert gradient.any()
        np.testing.assert_allclose(gradient, wanted[name], rtol=1e-10, atol=1e-13, err_msg=name)


def test_at_first_windows_tile_every_image():
    """Four halves of an image with an odd number of pixels each way, which share the middle."""
    front = windows([Flatten("flat")], 7 * 9 * 2, 4, (4, 5))
    ParameterBuffer(front.parameters(), 0, np.float64)
    x = normal(N, 7, 9, 2)
    y, _ = front.forward(x)
    corners = [(slice(r, r + 4), slice(c, c + 5)) for r in (0, 3) for c in (0, 4)]
    for t, (r, c) in enumerate(corners):
        np.testing.assert_allclose(y[:, t], x[:, r, c], atol=1e-12)
    assert [one.start for one in front.at_input] == [tuple(s) for s in tiled(4, 0.5)]
    np.testing.assert_array_equal(front.theta(x), np.tile(tiled(4, 0.5).ravel(), (N, 1)))


def test_each_window_is_watched_and_transformers_in_towers_too():
    inner = SpatialTransformer(
        Sequential(Flatten("inner/flat"), regression_layer("inner/theta", 4 * 5 * 2)), OUTPUT,
        path="inner",
    )  # fmt: skip
    made = network(inner)
    laid_out(made, np.float32)
    x = abs(normal(N, *SIZE, 2)).astype(np.float32)
    logits, cache = made.forward(x, STEP)
    seen, looks = made.predict(x)
    np.testing.assert_array_equal(seen, logits)
    assert [one.path for one in made.transformers] == ["windows"] * T + ["inner"]
    thetas = made.thetas(cache)
    assert len(thetas) == len(looks) == T + 1
    for looked, theta in zip(looks, thetas, strict=True):
        np.testing.assert_array_equal(looked.theta, theta)
    names = {p.name.rpartition("/")[0] for p in made.localisation_only()}
    assert names == {"looking", "windows/theta", "inner/theta"}
    split = Split(np.uint8(x), np.zeros(N, np.uint8), np.zeros((N, 4), np.int16))
    assert np.shape(shown(split, made.front)["theta"]) == (N, 2 * T)
    paths = [path for path, _ in made.classifier.outputs(made.front.forward(x)[0], STEP)]
    assert paths[:3] == ["tower1/conv", "tower1/flat", "tower1/dense"]
    assert paths[-4:] == ["tower3/flat", "tower3/dense", "towers", "softmax"]
    assert made.first_non_finite(x, STEP) is None


def test_gpu_engine_agrees(quick_device):
    exact = network(Dropout("dropout", 0.3))
    values = laid_out(exact).data
    x, dy = abs(normal(N, *SIZE, 2)), normal(N, K)
    y, cache = exact.forward(x, STEP)
    exact.backward(dy, cache)
    wanted = {"y": y} | {p.name: p.grad for p in exact.parameters()}

    made = network(Dropout("dropout", 0.3))
    buffer = laid_out(made, np.float32, quick_device)
    buffer.data[...] = quick_device.to_gpu(values.astype(np.float32))
    y, cache = made.forward(quick_device.to_gpu(x.astype(np.float32)), STEP)
    made.backward(quick_device.to_gpu(dy.astype(np.float32)), cache)
    found = {"y": y} | {p.name: p.grad for p in made.parameters()}
    for name, want in wanted.items():
        got = quick_device.to_cpu(found[name])
        np.testing.assert_allclose(got, want, rtol=0, atol=5e-6 * abs(want).max(), err_msg=name)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Towers(), ValueError, "networks must be a whole number of at least 1, got 0"),
        (lambda: Towers(Flatten), TypeError, "a network must be a Layer, got the class Flatten"),
        (
            lambda: Towers(Flatten("a"), Flatten("b")).forward(normal(2, 3, 4, 5, 1)),
            ValueError,
            r"x must have shape \(N, 2, h, w, C\), got \(2, 3, 4, 5, 1\)",
        ),
        (
            lambda: Apart("apart", 3).forward(normal(2, 4)),
            ValueError,
            "x must have columns of 3 things, got 4",
        ),
        (
            lambda: windows([], 3, 2, OUTPUT, scale=1.5),
            ValueError,
            "scale must be a finite number of at least 1.17549e-38 and at most 1, got 1.5",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        make()


def test_starts_are_one_for_each_window():
    front = windows([], 3, 2, OUTPUT)
    with pytest.raises(ValueError, match=r"^starts must be 2 thetas, got shape \(3, 2\)$"):
        Glimpses(front.transformer, glimpses=2, starts=tiled(3, 0.5))
    with pytest.raises(ValueError, match=r"^start must be 2 numbers, got 3$"):
        Glimpses(front.transformer, glimpses=1, starts=[(1, 2, 3)])
