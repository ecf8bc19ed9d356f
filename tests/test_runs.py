"""A run's folder: its name, its record, its lock, and when it is refused or skipped."""

import base64
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy
from small_runs import SETTINGS, changed, data_set, outcome, run_in, train, trainer_of

from ministn import runs
from ministn.data import Distorted
from ministn.errors import UserError
from ministn.kinds import leaves, replaced, to_json
from ministn.models import Stn, UntiedStn
from ministn.optimizers import SGD
from ministn.parallel import Team
from ministn.runs import Settings
from ministn.schedules import StepDecay
from ministn.tasks import Colocalisation
from ministn.training import checkpoint
from ministn.training.protocol import Training
from ministn.training.trainer import BEST, LAST, Trainer

OTHER = {
    "data": Distorted("R", train_size=53),
    "data.source": "digits",
    "data.canvas": 61,
    "data.distractors": 7,
    "data.patch": 9,
    "data.train_size": 54,
    "data.seed": 1,
    "network": UntiedStn(1),
    "network.architecture": 2,
    "network.downsample": 3.0,
    "network.dropout": 0.5,
    "network.share": 0.5,
    "network.clip": 0.01,
    "network.scale": 0.5,
    "network.pool": True,
    "network.zoom": 0.7,
    "network.stop_gradient": True,
    "training.optimizer": SGD(),
    "training.optimizer.beta1": 0.8,
    "training.optimizer.beta2": 0.99,
    "training.optimizer.epsilon": 1e-7,
    "training.lr": 0.0030000001,
    "training.schedule": StepDecay(0.7, 20, 21),
    "training.schedule.factor": 0.1,
    "training.schedule.every": 21,
    "training.schedule.first": 2,
    "training.batch_size": 17,
    "training.loc_lr": 0.5,
    "training.clip": 1.0,
    "training.clip_norm": 5.0,
    "training.dropout_ramp": 5,
    "training.patience": 50,
    "training.loc_warm_up": 196,
    "task": Colocalisation(),
    "task.counts": "sequence",
    "task.epsilon": 1e-5,
    "task.over": "sum",
    "seed": 5,
    "precision": "tf32",
    "pretrained": SETTINGS,
}
LENGTH = {"training", "training.epochs", "training.iterations"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder that holds one finished run of one epoch."""
    out = tmp_path_factory.mktemp("finished")
    train(out, epochs=1)
    return out


@pytest.fixture
def out(finished, tmp_path):
    """A copy of it, to be spoiled."""
    folder = run_in(tmp_path).folder
    folder.mkdir()
    for path in run_in(finished).folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return tmp_path


def in_training(**fields):
    """A change of a record's settings."""
    return lambda record: record["settings"]["training"].update(fields)


def edit(path, change) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_folder_name_tells_all_settings_but_the_epochs_apart():
    assert OTHER.keys() | LENGTH == leaves(SETTINGS).keys()
    others = [
        *(replaced(SETTINGS, *other) for other in OTHER.items()),
        changed(SETTINGS, iterations=3),
    ]
    names = {runs.folder_name(other) for other in others}
    assert len(names | {runs.folder_name(SETTINGS)}) == len(others) + 1
    assert runs.folder_name(changed(SETTINGS, epochs=9)) == runs.folder_name(SETTINGS)


def test_folder_names_are_what_they_were():
    """A run is found again by its name: no default may change, and no way of writing it."""
    assert runs.folder_name(SETTINGS) == (
        "arch1-tstn-cluttered-canvas9-train_size53-lr0.003-batch_size16-seed4-a1e8f9b7"
    )
    training = Training(SGD(), 0.003, batch_size=16, iterations=9)
    sgd = Settings(Distorted("R", train_size=53), Stn("fcn"), training, seed=4)
    name = "fcn-r-train_size53-sgd-lr0.003-batch_size16-iterations9-seed4"
    for path, value, old, new, digits in [
        ("seed", 4, "", "", "46a0887a"),
        ("training.optimizer.momentum", 0.0, "sgd", "sgd-momentum0", "7b47068a"),
        ("training.iterations", 8, "iterations9", "iterations8", "06a6795a"),
        ("data.source", "digits", "fcn-r", "fcn-r-digits", "e7f71e4b"),
        ("network", Stn("fcn", "affine"), "fcn-", "st-fcn-affine-", "5a837e3c"),
    ]:
        found = runs.folder_name(replaced(sgd, path, value))
        assert found == f"{name.replace(old, new)}-{digits}"


def test_record_says_what_happened(finished):
    run = run_in(finished, epochs=1)
    record = runs.read_record(run.record_path)
    trainer = trainer_of(run.settings, data_set())
    best = trainer.test_best if trainer.load(run.folder) else trainer.test_best(run.folder)
    assert record["settings"] == run.settings
    written = json.loads(run.record_path.read_text())
    assert written["settings"] == to_json(run.settings)
    assert (record["format"], record["experiment"]) == (2, "table3")
    assert (record["full_train_size"], record["paper_epochs"]) == (53, 7)
    assert record["status"] == "finished" and record["command"] == "test --workers 1"
    assert record["data_sha256"] == data_set().sha256
    assert record["parameters"] == trainer.buffer.count
    assert record["epochs"] == trainer.state.history and len(record["epochs"]) == 1
    packed = np.frombuffer(base64.b64decode(record["best"]["test_correct"]), np.uint8)
    correct = np.unpackbits(packed, count=record["best"]["test_size"]).astype(bool)
    np.testing.assert_array_equal(correct, best["correct"])
    assert record["best"]["test_error"] == 100 * np.count_nonzero(~correct) / 29
    examples = record["examples"]
    images = np.frombuffer(base64.b64decode(examples["images"]), np.uint8)
    test = data_set().test
    np.testing.assert_array_equal(images.reshape(examples["shape"]), test.images[:6])
    assert examples["labels"] == test.labels[:6].tolist()
    assert examples["boxes"] == test.boxes[:6].tolist()
    assert np.shape(record["epochs"][0]["theta"]) == (6, 6)
    start = record["starts"][0]
    assert (start["epoch"], start["batch"], len(record["starts"])) == (0, 0, 1)
    assert record["device"] == start["device"] and record["device"]["threads"] == 1
    assert sorted(path.name for path in run.folder.iterdir() if path.name != "run.lock") == [
        BEST,
        LAST,
        runs.RECORD,
    ]


def test_wall_seconds_add_up_over_the_starts(tmp_path, monkeypatch):
    now, step = 100.0, Trainer.step

    def slow_step(trainer):
        nonlocal now
        now += 7
        step(trainer)

    monkeypatch.setattr(Trainer, "step", slow_step)
    monkeypatch.setattr("ministn.runs.run.time.monotonic", lambda: now)
    run = train(tmp_path, epochs=1)
    first = runs.read_record(run.record_path)["wall_seconds"]
    assert first == 4 * 7
    train(tmp_path, epochs=2, resume=True)
    record = runs.read_record(run.record_path)
    assert record["wall_seconds"] == first + 4 * 7
    assert [(start["epoch"], start["batch"]) for start in record["starts"]] == [(0, 0), (1, 0)]


def test_nothing_there_is_nothing_in_the_way(tmp_path):
    assert run_in(tmp_path).already_finished(resume=False) is None
    assert run_in(tmp_path).already_finished(resume=True) is None
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_run_is_skipped_and_left_alone(resume, out):
    run = run_in(out, epochs=1)
    before = outcome(run)
    assert run.already_finished(resume) == f"{run.folder} is finished: skipped"
    assert run.train(data_set(), resume=resume, bar=False) == "finished"
    assert outcome(run) == before


@pytest.mark.parametrize(
    ("spoil", "epochs", "resume", "message"),
    [
        (None, 2, False, r"exists and is finished \(epoch 1 of 1\): add --resume"),
        (lambda r: r.update(status="running"), 1, False, "exists and was cut off"),
        (in_training(epochs=3), 2, True, "started for 3 epochs: .* may grow, not shrink to 2"),
        (in_training(epochs=3), 2, False, "started for 3 epochs: .* may grow, not shrink to 2"),
        (in_training(lr=0.1), 1, False, r"other settings \(training.lr\): found \[0.1\]"),
        (in_training(lr=0.1), 2, True, r"other settings \(training.lr\): found \[0.1\]"),
        (
            lambda r: r["settings"]["training"].pop("lr"),
            2,
            True,
            r"\(training.lr\): found \[0.001\]",
        ),
        (in_training(friction=0.9), 2, True, "not a record of a run: training has no friction"),
        (in_training(lr=-1), 2, True, "not a record of a run: lr must be a number from 0 up"),
        (in_training(kind="hope"), 2, True, "not a record of a run: unknown kind 'hope'"),
        (lambda r: r["settings"].pop("network"), 2, True, "of a run: run needs network"),
        (lambda r: r.pop("settings"), 2, True, "not a record of a run"),
        (lambda r: r.pop("format"), 2, True, "not a record of a run"),
        (lambda r: r.update(format=1), 2, True, "not a record of a run"),
        (lambda r: r.update(format=3), 2, True, "record format 3, this version reads up to 2"),
    ],
)
def test_a_run_in_the_way_is_refused(spoil, epochs, resume, message, out):
    run = run_in(out, epochs=epochs)
    if spoil:
        edit(run.record_path, spoil)
    before = {path: path.read_bytes() for path in run.folder.iterdir()}
    for refused in (
        lambda: run.already_finished(resume),
        lambda: run.train(data_set(), resume=resume, bar=False),
    ):
        with pytest.raises(UserError, match=message) as error:
            refused()
        assert str(run.folder) in str(error.value)
    assert {path: path.read_bytes() for path in run.folder.iterdir()} == before


def test_a_checkpoint_without_a_record_is_not_overwritten(out):
    run = run_in(out, epochs=1)
    before = outcome(run)
    run.record_path.unlink()
    with pytest.raises(UserError, match="holds a checkpoint: add --resume"):
        train(out, epochs=1)
    assert outcome(train(out, epochs=1, resume=True))[:2] == before[:2]
    assert outcome(run)[2]["best"] == before[2]["best"]


def spoil(path: Path, damage: str) -> None:
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        arrays, state = checkpoint.load(path)
        del state["format"]
        checkpoint.save(path, arrays, state | {"settings": {}, "epoch": 7})


@pytest.mark.parametrize("name", [LAST, BEST])
@pytest.mark.parametrize("damage", ["cut", "other run"])
def test_a_spoilt_checkpoint_is_named(name, damage, out):
    run = run_in(out, epochs=1)
    trainer = trainer_of(run.settings, data_set(), say=lambda line: None)
    if name == BEST:
        trainer.load(run.folder)
    spoil(run.folder / name, damage)
    with pytest.raises(UserError, match=r"other|not a readable checkpoint") as error:
        (trainer.test_best if name == BEST else trainer.load)(run.folder)
    assert str(run.folder / name) in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "other run"])
def test_a_spoilt_best_of_the_last_epoch_is_written_again(damage, out):
    """The last checkpoint holds the same weights: so it is after a kill between the two files."""
    run = run_in(out, epochs=1)
    before = outcome(run)
    edit(run.record_path, lambda record: record.update(status="running"))
    spoil(run.folder / BEST, damage)
    assert outcome(train(out, epochs=1, resume=True)) == before


HOLD = """
import sys
from pathlib import Path
import small_runs
with small_runs.run_in(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_two_processes_cannot_write_one_run(tmp_path):
    """The second is refused and changes nothing; the first one's death lets the next one in."""
    folder = run_in(tmp_path).folder
    folder.mkdir()
    paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        (folder / "record.json.tmp").touch()  # as if it were writing just now
        with pytest.raises(UserError, match=f"another process is writing {folder}"):
            train(tmp_path)
        assert sorted(os.listdir(folder)) == ["record.json.tmp", "run.lock"]
        train(tmp_path, seed=5, epochs=1)  # another run is free
        holder.send_signal(signal.SIGKILL)
    run = train(tmp_path, epochs=1)
    assert runs.read_record(run.record_path)["status"] == "finished"
    assert "record.json.tmp" not in os.listdir(folder)


def test_an_error_inside_a_run_is_not_taken_for_a_lock(tmp_path):
    with pytest.raises(OSError, match="inside"), run_in(tmp_path).locked():
        raise OSError("inside")
    with run_in(tmp_path).locked():
        pass


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/none"])
def test_a_folder_that_cannot_be_made(out, tmp_path):
    if out.startswith("/proc") and not os.path.isdir("/proc"):
        pytest.skip("needs /proc")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        train(tmp_path / out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a record of a run"),
        (b"{", "not a record of a run"),
        (b"[]", "not a record of a run"),
        (b"5", "not a record of a run"),
        (b"null", "not a record of a run"),
        (b"\xff\xfe", "not a record of a run"),
        (b"{}", "not a record of a run"),
        (b'{"format": 1}', "not a record of a run"),
        (b'{"format": 1, "settings": {"network": "arch1-cnn"}}', "not a record of a run"),
        (b'{"format": 2}', "not a record of a run"),
        (b'{"format": 2, "settings": 3}', "not a record of a run: no settings of a run"),
        (b'{"format": 2, "settings": {"kind": "adam"}}', "not a record of a run: no settings"),
        (b'{"format": "1"}', "record format 1, this"),
        (None, "cannot read"),
    ],
    ids=str,
)
def test_other_files_are_no_records(content, message, tmp_path):
    path = tmp_path / "record.json"
    path.mkdir() if content is None else path.write_bytes(content)
    for read in (lambda: runs.read_record(path), lambda: runs.find_records([tmp_path])):
        with pytest.raises(UserError, match=message) as error:
            read()
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_records_are_found_in_order_under_several_folders(out):
    train(out, epochs=1, seed=5)
    one, two = sorted(out.iterdir())
    found = [record["settings"].seed for record in runs.find_records([two, one])]
    assert found == [4, 5]
    with pytest.raises(UserError, match=r"no record.json under .*: nothing to report"):
        runs.find_records([out / "none", out / "neither"])


def test_a_grown_run_has_its_own_command_and_keeps_what_was_tested(out, monkeypatch, capsys):
    """Until it is finished again, the test result of its shorter self stands."""
    before = outcome(run_in(out, epochs=1))[2]
    monkeypatch.setattr(Trainer, "step", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    grown = run_in(out, epochs=2)
    grown.command = "another"
    assert grown.still_to_do() == changed(grown.settings, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        grown.train(data_set(), Team(threads=2), resume=True, bar=False)
    record = runs.read_record(grown.record_path)
    command = "another --workers 1 --threads 2"
    assert (record["status"], record["command"]) == ("running", command)
    assert record["best"] == before["best"]
    assert [start["command"] for start in record["starts"]] == [before["command"], command]
    assert "had 1 threads before and has 2 threads now" in capsys.readouterr().out


def test_the_command_of_a_resumed_run_gives_its_record(tmp_path, capsys):
    """Not that of its beginning, when it was to be shorter."""
    words = ["--out", str(tmp_path), "--workers", "1", "--seeds", "3", "--side", "7", "--epochs"]
    assert toy.main([*words, "1"]) == 0
    (before,) = runs.find_records([tmp_path])
    assert toy.main([*words, "4", "--resume"]) == 0
    (record,) = runs.find_records([tmp_path])
    assert [start["command"] for start in record["starts"]] == [
        before["command"],
        record["command"],
    ]
    for each, epochs in ((before, 1), (record, 4)):
        python, script, *line = shlex.split(each["command"])
        assert (python, script) == ("python", toy.EXPERIMENT.script)
        assert toy.EXPERIMENT.parse(line) == [each["settings"]]
        assert each["settings"].training.epochs == epochs == len(each["epochs"])
