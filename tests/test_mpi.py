"""Ranks that mpiexec started train as worker processes do, to the bit, and end together."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from importlib.metadata import distributions
from pathlib import Path

import mpi_program
import pytest
from small_runs import data_set, outcome, run_in
from test_parallel import children, gone, until_training
from test_table3 import FOLDER, SCRIPT, TINY, parse

from ministn import runs
from ministn.errors import UserError
from ministn.parallel import mpi, team

PATIENCE = 120.0  # seconds until ranks that should have ended fail the test
PROGRAM = Path(mpi_program.__file__)

# The wheels that the extra ``test`` installs. Other MPIs' launchers end a program in other ways.
MPIEXEC = Path(sys.executable).with_name("mpiexec")
INSTALLED = {distribution.name for distribution in distributions()}
needs_mpi = pytest.mark.skipif(
    not {"mpi4py", "mpich"} <= INSTALLED, reason="needs mpi4py and MPICH: pip install mpi4py mpich"
)


@pytest.fixture(autouse=True, scope="module")
def no_memory_left():
    """MPICH leaves in /dev/shm what killed ranks shared, and here ranks are killed on purpose.

    Other programs may use MPICH meanwhile: what any process maps is theirs.
    """

    def segments() -> set[Path]:
        return set(Path("/dev/shm").glob("mpich_shm_*"))

    before = segments()
    yield
    left, maps = segments() - before, ""
    for process in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            maps += process.read_text()
    for path in left:
        if str(path) not in maps:
            path.unlink(missing_ok=True)


@contextmanager
def started(size: int, script: Path, line: str, folder: Path):
    """A script in so many ranks, which have ended when the block has."""
    process = subprocess.Popen(
        [MPIEXEC, "-n", str(size), sys.executable, str(script), *line.split()],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ended(size: int, script: Path, line: str, folder: Path) -> tuple[int, str, str]:
    """The same once it is over: (status, stdout, stderr)."""
    with started(size, script, line, folder) as process:
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err


def asked(size: int, line: str, folder: Path) -> tuple[int, str, str]:
    """One function of mpi_program.py."""
    return ended(size, PROGRAM, f"{size} {line}", folder)


def succeeded(size: int, line: str, folder: Path) -> None:
    status, out, err = asked(size, line, folder)
    assert (status, err) == (0, "") and out.count(mpi_program.ANSWERED) == 1, out


# -- what is computed ----------------------------------------------------------------------------


@needs_mpi
@pytest.mark.parametrize("size", [2, 3])
def test_orders_and_answers(size, tmp_path):
    succeeded(size, "messages", tmp_path)


@needs_mpi
def test_every_rank_has_as_many_threads_as_asked_for(tmp_path):
    succeeded(2, "linear_algebra", tmp_path)


@needs_mpi
def test_after_a_failed_order_comes_a_right_one(tmp_path):
    succeeded(3, "raise_and_go_on", tmp_path)


@needs_mpi
@pytest.mark.parametrize(("size", "count"), [(2, 1_000_000), (3, 1_000), (3, 1)])
def test_gradients_are_added_in_the_ranks_order(size, count, tmp_path):
    """Also where the parts are of different sizes, or some empty."""
    succeeded(size, f"sums {count}", tmp_path)


def trained(folder: Path, **changes) -> tuple[bytes, bytes, dict]:
    """Weights, best weights and record but for what made them."""
    last, best, record = outcome(run_in(folder, **changes))
    return last, best, {name: record[name] for name in ("status", "epochs", "best", "settings")}


@needs_mpi
@pytest.mark.parametrize(
    ("size", "batch_size", "epochs", "clip", "clip_norm"),
    [(2, 16, 3, None, None), (3, 2, 1, None, None), (3, 16, 2, 0.01, 0.2)],
)
def test_ranks_and_worker_processes_end_with_equal_bits(
    size, batch_size, epochs, clip, clip_norm, tmp_path
):
    """Three ranks share batches of two images: one of them has none."""
    changes = {"batch_size": batch_size, "clip": clip, "clip_norm": clip_norm}
    run = run_in(tmp_path / "processes", epochs=epochs, **changes)
    with team(size) as some:
        run.train(data_set(), some, resume=False, bar=False)
    expected = trained(tmp_path / "processes", epochs=epochs, **changes)
    assert expected[2]["best"]["test_error"] is not None
    words = f"{batch_size}:{clip or ''}:{clip_norm or ''}"
    succeeded(size, f"train ranks:{epochs}:{words} stopped:1:{words}", tmp_path)
    assert trained(tmp_path / "ranks", epochs=epochs, **changes) == expected
    if epochs > 1:
        succeeded(size, f"train stopped:{epochs}:{words}", tmp_path)
    assert trained(tmp_path / "stopped", epochs=epochs, **changes) == expected


@needs_mpi
def test_table3_by_ranks(tmp_path):
    """One record, one table; then it goes on with as many ranks as there are."""
    status, out, err = ended(2, SCRIPT, TINY, tmp_path)
    assert (status, err) == (0, "")
    assert out.count("epoch 1/1: loss") == out.count("\nCommands\n") == 1
    (record,) = runs.find_records([tmp_path / "runs"])
    assert [record["settings"]] == parse(TINY.split())
    assert record["command"] == (
        "mpirun -n 2 python reproduce/table3.py --nets small-stn --data digits --seeds 0 "
        "--epochs 1 --train-size 64 --batch-size 32"
    )
    device = record["device"]
    assert (device["workers"], device["threads"], device["exchange"]) == (2, 1, "mpi")

    status, out, err = ended(3, SCRIPT, f"{TINY} --epochs 2 --resume", tmp_path)
    assert (status, err) == (0, "") and "had 2 workers before and has 3 workers now" in out
    starts = json.loads((tmp_path / "runs" / FOLDER / "record.json").read_text())["starts"]
    cores = [(start["device"]["workers"], start["device"]["threads"]) for start in starts]
    assert cores == [(2, 1), (3, 1)]


# -- what goes wrong -----------------------------------------------------------------------------


@needs_mpi
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--no-such-flag", "unrecognized arguments: --no-such-flag; --help lists all flags"),
        ("--workers 3", "2 ranks were started: --workers must be as many or be left out, got 3"),
        ("--gpu", "--gpu trains in one process: start it without mpirun"),
    ],
)
def test_impossible_flags_are_one_line_of_all_ranks(flags, message, tmp_path):
    assert ended(2, SCRIPT, flags, tmp_path) == (2, "", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


@needs_mpi
@pytest.mark.parametrize(
    ("line", "expected", "message"),
    [
        ("raise_in_order", 2, "error: worker 1 failed: ValueError: invalid literal"),
        ("raise_before_exchange", 2, "error: worker 2 failed: ValueError: invalid literal"),
        ("other_network", 2, "error: worker 1 has built another network: it has p (1000001,)"),
        ("raise_in_exchange", 2, "error: worker 1 failed: MemoryError: no room"),
        ("crash", 1, "RuntimeError: a mistake"),
        ("crash_in_order", 1, "RuntimeError: a mistake"),
        ("interrupt_in_order", 130, "interrupted"),
    ],
)
def test_all_ranks_end_with_one(line, expected, message, tmp_path):
    status, out, err = asked(3, line, tmp_path)
    assert status == expected and mpi_program.ANSWERED not in out
    assert message in err and ("Traceback" in err) == ("crash" in line)


def ranks_of(process: subprocess.Popen[str], folder: Path) -> list[int]:
    """Process ids, once they train; between mpiexec and its ranks there is one process more."""
    return [rank for proxy in until_training(process, folder) for rank in children(proxy)]


LONG = f"{TINY} --epochs 100000"


@needs_mpi
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_mpiexec_saves_and_ends_all_ranks(number, tmp_path):
    with started(2, SCRIPT, LONG, tmp_path) as process:
        ranks = ranks_of(process, tmp_path)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130 and len(ranks) == 2 and gone(*ranks)
    assert out.count("interrupted: the same command with --resume goes on") == 1
    assert "Traceback" not in out + err and "error" not in err
    assert runs.read_record(tmp_path / "runs" / FOLDER / "record.json")["status"] == "interrupted"


@needs_mpi
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("victim", ["rank 0", "rank 1", "mpiexec"])
def test_all_ranks_end_when_one_or_mpiexec_is_killed(victim, tmp_path):
    with started(2, SCRIPT, LONG, tmp_path) as process:
        ranks = ranks_of(process, tmp_path)
        os.kill(process.pid if victim == "mpiexec" else ranks[int(victim[-1])], signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        assert process.returncode != 0 and len(ranks) == 2 and gone(*ranks)
    assert (tmp_path / "runs" / FOLDER / "last.safetensors").exists()


# -- what launchers say of themselves --------------------------------------------------------------


@pytest.fixture
def launched(monkeypatch):
    """Set what a launcher sets, and nothing else."""
    for name in (*mpi.SIZES, *mpi.LOCAL_RANKS, "PMIX_RANK"):
        monkeypatch.delenv(name, raising=False)
    mpi.world.cache_clear()

    def set_all(text: str) -> None:
        for pair in text.split():
            monkeypatch.setenv(*pair.split("="))

    return set_all


@pytest.mark.parametrize(
    ("environment", "size"),
    [
        ("", None),
        ("OMPI_COMM_WORLD_SIZE=4 PMIX_RANK=0 SLURM_STEP_NUM_TASKS=2", 4),
        ("PMI_SIZE=3", 3),
        ("PMI_SIZE=1", None),
        ("PMIX_RANK=1 SLURM_STEP_NUM_TASKS=8", 8),
        ("SLURM_STEP_NUM_TASKS=8", None),
    ],
)
def test_how_many_ranks_there_are(environment, size, launched):
    launched(environment)
    assert mpi.ranks() == size


@pytest.mark.parametrize(
    ("stub", "message"),
    [
        (None, r"2 ranks were started, and mpi4py connects them: pip install -e '.\[mpi\]'"),
        (
            "no MPI",
            r"library of the MPI that started 2 ranks \(cannot import name .*LD_LIBRARY_PATH",
        ),
    ],
)
def test_without_mpi(stub, message, launched, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", stub)
    launched("PMI_SIZE=2 MPI_LOCALRANKID=0")
    with pytest.raises(UserError, match=message), mpi.led():
        pytest.fail("was run")


@needs_mpi
@pytest.mark.parametrize("local_rank", [0, 1])
def test_ranks_of_another_mpi(local_rank, launched, tmp_path):
    """Nobody connects them. One rank of each machine says so."""
    launched(f"OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK={local_rank}")
    alone = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (alone.returncode, alone.stdout) == (2, "")
    first = "error: 2 ranks were started, but mpi4py sees 1: it uses MPICH"
    assert alone.stderr.startswith(first) if local_rank == 0 else alone.stderr == ""
    assert alone.stderr.count("\n") <= 1
