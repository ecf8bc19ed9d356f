"""The data sets: digits among clutter, kept as uint8, with the box of each digit."""

from pathlib import Path
from typing import NamedTuple

from ministn.data import cluttered, digits, mnist
from ministn.data.dataset import DataSet, PosedSplit, Split
from ministn.errors import UserError

__all__ = ["RECIPES", "DataSet", "PosedSplit", "Recipe", "Split", "load"]


class Recipe(NamedTuple):
    """How a data set is made unless asked otherwise: lengths in pixels, sizes in images."""

    canvas: int
    distractors: int
    patch: int
    train_size: int
    valid_size: int
    test_size: int


RECIPES = {
    # The TSTN paper's cluttered MNIST: DeepMind's generator with its default settings.
    "mnist": Recipe(60, 6, 8, 50_000, 10_000, 10_000),
    # Our own, small enough to train on in minutes.
    "digits": Recipe(36, 3, 6, 8_000, 1_000, 1_000),
}


def load(
    name: str = "mnist",
    data_dir: Path | str | None = None,
    seed: int = 0,
    train_size: int | None = None,
    canvas: int | None = None,
    distractors: int | None = None,
    patch: int | None = None,
    map: cluttered.Map = map,
) -> DataSet:
    """Make the data set "mnist" or "digits"; what is None is as in RECIPES.

    data_dir: MNIST's folder, see `mnist.load`. seed: of the data, shared by all networks and
    their seeds. train_size: images of the training split, the first of the full one; the other
    splits stay whole. map: see cluttered.generate. Raises UserError for missing or altered files
    and impossible settings.
    """
    if name not in RECIPES:
        raise UserError(f"there is no data set {name!r}: choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    asked = {
        "canvas": canvas,
        "distractors": distractors,
        "patch": patch,
        "train_size": train_size,
    }
    recipe = recipe._replace(**{key: value for key, value in asked.items() if value is not None})
    if name == "mnist":
        available = RECIPES["mnist"].train_size
        if recipe.train_size > available:
            raise UserError(f"train_size must be at most {available}, got {recipe.train_size}")
        sources = mnist.load(data_dir)
    elif data_dir is not None:
        raise UserError("the embedded digits need no data_dir: leave it out, or choose mnist")
    else:
        sources = digits.load()
    sizes = {"train": recipe.train_size, "valid": recipe.valid_size, "test": recipe.test_size}
    splits = {
        split: cluttered.generate(
            split,
            sources[split],
            size,
            seed=seed,
            canvas=recipe.canvas,
            distractors=recipe.distractors,
            patch=recipe.patch,
            map=map,
        )
        for split, size in sizes.items()
    }
    settings: dict[str, str | int] = {
        "data": name,
        "data_seed": seed,
        "canvas": recipe.canvas,
        "distractors": recipe.distractors,
        "patch": recipe.patch,
        "train_size": recipe.train_size,
    }
    return DataSet(name, **splits, settings=settings)
