"""Sides of a benchmark take turns, each in its own process, and say how long and how much."""

import mmap
import os
import sys
import time
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from ministn.parallel import team

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduce"))  # for the sides' processes too

from benchmarks.turns import Side, SideFailed, in_turns

MEGABYTE = 10**6
KEPT = []


@contextmanager
def sleeping(fails):
    if fails:
        raise RuntimeError("no compiler\nfound")
    yield lambda: {"step": partial(time.sleep, 0.001)}


def keep(path, size):
    """Keep an array of one's own, and map one that is shared."""
    shared = np.memmap(path, np.uint8, "r+", shape=size)
    shared[...] = 1
    KEPT.append((shared, np.ones(size, np.uint8)))


def hold(size):
    """Have memory for half a second, from the system: NumPy's is kept, see fast/memory.py."""
    with mmap.mmap(-1, size) as memory:
        for _ in range(size // MEGABYTE):
            memory.write(b"1" * MEGABYTE)
        time.sleep(0.5)


@contextmanager
def with_a_worker(path):
    """A process that has started another."""
    path.touch()
    os.truncate(path, SIZE)
    with team(2) as two:
        two.ask_all("do", keep, path, 1)
        yield lambda: {
            "keep": lambda: two.ask_all("do", keep, path, SIZE),
            "hold": partial(hold, SIZE),
            "fail": partial(np.ones, -1),
            "die": partial(os._exit, 3),
        }


def test_a_side_tells_the_time_of_its_work():
    with Side(partial(sleeping, False)) as side:
        side.seconds("set up")
        assert side.seconds("step") >= 0.001
        assert side.turn("step") >= 0.001
    assert active_children() == []


def test_sides_take_turns():
    turns = []
    sides = {name: lambda name=name: turns.append(name) or len(turns) for name in "ab"}
    assert in_turns(sides, 2) == {"a": [1, 3], "b": [2, 4]}


SIZE = 100 * MEGABYTE
# Of libraries, each process is charged a share that depends on how many others use them, be they
# whose they may. Those that two processes share of Python and NumPy were measured to be 27 MB, so
# that is the most by which two of them change while others come and go.
OTHERS = 27 * MEGABYTE


def test_memory_is_that_of_all_processes_of_a_side(tmp_path):
    pytest.importorskip("psutil")
    if sys.platform != "linux":
        pytest.skip("memory is measured on Linux only")
    with Side(partial(with_a_worker, tmp_path / "shared")) as side:
        before = side.memory()
        assert before > 40 * MEGABYTE  # Python and NumPy, twice
        side.seconds("set up")
        kept = side.peak("keep") - before
        assert kept == pytest.approx(3 * SIZE + 4 * MEGABYTE, abs=2 * MEGABYTE + OTHERS)
        # These are two arrays and the shared one, once.
        assert side.memory() - before == pytest.approx(kept, abs=OTHERS)
        held = side.peak("hold") - before - kept
        assert held == pytest.approx(SIZE, abs=OTHERS)
        assert side.memory() - before == pytest.approx(kept, abs=OTHERS)  # not held any more


def test_what_fails_in_a_side_is_one_line(tmp_path):
    with Side(partial(with_a_worker, tmp_path / "shared")) as side:
        side.seconds("set up")
        with pytest.raises(SideFailed, match=r"^ValueError: negative dimensions"):
            side.seconds("fail")
        for again in (side.seconds, side.peak):  # never an answer that is one late
            with pytest.raises(SideFailed, match="ended with status 0"):
                again("keep")
    with Side(partial(with_a_worker, tmp_path / "shared")) as side:
        side.seconds("set up")
        with pytest.raises(SideFailed, match="ended with status 3"):
            side.seconds("die")
    with pytest.raises(SideFailed, match=r"^RuntimeError: no compiler found$"):
        Side(partial(sleeping, True))
