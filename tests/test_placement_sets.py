"""SVHN and plankton in the placement paper: networks, protocols, and small runs of the scripts."""

import json

import numpy as np
import placement_plankton
import placement_svhn
import pytest
from helpers import normal
from papers import placement_plankton as of_plankton
from papers import placement_svhn as of_svhn
from papers.placement_sets import one_more
from small_runs import shortened, trainer_of

from ministn import cli, runs
from ministn.data import DataSet, Plankton, Svhn, as_batch, plankton, svhn
from ministn.data.sources import EMBEDDED, Sizes
from ministn.errors import UserError
from ministn.layers import Conv2d, Dropout, MaxPool2d, Standardised
from ministn.models import PlanktonNetwork, SvhnNetwork
from ministn.models.plankton import TABLE as PLANKTON
from ministn.models.svhn import TABLE as SVHN
from ministn.optimizers import SGD, Nesterov
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.runs import Settings
from ministn.schedules import StepDecay
from ministn.tasks import Classification
from ministn.training.protocol import Training

PHOTOGRAPH, PICTURE = Svhn().form, Plankton().form
SCRIPTS = {"svhn": placement_svhn, "plankton": placement_plankton}


# ---- networks


def test_parameters_of_the_classifiers_are_those_of_the_sources():
    assert SvhnNetwork(None, ()).build(PHOTOGRAPH).count == 32_820_951
    assert PlanktonNetwork(None, ()).build(PICTURE).count == 5_511_385


def test_parameters_on_larger_house_numbers():
    """The first layer of neurons reads four times as many values, 8x8 of 192 maps."""
    larger = Svhn(side=128).form
    more = (8 * 8 - 4 * 4) * 192 * 3072
    assert SvhnNetwork(None, ()).build(larger).count == 32_820_951 + more == 61_132_503
    single = SvhnNetwork("C", (0,), head="large").build(larger).localisation_only()
    convolutions, neurons = (25 * 3 + 1) * 32 + (25 * 32 + 1) * 32, (64 * 64 * 32 + 1) * 32
    assert sum(p.size for p in single) == convolutions + neurons + 33 * 32 + 33 * 6


@pytest.mark.parametrize(
    ("network", "form", "own"),
    [
        (SvhnNetwork("C", (0,)), PHOTOGRAPH, [64 * 64 * 3]),
        (
            SvhnNetwork("C", (0, 1, 2, 3)), PHOTOGRAPH,
            [64 * 64 * 3, 32**2 * 48, 32**2 * 64, 16**2 * 128],
        ),
        (SvhnNetwork("SL", (8, 8)), PHOTOGRAPH, [4 * 4 * 192]),
        (PlanktonNetwork("C", (2,)), PICTURE, [47 * 47 * 32]),
        (PlanktonNetwork("SL", (4,)), PICTURE, [23 * 23 * 64]),
        (PlanktonNetwork("SL", (7,)), PICTURE, [11 * 11 * 128]),
        (PlanktonNetwork("DL", (10,)), PICTURE, [5 * 5 * 256]),
    ],
)  # fmt: skip
def test_localisation_networks_read_the_maps_of_their_depth(network, form, own):
    """Two layers of neurons and theta; DL's blocks are its own, too. One head for each depth."""
    units = 32 if form is PHOTOGRAPH else 64
    heads = sum((features + 1) * units + (units + 1) * (units + 6) for features in own)
    blocks = sum(p.size for block in network.blocks(form) for p in block.parameters())
    made = network.build(form)
    copied = blocks if network.place == "DL" else 0
    assert sum(p.size for p in made.localisation_only()) == heads + copied
    assert made.count == type(network)(None, ()).build(form).count + heads + copied


def test_the_large_localisation_network_looks_with_convolutions():
    (found,) = SvhnNetwork("C", (0,), head="large").build(PHOTOGRAPH).transformers
    count = (75 + 1) * 32 + (25 * 32 + 1) * 32 + (32**2 * 32 + 1) * 32 + 33 * 32 + 33 * 6
    assert sum(p.size for p in found.parameters()) == count


@pytest.mark.parametrize(
    ("network", "form", "border"),
    [
        (SvhnNetwork("SL", (3, 3)), PHOTOGRAPH, "zeros"),
        (PlanktonNetwork("C", (2,)), PICTURE, "nearest"),
    ],
)
def test_at_first_nothing_is_moved(network, form, border):
    made = network.build(form)
    (one,) = made.transformers
    shape = (64, 64, 3) if made.front else (47, 47, 32)
    ParameterBuffer(made.parameters(), 0)
    x = abs(normal(2, *shape)).astype(np.float32)
    np.testing.assert_allclose(one.forward(x)[0], x, atol=1e-5)
    assert one.sampler.border == one.localisation.sampler.border == border


def test_dropout_is_where_the_paper_has_it():
    """SVHN: behind each block but the first and each layer of neurons. Plankton: before those."""
    layers = SvhnNetwork(None, ()).build(PHOTOGRAPH).classifier.layers
    blocks, reader = layers[:8], layers[8:]
    assert isinstance(blocks[0].layers[0], Standardised)
    assert [isinstance(block.layers[-1], Dropout) for block in blocks] == [False] + [True] * 7
    kinds = [type(layer).__name__ for layer in reader]
    assert kinds == ["Flatten", *["Dense", "ReLU", "Dropout"] * 3, "Dense", "Reshape"]
    reader = PlanktonNetwork(None, ()).build(PICTURE).classifier.layers[10:]
    kinds = [type(layer).__name__ for layer in reader]
    assert kinds == ["Flatten", *["Dropout", "Dense", "LeakyReLU"] * 2, "Dropout", "Dense"]


def test_planktons_blocks_are_leaky_and_pool_as_told():
    blocks = PlanktonNetwork(None, ()).build(PICTURE).classifier.layers[:10]
    assert isinstance(blocks[0].layers[0], Standardised)
    assert [len(block.layers) for block in blocks] == [2, 2, 1, 2, 1, 1, 2, 1, 1, 2]
    for convolution, *pools in (blocks[0].layers[1:], *(block.layers for block in blocks[1:])):
        assert isinstance(convolution, Conv2d) and not convolution.pool
        assert (convolution.activation, convolution.slope) == ("leaky_relu", 1 / 3)
        assert all(isinstance(p, MaxPool2d) and (p.size, p.stride) == (3, 2) for p in pools)


@pytest.mark.parametrize(
    ("network", "data"),
    [
        (SvhnNetwork(None, (), 0.25), Svhn(EMBEDDED, 8)),
        (PlanktonNetwork(None, ()), Plankton(48, EMBEDDED, 8)),
    ],
)
def test_the_signal_neither_vanishes_nor_explodes_at_first(network, data):
    """Of plankton while half is dropped, of SVHN before: there dropout rises from nothing."""
    images, _ = data.load().train.epoch(1).batch(np.arange(8))
    made = network.build(data.form)
    ParameterBuffer(made.parameters(), 0)
    step = Step(0, 0, dropout=float(isinstance(data, Plankton)))
    y, _ = made.forward(as_batch(images), step)
    assert 0.2 < y.std() < 3


# ---- protocols and flags


def rates(training, images):
    return [training.rates(images, epoch, 0)[0] for epoch in range(1, training.epochs + 1)]


def test_the_protocol_of_svhn():
    """The learning rate falls to a tenth after each fifth of the run."""
    chosen = placement_svhn.EXPERIMENT.parse([])
    assert [s.network for s in chosen[:19]] == SVHN and [s.seed for s in chosen[::19]] == [0, 1, 2]
    training = chosen[0].training
    assert training.optimizer == SGD(0.0, weight_decay=5e-4) and training.loc_lr == 0.1
    assert training.dropout_ramp == 5
    assert (training.batch_size, training.epochs, training.schedule.every) == (128, 217, 44)
    assert chosen[0].task == Classification("sequence", over="sum")
    (short,) = placement_svhn.EXPERIMENT.parse("--nets sl3 --epochs 30 --seeds 0".split())
    expected = np.repeat(0.01 * 0.1 ** np.arange(5), 6)
    np.testing.assert_allclose(rates(short.training, 9), expected)


def test_the_protocol_of_plankton():
    """It falls after 5/6 and after 20/21 of the run, as near as epochs allow."""
    chosen = placement_plankton.EXPERIMENT.parse([])
    assert [s.network for s in chosen[:20]] == PLANKTON and len(chosen) == 4 * 20
    training, size = chosen[0].training, chosen[0].data.form.size
    assert training.optimizer == Nesterov(0.9, weight_decay=5e-4) and size == (95, 95)
    assert (training.batch_size, training.epochs, training.loc_lr) == (128, 283, 0.1)
    assert training.schedule == StepDecay(0.1, 34, first=237)
    for count, falls in ((1, []), (4, [4]), (15, [13, 15]), (283, [237, 271])):
        found = rates(of_plankton.epochs(training, count), 9)
        assert [n + 1 for n in range(1, count) if found[n] != found[n - 1]] == falls


def test_flags_change_them():
    line = "--nets sl2x2 --side 48 --width 0.5 --momentum 0 --weight-decay 0 --loc-lr 1 --seeds 7"
    (s,) = placement_plankton.EXPERIMENT.parse(line.split())
    assert s.network == PlanktonNetwork("SL", (2, 2), 0.5) and s.data == Plankton(48)
    assert s.training.optimizer == Nesterov(0.0) and (s.training.loc_lr, s.seed) == (1.0, 7)
    (s,) = placement_svhn.EXPERIMENT.parse("--nets cnn --data digits --seeds 0".split())
    assert s.data == Svhn(EMBEDDED, train_size=8000)


def test_quick_is_what_its_words_say():
    for script in SCRIPTS.values():
        quick = script.EXPERIMENT.parse(["--quick"])
        words = script.QUICK.words.split()
        assert quick == script.EXPERIMENT.parse([*words, "--seeds", "0"])
        assert {s.data.source for s in quick} == {EMBEDDED}


@pytest.mark.parametrize("name", SCRIPTS)
def test_without_the_files_one_line_says_what_to_get(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = f"--quick --data {name} --data-dir {tmp_path}".split()
    monkeypatch.setattr("sys.argv", [f"placement_{name}.py", *words])
    with pytest.raises(SystemExit) as end:
        cli.run(SCRIPTS[name].main)
    out, err = capsys.readouterr()
    where = {
        "svhn": "http://ufldl.stanford.edu/housenumbers",
        "plankton": "https://www.kaggle.com/",
    }
    assert (end.value.code, out) == (2, "") and err.count("\n") == 1 and where[name] in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SvhnNetwork("X", (0,)), "place must be 'C', 'DL', 'SL' or None, got 'X'"),
        (lambda: SvhnNetwork("C", 3), "depths must be whole numbers, got 3"),
        (lambda: SvhnNetwork("C", (9,)), r"depths must go up, from 0 to 8 at most, got \(9,\)"),
        (lambda: PlanktonNetwork("C", (2, 1)), "depths must go up, from 0 to 10 at most"),
        (lambda: PlanktonNetwork("C", ()), r"depths go with a place, got place 'C', depths \(\)"),
        (lambda: PlanktonNetwork(None, (1,)), "depths go with a place, got place None"),
        (lambda: PlanktonNetwork(None, (), 0), "width must be a number from .* up, got 0"),
        (lambda: SvhnNetwork("C", (0,), head="huge"), "head must be small or large, got 'huge'"),
        (lambda: SvhnNetwork("C", (0,)).build(PICTURE), "c0 reads several digits, got labels of"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_refused(make, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make()


def test_names_are_the_papers():
    assert [n.name for n in SVHN[:8]] == [
        "cnn", "c0", "c0-large", "c0123", "sl0123", "c3", "dl3", "sl3",
    ]  # fmt: skip
    assert {*of_svhn.STUDY.paper, *of_plankton.STUDY.paper} - {n.name for n in SVHN + PLANKTON} == {
        "sl3x2+1", "sl6x2+1",
    }  # fmt: skip
    claims = of_svhn.STUDY.claims + of_plankton.STUDY.claims
    assert {each.name for each in SVHN + PLANKTON} | {"sl3x2+1", "sl6x2+1"} >= {
        name for claim in claims for name in (claim.first, claim.second)
    }


# ---- runs

TINY = {
    "svhn": Settings(
        Svhn(EMBEDDED, train_size=7), SvhnNetwork("SL", (1, 1), 0.05),
        Training(SGD(0.9, weight_decay=5e-4), 1e-4, batch_size=4, epochs=1, loc_lr=0.1),
        Classification("sequence", over="sum"),
    ),
    "plankton": Settings(
        Plankton(31, EMBEDDED, train_size=7), PlanktonNetwork("C", (0, 2, 2), 0.05),
        Training(Nesterov(0.9, weight_decay=5e-4), 1e-4, batch_size=4, epochs=1, loc_lr=0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TINY)
def test_a_gpu_does_the_same(name, quick_device):
    settings = TINY[name]
    found = settings.data.load()
    made = DataSet(found.train, *(shortened(each, 5) for each in (found.valid, found.test)))
    runs_on = []
    for device in (None, quick_device):
        trainer = trainer_of(settings, made, device=device, say=lambda line: None)
        while not trainer.finished:
            trainer.step()
        trainer.catch_up()
        runs_on.append(trainer.state.history[0])
    for key, value in runs_on[0].items():
        if isinstance(value, float):
            assert runs_on[1][key] == pytest.approx(value, rel=3e-4, abs=1e-6), key


def test_a_network_that_iterates_is_tested_with_one_iteration_more():
    found = {s.network.name: one_more(s) for s in placement_svhn.EXPERIMENT.parse(["--seeds", "0"])}
    assert {name for name, tests in found.items() if tests} == {
        "c0x2", "dl3x2", "sl3x2", "sl6x2", "sl8x2",
    }  # fmt: skip
    ((name, settings),) = found["sl3x2"].items()
    assert name == "sl3x2+1" and settings.network == SvhnNetwork("SL", (3, 3, 3))


def test_the_scripts_from_their_start_to_the_figures(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(svhn.SIZES, EMBEDDED, Sizes(8_000, 10, 10))
    line = "--quick --nets sl3x2 --width 0.05 --train-size 8 --epochs 1 --batch-size 4 --workers 1"
    monkeypatch.setattr("sys.argv", ["placement_svhn.py", *line.split()])
    with pytest.raises(SystemExit) as end:
        cli.run(placement_svhn.main)
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (0, "") and "REDUCED, OTHER DATA" in out
    assert "STN-SL3 x2, tested x3" in out
    (path,) = tmp_path.glob("runs/*/record.json")
    found = runs.read_record(path)
    assert found["command"] == (
        "python reproduce/placement_svhn.py --nets sl3x2 --data digits --seeds 0 --width 0.05 "
        "--epochs 1 --batch-size 4 --train-size 8 --workers 1"
    )
    best = found["best"]
    assert best["test_size"] == best["tests"]["sl3x2+1"]["test_size"] == 10
    assert [each.name for each in path.parent.glob("*.png")] == ["attention.png"]
    assert len(list(tmp_path.glob("runs/placement-svhn.png"))) == 1
    assert len(json.loads(path.read_text())["epochs"]) == 1


def test_plankton_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    line = "--quick --nets c2 --width 0.05 --train-size 8 --epochs 1 --batch-size 4 --workers 1"
    monkeypatch.setattr("sys.argv", ["placement_plankton.py", *line.split()])
    with pytest.raises(SystemExit) as end:
        cli.run(placement_plankton.main)
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (0, "") and "STN-C2" in out
    (path,) = tmp_path.glob("runs/*/record.json")
    assert runs.read_record(path)["best"]["test_size"] == plankton.SIZES[EMBEDDED].test
    assert list(path.parent.glob("*.png")) == []
