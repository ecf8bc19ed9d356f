"""What the scripts that train refuse or leave out, in one line: of toy.py, as of each of them."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import toy

from ministn import cli, runs
from ministn.runs import sweep

HERE = Path(__file__).parent
RECORDS = HERE.parent / "reproduce" / "records"

HOLD = """
import sys
from pathlib import Path
from toy import EXPERIMENT
from ministn.runs import Run
(settings,) = EXPERIMENT.parse(["--workers", "1"])
with Run(Path("runs"), settings, "toy", "").locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Run it in this process and a folder of its own: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(line: str, main=toy.main) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.run(lambda: main(line.split()))
        return end.value.code, *capsys.readouterr()

    return run


def refused(ended: tuple[int, str, str]) -> str:
    """The one line that a command ended with, which did nothing."""
    status, out, err = ended
    assert (status, out) == (2, "") and err.count("\n") == 1
    return err


# -- reports ---------------------------------------------------------------------------------------


def test_a_report_skips_other_files_by_name(script, tmp_path):
    assert script("--workers 1")[0] == 0
    _, alone, _ = script("--report")
    others = {"list.json": "[1, 2]", "cut.json": "{", "notes/status.json": '{"status": "fine"}'}
    (tmp_path / "runs" / "notes").mkdir()
    for name, text in others.items():
        (tmp_path / "runs" / name).write_text(text)
    status, out, err = script("--report runs runs")
    assert (status, err) == (0, "")
    said = [f"skipped: runs/{name} is not a record of a run\n" for name in sorted(others)]
    assert out == "".join(said) + alone


def test_a_report_on_all_committed_records_takes_its_own(script):
    """Beside them lie a benchmark's record and what was compared with other libraries."""
    import table3

    status, out, err = script(f"--report {RECORDS}", table3.main)
    assert (status, err) == (0, "")
    skipped = re.findall(r"^skipped: (.*) is not a record of a run$", out, re.M)
    places = RECORDS, RECORDS / "conformance", RECORDS / "interop"
    assert skipped == sorted(str(path) for place in places for path in place.glob("*.json"))
    assert "left out: runs of other scripts (" in out and "Arch 1 TSTN" in out


def test_a_report_names_for_each_row_the_command_that_gives_it(script):
    """These records of 15 epochs were begun with a command for 5."""
    import table3

    (folder,) = {path.parent for path in RECORDS.rglob("arch1-tstn*n10000*lr0.0001*seed0.json")}
    status, out, err = script(f"--report {folder}", table3.main)
    assert (status, err) == (0, "")
    words = " ".join(out.split())  # commands are wrapped
    commands = re.findall(r"python reproduce/table3\.py (.*?) --workers \d+ \(commit", words)
    given = [run for command in commands for run in table3.EXPERIMENT.parse(command.split())]
    wanted = [record["settings"] for record in runs.find_records([folder], "table3")]
    assert {run.training.epochs for run in wanted} == {5, 15}
    assert sorted(map(str, given)) == sorted(map(str, wanted))


@pytest.mark.parametrize("flags", ["--workers 1", "--report"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_for_runs_is_named_at_once(kind, flags, script, tmp_path):
    if kind == "file":
        (tmp_path / "out").touch()
    else:
        (tmp_path / "out").symlink_to("nowhere")
    assert refused(script(f"{flags} --out out")) == "error: --out out is not a folder\n"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["empty", "others"])
def test_a_folder_without_records_is_one_line(name, script, tmp_path):
    (tmp_path / name).mkdir()
    if name == "others":
        (tmp_path / name / "one.json").write_text("{}")
    err = refused(script(f"--report {name}"))
    assert err.startswith(f"error: no record.json under {name}") and "nothing to report" in err
    assert ("only other JSON files" in err) == (name == "others")


@pytest.mark.parametrize("renamed", ["record.json", "kept.json"])
def test_a_damaged_record_is_no_other_file(renamed, script, tmp_path):
    """It is named, whatever the file's name: a table must not lose a run in silence."""
    assert script("--workers 1 --seeds 0 1")[0] == 0
    path, *_ = sorted((tmp_path / "runs").glob("*/record.json"))
    damaged = json.loads(path.read_text())
    del damaged["settings"]["data"]
    path.write_text(json.dumps(damaged))
    path = path.rename(path.with_name(renamed)).relative_to(tmp_path)
    assert f"error: {path} is not a record of a run: run needs data" in refused(script("--report"))


# -- workers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "images"), [("", 16), ("--train-size 5 --seeds 0 1", 5), ("--resume", 16)]
)
def test_more_workers_than_a_batch_has_images(flags, images, script, tmp_path, monkeypatch):
    few = [*toy.EXPERIMENT.flags, sweep.Flag("--train-size", "data.train_size", "", int)]
    monkeypatch.setattr(toy.EXPERIMENT, "flags", few)
    monkeypatch.delitem(vars(toy.EXPERIMENT), "parser", raising=False)
    for plan in ("", "--plan"):
        err = refused(script(f"--workers 99 {plan} {flags}"))
        assert err == (
            f"error: 99 workers cannot share a batch of {images} images: take at most {images}\n"
        )
    assert os.listdir(tmp_path) == []
    monkeypatch.delitem(vars(toy.EXPERIMENT), "parser")


def test_more_workers_than_cores_are_told_what_that_costs(script, monkeypatch):
    monkeypatch.setattr(sweep, "CORES", 1)
    for flags, said in [("--workers 2", True), ("--workers 1", False), ("", False)]:
        status, out, err = script(f"{flags} --plan")
        assert (status, err) == (0, "")
        line = "2 workers on 1 core: more than one for each core need more memory and save no time"
        assert out.splitlines()[0] == (line if said else "plan, from a few timed steps of each "
                                       "network:")  # fmt: skip


# -- two processes ---------------------------------------------------------------------------------


@contextmanager
def held(folder: Path):
    """Another process holds the toy's run, as one does that trains it."""
    paths = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        yield holder
        holder.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("flags", ["", "--resume", "--seeds 1 0", "--resume --seeds 1 0"])
def test_a_run_that_another_process_writes_is_named_at_once(begun, flags, script, tmp_path):
    """Before anything is planned or trained; a plan alone disturbs nobody."""
    (settings,) = toy.EXPERIMENT.parse([])
    folder = Path("runs", runs.folder_name(settings))
    if begun:  # as a process leaves it that is at its second epoch
        assert script("--workers 1 --epochs 1")[0] == 0
        record = json.loads((folder / "record.json").read_text())
        record["settings"]["training"]["epochs"], record["status"] = 3, "running"
        (folder / "record.json").write_text(json.dumps(record))
    with held(tmp_path):
        there = sorted(tmp_path.rglob("*"))
        assert refused(script(f"--workers 1 {flags}")) == (
            f"error: another process is writing {folder}: wait for its end, or choose another "
            "--out\n"
        )
        assert sorted(tmp_path.rglob("*")) == there
        assert script(f"--workers 1 {flags} --plan")[0] == 0
    if begun and not flags:  # nobody writes it any more
        err = refused(script("--workers 1"))
        assert "exists and was cut off (epoch 1 of 3): add --resume to go on" in err
    assert script("--workers 1 --resume")[0] == 0
