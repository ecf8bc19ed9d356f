"""Right calls of what makes data and draws it, and the values that say what is trained."""

import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
from odd import RNG, Call, floats
from odd_layers import GREY, network, ready, transformer
from synthetic import record

from ministn import data, plot
from ministn.data import addition, batch, cluttered, colocalisation, digits, distorted, extruded
from ministn.data.dataset import Digits, Form
from ministn.kinds import KINDS
from ministn.models import (
    Alternating,
    ClassificationCnn,
    FfnSpn,
    Placement,
    PlacementCnn,
    PlanktonNetwork,
    Projected,
    RnnSpn,
    Shuffled,
    Stn,
    SvhnNetwork,
    Trstn,
    Tstn,
    UntiedStn,
)
from ministn.parameter import ParameterBuffer
from ministn.training.examples import as_text, from_text
from ministn.training.protocol import Training

LABELS = np.arange(12, dtype=np.uint8) % 3
SOME = Digits(RNG.integers(0, 256, (12, 8, 8), np.uint8), LABELS)
LOOKING = network()
ParameterBuffer(LOOKING.parameters(), seed=0)
CUBES = Digits(RNG.integers(0, 256, (12, 28, 28), np.uint8), LABELS)
RTS = distorted.Recipe("RTS", 12, rotation=45.0, scale=(0.7, 1.2), placed=1.0)

# What errors call fields, as command lines do; and what they call a count.
FLAGS = "data_seed decay decay_every first_decay set"
SIZE = "test_size 1_size _size"  # of a split that is called test, or odd

# Of kinds whose fields have no defaults.
NEEDED = {
    "distorted": data.Distorted("R", train_size=30),
    "one digit": data.OneDigit(3),
    "training": Training(epochs=3),
    "classification cnn": ClassificationCnn(1),
    "untied stn": UntiedStn(1),
    "tstn": Tstn(1),
    "trstn": Trstn(1),
    "alternating tstn": Alternating(1),
    "shuffled": Shuffled(Tstn(1)),
    "stn": Stn("cnn", "tps"),
    "projected": Projected("cnn"),
    "rnn-spn": RnnSpn(1.5),
    "ffn-spn": FfnSpn(1.5),
    "placement": Placement("SL", "R"),
    "placement cnn": PlacementCnn("R"),
    "svhn network": SvhnNetwork("SL", (1, 3)),
    "plankton network": PlanktonNetwork("C", (2,)),
}


def value_calls() -> Iterator[tuple[str, Call]]:
    """Each kind of value, made of its fields."""
    for name, cls in KINDS.items():
        if not cls.__module__.startswith("ministn.") or cls.__module__ == "ministn.runs.settings":
            continue
        value = NEEDED[name] if name in NEEDED else cls()
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        optional = " ".join(key for key, found in given.items() if found is None) + " transform"
        where = cls.__module__.removeprefix("ministn.")
        yield f"{where}.{cls.__name__}", Call(cls, given, FLAGS, any_kind=optional)


def making_calls() -> Iterator[tuple[str, Call]]:
    sizes = {"size": (4, 5), "fill": 3}
    yield (
        "data.resized",
        Call(data.resized, {"pictures": list(SOME.images[:2])} | sizes, any_kind="pictures"),
    )
    name, seed = {"name": "test"}, {"seed": 3}
    some = name | {"digits": SOME, "count": 5} | seed
    clutter = {"canvas": 12, "distractors": 2, "patch": 3}
    yield "data.cluttered.generate", images_of(cluttered.generate, some | clutter)
    yield (
        "data.distorted.generate",
        images_of(distorted.generate, {"recipe": RTS, "epoch": 1} | some),
    )
    yield "data.distorted.fresh", Call(distorted.fresh, {"recipe": RTS, "epoch": 1} | some, SIZE)
    yield "data.addition.generate", images_of(addition.generate, {"epoch": 1} | some)
    yield "data.addition.fresh", Call(addition.fresh, {"epoch": 1} | some, SIZE)
    one = {"digits": SOME, "digit": 2, "count": 3, "distractors": 2} | seed
    yield "data.colocalisation.generate", images_of(colocalisation.generate, one)
    yield (
        "data.colocalisation.draw_crops",
        Call(colocalisation.draw_crops, {"count": 3, "step": 1} | seed),
    )
    boxes = np.array([[1, 1, 3, 4], [0, 2, 4, 4]], np.float32)
    found = {"theta": RNG.normal(size=(2, 2, 3)).astype(np.float32), "boxes": boxes, "size": (5, 6)}
    yield "data.colocalisation.found", Call(colocalisation.found, found)
    yield (
        "data.colocalisation.crops_recipe",
        Call(lambda side: colocalisation.crops_recipe(side).scale, {"side": 28}),
    )
    cubes = name | {"digits": CUBES, "count": 2} | seed
    yield "data.extruded.generate", Call(lambda **k: extruded.generate(**k).poses, cubes, SIZE)
    yield (
        "data.extruded.fresh",
        Call(lambda **k: extruded.fresh(**k)[0].motions.shift, cubes | {"epoch": 1}, SIZE),
    )
    motions = extruded.draw("test", 2, seed=3)
    yield (
        "data.extruded.draw",
        Call(extruded.draw, name | {"count": 2, "epoch": 1, "rotation": 5.0} | seed),
    )
    yield (
        "data.extruded.volumes",
        Call(extruded.volumes, {"images": CUBES.images[:2], "motions": motions}),
    )
    yield (
        "data.digits.enlarge",
        Call(digits.enlarge, {"images": RNG.integers(0, 17, (2, 8, 8)), "side": 20}),
    )
    yield "data.as_batch", Call(data.as_batch, {"images": SOME.images})
    yield (
        "data.labels_for_gpu",
        Call(batch.labels_for_gpu, {"labels": np.array([0, 3, 1])}, any_kind="labels"),
    )
    yield "data.labels_for_gpu(floats)", Call(batch.labels_for_gpu, {"labels": floats(3)})
    form = {"size": (5, 6), "channels": 1, "classes": 10, "labels": (2,)}
    yield "data.Form", Call(Form, form)
    yield (
        "data.Digits",
        Call(lambda **k: Digits(**k).images, {"images": SOME.images, "labels": LABELS}),
    )
    boxes = np.zeros((12, 4), np.int16)
    split = {"images": SOME.images, "labels": LABELS.astype(np.float32), "boxes": boxes}
    yield "data.Split", Call(lambda **given: data.Split(**given).images, split, any_kind="boxes")


def images_of(generate, arguments) -> Call:
    return Call(lambda **given: generate(**given).images, arguments, SIZE)


def one_example() -> dict:
    """A record with one epoch and one image: quickly drawn."""
    run = record("arch1-tstn", epochs=1)
    examples = run["examples"]
    images = from_text(examples)[:1]
    examples |= as_text(images) | {key: examples[key][:1] for key in ("labels", "boxes")}
    run["epochs"][0]["theta"] = run["epochs"][0]["theta"][:1]
    return run


def plot_calls() -> Iterator[tuple[str, Call]]:
    run = one_example()
    path = Path(tempfile.gettempdir()) / "odd.gif"
    yield (
        "plot.draw",
        Call(
            plot.draw,
            {"network": LOOKING, "images": SOME.images[:1, :5, :6], "number": 0, "rows": 2},
            also="x",
        ),
    )
    yield (
        "plot.draw_transformer",
        Call(
            plot.draw_transformer,
            {"transformer": ready(transformer()), "images": GREY[:1]},
            also="x",
        ),
    )
    yield (
        "plot.attention_figure",
        Call(plot.attention_figure, {"record": run, "name": ("a",), "description": "b"}),
    )
    yield (
        "plot.attention_gif",
        Call(plot.attention_gif, {"record": run, "path": path, "name": ("a",)}),
    )
    yield (
        "plot.grid_figure",
        Call(plot.grid_figure, {"records": [run], "names": ("a",), "count": 2}, also="record"),
    )
    yield "plot.Examples", Call(plot.Examples, {"record": run})


CALLS = {name: call for calls in (value_calls, making_calls, plot_calls) for name, call in calls()}
