"""Several processes train as one does: the same batches and masks, and nothing is left behind."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_runs import SETTINGS, STEPS, changed, child, data_set, outcome, run_in, trainer_of
from test_table3 import FOLDER, TINY, started
from threadpoolctl import threadpool_info

from ministn import runs
from ministn.data import CLUTTERED
from ministn.errors import UserError
from ministn.gradcheck.networks import perturbed
from ministn.kinds import replaced
from ministn.models import NETWORKS
from ministn.parallel import Team, processes, team
from ministn.parallel.exchange import part

PATIENCE = 30.0  # seconds until a process that should have ended fails the test

pytestmark = pytest.mark.usefixtures("unchanging_environment")


@pytest.fixture(scope="module")
def two():
    with team(2) as found:
        yield found


@pytest.fixture(scope="module")
def three():
    with team(3) as found:
        yield found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie, which has ended, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(lasts: Callable[[], bool]) -> bool:
    """Whether it lasts no longer than PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while lasts() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not lasts()


def gone(*pids: int) -> bool:
    """Whether the processes end in time."""
    return ends(lambda: any(map(alive, pids)))


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# -- what is computed ----------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size"), [(256, 2), (7, 3), (2, 4), (0, 3), (5, 1)])
def test_every_row_is_one_ranks(count, size):
    rows = np.arange(count)
    parts = [rows[part(count, rank, size)] for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def one_step(some: Team, network: str, batch_size: int, is_perturbed: bool):
    """A trainer after its first step, whose gradient is in Adam's first moment: m = 0.1 g."""
    settings = changed(SETTINGS, network=NETWORKS[network], batch_size=batch_size)
    trainer = trainer_of(settings, data_set(), say=pytest.fail, team=some)
    if is_perturbed:
        perturbed(trainer.buffer)
    before = trainer.buffer.data.copy()
    trainer.step()
    assert not np.array_equal(trainer.buffer.data, before)
    return trainer


@pytest.mark.parametrize("is_perturbed", [True, False])
@pytest.mark.parametrize("network", ["arch1-cnn", "arch1-untied", "arch1-tstn", "arch2-tstn"])
def test_gradients_do_not_depend_on_the_number_of_workers(network, is_perturbed, two, three):
    """But for the order of summation: 2e-6 of the largest was seen."""
    alone, *shared = (one_step(some, network, 16, is_perturbed) for some in (Team(), two, three))
    expected = alone.buffer.views(alone.optimizer.moments["m"])
    for trainer in shared:
        assert trainer.state.loss_sum == pytest.approx(alone.state.loss_sum, rel=1e-6)
        assert trainer.state.errors == alone.state.errors
        for name, m in trainer.buffer.views(trainer.optimizer.moments["m"]).items():
            scale = np.abs(expected[name]).max()
            assert scale > 0 or not is_perturbed, name
            np.testing.assert_allclose(m, expected[name], atol=1e-5 * scale, rtol=0, err_msg=name)


def test_a_worker_may_get_no_rows(three):
    """Batches of two images for three workers."""
    alone, shared = (one_step(some, "arch1-tstn", 2, True) for some in (Team(), three))
    scale = np.abs(alone.optimizer.moments["m"]).max()
    m, wanted = (trainer.optimizer.moments["m"] for trainer in (shared, alone))
    np.testing.assert_allclose(m, wanted, atol=1e-5 * scale, rtol=0)
    assert shared.state.loss_sum == pytest.approx(alone.state.loss_sum, rel=1e-6)


def trained(out: Path, some: Team, resume: bool = False, **changes):
    run = run_in(out, **changes)
    assert run.train(data_set(), some, resume=resume, bar=False) == "finished"
    return run


def test_equal_seed_and_workers_give_equal_bits_also_where_a_run_was_stopped(
    tmp_path, two, monkeypatch
):
    whole = outcome(trained(tmp_path / "whole", two))
    again = trained(tmp_path / "again", two, epochs=1)
    with team(2) as others:
        assert outcome(trained(tmp_path / "again", others, resume=True)) == whole
    record = runs.read_record(again.record_path)
    assert record["device"]["workers"] == 2 and record["device"]["threads"] == 1
    assert record["device"]["exchange"] == "processes"


def test_a_run_keeps_its_workers(tmp_path, two, capsys):
    run = trained(tmp_path, two, epochs=1)
    assert run.cores() == (2, 1)
    assert run_in(tmp_path / "elsewhere").cores() == (None, None)
    trained(tmp_path, Team(), resume=True, epochs=2)
    assert "had 2 workers before and has 1 workers now" in capsys.readouterr().out
    record = json.loads(run.record_path.read_text())
    for start in record["starts"]:
        del start["device"]["workers"]  # as in records from before there were workers
    run.record_path.write_text(json.dumps(record))
    assert run.cores() == (1, 1)


def test_a_step_without_a_finite_loss_changes_nothing(two):
    settings = changed(SETTINGS, lr=1e30)
    trainer = trainer_of(settings, data_set(), say=lambda line: None, team=two)
    while not trainer.finished:
        before = trainer.buffer.data.copy()
        trainer.step()
    assert trainer.state.diverged is not None
    np.testing.assert_array_equal(trainer.buffer.data, before)


def test_the_data_do_not_depend_on_who_makes_them(two):
    data = replaced(CLUTTERED["digits"], "train_size", 2500)
    alone, shared = (data.load(map=m) for m in (map, two.map))
    assert alone.sha256 == shared.sha256


def test_map_keeps_the_order(two, three):
    for some in (Team(), two, three):
        for count in (0, 1, 2, 7):
            assert some.map(abs, range(-count, 0)) == list(range(count, 0, -1))


def used_threads(number: int) -> list[int]:
    return [library["num_threads"] for library in threadpool_info()]


def test_every_process_has_as_many_threads_as_asked_for():
    for threads in (1, 2):
        with team(2, threads) as some:
            counts = some.map(used_threads, range(2))
            assert all(counts) and {n for each in counts for n in each} == {threads}


# -- what goes wrong -----------------------------------------------------------------------------


def fail_elsewhere(leader: int, error: type[Exception], number: int) -> None:
    if os.getpid() != leader:
        raise error("no luck")


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (ValueError, UserError, "worker 1 failed: ValueError: no luck"),
        (MemoryError, MemoryError, "MemoryError: no luck"),
    ],
)
def test_a_workers_error_is_told_and_the_team_lives_on(error, expected, message, two):
    with pytest.raises(expected, match=message):
        two.map(partial(fail_elsewhere, os.getpid(), error), range(2))
    assert two.map(abs, [-1, -2]) == [1, 2]


def worker_of(some: Team) -> int:
    return next(pid for pid in some.map(_pid, range(2)) if pid != os.getpid())


def _pid(number: int) -> int:
    return os.getpid()


def test_a_workers_death_is_told_and_the_checkpoint_kept(tmp_path, two):
    whole = outcome(trained(tmp_path / "whole", two))
    run = run_in(tmp_path)
    with team(2) as some:
        pid = worker_of(some)

        steps = 0
        ask = some.ask

        def deadly(order, each):
            nonlocal steps
            steps += order == "gradients"
            if steps == STEPS // 2:
                os.kill(pid, signal.SIGKILL)
            return ask(order, each)

        some.ask = deadly
        died = rf"worker 1 \(process {pid}\) was killed by SIGKILL.* --resume goes on"
        with pytest.raises(UserError, match=died):
            run.train(data_set(), some, resume=False, bar=False)
    with team(2) as some:
        assert outcome(trained(tmp_path, some, resume=True)) == whole


LONG = f"{TINY} --workers 3 --epochs 100000"


def until_training(process: subprocess.Popen[str], folder: Path) -> list[int]:
    """Wait for a run's first epoch; its process' children."""
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob("runs/*/last.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    return children(process.pid)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
def test_nothing_is_left_when_the_program_is_killed(tmp_path):
    with started(LONG, tmp_path, start_new_session=True) as process:
        workers = until_training(process, tmp_path)
        assert len(workers) >= 2 and all(map(alive, workers))
        shared = [mapped(pid) for pid in (process.pid, *workers[-2:])]
        assert all(shared) and not any(path.exists() for paths in shared for path in paths)
        process.kill()
        assert gone(*workers)


def mapped(pid: int) -> list[Path]:
    """The files that a process shares with others and writes to, as far as they have names."""
    lines = [line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    names = {line[5].removesuffix(" (deleted)") for line in lines if line[1] == "rw-s"}
    return [Path(name) for name in names if "ministn" in name or "#" in name]


# Is killed by itself when it has opened, reserved, handed on or mapped what its ranks will share.
RESERVING = """
import mmap, os, signal, sys
from multiprocessing import connection
from pathlib import Path
from small_runs import SETTINGS, data_set, trainer_of
from ministn.parallel import processes, team

folder, moment, named = sys.argv[1:]
processes.IN_MEMORY = Path(folder)
if named:
    del os.O_TMPFILE

def deadly(original):
    def call(*arguments, **more):
        found = original(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        return found
    return call

with team(2) as some:
    some.map(abs, [1, 2])
    place = {"_nameless": processes, "send_handle": processes, "mmap": mmap}.get(moment, os)
    setattr(place, moment, deadly(getattr(place, moment)))
    trainer_of(SETTINGS, data_set(), team=some)
"""


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs POSIX")
@pytest.mark.parametrize("named", ["", "where files need names"])
@pytest.mark.parametrize("moment", ["_nameless", "posix_fallocate", "send_handle", "mmap"])
def test_nothing_is_left_whenever_the_program_is_killed(moment, named, tmp_path):
    done = child(RESERVING, str(tmp_path), moment, named)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_saves_and_ends_them(number, tmp_path):
    with started(LONG, tmp_path, start_new_session=True) as process:
        workers = until_training(process, tmp_path)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130 and gone(*workers)
    assert "interrupted: the same command with --resume goes on" in out
    assert "Traceback" not in out + err and "error" not in err
    record = runs.read_record(tmp_path / "runs" / FOLDER / "record.json")
    assert record["status"] == "interrupted" and record["device"]["workers"] == 3


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_shared_memory_falls_back_to_a_file(monkeypatch, tmp_path):
    def place(descriptor: int) -> Path:
        """The folder of an open file of 1000 bytes."""
        assert os.fstat(descriptor).st_size == 1000 and os.fstat(descriptor).st_nlink == 0
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        os.close(descriptor)
        return Path(path).parent

    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: str(tmp_path))
    in_memory = place(processes.reserved(1000))
    assert in_memory == processes.IN_MEMORY or not processes.IN_MEMORY.exists()
    monkeypatch.setattr(processes, "IN_MEMORY", tmp_path / "there is no such folder")
    assert place(processes.reserved(1000)) == tmp_path
    with team(2) as some:
        one_step(some, "arch1-tstn", 16, True)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(
        UserError, match=r"need 1\d+ MB to share, .*: free some, or use --workers 1"
    ):
        processes.reserved(2**60)
    assert os.listdir("/proc/self/fd") == before
    assert list(tmp_path.iterdir()) == []
