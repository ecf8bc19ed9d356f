"""The data sets: digits among clutter or distorted, kept as uint8, and where each digit is."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ministn.backend import Array
from ministn.data import addition, cluttered, colocalisation, digits, distorted, extruded, mnist
from ministn.data.batch import as_batch, labels_for_gpu, take_batch
from ministn.data.colocalisation import Pairs
from ministn.data.dataset import DataSet, Digits, Fresh, Map, PosedSplit, Split
from ministn.errors import UserError

__all__ = [
    "CHOSEN_CLUTTER",
    "CLUTTERED",
    "DIGITS",
    "RECIPES",
    "DataSet",
    "Fresh",
    "Pairs",
    "PosedSplit",
    "Recipe",
    "Split",
    "as_batch",
    "labels_for_gpu",
    "load",
    "take_batch",
]


class Recipe(NamedTuple):
    """How a data set is made unless asked otherwise: lengths in pixels, sizes in images.

    valid_size: 0 where nothing is kept back from training, which then follows a fixed schedule.
    axes: 3 for volumes.
    """

    canvas: int
    distractors: int
    patch: int
    train_size: int
    valid_size: int
    test_size: int
    channels: int = 1
    classes: int = 10
    axes: int = 2

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W) of an image, (D, H, W) of a volume."""
        return (self.canvas,) * self.axes

    @property
    def shape(self) -> tuple[int, ...]:
        """The same, and where there are several the channels."""
        return (*self.size, self.channels) if self.channels > 1 else self.size


CLUTTERED = {
    # The TSTN paper's cluttered MNIST: DeepMind's generator with its default settings.
    "mnist": Recipe(60, 6, 8, 50_000, 10_000, 10_000),
    # Our own, small enough to train on in minutes.
    "digits": Recipe(36, 3, 6, 8_000, 1_000, 1_000),
}
DIGITS = "-digits"  # ends the names of sets made of the embedded digits
DISTORTED = {
    recipe.name.lower() + source: Recipe(recipe.canvas, recipe.distractors, recipe.patch, *sizes)
    for source, sizes in {"": (60_000, 0, 10_000), DIGITS: (8_000, 0, 1_000)}.items()
    for recipe in distorted.RECIPES.values()
}
ADDITION = {
    f"addition{source}": DISTORTED[f"rts{source}"]._replace(
        channels=addition.CHANNELS, classes=addition.CLASSES
    )
    for source in ("", DIGITS)
}
EXTRUDED = {
    f"extruded{source}": DISTORTED[f"rts{source}"]._replace(canvas=extruded.CANVAS, axes=3)
    for source in ("", DIGITS)
}
COLOCALISATION = {
    f"colocalisation-{digit}{source}": Recipe(
        colocalisation.DIGITS_WIDE * side,
        colocalisation.DISTRACTORS,
        colocalisation.PATCH,
        colocalisation.IMAGES * (colocalisation.IMAGES - 1),
        0,
        colocalisation.IMAGES,
    )
    for source, side in {"": mnist.SIDE, DIGITS: digits.SIDE}.items()
    for digit in range(10)
}
CROPS = {
    f"crops{source}": DISTORTED[f"rts{source}"]._replace(canvas=colocalisation.CROP)
    for source in ("", DIGITS)
}
RECIPES = CLUTTERED | DISTORTED | ADDITION | EXTRUDED | COLOCALISATION | CROPS
CHOSEN_CLUTTER = [*CLUTTERED, *COLOCALISATION]  # whose distractors can be chosen

# How to make a split of those that are not cluttered, and how an epoch to train on.
MADE: dict[str, tuple[Callable[..., PosedSplit], Callable[..., tuple[Array, np.ndarray]]]] = {
    "addition": (addition.generate, addition.fresh),
    "extruded": (extruded.generate, extruded.fresh),
    "crops": (colocalisation.generate_crops, colocalisation.fresh_crops),
    **{
        recipe.name.lower(): (
            partial(distorted.generate, recipe),
            partial(distorted.fresh, recipe),
        )
        for recipe in distorted.RECIPES.values()
    },
}


def load(
    name: str = "mnist",
    data_dir: Path | str | None = None,
    seed: int = 0,
    train_size: int | None = None,
    canvas: int | None = None,
    distractors: int | None = None,
    patch: int | None = None,
    map: Map = map,
) -> DataSet:
    """Make one of RECIPES; what is None is as there.

    "mnist" and "digits" are cluttered and made once; their canvas, distractors and patch can be
    chosen. The others are distorted anew in every epoch, from all digits but those for testing:
    "r", "rts", "p", "e", "tc", "addition", "extruded" and "crops" of MNIST, "r-digits" and so on
    of the embedded digits. Those called extruded are volumes. "colocalisation-0" to -9 and
    "colocalisation-0-digits" to -9 have 100 images of one digit, in pairs for training and as they
    are for testing; their distractors can be chosen.

    data_dir: MNIST's folder, see `mnist.load`. seed: of the data, shared by all networks and
    their seeds. train_size: images of the training split, the first of the full one; the other
    splits stay whole. map: see dataset.Map. Raises UserError for missing or altered files and
    impossible settings.
    """
    if name not in RECIPES:
        raise UserError(f"there is no data set {name!r}: choose one of {', '.join(RECIPES)}")
    asked = {
        "canvas": canvas,
        "distractors": distractors,
        "patch": patch,
        "train_size": train_size,
    }
    usual = RECIPES[name]
    recipe = usual._replace(**{key: value for key, value in asked.items() if value is not None})
    embedded = name == "digits" or name.endswith(DIGITS)
    if embedded and data_dir is not None:
        raise UserError("the embedded digits need no data_dir: leave it out, or choose mnist")
    if not embedded and recipe.train_size > usual.train_size:
        raise UserError(f"train_size must be at most {usual.train_size}, got {recipe.train_size}")
    if name in COLOCALISATION and recipe != usual._replace(distractors=recipe.distractors):
        raise UserError(f"of the set {name} only distractors can be chosen")
    fixed = usual._replace(train_size=recipe.train_size)
    if name not in CHOSEN_CLUTTER and recipe != fixed:
        raise UserError(f"canvas, distractors and patch of the set {name} cannot be chosen")
    sources = digits.load() if embedded else mnist.load(data_dir)
    make: Callable[..., tuple[Split | Fresh, Split | None, Split]]
    if name in CLUTTERED:
        make = _cluttered
    else:
        make = _to_be_compared if name in COLOCALISATION else _distorted
    settings: dict[str, str | int] = {
        "data": name,
        "data_seed": seed,
        "canvas": recipe.canvas,
        "distractors": recipe.distractors,
        "patch": recipe.patch,
        "train_size": recipe.train_size,
    }
    train, valid, test = make(name, recipe, sources, seed, map)
    return DataSet(name, train, valid, test, settings)


def _cluttered(
    name: str, recipe: Recipe, sources: dict[str, Digits], seed: int, map: Map
) -> tuple[Split, Split, Split]:
    generate = partial(
        cluttered.generate,
        seed=seed,
        canvas=recipe.canvas,
        distractors=recipe.distractors,
        patch=recipe.patch,
        map=map,
    )
    return (
        generate("train", sources["train"], recipe.train_size),
        generate("valid", sources["valid"], recipe.valid_size),
        generate("test", sources["test"], recipe.test_size),
    )


def _distorted(
    name: str, recipe: Recipe, sources: dict[str, Digits], seed: int, map: Map
) -> tuple[Fresh, None, PosedSplit]:
    """The images of an epoch are made when it begins, by ``map`` as it is then."""
    generate, fresh = MADE[name.removesuffix(DIGITS)]
    count = recipe.train_size
    train = _for_training(sources)
    return (
        Fresh(
            (count, *recipe.shape),
            recipe.size,
            train,
            partial(fresh, "train", train, count, seed=seed),
        ),
        None,
        generate("test", sources["test"], recipe.test_size, seed=seed),
    )


def _to_be_compared(
    name: str, recipe: Recipe, sources: dict[str, Digits], seed: int, map: Map
) -> tuple[Pairs, None, PosedSplit]:
    """The images that are compared are also those in which the digits are to be found."""
    test = colocalisation.generate(
        _for_training(sources),
        int(name.removesuffix(DIGITS)[-1]),
        seed=seed,
        count=recipe.test_size,
        distractors=recipe.distractors,
    )
    return Pairs(**vars(test)), None, test


def _for_training(sources: dict[str, Digits]) -> Digits:
    """All digits but those for testing."""
    return Digits(
        *(
            np.concatenate([getattr(sources[split], field) for split in ("train", "valid")])
            for field in ("images", "labels")
        )
    )
