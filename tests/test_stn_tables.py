"""``reproduce/stn_table1.py``, ``stn_addition.py`` and ``stn_projection3d.py``.

Which runs there are, the table, the claims.
"""

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import placement_plankton
import placement_svhn
import pytest
from synthetic import (
    birds_written,
    found_in,
    of_placement,
    of_sequences,
    placed_written,
    stn_written,
    written,
)

from ministn import backend, cli, runs
from ministn.data import Cub, Distorted, cub, distorted
from ministn.data.sources import Sizes
from ministn.kinds import replaced
from ministn.models import Projected, Stn
from ministn.optimizers import SGD, Adam, Nesterov, RMSprop
from ministn.runs import planning
from ministn.schedules import StepDecay

SCRIPTS = Path(__file__).parents[1] / "reproduce"
TINY = "--quick --models fcn --iterations 3 --train-size 64 --threads 1"


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Run a script in this process and a folder of its own: (status, stdout, stderr)."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def run(name: str, line: str) -> tuple[int, str, str]:
        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *line.split()])
        with pytest.raises(SystemExit) as end:
            cli.run(module.main)
        return end.value.code, *capsys.readouterr()

    yield run
    for name in {path.stem for path in SCRIPTS.glob("*.py")} - before:
        sys.modules.pop(name, None)


def chosen(monkeypatch, name: str, line: str):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module(name)
    return module.EXPERIMENT.parse(line.split())


# -- which runs --------------------------------------------------------------------------------


def test_no_flags_are_the_papers_protocol(monkeypatch):
    settings = chosen(monkeypatch, "stn_table1", "")
    first = settings[:36]
    assert len(settings) == 3 * 36 and [s.seed for s in settings] == [0] * 36 + [1] * 36 + [2] * 36
    sets = [s.data.recipe for s in first]
    assert list(dict.fromkeys(sets)) == ["R", "RTS", "TC", "P", "E"]
    assert [sets.count(name) for name in ("R", "RTS", "TC", "P", "E")] == [8, 8, 4, 8, 8]
    for s in settings:
        training = s.training
        assert (training.iterations, training.batch_size, training.lr, training.schedule) == (
            150_000, 256, 0.01, StepDecay(0.1, 50_000),
        )  # fmt: skip
        assert (training.optimizer, training.epochs) == (SGD(0.9, 0.0), None)
        assert s.data == Distorted(s.data.recipe, train_size=60_000)
        halved = {"RTS": "pooled", "TC": "pooled"}.get(s.data.recipe, "")
        assert s.network.kind == "stn" and s.network.halved == halved


def test_addition_has_eight_networks_and_three_seeds(monkeypatch):
    settings = chosen(monkeypatch, "stn_addition", "")
    networks = [s.network for s in settings[:8]]
    assert len(settings) == 24 and len(set(networks)) == 8
    assert networks[0] == Stn("fcn", halved="sampled")
    assert networks[-1] == Stn("fcn", "tps", 2, "sampled")
    assert {s.data.kind for s in settings} == {"addition"}


def test_projections_have_a_protocol_of_ours(monkeypatch):
    settings = chosen(monkeypatch, "stn_projection3d", "")
    assert [s.network for s in settings] == 3 * [
        Projected("fcn"),
        Projected("cnn"),
        Projected("fcn", True),
        Projected("cnn", True),
    ]
    for s in settings:
        training = s.training
        assert (s.data.kind, s.data.form.size) == ("extruded", (60, 60, 60))
        assert (s.data.train_size, training.loc_lr) == (60_000, 1.0)
        assert (training.optimizer, training.lr, training.batch_size) == (Adam(), 0.001, 32)
        assert (training.iterations, training.schedule) == (3000, StepDecay(0.1, 1000))
    (quick,) = chosen(monkeypatch, "stn_projection3d", "--quick --models st-cnn --batch-size 8")
    assert quick.data.name == "extruded-digits"
    assert quick.training.batch_size == 8 and quick.training.iterations < 3000


def test_flags_change_the_protocol(monkeypatch):
    line = "--sets e tc --models st-fcn-tps cnn --iterations 100 --lr 0.1 --momentum 0 --seeds 7"
    settings = chosen(
        monkeypatch, "stn_table1", f"{line} --loc-lr 0.5 --batch-size 8 --data digits"
    )
    assert [(s.data.recipe, s.network.name) for s in settings] == [
        ("E", "st-fcn-tps"), ("E", "cnn"), ("TC", "st-fcn-tps"), ("TC", "cnn"),
    ]  # fmt: skip
    for s in settings:
        training = s.training
        assert (training.iterations, training.schedule.every) == (100, 34)
        assert (training.lr, training.optimizer.momentum) == (0.1, 0.0)
        assert (s.seed, training.loc_lr, training.batch_size) == (7, 0.5, 8)
        assert s.data.source == "digits"


def test_another_optimizer_and_another_fall_of_the_learning_rate(monkeypatch):
    line = "--models fcn --optimizer adam --lr 0.001 --iterations 100 --decay-every 80 --seeds 0"
    (s,) = chosen(monkeypatch, "stn_addition", line)
    assert (s.training.optimizer, s.training.lr) == (Adam(), 0.001)
    assert s.training.schedule == StepDecay(0.1, 80)
    (s,) = chosen(monkeypatch, "stn_addition", line.replace("adam", "rmsprop"))
    assert s.training.optimizer == RMSprop(rho=0.9, epsilon=1e-6)
    (s,) = chosen(monkeypatch, "stn_addition", line.replace("adam", "nesterov --momentum 0.5"))
    assert s.training.optimizer == Nesterov(0.5)


COMMANDS = {
    "table3": ["", "--quick", "--compress 8 --loc-lr 0.3 --seeds 1", "--compress 2.5",
               "--nets arch1-tstn arch1-cnn --downsample 3 --data digits --canvas 40 --epochs 4",
               "--nets arch1-trstn arch2-trstn --glimpses 3 --downsample 3 --compress 8",
               "--nets arch1-alternating arch2-alternating --quick",
               "--nets arch1-cnn --width 1542 --crop 20", "--data digits --crop 36 --canvas 50",
               "--nets arch2-tstn arch1-cnn --stop-gradient --loc-dropout 0.5 --loc-lr 0",
               "--nets arch1-tstn arch1-untied --share 0.25 --downsample 2",
               "--nets small-stn --epochs 9 --decay-every 3 --distractors 0 --data-seed 5"],
    "stn_table1": ["", "--quick", "--sets tc r --models cnn st-cnn-tps --momentum 0.8 --seeds 4",
                   "--data digits --train-size 40 --decay-every 20 --iterations 300 --lr 0.1",
                   "--sets rts r --models st-fcn-affine --width 99"],
    "stn_addition": ["", "--quick", "--optimizer adam --lr 0.001 --loc-lr 0.1 --precision tf32",
                     "--optimizer rmsprop --lr 0.0005", "--optimizer nesterov --momentum 0.95"],
    "stn_projection3d": ["", "--quick", "--models st-cnn --lr 0.1 --batch-size 8"],
    "rnn_spn_table1": ["", "--quick", "--compress 20 --seeds 1",
                       "--nets cnn --epochs 8 --exact-log", "--nets rnn-spn-d4 --state 64",
                       "--nets ffn-spn-d2 rnn-spn-d4 --units 256 --convolutions 4 --dropout 0.2",
                       "--nets cnn --decay-from 3 --decay-every 2 --slope 1 --patience 4"],
    "placement_svhn": ["", "--quick", "--nets sl3x2 c0-large --width 0.25 --epochs 30",
                       "--data digits --momentum 0 --nets cnn --train-size 40",
                       "--nets c0-large c0123 --size 128 --seeds 1"],
    "placement_plankton": ["", "--quick", "--nets sl2 --side 48 --epochs 15 --lr 0.01",
                           "--data digits --quick --weight-decay 0 --batch-size 7 --seeds 3"],
    "placement_mnist": ["", "--quick", "--sets s t --models cnn stn-sl1 --momentum 0.9 --seeds 4",
                        "--data digits --iterations 300 --decay-every 20 --loc-lr 0.1"],
    "stn_birds": ["", "--quick", "--models 4xst-cnn --side 60 --train-size 70 --loc-lr 0.2",
                  "--data cub --models cnn 2xst-cnn --side 96 --iterations 300 --seeds 3",
                  "--lr 0.01 --batch-size 7 --data-seed 2"],
    "stn_colocalisation": ["", "--quick", "--digits none", "--digits none --data digits",
                           "--settings clutter paper --digits none",
                           "--settings clutter --clutter 16 --data digits",
                           "--digits 3 --iterations 20 --data-seed 4 --seeds 3 --loc-lr 0.5"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_of_a_run_gives_just_this_run(name, monkeypatch):
    """And the run that it starts from."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    experiment = importlib.import_module(name).EXPERIMENT
    for line in COMMANDS[name]:
        for settings in experiment.parse(line.split()):
            found = experiment.parse(experiment.command_of(settings))
            before = [] if settings.pretrained is None else [settings.pretrained]
            assert found == [*before, settings]


@pytest.mark.parametrize(
    ("path", "value"), [("training.clip", 1.0), ("training.optimizer", Adam(beta1=0.5))]
)
def test_a_run_that_no_flags_give_has_no_command(path, value, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    experiment = importlib.import_module("stn_table1").EXPERIMENT
    settings = replaced(experiment.parse([])[0], path, value)
    with pytest.raises(ValueError, match=rf"^no flag of reproduce/stn_table1\.py sets {path}"):
        experiment.command_of(settings)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--sets r r", "--sets names one twice: r r"),
        ("--models fcn fcn", "--models names one twice: fcn fcn"),
        ("--seeds 1 1", "--seeds names one twice: 1 1"),
        ("--sets q", "argument --sets: invalid choice: 'q'"),
        ("--models 2st-fcn-tps", "argument --models: invalid choice: '2st-fcn-tps'"),
        ("--iterations 0", "iterations must be at least 1, got 0"),
        ("--train-size 0", "train_size must be at least 1, got 0"),
        ("--train-size -5", "train_size must be at least 1, got -5"),
        ("--momentum 1", "momentum must be at least 0 and below 1, got 1.0"),
        ("--optimizer adam --momentum 0.5", "--momentum is not for adam: leave it out"),
        ("--optimizer rmsprop --momentum 0.5", "--momentum is not for rmsprop: leave it out"),
        ("--optimizer nesterov --momentum nan", "momentum must be at least 0 and below 1, got nan"),
        ("--lr nan", "lr must be a number from 0 up, got nan"),
        ("--loc-lr inf", "loc_lr must be a number from 0 up, got inf"),
        ("--train-size 60001", "--train-size must be at most 60000"),
        ("--lr x", "argument --lr: invalid float value: 'x'"),
        ("--epochs 3", "unrecognized arguments: --epochs 3"),
        ("--report nowhere", "no record.json under nowhere: nothing to report"),
        ("--quick --data-dir .", "the embedded digits need no data_dir"),
    ],
)
def test_impossible_flags_are_one_line_and_create_nothing(flags, message, script, tmp_path):
    status, out, err = script("stn_table1", flags)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_run_and_its_report(script, tmp_path):
    status, out, err = script("stn_table1", TINY)
    assert status == 0, err
    assert "R FCN" in out and "REDUCED, OTHER DATA: 3 iterations of batch 32" in out
    (path,) = tmp_path.glob("runs/*/record.json")
    found = runs.read_record(path)
    assert found["command"] == (
        "python reproduce/stn_table1.py --sets r --models fcn --data digits --seeds 0 "
        "--iterations 3 --batch-size 32 --loc-lr 0.3 --train-size 64 --workers 2"
    )
    assert found["full_train_size"] == 8000
    assert (tmp_path / "runs" / "stn-errors.png").stat().st_size > 1000
    assert "is finished: skipped" in script("stn_table1", f"{TINY} --resume")[1]
    status, out, err = script("stn_table1", "--report")
    assert (status, err) == (0, "") and "R FCN" in out


def test_addition_runs(script, tmp_path):
    line = "--quick --models 2st-fcn-affine --iterations 2 --train-size 40 --batch-size 20"
    status, out, err = script("stn_addition", f"{line} --threads 1")
    assert status == 0, err
    assert "addition 2xST-FCN Aff" in out
    (path,) = tmp_path.glob("runs/*/record.json")
    assert runs.read_record(path)["epochs"][-1]["pose_spread"] > 0


def test_windows_on_parts_run(script, tmp_path, monkeypatch):
    monkeypatch.setitem(cub.SIZES, cub.DRAWN, Sizes(60, 0, 20))
    line = "--quick --iterations 3 --batch-size 20 --models cnn 2xst-cnn --threads 1"
    status, out, err = script("stn_birds", line)
    assert status == 0, err
    assert "2xST-CNN < CNN" in out and "Pictures drawn in place of birds, 60 of 48x48" in out
    found = {
        path.parent.name[:3]: runs.read_record(path) for path in tmp_path.glob("runs/*/*.json")
    }
    best = found["2xs"]["best"]
    assert np.shape(best["test_shows"]) == np.shape(best["test_shows_elsewhere"]) == (2, 2)
    assert found["cnn"]["best"]["test_shows"] is None
    assert {path.name for path in tmp_path.glob("runs/*.png")} == {"birds-windows.png"}


def test_the_birds_have_a_side_and_pictures_of_their_own(monkeypatch):
    (drawn,) = chosen(monkeypatch, "stn_birds", "--models cnn --seeds 0")
    (birds,) = chosen(monkeypatch, "stn_birds", "--models cnn --seeds 0 --data cub --side 96")
    assert drawn.data == Cub("drawn", 48, 10_000) and birds.data == Cub(side=96)
    assert drawn.training == birds.training and drawn.training.loc_lr == 0.1


def test_projections_run(script, tmp_path, monkeypatch):
    monkeypatch.setitem(distorted.SIZES, "digits", Sizes(8_000, 0, 20))
    monkeypatch.setattr(planning, "BATCH", 20)
    line = "--quick --models st-fcn fcn --iterations 2 --train-size 4 --batch-size 2 --threads 1"
    status, out, err = script("stn_projection3d", line)
    assert status == 0, err
    assert "Our claims" in out and "projection ST-FCN < projection FCN" in out
    folders = [path.parent for path in tmp_path.glob("runs/*/record.json")]
    assert sorted(len(list(folder.glob("*.png"))) for folder in folders) == [1, 2]
    assert {path.name for path in tmp_path.glob("runs/*.png")} == {
        "projection-errors.png",
        "projection-transformers.png",
    }


def test_projections_run_on_a_gpu(script, tmp_path, monkeypatch, quick_device):
    """The same program with the other engine: nearly the same losses."""
    monkeypatch.setattr(backend, "gpu", lambda: quick_device)
    monkeypatch.setitem(distorted.SIZES, "digits", Sizes(8_000, 0, 7))
    monkeypatch.setattr(planning, "BATCH", 1)
    line = "--quick --models st-fcn --iterations 3 --train-size 4 --batch-size 2"
    losses = []
    for out, flags in (("cpu", "--threads 1"), ("gpu", "--gpu")):
        status, said, err = script("stn_projection3d", f"{line} {flags} --out {out}")
        assert status == 0, err
        assert "projection ST-FCN" in said
        (path,) = tmp_path.glob(f"{out}/*/record.json")
        found = runs.read_record(path)
        assert found["device"]["engine"] == ("cuda" if out == "gpu" else "numpy")
        losses.append([epoch["test_loss"] for epoch in found["epochs"]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


# -- one folder for all -----------------------------------------------------------------------


SHARED = {
    "table3": written,
    "stn_table1": lambda: stn_written("r-fcn"),
    "stn_addition": lambda: stn_written("addition-fcn"),
    "stn_projection3d": lambda: stn_written("projection-fcn"),
    "stn_birds": birds_written,
    "stn_colocalisation": lambda: found_in(3, 0, 5.0),
    "rnn_spn_table1": lambda: of_sequences("rnn-spn-d3"),
    "placement_svhn": lambda: placed_written(placement_svhn, "--nets sl3x2"),
    "placement_plankton": lambda: placed_written(placement_plankton, "--nets c2"),
    "placement_mnist": lambda: of_placement("r", "stn-sl1"),
}


@pytest.mark.parametrize("name", SHARED)
def test_scripts_may_share_a_folder(name, script, tmp_path):
    """Each reports its own runs only."""
    for script_name, run in SHARED.items():
        path = tmp_path / "runs" / script_name / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(run()))
    others = f"other scripts ({len(SHARED) - 1})"
    status, out, err = script(name, "--report")
    assert (status, err) == (0, "") and f"left out: runs of {others}" in out, out
    (tmp_path / "runs" / name / "record.json").unlink()
    status, _, err = script(name, "--report")
    assert status == 2 and f"no run under runs is of reproduce/{name}.py, only of {others}" in err
