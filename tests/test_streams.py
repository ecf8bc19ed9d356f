"""Streams that are closed, missing or full end no work, and the exit status stays honest."""

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_runs import child, data_set, run_in
from test_parallel import LONG, gone, until_training
from test_table3 import SCRIPT, TINY, started

from ministn import cli, runs
from ministn.fit import Training, fit
from ministn.layers import Dense, Flatten, Sequential
from ministn.models import Network
from ministn.training import checkpoint

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")

TWO = f"{shlex.quote(sys.executable)} {shlex.quote(str(SCRIPT))} {TINY} --workers 2 --seeds 0 1"
WORD = "print('word', flush=True)"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=folder, env=os.environ | environment,
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("streams", "status", "said"),
    [
        ("2>&-", 0, ""),
        (">&-", 0, ""),
        ("<&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        (">/dev/full", 1, "error: not all could be printed: No space left on device\n"),
        ("| head -1", 0, ""),
        ("2>&1 | head -0", 0, ""),
        ("| true", 0, ""),
    ],
)
def test_runs_go_on(streams, status, said, tmp_path):
    done = shell(f"{TWO} {streams}", tmp_path)
    assert (done.returncode, done.stderr) == (status, said)
    records = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/record.json")]
    assert [record["status"] for record in records] == ["finished"] * 2
    for path in tmp_path.glob("runs/*/*.safetensors"):
        checkpoint.load(path)  # nobody has printed into it
    assert len(list(tmp_path.glob("runs/**/*.png"))) == 2 * 2 + 2


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-", "2>&1 | head -0", ">/dev/full"])
def test_an_error_keeps_its_status(streams, tmp_path):
    done = shell(f"{TWO} --epochs 0 {streams}", tmp_path)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def ended(code: str, streams: str, folder: Path, **environment: str):
    """A command line that runs this code."""
    program = f"from ministn import cli\ndef main():\n    {code}\n    return 0\ncli.run(main)"
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} {streams}"
    return shell(line, folder, **environment)


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_file_does_not_get_a_streams_number(streams, tmp_path):
    code = "import sys; file = open('file', 'w'); file.write(str(file.fileno())); " + WORD
    code += "; print('oops', file=sys.stderr)"
    assert ended(code, streams, tmp_path).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


def test_what_a_process_starts_has_streams_too(tmp_path):
    code = (
        "import subprocess, sys; (lambda done: open('file', 'w').write(str(done.returncode)))("
        "subprocess.run([sys.executable, '-c', 'import sys; sys.stderr.write(str(1))']))"
    )
    assert ended(code, "<&- >&- 2>&-", tmp_path).returncode == 0
    assert (tmp_path / "file").read_text() == "0"


def test_unbuffered_and_in_a_poor_language(tmp_path):
    for variable in ({"PYTHONUNBUFFERED": "1"}, {"PYTHONUNBUFFERED": ""}):
        done = ended(WORD, "| true", tmp_path, **variable)
        assert (done.returncode, done.stderr) == (0, "")
    done = ended("print('\\u00e9')", "", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "\\xe9\n")


def test_a_pipe_that_does_not_wait(tmp_path):
    """Another program that has it may make it so."""
    code = "import os, sys; os.set_blocking(1, False); [print('x' * 9_999) for _ in range(99)]"
    done = ended(code, "| (sleep 1; wc -c)", tmp_path)
    assert (done.returncode, done.stderr, int(done.stdout)) == (0, "", 990_000)


def test_streams_are_as_before_afterwards(capfd):
    before = sys.stdout, sys.stderr
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: print("word") or 3)
    assert end.value.code == 3 and (sys.stdout, sys.stderr) == before
    print("more")
    assert capfd.readouterr().out == "word\nmore\n"


def test_what_was_lost_is_known(tmp_path):
    with open("/dev/full", "w") as full:
        file = cli.Lasting(full.fileno(), "w", closefd=False)
        assert file.write(b"abc") == 3 and file.lost.errno == errno.ENOSPC
        assert file.write(b"abcd") == 4


# -- in a program of one's own -------------------------------------------------------------------


def test_fit_and_runs_need_no_streams(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    network = Network(Sequential(Flatten("flatten"), Dense("softmax", 16, 2)))
    images, labels = np.zeros((8, 4, 4), np.uint8), np.arange(8) % 2
    assert len(fit(network, images, labels, Training(epochs=2)).epochs) == 2
    run = run_in(tmp_path)
    assert run.train(data_set(), resume=False, bar=True) == "finished"


def test_a_signal_in_the_middle_of_a_line_is_no_error(tmp_path):
    code = """
import os, signal, sys
import small_runs
from ministn import cli
from pathlib import Path

written = cli.Lasting.write

def write(self, data):
    if b"epoch 1" in bytes(data):
        os.kill(os.getpid(), signal.SIGTERM)
    return written(self, data)

cli.Lasting.write = write
def main():
    run = small_runs.run_in(Path(sys.argv[1]))
    return 0 if run.train(small_runs.data_set(), resume=False, bar=False) == "interrupted" else 9

cli.run(main)
"""
    done = child(code, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
def test_a_terminal_that_is_gone_saves_and_ends_them(tmp_path):
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}  # under nohup, too
    with started(LONG, tmp_path, start_new_session=True, **heed) as process:
        workers = until_training(process, tmp_path)
        os.killpg(process.pid, signal.SIGHUP)
        process.communicate(timeout=30)
        assert process.returncode == 130 and gone(*workers)
    (path,) = tmp_path.glob("runs/*/record.json")
    assert runs.read_record(path)["status"] == "interrupted"


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
def test_nohup_is_respected(tmp_path):
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with started(LONG, tmp_path, start_new_session=True, **ignore) as process:
        until_training(process, tmp_path)
        os.killpg(process.pid, signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 130
