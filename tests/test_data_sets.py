"""Each kind of data set as a value: what it loads, its form, its noise, what a record keeps."""

from typing import NamedTuple

import numpy as np
import pytest

from ministn.data import (
    Addition,
    Cluttered,
    CroppedToDigit,
    Crops,
    Cub,
    Data,
    Distorted,
    Extruded,
    OneDigit,
    Pairs,
    Plankton,
    PosedSplit,
    Sequences,
    Svhn,
)
from ministn.data.cub import DRAWN
from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.kinds import from_json, to_json


class Known(NamedTuple):
    """sha256: the start of it. means: of a hundred test images, and of their boxes and poses.

    Where poses are known, they and the images are computed, and another machine may round single
    numbers otherwise: there it is enough that the means are the same all but exactly.
    """

    data: Data
    sha256: str
    means: tuple[float, ...]


# By kind, of the embedded digits or of what is drawn in place of photographs. Whatever is added has
# its entry here. Changing what is drawn
# changes every record's data: do it on purpose, and replace these.
KNOWN = {
    "cluttered": [
        Known(Cluttered(EMBEDDED, 24, 2, 5, 30), "e6c56630d17d", (66.3884, 11.69)),
    ],
    "cropped to digit": [
        Known(CroppedToDigit(EMBEDDED, 24, 2, 5, 30, side=13), "15fe3a19e9be", (90.5392, 6.0)),
    ],
    "distorted": [
        Known(Distorted("R", EMBEDDED, 30), "0279574f2f12", (42.9964, 13.56, 0.0)),
        Known(Distorted("RTS", EMBEDDED, 30), "06ca3a3a4cfd", (17.7475, 20.655, 0.0089)),
        Known(Distorted("P", EMBEDDED, 30), "bf32be351f76", (13.435, 20.7925, 0.0147)),
        Known(Distorted("E", EMBEDDED, 30), "f3b095b0e14f", (14.3649, 20.565, 0.0041)),
        Known(Distorted("TC", EMBEDDED, 30), "57ebb836f952", (15.3465, 29.7225, 0.0056)),
        Known(Distorted("S", EMBEDDED, 30), "f2db5b33a740", (15.2780, 55.6125, -0.0000)),
    ],
    "addition": [Known(Addition(EMBEDDED, 30), "64501d02747b", (17.0509, 19.9788, -0.0259))],
    "extruded": [Known(Extruded(EMBEDDED, 30), "323fe8b80134", (4.3691, 29.5198, 0.0007))],
    "one digit": [Known(OneDigit(4, source=EMBEDDED), "1d429f92e23a", (25.4826, 29.7, 0.0068))],
    "crops": [
        Known(Crops(EMBEDDED, 30), "3251c47ad08d", (53.6562, 10.71, 0.0203)),
        Known(Crops(EMBEDDED, 30, 0, 26, 4), "6c58bfa86d3d", (87.9340, 12.5075, 0.00013)),
    ],
    "sequences": [Known(Sequences(EMBEDDED, train_size=30), "e0d11e4ce876", (18.7595, 45.2458))],
    "svhn": [
        Known(Svhn(EMBEDDED, 30), "93b0c50bfd64", (122.6439, 31.5)),
        Known(Svhn(EMBEDDED, 31, side=128), "581629e6b359", (121.0154, 63.5)),
    ],
    "cub": [Known(Cub(DRAWN, 43, 30), "753fd8261b2b", (84.5515, 21.2525))],
    "plankton": [Known(Plankton(21, EMBEDDED, 30), "978c9a5aedb7", (84.7279, 10.0))],
}
every = pytest.mark.parametrize(
    "known", [known for each in KNOWN.values() for known in each], ids=lambda k: k.data.name
)


def means(split):
    arrays = [getattr(split, name, None) for name in ("images", "boxes", "poses")]
    return tuple(float(np.asarray(x[:100]).mean()) for x in arrays if x is not None)


@every
def test_what_it_loads(known):
    """Its form and sizes are those that the value says, and its content is what it always was."""
    data, form = known.data, known.data.form
    made = data.load()
    assert (len(made.train), len(made.test)) == (data.train_size, data.test_size)
    assert data.valid_size == (0 if made.valid is None else len(made.valid))
    for split in filter(None, (made.train, made.valid, made.test)):
        assert split.size == form.size and split.shape[1:] == form.shape
    drawn = made.train.epoch(1)
    assert drawn.images.shape[1:] == form.shape and drawn.images.dtype == np.uint8
    for labels in (made.test.labels, drawn.labels):
        assert labels.shape[1:] == form.labels and labels.max() < form.classes
    assert means(made.test) == pytest.approx(known.means, rel=5e-4, abs=1e-4)
    assert made.sha256.startswith(known.sha256) or isinstance(made.test, PosedSplit)


@every
def test_noise_is_of_its_form(known):
    """As training gets it: of pairs, images that are compared."""
    form, made = known.data.form, known.data.noise(7)
    assert len(made) >= 7 and made.size == form.size and made.shape[1:] == form.shape
    assert made.images.dtype == np.uint8 and np.asarray(made.images).std() > 10
    assert made.labels.shape[1:] == form.labels and made.labels.max() < form.classes
    train = known.data.load().train
    images, labels = (split.epoch(1).batch(np.array([0, 3])) for split in (made, train))
    for of_noise, of_set in zip(images, labels, strict=True):
        assert type(of_noise) is type(of_set)
    assert isinstance(made, Pairs) == isinstance(train, Pairs)
    again = known.data.noise(7)
    np.testing.assert_array_equal(np.asarray(again.images), np.asarray(made.images))


@every
def test_what_a_record_keeps_of_it(known):
    kept = to_json(known.data)
    assert from_json(kept) == known.data and kept["kind"] in KNOWN
    with pytest.raises(UserError, match=f"^{kept['kind']} has no depth; it has "):
        from_json(kept | {"depth": 3})


@pytest.mark.parametrize("kind", KNOWN)
def test_what_none_can_be(kind):
    """Whose digits, how many, and from which seed."""
    kept = to_json(KNOWN[kind][0].data)
    for field, value, words in [
        ("source", "cifar", "source must be [a-z]+ or [a-z]+, got 'cifar'"),
        ("seed", -1, "data_seed must be from 0 to"),
        ("train_size", 0, "train_size must be at least 1, got 0"),
    ]:
        with pytest.raises(UserError, match=words):
            from_json(kept | {field: value})


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ({"kind": "distorted", "recipe": "RST"}, "no set 'RST': choose one of R, RTS, P, E, TC"),
        ({"kind": "distorted"}, "distorted needs recipe"),
        ({"kind": "distorted", "recipe": "R", "canvas": 30}, "distorted has no canvas; it has"),
        ({"kind": "distorted", "recipe": "R", "passes": 0}, "passes must be at least 1, got 0"),
        ({"kind": "one digit", "digit": 10}, "digit must be one of 0 to 9, got 10"),
        ({"kind": "one digit", "digit": 3, "distractors": -1}, "distractors must be at least 0"),
        ({"kind": "one digit", "digit": 3, "train_size": 10}, "all 9900 pairs, got 10"),
        ({"kind": "sequences", "slope": 1.1}, "slope must be from 1/28 to 1, got 1.1"),
        ({"kind": "sequences", "source": "digits", "slope": 0.04}, "slope must be from 1/20 to 1"),
        ({"kind": "cub", "side": 41}, "side must be at least 42, got 41"),
        ({"kind": "cub", "train_size": 5_995}, "train_size must be at most 5994, got"),
        ({"kind": "plankton", "side": 1}, "side must be at least 2, got 1"),
        ({"kind": "svhn", "train_size": 13_001}, "train_size must be at most 13000, got"),
        ({"kind": "plankton", "train_size": 24_269}, "train_size must be at most 24268, got"),
        ({"kind": "addition", "train_size": 60_001}, "train_size must be at most 60000, got"),
    ],
)
def test_what_some_cannot_be(kept, words):
    with pytest.raises(UserError, match=words):
        from_json(kept)


def test_names_differ():
    """A run's folder has the name in it."""
    names = [known.data.name for each in KNOWN.values() for known in each]
    assert len(set(names)) == len(names) and all(
        name.endswith(("-digits", "-drawn")) for name in names
    )


def test_where_poses_are_known():
    """Of digits that are distorted or alone. Of those among clutter and of pictures boxes are."""
    for kind, (known, *_) in KNOWN.items():
        posed = isinstance(known.data.load().test, PosedSplit)
        assert posed == (
            kind not in ("cluttered", "cropped to digit", "cub", "plankton", "sequences", "svhn")
        )
