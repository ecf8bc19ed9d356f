"""The demonstrations, and that their weights are those of the recorded runs."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from ministn import demo, runs
from ministn.errors import UserError

RECORDS = Path(__file__).parents[1] / "reproduce" / "records" / "demo"
each = pytest.mark.parametrize("name", demo.DEMOS)


def recorded(name):
    return runs.read_record(RECORDS / f"{demo.DEMOS[name].name}.json")


def check(name, said, picture):
    """What is said is what the record says, and there is a picture."""
    assert matplotlib.image.imread(picture).shape[1] > 1000
    record = recorded(name)
    best = record["best"]
    correct = np.unpackbits(np.frombuffer(base64.b64decode(best["test_correct"]), np.uint8))
    passes = getattr(record["settings"].data, "passes", 1)  # over the test digits: the first
    right = correct[: best["test_size"] // passes].mean()
    # One of 1,000 test images may fall to the other side on another machine's arithmetic.
    percent = float(said.split("reads ")[1].split(" %")[0])
    assert percent == pytest.approx(100 * right, abs=0.11)
    if passes == 1:
        measures = {key.removeprefix("test_"): value for key, value in best.items()}
        assert demo.DEMOS[name].says.format(**measures) in said


def test_demo_writes_a_picture_and_says_what_the_record_says(tmp_path):
    """Like a person's: nothing set, and warnings are errors here as everywhere."""
    command = [sys.executable, "-m", "ministn.demo"]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check("small", done.stdout, tmp_path / "ministn-demo.png")


@pytest.mark.parametrize("name", list(demo.DEMOS)[1:])
def test_each_papers_demo_does(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert demo.main([name]) == 0
    check(name, capsys.readouterr().out, tmp_path / f"ministn-demo-{name}.png")


@each
def test_the_weights_are_of_the_recorded_run(name):
    network, settings = demo.load_network(demo.DEMOS[name].weights)
    record = recorded(name)
    assert settings.apart_from_epochs() == record["settings"].apart_from_epochs()
    if settings.training.iterations is None:
        assert settings.training.epochs == record["best"]["epoch"]
    assert network.count == record["parameters"]
    assert settings.data.source == "digits"  # nothing to download


ATTENDS = {
    "small": ("test_overlap", 0.4), "tstn": ("test_correlation", 0.9),
    "stn": ("test_correlation", 0.9), "rnn-spn": ("test_correlation", 0.8),
    "placement": ("test_correlation", 0.9),
}  # fmt: skip


@each
def test_the_transformer_attends(name):
    """By the measure that tells it of each set: a demonstration that shows none is none."""
    measure, least = ATTENDS[name]
    best = recorded(name)["best"]
    assert best[measure] > least
    for number, glimpse in enumerate(best.get("test_glimpses", [])):
        assert glimpse["overlaps_most"][number] > 0.5


@each
def test_shipped_weights_are_small(name):
    assert demo.DEMOS[name].weights.stat().st_size < 1e6


def test_all_weights_that_ship_are_shown():
    shipped = {path.stem for path in demo.WEIGHTS.iterdir()}
    assert shipped == {each.name for each in demo.DEMOS.values()}
    assert shipped == {path.stem for path in RECORDS.glob("*.json")}


def test_damaged_weights_are_one_line(tmp_path):
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(demo.DEMOS["small"].weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        demo.load_network(damaged)


def test_a_paper_without_a_demo_is_one_line():
    with pytest.raises(UserError, match="invalid choice: 'nothing'"):
        demo.main(["nothing"])
