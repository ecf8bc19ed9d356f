"""Values: what JSON makes of them, fields by their paths, what differs, the folders they name."""

import json
from dataclasses import MISSING, fields, replace

import numpy as np
import placement_mnist
import placement_plankton
import placement_svhn
import pytest
import rnn_spn_table1
import stn_addition
import stn_colocalisation
import stn_projection3d
import stn_table1
import table3
from small_runs import SETTINGS
from test_runs import OTHER

from ministn.data import (
    Addition,
    Cluttered,
    CroppedToDigit,
    Crops,
    Cub,
    Distorted,
    Extruded,
    OneDigit,
    Plankton,
    Sequences,
    Svhn,
)
from ministn.errors import UserError
from ministn.kinds import (
    KINDS,
    Difference,
    differences,
    from_json,
    has,
    kind,
    leaves,
    replaced,
    short,
    to_json,
    value_at,
)
from ministn.models import (
    Alternating,
    ClassificationCnn,
    Colocaliser,
    CropEncoder,
    FfnSpn,
    PartNetwork,
    Placement,
    PlacementCnn,
    PlanktonNetwork,
    Projected,
    RnnSpn,
    SequenceCnn,
    Shuffled,
    SmallStn,
    Stn,
    SvhnNetwork,
    Trstn,
    Tstn,
    UntiedStn,
)
from ministn.optimizers import SGD, Adam, Nesterov, RMSprop
from ministn.runs import Settings, folder_name
from ministn.schedules import StepDecay
from ministn.tasks import Classification, Colocalisation
from ministn.training.protocol import Training

OURS = {name: cls for name, cls in KINDS.items() if cls.__module__.startswith("ministn.")}
COMMANDS = [
    (table3, ["--nets", *table3.NETS]),
    (table3, ["--nets", "arch1-cnn", "--crop", "20"]),
    (table3, ["--quick", "--compress", "8"]),
    (stn_table1, []),
    (stn_addition, []),
    (stn_projection3d, []),
    (stn_colocalisation, []),
    (stn_colocalisation, ["--quick"]),
    (stn_colocalisation, ["--settings", "clutter"]),
    (rnn_spn_table1, []),
    (placement_svhn, []),
    (placement_plankton, []),
    (placement_mnist, ["--seeds", "0"]),
]
CHOSEN = list(
    dict.fromkeys(each for script, words in COMMANDS for each in script.EXPERIMENT.parse(words))
)


def has_default(field):
    return field.default is not MISSING or field.default_factory is not MISSING


def default_built():
    """Of each kind that can be."""
    for cls in OURS.values():
        if all(has_default(field) for field in fields(cls)) and cls is not Training:
            yield cls()


def within(value):
    """A value and those in it."""
    yield value
    for field in fields(value):
        if hasattr(held := getattr(value, field.name), "kind"):
            yield from within(held)


TESTED = [also for each in CHOSEN for also in table3.EXPERIMENT.tests(each).values()]
VALUES = list(
    dict.fromkeys([*default_built(), *(v for each in [*CHOSEN, *TESTED] for v in within(each))])
)


# ---- JSON


def test_every_kind_is_among_the_values():
    assert {value.kind for value in VALUES} == OURS.keys()


def test_json_gives_every_value_back():
    for value in VALUES:
        written = json.loads(json.dumps(to_json(value), allow_nan=False))
        found = from_json(written)
        assert type(found) is type(value) and found == value and hash(found) == hash(value)
        assert to_json(found) == written


def test_tuples_come_back_as_tuples():
    assert from_json(json.loads(json.dumps(to_json(((1, 2.5), "a", None, True))))) == (
        (1, 2.5), "a", None, True,
    )  # fmt: skip


def test_a_missing_field_has_its_default():
    """Records may be from before there was such a field."""
    for value in VALUES:
        for field in fields(value):
            if has_default(field) and field.name not in ("epochs", "iterations"):
                written = to_json(value)
                del written[field.name]
                default = field.default
                if default is MISSING:
                    default = field.default_factory()
                assert from_json(written) == replace(value, **{field.name: default})


def test_a_missing_field_without_a_default_is_named():
    for value in VALUES:
        for field in fields(value):
            if not has_default(field):
                written = to_json(value)
                del written[field.name]
                with pytest.raises(UserError, match=f"^{value.kind} needs {field.name}$"):
                    from_json(written)
    with pytest.raises(UserError, match=r"^run needs data, network, training$"):
        from_json({"kind": "run"})


def test_an_unknown_field_is_named():
    for value in VALUES:
        written = to_json(value) | {"zeal": 1, "awe": 2}
        with pytest.raises(UserError, match=f"^{value.kind} has no awe, zeal; it has ?") as error:
            from_json(written)
        assert all(field.name in str(error.value) for field in fields(value))


@pytest.mark.parametrize("written", [{"kind": "hope"}, {}, {"kind": None}, {"lr": 0.1}])
def test_an_unknown_kind_is_named(written):
    with pytest.raises(UserError, match=f"^unknown kind {written.get('kind')!r}; known are .*adam"):
        from_json({"kind": "training", "epochs": 1, "optimizer": written})


def test_a_value_of_another_class_does_not_fit():
    for path, value in [("data", Adam()), ("network", Cluttered()), ("task", Tstn(1))]:
        with pytest.raises(UserError, match=f"^{path} of a run cannot be {type(value).__name__}"):
            from_json(to_json(SETTINGS) | {path: to_json(value)})


@pytest.mark.parametrize("value", [{1}, {"a": 1}, object(), Adam, 1j, [Adam]])
def test_what_is_no_value_is_refused(value):
    with pytest.raises(TypeError, match="a value is made of values, numbers, texts and tuples"):
        to_json(value)


ODD = [None, True, 1.5, float("nan"), "x", b"a", [1], (1,), 1j, Adam(), np.ma.masked]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.kind)
def test_a_plain_field_holds_what_it_says(value):
    """A whole number, a number, a text, a truth or, where it may be, None: else it is named."""
    fits = {
        int: lambda odd: False, float: lambda odd: isinstance(odd, float),
        str: lambda odd: isinstance(odd, str), bool: lambda odd: isinstance(odd, bool),
        int | None: lambda odd: odd is None, str | None: lambda odd: isinstance(odd, str | None),
        float | None: lambda odd: isinstance(odd, float | None),
    }  # fmt: skip
    for field in fields(value):
        for odd in ODD:
            if field.type in fits and not fits[field.type](odd):
                with pytest.raises(UserError):
                    replace(value, **{field.name: odd})


def test_numpys_numbers_become_pythons():
    """Whatever field they are in; also numbers in tuples."""
    settings = replace(
        SETTINGS, seed=np.uint64(2**64 - 1), data=Cluttered(canvas=np.int16(40)),
        training=Training(batch_size=np.int64(8), lr=np.longdouble(0.5), epochs=np.int32(2)),
    )  # fmt: skip
    assert from_json(json.loads(json.dumps(to_json(settings)))) == settings
    assert {type(held) for held in leaves(settings).values()} <= {
        int, float, str, bool, type(None)
    }  # fmt: skip

    @kind("test pair")
    class Pair:
        both: tuple = (1, 2)

    (one, (other,)) = Pair((np.int8(3), (np.float16(0.5),))).both
    assert (type(one), one, type(other), other) == (int, 3, float, 0.5)
    del KINDS["test pair"]


def test_a_name_is_of_one_class():
    """The same class may come again: a module that is read twice."""
    with pytest.raises(ValueError, match="there is a kind 'adam' already: Adam"):

        @kind("adam")
        class Other:
            beta: float = 1.0

    assert KINDS["adam"] is Adam


def test_a_class_without_a_name_of_its_own_has_no_json():
    """It would come back as the class that it inherits from."""

    class Better(SmallStn):
        pass

    with pytest.raises(TypeError, match="Better has no kind of its own, only that of 'small stn'"):
        to_json(replace(SETTINGS, network=Better()))


# ---- one field, by its path


def test_fields_by_their_paths():
    assert has(SETTINGS, "training.schedule.every") and has(SETTINGS, "data.canvas")
    for path in ("training.every", "data.recipe", "canvas", "training.lr.x", "pretrained.data", ""):
        assert not has(SETTINGS, path)
    assert value_at(SETTINGS, "training.schedule.every") == 20
    assert value_at(SETTINGS, "training.schedule") == StepDecay()
    other = replaced(SETTINGS, "training.schedule.every", 3)
    assert value_at(other, "training.schedule") == StepDecay(0.7, 3)
    assert replaced(other, "training.schedule.every", 20) == SETTINGS != other
    with pytest.raises(UserError, match="decay_every must be at least 1"):
        replaced(SETTINGS, "training.schedule.every", 0)


def test_leaves_are_all_fields_by_their_paths():
    for value in VALUES:
        for path, held in leaves(value).items():
            found = value_at(value, path)
            assert has(value, path) and held == getattr(found, "kind", found)
        assert {field.name for field in fields(value)} <= leaves(value).keys()
    assert leaves(SETTINGS)["training.schedule"] == "step decay"


# ---- what differs


def test_differences_are_told_in_order():
    settings = Settings(
        Distorted("RTS", seed=2), Stn("cnn"), Training(SGD(0.5), schedule=StepDecay(), epochs=4)
    )
    assert list(differences(settings)) == [
        Difference("data", "distorted", True, True),
        Difference("data.recipe", "RTS", True, True),
        Difference("data.seed", "2", False, False),
        Difference("network", "stn", True, True),
        Difference("network.base", "cnn", True, True),
        Difference("training", "training", True, True),
        Difference("training.optimizer", "sgd", True, False),
        Difference("training.optimizer.momentum", "0.5", False, False),
        Difference("training.epochs", "4", False, False),
    ]
    assert list(differences(Classification())) == []


def test_short_numbers():
    for value, text in [
        (3, "3"), (3.0, "3"), (0.1, "0.1"), (1e-8, "1e-08"), ("tps", "tps"), (None, "None"),
        (True, "True"), ((4, 5.0), "4x5"),
    ]:  # fmt: skip
        assert short(value) == text


# ---- folders


def test_equal_numbers_name_one_folder():
    for path in ("network.downsample", "training.loc_lr"):
        whole, same = (replaced(SETTINGS, path, number) for number in (3, 3.0))
        assert folder_name(whole) == folder_name(same) != folder_name(SETTINGS)


STEPS = Training(SGD(), iterations=9)
SET = {"data.source": "digits", "data.train_size": 600, "data.seed": 1}
ENCODER = Settings(Crops(), CropEncoder(), STEPS)
# For each field of each kind another value than a run's.
CHANGED = [
    (SETTINGS, OTHER),
    (
        Settings(Distorted("R"), Stn("fcn", "affine"), STEPS),
        SET | {
            "data.recipe": "P", "data.passes": 10,
            "network.base": "cnn", "network.transform": "tps",
            "network.count": 2, "network.halved": "sampled", "network.width": 9,
            "training.optimizer.momentum": 0.8, "training.optimizer.weight_decay": 0.1,
            "training.optimizer.decay_biases": True, "training.iterations": 10,
        },
    ),
    (
        Settings(Addition(), UntiedStn(1), STEPS),
        SET | {
            "network.architecture": 2, "network.downsample": 1.5, "network.dropout": 0.1,
            "network.share": 0.5,
            "network.clip": 0.01,
            "network.scale": 0.5,
            "network.pool": True,
            "network.zoom": 0.7,
        },
    ),
    (
        Settings(CroppedToDigit(), Trstn(1), STEPS),
        SET | {
            "network.architecture": 2, "network.downsample": 1.5, "network.glimpses": 3,
            "data.side": 21, "data.canvas": 50, "data.distractors": 3, "data.patch": 7,
        },
    ),
    (
        Settings(Cluttered(), Alternating(1), STEPS),
        {"network.architecture": 2, "network.downsample": 1.5},
    ),
    (Settings(Cluttered(), Shuffled(Tstn(1)), STEPS), {"network.network": Tstn(2)}),
    (
        Settings(Extruded(), Projected("fcn"), STEPS),
        SET | {"network.base": "cnn", "network.transformed": True, "network.width": 9},
    ),
    (
        Settings(OneDigit(7), Colocaliser(), STEPS, Colocalisation(), pretrained=ENCODER),
        {
            "data.digit": 8, "data.distractors": 0, "data.source": "digits", "data.seed": 1,
            "pretrained": None, "pretrained.seed": 1, "pretrained.training.iterations": 8,
            "pretrained.data.source": "digits", "network.crop": 36, "network.maps": False,
            "network.encoder": CropEncoder(True),
            "task.drawn": 0.3,
        },
    ),
    (
        ENCODER,
        SET | {"data.side": 36, "data.distractors": 16, "network.pooled": True},
    ),
    (
        Settings(Sequences(), RnnSpn(1), STEPS),
        SET | {
            "data.slope": 1, "network.downsample": 1.5, "network.dropout": 0.1,
            "network.units": 256, "network.state": 64,
        },
    ),
    (
        Settings(Sequences(), FfnSpn(1), STEPS),
        {"network.downsample": 1.5, "network.dropout": 0.1, "network.convolutions": 4},
    ),
    (
        Settings(Sequences(), SequenceCnn(), STEPS),
        {"network.dropout": 0.1, "network.convolutions": 4},
    ),
    (
        Settings(Plankton(), PlanktonNetwork("SL", (2,)), STEPS),
        SET | {
            "data.side": 48, "network.place": "C", "network.depths": (2, 2), "network.width": 0.5,
        },
    ),
    (
        Settings(Svhn(), SvhnNetwork("SL", (3,)), STEPS),
        SET | {
            "network.place": "C", "network.depths": (3, 3), "network.width": 0.5,
            "network.head": "large", "data.side": 128,
        },
    ),
    (
        Settings(Cub(side=96, train_size=30), PartNetwork(), STEPS),
        {
            "data.source": "drawn", "data.side": 97, "data.train_size": 31, "data.seed": 1,
            "network.windows": 4,
        },
    ),
    (
        Settings(Distorted("R"), Placement("C", "R"), STEPS),
        {"network.place": "SL", "network.sizes": "T", "network.depths": (1, 1)},
    ),
    (Settings(Distorted("R"), PlacementCnn("R"), STEPS), {"network.sizes": "T"}),
    (
        Settings(Cluttered(), ClassificationCnn(1), STEPS),
        {"network.architecture": 2, "network.width": 1542},
    ),
    (
        Settings(Cluttered(), ClassificationCnn(1), Training(RMSprop(), iterations=9)),
        {"training.optimizer.rho": 0.8, "training.optimizer.epsilon": 1e-7},
    ),
    (
        Settings(Cluttered(), ClassificationCnn(1), Training(Nesterov(), iterations=9)),
        {
            "training.optimizer": SGD(), "training.optimizer.momentum": 0.8,
            "training.optimizer.weight_decay": 0.1, "training.optimizer.decay_biases": True,
        },
    ),
]  # fmt: skip
# Epochs may grow, and of one digit all pairs are learned from.
NEVER = {("training", "epochs"), ("one digit", "train_size")}


@pytest.mark.parametrize(
    ("settings", "others"), CHANGED, ids=[folder_name(each) for each, _ in CHANGED]
)
def test_every_field_but_the_epochs_names_another_folder(settings, others):
    names = [folder_name(replaced(settings, *other)) for other in others.items()]
    assert len({folder_name(settings), *names}) == 1 + len(names)


def test_every_field_of_every_kind_is_among_those():
    changed = NEVER.copy()
    for settings, others in CHANGED:
        for path in others:
            owner, _, name = path.rpartition(".")
            changed.add(((value_at(settings, owner) if owner else settings).kind, name))
    assert {(kind, f.name) for kind, cls in OURS.items() for f in fields(cls)} - changed == {
        ("run", "training")  # its fields are
    }


def test_more_epochs_name_the_same_folder():
    assert folder_name(SETTINGS.for_epochs(99)) == folder_name(SETTINGS)
    before = [replace(ENCODER, training=Training(epochs=n)) for n in (1, 2)]
    one, other = (replace(SETTINGS, pretrained=each) for each in before)
    assert folder_name(one) != folder_name(other), "it starts from other weights"
