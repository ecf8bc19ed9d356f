"""reproduce/benchmark.py --cpu: its sides, its record, and what the README makes of it.

What needs PyTorch is skipped without it; the parts then run with a stand-in of the same form.
"""

import importlib.util
import os
import sys
import time
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from ministn import models
from ministn.errors import UserError
from ministn.layers import Conv2d
from ministn.parallel import team
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduce"))  # for the sides' processes too

import benchmark
import benchmark_cpu
import benchmark_figure
import benchmark_record
import readme
import table3
from benchmark_cpu import Scale
from benchmark_record import Record, compared, rows
from benchmark_sides import BLOCKS, LAYOUTS, Block, Job, our_convolutions, our_training
from benchmark_turns import Side, SideFailed, in_turns

MEGABYTE = 10**6
KEPT = []
TINY = Scale(
    canvas=9,
    blocks=(Block(5, 2, 3, True),),
    block_batch=2,
    network="arch1-tstn",
    batch=2,
    batches=(2, 3),
    sides=(8, 9),
)


# -- sides in processes ----------------------------------------------------------------------------


@contextmanager
def stand_in(job, layout=None, compiled=False):
    """Training without any, and without torch.compile."""
    if compiled:
        raise RuntimeError("no compiler\nfound")

    def set_up():
        KEPT.append(np.ones(5 * MEGABYTE, np.uint8))
        return {"step": partial(time.sleep, 0.02 if layout == "channels_last" else 0.001)}

    yield set_up


@contextmanager
def stand_in_convolutions(blocks, batch, layout):
    ways = ("forward", "backward")
    yield lambda: {f"{block}/{way}": partial(time.sleep, 0.001) for block in blocks for way in ways}


def keep(path, size):
    """Keep an array of one's own, and map one that is shared."""
    shared = np.memmap(path, np.uint8, "r+", shape=size)
    shared[...] = 1
    KEPT.append((shared, np.ones(size, np.uint8)))


def hold(size):
    """Have an array for half a second."""
    array = np.ones(size, np.uint8)
    time.sleep(0.5)
    del array


@contextmanager
def with_a_worker(path):
    """A process that has started another."""
    size = 30 * MEGABYTE
    path.touch()
    os.truncate(path, size)
    with team(2) as two:
        two.ask_all("do", keep, path, 1)
        yield lambda: {
            "keep": lambda: two.ask_all("do", keep, path, size),
            "hold": partial(hold, size),
            "fail": partial(np.ones, -1),
            "die": partial(os._exit, 3),
        }


def test_a_side_tells_the_time_of_its_work():
    with Side(partial(stand_in, None)) as side:
        side.seconds("set up")
        assert 0.001 <= side.seconds("step") < 1


def test_sides_take_turns():
    turns = []
    sides = {name: lambda name=name: turns.append(name) or len(turns) for name in "ab"}
    assert in_turns(sides, 2) == {"a": [1, 3], "b": [2, 4]}


def test_memory_is_that_of_all_processes_of_a_side(tmp_path):
    pytest.importorskip("psutil")
    if sys.platform != "linux":
        pytest.skip("memory is measured on Linux only")
    with Side(partial(with_a_worker, tmp_path / "shared")) as side:
        before = side.memory()
        assert before > 40 * MEGABYTE  # Python and NumPy, twice
        side.seconds("set up")
        kept = side.peak("keep") - before
        assert 88 * MEGABYTE < kept < 100 * MEGABYTE  # two arrays and the shared one, once
        assert side.memory() - before == pytest.approx(kept, rel=0.02)
        held = side.peak("hold") - before - kept
        assert 28 * MEGABYTE < held < 32 * MEGABYTE
        assert side.memory() - before == pytest.approx(kept, rel=0.02)  # it is not held any more


def test_what_fails_in_a_side_is_one_line(tmp_path):
    with Side(partial(with_a_worker, tmp_path / "shared")) as side:
        side.seconds("set up")
        with pytest.raises(SideFailed, match=r"^ValueError: negative dimensions"):
            side.seconds("fail")
    with Side(partial(with_a_worker, tmp_path / "shared")) as side:
        side.seconds("set up")
        with pytest.raises(SideFailed, match="ended with status 3"):
            side.seconds("die")
    with pytest.raises(SideFailed, match=r"^RuntimeError: no compiler found$"):
        Side(partial(stand_in, None, compiled=True))


# -- what the sides do -----------------------------------------------------------------------------


def test_a_step_trains_on_all_rows(monkeypatch):
    """Four batches in turn, again and again, and never the same number of a step."""
    taken = []
    steps = import_module("benchmark_sides").CpuSteps
    take = steps.take
    monkeypatch.setattr(steps, "take", lambda self, n: taken.append(n) or take(self, n))
    with our_training(Job("arch1-tstn", 8, 3, cores=1)) as set_up:
        step = set_up()["step"]
        for _ in range(5):
            step()
    assert taken == [0, 1, 2, 3, 0]


def test_blocks_are_those_of_the_six_networks(monkeypatch):
    seen = set()
    forward = Conv2d.forward

    def noted(self, x, step=None):
        seen.add(Block(x.shape[1], *self.weight.shape[2:], self.pool))
        return forward(self, x, step)

    monkeypatch.setattr(Conv2d, "forward", noted)
    for name in table3.SIX:
        network = models.build(name, (60, 60))
        ParameterBuffer(network.parameters(), seed=0)
        network.forward(np.zeros((1, 60, 60, 1), np.float32), Step(0, 0))
    assert seen == set(BLOCKS) and len(BLOCKS) == 10


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_sides_compute_the_same_blocks(layout, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    threads = torch.get_num_threads()
    blocks = [Block(7, 2, 3, True), Block(6, 3, 4, False)]
    theirs = import_module("benchmark_sides").torch_convolutions(blocks, 2, layout)
    with our_convolutions(blocks, 2) as our_set_up, theirs as their_set_up, threadpool_limits(1):
        ours, theirs = our_set_up(), their_set_up()
        assert torch.get_num_threads() == 1
    torch.set_num_threads(threads)
    assert ours.keys() == theirs.keys() and len(ours) == 4
    for block in map(str, blocks):
        (y, _), their_y = ours[f"{block}/forward"](), theirs[f"{block}/forward"]()
        np.testing.assert_allclose(y, their_y.detach().permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
        dx, dweight, dbias = ours[f"{block}/backward"]()
        their_dx, their_dweight, their_dbias = theirs[f"{block}/backward"]()
        np.testing.assert_allclose(dx, their_dx.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dweight, their_dweight.permute(2, 3, 1, 0), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(dbias, their_dbias, rtol=1e-5, atol=1e-4)


# -- the record ------------------------------------------------------------------------------------


def test_a_row_from_times():
    seconds = {
        "ours": [3.0, 1.0, 2.0],
        "channels_last": [5.0, 4.0, 9.0],
        "contiguous_format": [4.0, 3.0, 8.0],
        "compiled": [8.0, 7.0, 9.0],
    }
    assert compared(seconds, LAYOUTS) == {
        "ours": 2.0,
        "ours_minimum": 1.0,
        "torch": 4.0,
        "torch_minimum": 3.0,
        "layout": "contiguous_format",
        "other_layout": 5.0,
        "compiled": 8.0,
        "compiled_minimum": 7.0,
        "ratio": 0.5,
        "ratio_minimum": 1 / 3,
        "compiled_ratio": 0.25,
    }
    assert compared({"ours": [1.0]}, LAYOUTS) == {"ours": 1.0, "ours_minimum": 1.0}


def test_a_run_replaces_what_it_measures_and_keeps_the_rest(tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"format": 1, "networks": {}}')
    first = Record(path, "one", {"command": "first"})
    first.note("step/a/64", {"ours": 1 / 3, "compiled": None, "compiled_error": "no"})
    first.note("step/b/64", {"ours": 2.0})
    second = Record(path, "two", {"command": "second"})
    second.note("step/a/64", {"ours": 3.0})
    record = benchmark_record.read(path)
    assert record["format"] == 2 and record["step/b/64/ours"] == 2.0
    assert record["runs"] == {"one": {"command": "first"}, "two": {"command": "second"}}
    assert dict(rows(record, "step/")) == {
        "a/64": {"ours": 3.0, "run": "two"},
        "b/64": {"ours": 2.0, "run": "one"},
    }
    second.note("step/b/64", {"ours": 4.0})
    assert benchmark_record.read(path)["runs"] == {"two": {"command": "second"}}

    path.write_text('{"format": 2, "runs"')
    with pytest.raises(UserError, match="is damaged: move it away"):
        Record(path, "three", {})


def test_half_a_record(tmp_path, monkeypatch):
    """The figure leaves out what was not measured; the README must not."""
    path = tmp_path / "record.json"
    run = {"device": {"name": "x", "cores": 1, "workers": 1}, "versions": {"torch": "2"}}
    row = compared({"ours": [1.0], "torch": [2.0], "compiled": [4.0]})
    Record(path, "one", run).note("step/arch1-cnn/128", row)
    axes, *_, empty = benchmark_figure.figure(benchmark_record.read(path)).axes
    eager, compiled, one = (line.get_xdata()[0] for line in axes.lines)
    assert (eager, compiled, one) == (0.5, 0.25, 1.0)
    assert not any(len(line.get_xdata()) for line in empty.lines)
    monkeypatch.setattr(readme, "BENCHMARK", path)
    with pytest.raises(UserError, match=r"has no memory/...: run reproduce/benchmark.py --cpu"):
        readme.benchmark()


# -- the whole program -----------------------------------------------------------------------------


@pytest.fixture
def arguments(monkeypatch, tmp_path):
    """The command line's, of one network and one worker."""

    def parsed(*more):
        flags = "--cpu --nets arch1-tstn --batch-size 2 --rounds 2 --workers 1"
        out = str(tmp_path / "record.json")
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *flags.split(), "--out", out, *more])
        return benchmark.parsed()

    return parsed


def checked_use_of(path, monkeypatch):
    """The README's part and the figure that the record makes."""
    monkeypatch.setattr(readme, "BENCHMARK", path)
    text = readme.benchmark()
    figure = benchmark_figure.figure(benchmark_record.read(path))
    figure.draw_without_rendering()
    drawn, page = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.min.min() > -0.01 and (drawn.max < page + 0.01).all()
    return text


def quantities(record, name):
    return {key.removeprefix(name + "/") for key in record if key.startswith(name + "/")}


TIMES = {"ours", "ours_minimum", "torch", "torch_minimum", "ratio", "ratio_minimum", "run"}


@pytest.mark.slow
def test_all_parts_with_a_stand_in_for_pytorch(arguments, monkeypatch, tmp_path, capsys):
    """Whose torch.compile fails: then its times are null."""
    pytest.importorskip("psutil")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(benchmark_cpu, "find_spec", lambda name: name == "torch" or find_spec(name))
    monkeypatch.setattr(benchmark_cpu, "version", lambda name: "2.13.0+none")
    monkeypatch.setattr(benchmark_cpu, "torch_training", stand_in)
    monkeypatch.setattr(benchmark_cpu, "torch_convolutions", stand_in_convolutions)
    assert benchmark_cpu.run(arguments(), TINY) == 0
    out = capsys.readouterr().out
    assert "torch.compile failed: RuntimeError: no compiler found" in out
    record = benchmark_record.read(tmp_path / "record.json")
    step = "step/arch1-tstn/2"
    assert quantities(record, step) == TIMES | {
        "compiled", "compiled_error", "layout", "other_layout",
    }  # fmt: skip
    assert record[f"{step}/compiled"] is None
    assert record[f"{step}/layout"] == "contiguous_format"
    assert record[f"{step}/ratio"] == pytest.approx(
        record[f"{step}/ours"] / record[f"{step}/torch"], rel=1e-4
    )
    assert {"ours", "ours_whole", "torch", "torch_whole", "ratio", "ratio_whole"} < quantities(
        record, "memory/arch1-tstn/2"
    )
    for way in ("forward", "backward"):
        assert TIMES < quantities(record, f"convolution/2-3-5x5-pool/{way}")
    for n in (2, 3):
        assert quantities(record, f"growth/batch/arch1-tstn/{n}") == TIMES | {"per_image"}
        assert record[f"growth/batch/arch1-tstn/{n}/per_image"] == pytest.approx(
            record[f"growth/batch/arch1-tstn/{n}/ours"] / n, rel=1e-4
        )
    side = "growth/side/arch1-tstn"
    assert record[f"{side}/8/per_pixel"] == pytest.approx(
        record[f"{side}/8/ours"] / (2 * 8 * 8), rel=1e-4
    )
    both = [record[f"{side}/{n}/per_pixel"] for n in (8, 9)]
    assert record[f"{side}/variation"] == pytest.approx(max(both) / min(both), rel=1e-3)
    assert record["growth/workers/arch1-tstn/1/speedup"] == 1
    (run,) = record["runs"].values()
    assert run["part_seconds"].keys() == set(benchmark_cpu.PARTS)
    assert (run["device"]["workers"], run["device"]["torch_threads"]) == (1, 1)

    text = checked_use_of(tmp_path / "record.json", monkeypatch)
    row = text.splitlines()[2]
    assert row.startswith("| arch1-tstn | 2 | ") and row.split(" | ")[4] == "-"
    assert "on 1 of" in text and "PyTorch 2.13.0+none" in text
    assert "the time for each image differs by at most" in text
    assert "between a batch of 2 and one of 3." in text


@pytest.mark.slow
def test_parts_with_pytorch(arguments, tmp_path, capsys):
    pytest.importorskip("torch")
    assert benchmark_cpu.run(arguments("--only", "steps", "memory", "convolutions"), TINY) == 0
    out = capsys.readouterr().out
    record = benchmark_record.read(tmp_path / "record.json")
    block = "convolution/2-3-5x5-pool"
    names = ["step/arch1-tstn/2", "memory/arch1-tstn/2", f"{block}/forward", f"{block}/backward"]
    for name in names:
        assert f"\n{name} " in out
        assert record[f"{name}/ours"] > 0 and record[f"{name}/torch"] > 0
        assert record[f"{name}/ratio"] > 0


def test_without_pytorch_it_says_so(arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark_cpu, "find_spec", lambda name: None)
    given = arguments("--only", "steps", "growth", "--workers", "2")
    assert benchmark_cpu.run(given, TINY) == 0
    out = capsys.readouterr().out
    for name in ("step/arch1-tstn/2 ", "growth/batch/arch1-tstn/3 ", "growth/workers/arch1-tstn/2"):
        (line,) = [line for line in out.splitlines() if line.startswith(name)]
        ours, *rest = line.removeprefix(name).split()
        assert float(ours) > 0 and set(rest) == {"-"}
    assert "PyTorch is not installed" in out and "pip install torch" in out
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="memory is measured on Linux, with psutil"):
        benchmark_cpu.run(arguments("--only", "memory"), TINY)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "one of the arguments --cpu --gpu is required"),
        ("--cpu --gpu", "not allowed with argument"),
        ("--cpu --precision fp32", "--precision goes with --gpu"),
        ("--gpu --workers 2", "--workers goes with --cpu"),
        ("--cpu --only kernels", "--only with --cpu takes steps memory convolutions growth, got"),
        ("--gpu --only steps", "--only with --gpu takes kernels networks, got steps"),
        ("--gpu --batch-size 64 256", "--gpu takes one --batch-size only"),
        ("--cpu --batch-size 64 0", "--batch-size must be at least 1, got 0"),
        ("--cpu --workers 0", "--workers must be at least 1, got 0"),
        ("--gpu --rounds 0", "--rounds must be at least 1, got 0"),
    ],
)
def test_flags_that_cannot_be(flags, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *flags.split()])
    with pytest.raises(UserError, match=said):
        benchmark.parsed()


@pytest.mark.parametrize(
    ("engine", "batch_size", "rounds", "parts"),
    [("cpu", [64, 256], 5, benchmark_cpu.PARTS), ("gpu", 256, 20, ("kernels", "networks"))],
)
def test_each_engine_has_its_own_defaults(engine, batch_size, rounds, parts, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", f"--{engine}"])
    given = benchmark.parsed()
    assert (given.batch_size, given.rounds, given.only) == (batch_size, rounds, list(parts))
    assert given.out == Path(benchmark.__file__).parent / "records" / f"benchmark-{engine}.json"
    assert given.nets == table3.SIX and given.workers == table3.CORES
