"""A run's folder: its name, its record, its lock, and when it is refused or skipped."""

import base64
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import SETTINGS, data_set, outcome, run_in, train

from ministn import runs
from ministn.errors import UserError
from ministn.models import NETWORKS
from ministn.parallel import Team
from ministn.runs import planning
from ministn.training import checkpoint
from ministn.training.trainer import BEST, LAST, Trainer

OTHER = {
    "network": "arch2-tstn",
    "data": "digits",
    "data_seed": 1,
    "canvas": 61,
    "distractors": 7,
    "patch": 9,
    "train_size": 54,
    "batch_size": 17,
    "lr": 0.0030000001,
    "loc_lr": 0.5,
    "seed": 5,
    "precision": "tf32",
    "optimizer": "sgd",
    "weight_decay": 0.1,
    "decay": 0.1,
    "decay_every": 21,
    "encoder": "encoder-data0",
    "downsample": 3.0,
}


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


def edit(path, change) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_folder_name_tells_all_settings_but_the_epochs_apart():
    assert OTHER.keys() | {"epochs", "iterations", "momentum"} == asdict(SETTINGS).keys()
    names = {runs.folder_name(replace(SETTINGS, **{name: to})) for name, to in OTHER.items()}
    assert len(names | {runs.folder_name(SETTINGS)}) == len(OTHER) + 1
    assert runs.folder_name(replace(SETTINGS, epochs=9)) == runs.folder_name(SETTINGS)
    assert runs.folder_name(SETTINGS) == (
        "arch1-tstn-mnist9-clutter6x8-data0-n53-batch16-lr0.003-loc1-seed4"
    )
    sgd = replace(SETTINGS, network="r-fcn", data="r", optimizer="sgd", epochs=None, iterations=9)
    name = "r-fcn-data0-n53-batch16-lr0.003-loc1-sgd0.9-its9-seed4"
    assert runs.folder_name(sgd) == name
    assert runs.folder_name(replace(sgd, momentum=0.0)) == name.replace("sgd0.9", "sgd0")
    assert runs.folder_name(replace(sgd, iterations=8)) == name.replace("its9", "its8")
    assert runs.folder_name(replace(sgd, data="r-digits")) == name.replace("fcn-", "fcn-digits-")


def test_record_says_what_happened(finished):
    run = run_in(finished, epochs=1)
    record = runs.read_record(run.record_path)
    trainer = Trainer(run.settings, data_set())
    best = trainer.test_best if trainer.load(run.folder) else trainer.test_best(run.folder)
    assert record["settings"] == asdict(run.settings)
    assert (record["full_train_size"], record["paper_epochs"]) == (53, 7)
    assert record["status"] == "finished" and record["command"] == "test"
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
        (lambda r: r.update(status="running"), 1, False, "exists and is running"),
        (lambda r: r["settings"].update(epochs=3), 2, True, "may grow, not shrink to 2"),
        (lambda r: r["settings"].update(epochs=3), 2, False, "may grow, not shrink to 2"),
        (lambda r: r["settings"].update(lr=0.1), 1, False, r"other settings \(lr\): found \[0.1\]"),
        (lambda r: r["settings"].update(lr=0.1), 2, True, r"other settings \(lr\): found \[0.1\]"),
        (lambda r: r["settings"].pop("lr"), 2, True, "lr"),
        (lambda r: r["settings"].update(friction=0.9), 2, True, "not a record of a run"),
        (lambda r: r["settings"].update(lr=-1), 2, True, "not a record of a run"),
        (lambda r: r.pop("settings"), 2, True, "not a record of a run"),
        (lambda r: r.pop("format"), 2, True, "not a record of a run"),
        (lambda r: r.update(format=2), 2, True, "record format 2, this version reads 1"),
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
    trainer = Trainer(run.settings, data_set(), say=lambda line: None)
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
        (folder / "stale.tmp").touch()  # as if it were writing just now
        with pytest.raises(UserError, match=f"another process is writing {folder}"):
            train(tmp_path)
        assert sorted(os.listdir(folder)) == ["run.lock", "stale.tmp"]
        train(tmp_path, seed=5, epochs=1)  # another run is free
        holder.send_signal(signal.SIGKILL)
    run = train(tmp_path, epochs=1)
    assert runs.read_record(run.record_path)["status"] == "finished"
    assert "stale.tmp" not in os.listdir(folder)


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
    found = [record["settings"]["seed"] for record in runs.find_records([two, one])]
    assert found == [4, 5]
    with pytest.raises(UserError, match=r"no record.json under .*: nothing to report"):
        runs.find_records([out / "none", out / "neither"])


# -- the plan ----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [name for name in NETWORKS if name.startswith("arch1")])
@pytest.mark.parametrize("batch_size", [1, 16, 10**9])
def test_costs_are_measured_at_any_batch_size(network, batch_size):
    """A batch is at most all the training images: nothing of the size of ``batch_size`` is made."""
    settings = replace(SETTINGS, network=network, batch_size=batch_size)
    cost = planning.costs([settings, replace(settings, seed=9)])
    assert list(cost) == [network]
    assert cost[network].step > 0 and cost[network].image > 0
    once, twice = (replace(settings, epochs=n) for n in (1, 2))
    test = planning.RECIPES["mnist"].test_size * cost[network].image
    epoch = cost[network].seconds(once) - test
    assert cost[network].seconds(twice) == pytest.approx(2 * epoch + test)
    assert planning.total([once, twice], cost) == pytest.approx(3 * epoch + 2 * test)
    text = planning.describe([once], cost)
    assert text.startswith(f"  {network}") and "1 run of   1 epochs" in text
    megabytes = cost[network].parameters * 16 / 1e6
    assert "together 1 run, " in text and f"{megabytes:.0f} MB of checkpoints" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 seconds"), (89, "89 seconds"), (90, "2 minutes"), (5399, "90 minutes"),
     (5400, "1.5 hours"), (360_000, "100.0 hours")],
)  # fmt: skip
def test_hours_as_people_say_them(seconds, text):
    assert planning.hours(seconds) == text


def test_a_grown_run_keeps_its_command_and_what_was_tested(out, monkeypatch, capsys):
    """Until it is finished again, the test result of its shorter self stands."""
    before = outcome(run_in(out, epochs=1))[2]
    monkeypatch.setattr(Trainer, "step", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    grown = run_in(out, epochs=2)
    grown.command = "another"
    assert grown.still_to_do() == replace(grown.settings, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        grown.train(data_set(), Team(threads=2), resume=True, bar=False)
    record = runs.read_record(grown.record_path)
    assert (record["status"], record["command"]) == ("running", before["command"])
    assert record["best"] == before["best"]
    assert [start["command"] for start in record["starts"]] == [before["command"], "another"]
    assert "had 1 threads before and has 2 threads now" in capsys.readouterr().out
