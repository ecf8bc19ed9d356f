"""The demonstration, and that its weights are those of the recorded run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

from ministn import demo, runs
from ministn.errors import UserError

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "reproduce" / "records" / "demo" / "small-stn.json"


def test_demo_writes_a_picture_and_says_what_the_record_says(tmp_path):
    command = [sys.executable, "-m", "ministn.demo"]
    # Like a person's: nothing set, and warnings are errors here as everywhere.
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert matplotlib.image.imread(tmp_path / "ministn-demo.png").shape[1] > 1000
    best = json.loads(RECORD.read_text())["best"]
    # One of 1,000 test images may fall to the other side on another machine's arithmetic.
    said = float(done.stdout.split("reads ")[1].split(" %")[0])
    assert said == pytest.approx(100 - best["test_error"], abs=0.11)
    assert f"mean overlap with the digit's box {best['test_overlap']:.2f}" in done.stdout


def test_the_weights_are_of_the_recorded_run():
    network, settings = demo.load_network()
    recorded = runs.read_record(RECORD)
    assert settings.apart_from_epochs() == recorded["settings"].apart_from_epochs()
    assert settings.training.epochs == recorded["best"]["epoch"]
    assert network.count == recorded["parameters"]


def test_shipped_weights_are_small():
    assert demo.WEIGHTS.stat().st_size < 1e6


def test_damaged_weights_are_one_line(tmp_path):
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(demo.WEIGHTS.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        demo.load_network(damaged)
