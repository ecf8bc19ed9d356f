"""The RNN-SPN paper's networks and script: what is built, and small runs from end to end."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import rnn_spn_table1
from small_runs import changed, outcome, shortened, trainer_of

from ministn import cli, parallel, runs
from ministn.data import DataSet, Form, Sequences, sequences
from ministn.data.sources import EMBEDDED, Sizes
from ministn.errors import UserError
from ministn.layers import Conv2d, Dense, Dropout
from ministn.models import FfnSpn, RnnSpn, SequenceCnn, rnn_spn
from ministn.optimizers import RMSprop
from ministn.runs import Run, Settings
from ministn.schedules import StepDecay
from ministn.tasks import Classification

FORM = Sequences().form
TRAINING = replace(rnn_spn_table1.RECURRENT, batch_size=5, epochs=2, dropout_ramp=1)

# Steps of 5, 5 and 2 images; all that is the RNN-SPN's own takes part.
SETTINGS = Settings(
    Sequences(EMBEDDED, train_size=12),
    RnnSpn(4, dropout=0.2, units=7),
    TRAINING,
    rnn_spn_table1.TASK,
    seed=4,
)

pytestmark = pytest.mark.usefixtures("unchanging_environment")

of = partial(trainer_of, say=lambda line: None)


@pytest.fixture(scope="module")
def made():
    found = SETTINGS.data.load()
    return DataSet(found.train, *(shortened(each, 10) for each in (found.valid, found.test)))


def trained(settings, made, **how):
    trainer = of(settings, made, **how)
    while not trainer.finished:
        trainer.step()
    trainer.catch_up()
    return trainer


# ---- networks


@pytest.mark.parametrize(
    ("network", "millions"),
    [(1, 7.12), (2, 2.51), (3, 1.68), (4, 1.52)],
)
def test_parameters_of_the_rnn_spn(network, millions):
    """The GRU has 1.44 million; the dense layer reads 21, 9, 4 and 2 pixels of 32 maps each way."""
    assert RnnSpn(network).build(FORM).count / 1e6 == pytest.approx(millions, abs=0.005)
    gru = 3 * (1620 + 256 + 1) * 256
    rest = 320 + 2 * 9248 + 401 * 10 + 200 + 2 * 3620 + 257 * 6
    side = {1: 21, 2: 9, 3: 4, 4: 2}[network]
    assert RnnSpn(network).build(FORM).count == gru + rest + (side**2 * 32 + 1) * 400


def test_at_first_all_networks_look_at_the_whole_image():
    for network in rnn_spn.TABLE:
        for one in network.build(FORM).transformers:
            assert one.size == (100 // int(network.downsample),) * 2
            assert tuple(one.start) == (1, 0, 0, 0, 1, 0)


def test_weights_begin_as_glorots():
    reader = RnnSpn(3).build(FORM).front.reader.layers
    weighted = [layer for layer in reader if isinstance(layer, Conv2d | Dense)]
    assert len(weighted) == 5 and all(x.weight.initial is rnn_spn.GLOROT for x in weighted)


def test_three_softmax_layers_begin_as_each_by_itself_would():
    network = SequenceCnn().build(Form((36, 36), labels=(3,)))
    (softmax,) = (p for p in network.parameters() if p.name == "classifier/softmax/weight")
    weight = softmax.initial(softmax.shape, np.random.default_rng(0))
    assert abs(weight).max() == pytest.approx(np.sqrt(6 / 410), rel=1e-3)


def test_dropout_is_where_the_code_has_it(monkeypatch):
    def paths(network):
        made.clear()
        network.build(FORM)
        return [*made]

    made = []
    monkeypatch.setattr(rnn_spn, "Dropout", lambda path, rate: made.append(path) or Dropout(path))
    names = [f"classifier/dropout{n}" for n in (1, 2, 3)]
    assert paths(RnnSpn(3, 0.2)) == ["localisation/dropout", *names[:2]]
    assert paths(FfnSpn(3, 0.2)) == paths(SequenceCnn(0.2)) == names[:2]
    assert paths(FfnSpn(3, 0.2, 4)) == names
    assert paths(RnnSpn(3)) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RnnSpn(0), r"downsample must be a number from 1\.2e-38 up, got 0"),
        (lambda: RnnSpn(2, dropout=1), "dropout must be at least 0 and below 1, got 1"),
        (lambda: RnnSpn(2, units=0), "units must be at least 1, got 0"),
        (lambda: RnnSpn(2, state=0), "state must be at least 1, got 0"),
        (lambda: FfnSpn(2, convolutions=5), "convolutions must be 3 or 4, got 5"),
        (lambda: RnnSpn(6).build(FORM), "what the classifier reads must have at least 18x18"),
        (lambda: FfnSpn(4, 0, 4).build(FORM), "what the classifier reads must have at least 26x26"),
        (
            lambda: RnnSpn(1).build(Form((60, 60))),
            r"rnn-spn-d1 reads several digits, got labels of",
        ),
    ],
)
def test_impossible_networks_are_refused(make, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make()


# ---- runs


def test_the_protocol_is_the_codes():
    """The learning rate is divided by 1.5 in epoch 33, which the code calls 32, then every 12."""
    chosen = {s.network.name: s for s in rnn_spn_table1.EXPERIMENT.parse([])}
    assert [*chosen] == [
        *(f"{kind}-spn-d{d}" for kind in ("rnn", "ffn") for d in (1, 2, 3, 4)),
        "cnn",
    ]
    rnn, cnn = chosen["rnn-spn-d3"], chosen["cnn"]
    assert rnn.training.optimizer == RMSprop(0.9, 1e-6) and rnn.task == Classification(epsilon=1e-5)
    rates = rnn.training.rates(60_000, 1, 0)
    assert len(rates) == 600 and rates[0] == 0.0005
    at = [5e-4 / rnn.training.rates(60_000, epoch, 0)[0] for epoch in (32, 33, 44, 45, 57)]
    np.testing.assert_allclose(at, [1, 1.5, 1.5, 1.5**2, 1.5**3])
    own = [(t.clip, t.clip_norm, t.dropout_ramp) for t in (rnn.training, cnn.training)]
    assert own == [(1.0, 5.0, 5), (None, 5.0, None)]
    assert [(s.training.epochs, s.training.patience) for s in (rnn, cnn)] == [(300, 50)] * 2


def test_flags_change_it():
    parse = rnn_spn_table1.EXPERIMENT.parse
    (short,) = parse("--nets rnn-spn-d2 --compress 20 --units 256 --exact-log --slope 1".split())
    assert short.training.epochs == 15 and short.training.schedule == StepDecay(1 / 1.5, 1, 3)
    assert short.network == RnnSpn(2, units=256) and short.task == Classification()
    assert short.data.slope == 1 and short.training.patience == 50
    assert rnn_spn_table1.extra(short)["compress"] == 20
    quick = parse(["--quick"])
    assert {s.data.source for s in quick} == {EMBEDDED}
    assert {(s.training.epochs, s.training.loc_lr) for s in quick} == {(16, 0.2)}
    with pytest.raises(UserError, match=r"^--units is not for sequence cnn: leave it out$"):
        parse("--nets cnn --units 256".split())
    with pytest.raises(
        UserError, match=r"^--compress says how many epochs: leave out --decay-from"
    ):
        parse("--compress 20 --decay-from 3".split())


def test_a_resumed_run_ends_with_the_same_bits(made, tmp_path):
    whole = Run(tmp_path / "whole", SETTINGS, "table", "test")
    again = Run(tmp_path / "again", SETTINGS, "table", "test")
    whole.train(made, resume=False, bar=False)
    trainer = of(SETTINGS, made)
    for _ in range(4):
        trainer.step()
    again.folder.mkdir(parents=True)
    trainer.save(again.folder)
    again.train(made, resume=True, bar=False)
    assert outcome(again) == outcome(whole)
    record = outcome(whole)[2]
    assert np.shape(record["epochs"][0]["theta"]) == (6, 18)
    assert np.shape([each["overlaps_most"] for each in record["best"]["test_glimpses"]]) == (3, 3)
    assert record["best"]["test_size"] == 30 and "test_sequence_error" in record["best"]


def test_two_workers_see_the_same(made):
    """Up to what RMSprop's first steps make of another order of sums, which are nearly signs."""
    settings = changed(SETTINGS, lr=1e-5)
    with parallel.team(2) as team:
        both = [each["train_loss"] for each in trained(settings, made, team=team).state.history]
    alone = [each["train_loss"] for each in trained(settings, made).state.history]
    np.testing.assert_allclose(both, alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("network", "precision", "tolerance"),
    [
        (SETTINGS.network, "fp32", 1e-4),
        (SETTINGS.network, "tf32", 1e-2),
        (FfnSpn(4, dropout=0.2), "fp32", 1e-4),
    ],
    ids=["rnn", "rnn, captured", "ffn"],
)
def test_a_gpu_does_the_same(network, precision, tolerance, made, quick_device):
    """Likewise; in tf32 the factors of products are rounded."""
    settings = changed(SETTINGS, network=network, epochs=1, lr=1e-5)
    cpu = trained(settings, made).state.history[0]
    gpu = trained(changed(settings, precision=precision), made, device=quick_device)
    for name in ("train_loss", "valid_loss", "overlap"):
        assert gpu.state.history[0][name] == pytest.approx(cpu[name], rel=tolerance), name


def test_the_script_from_its_start_to_the_figures(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = (
        "--quick --nets rnn-spn-d4 --train-size 12 --epochs 1 --batch-size 6 --workers 1".split()
    )
    monkeypatch.setitem(sequences.SIZES, EMBEDDED, Sizes(8_000, 10, 10))
    monkeypatch.setattr("sys.argv", ["rnn_spn_table1.py", *words])
    with pytest.raises(SystemExit) as end:
        cli.run(rnn_spn_table1.main)
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (0, "") and "REDUCED, OTHER DATA" in out
    (path,) = tmp_path.glob("runs/*/record.json")
    found = runs.read_record(path)
    assert found["command"] == (
        "python reproduce/rnn_spn_table1.py --nets rnn-spn-d4 --data digits --seeds 0 --epochs 1 "
        "--train-size 12 --batch-size 6 --lr 0.001 --loc-lr 0.2 --workers 1"
    )
    drawn = {each.name for each in path.parent.glob("*.png")}
    assert drawn == {"attention.png", "glimpses.png", "overlap.png"}
    assert len(list(tmp_path.glob("runs/rnn-spn-*.png"))) == 3
    assert json.loads(path.read_text())["compress"] is None
