"""A new experiment is written in one file, toy.py, and gets everything that the papers' have."""

import json
import os
import sys
from pathlib import Path

import pytest
import toy
from small_runs import child

from ministn import backend, cli, runs
from ministn.kinds import from_json, to_json

KILLED = """
import os, signal, sys
import toy
from ministn.training.trainer import Trainer

step, taken = Trainer.step, []

def killed(self):
    step(self)
    taken.append(1)
    if len(taken) == PLACE:
        os.kill(os.getpid(), signal.SIGKILL)

Trainer.step = killed
toy.main(sys.argv[1:])
"""


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Run it in this process and a folder of its own: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.run(lambda: toy.main(line.split()))
        return end.value.code, *capsys.readouterr()

    return run


def records(out="runs"):
    return runs.find_records([Path(out)], "toy")


def test_a_plan_creates_nothing(script, tmp_path):
    status, out, err = script("--plan --seeds 0 1")
    assert (status, err) == (0, "") and "line  2 runs of   3 epochs" in out
    assert os.listdir(tmp_path) == []


def test_flags_reach_its_values_and_a_command_gives_its_run():
    for line in ("", "--side 7 --seeds 3 --data-seed 2", "--within 0.25 --epochs 9"):
        (settings,) = toy.EXPERIMENT.parse(line.split())
        assert toy.EXPERIMENT.parse(toy.EXPERIMENT.command_of(settings)) == [settings]
        assert from_json(json.loads(json.dumps(to_json(settings)))) == settings
    assert (settings.task.within, settings.training.epochs) == (0.25, 9)


def test_shards_share_the_runs_and_their_report(script, tmp_path):
    for shard in ("1/2", "2/2"):
        assert script(f"--seeds 0 1 2 --shard {shard} --workers 1")[0] == 0
    status, out, err = script("--report")
    assert (status, err) == (0, "")
    assert [line[0] for line in out.splitlines() if line.endswith("%")] == ["0", "1", "2"]
    assert "python tests/toy.py --seeds 2 --workers 1" in out
    assert (tmp_path / "runs" / "bars.png").stat().st_size > 1000


def test_workers_share_its_batches(script):
    for workers in (1, 2):
        status, _, err = script(f"--workers {workers} --out {workers}")
        assert status == 0, err
    alone, shared = (records(out)[0]["epochs"] for out in ("1", "2"))
    for mine, theirs in zip(alone, shared, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
    assert alone[-1]["train_loss"] < alone[0]["train_loss"]


@pytest.mark.parametrize("place", [1, 4, 7])
def test_a_killed_run_goes_on_to_the_same_bits(place, script, tmp_path):
    assert script("--workers 1 --out whole")[0] == 0
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})" + KILLED
    killed = child(code.replace("PLACE", str(place)), *"--workers 1 --out cut".split())
    assert killed.returncode == -9, killed.stderr
    assert script("--workers 1 --out cut --resume")[0] == 0
    (whole,), (cut,) = records("whole"), records("cut")
    assert cut["epochs"] == whole["epochs"] and cut["best"] == whole["best"]
    weights = [next(tmp_path.glob(f"{out}/*/last.safetensors")) for out in ("whole", "cut")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_on_a_gpu_its_steps_are_plain_ones(script, monkeypatch, quick_device):
    """The same program with the other engine: nearly the same losses."""
    monkeypatch.setattr(backend, "gpu", lambda: quick_device)
    for out, flag in (("cpu", "--workers 1"), ("gpu", "--gpu")):
        status, _, err = script(f"--out {out} {flag}")
        assert status == 0, err
    (cpu,), (gpu,) = records("cpu"), records("gpu")
    assert gpu["device"]["engine"] == "cuda" and gpu["command"].endswith(" --gpu")
    for mine, theirs in zip(gpu["epochs"], cpu["epochs"], strict=True):
        assert mine["test_loss"] == pytest.approx(theirs["test_loss"], rel=1e-4)


def test_its_kinds_are_foreign_to_others_and_are_counted(script, tmp_path):
    """Other scripts count its records without knowing what they mean."""
    assert script("--workers 1")[0] == 0
    from table3 import EXPERIMENT

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import table3; "
        "from ministn import cli; cli.run(lambda: table3.main(['--report']))"
    )
    folder = Path(sys.modules["table3"].__file__).parent
    said = child(code, str(folder))
    assert (
        said.returncode == 2
        and f"no run under runs is of {EXPERIMENT.script}, only of other scripts (1)"
        in (said.stderr)
    )


def test_it_is_one_short_file():
    lines = Path(toy.__file__).read_text().splitlines()
    assert len(lines) < 120
