"""reproduce/benchmark.py --cpu: what its sides do, its record, and what the README makes of it."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ministn.data import Form
from ministn.errors import UserError
from ministn.files import read_json
from ministn.layers import Conv2d
from ministn.models import NETWORKS
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.runs import sweep

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduce"))

import benchmark
import benchmarks.cpu
import benchmarks.figure
import benchmarks.profile
import benchmarks.record
import readme
import table3
from benchmarks.cpu import Scale
from benchmarks.record import Record, compared, rows
from benchmarks.sides import BLOCKS, LAYOUTS, Block, Job, our_convolutions, our_training
from benchmarks.turns import SideFailed

TINY = Scale(
    canvas=9,
    blocks=(Block(5, 2, 3, True),),
    block_batch=2,
    network="arch1-tstn",
    batch=2,
    batches=(2, 3),
    sides=(8, 9),
)


# -- what the sides do -----------------------------------------------------------------------------


def test_a_step_trains_on_all_rows(monkeypatch):
    """Four batches in turn, again and again, and never the same number of a step."""
    taken = []
    steps = import_module("benchmarks.sides").PlainSteps
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
        network = NETWORKS[name].build(Form((60, 60)))
        ParameterBuffer(network.parameters(), seed=0)
        network.forward(np.zeros((1, 60, 60, 1), np.float32), Step(0, 0))
    assert seen == set(BLOCKS) and len(BLOCKS) == 10


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_sides_compute_the_same_blocks(layout, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    threads = torch.get_num_threads()
    blocks = [Block(7, 2, 3, True), Block(6, 3, 4, False)]
    theirs = import_module("benchmarks.sides").torch_convolutions(blocks, 2, layout)
    with our_convolutions(blocks, 2) as our_set_up, theirs as their_set_up:
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
    record = read_json(path)
    assert record["format"] == 2 and record["step/b/64/ours"] == 2.0
    assert record["runs"] == {"one": {"command": "first"}, "two": {"command": "second"}}
    assert dict(rows(record, "step/")) == {
        "a/64": {"ours": 3.0, "run": "two"},
        "b/64": {"ours": 2.0, "run": "one"},
    }
    second.note("step/b/64", {"ours": 4.0})
    assert read_json(path)["runs"] == {"two": {"command": "second"}}

    path.write_text('{"format": 2, "runs"')
    with pytest.raises(UserError, match="is damaged: move it away"):
        Record(path, "three", {})


def test_half_a_record(tmp_path, monkeypatch):
    """The figure leaves out what was not measured; the README must not."""
    path = tmp_path / "record.json"
    run = {"device": {"name": "x", "cores": 1, "workers": 1}, "versions": {"torch": "2"}}
    row = compared({"ours": [1.0], "torch": [2.0], "compiled": [4.0]})
    Record(path, "one", run).note("step/arch1-cnn/128", row)
    axes, *_, empty = benchmarks.figure.figure(read_json(path)).axes
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


class Pretended:
    """A Side without a process, whose work takes as long as it should, and PyTorch's longer."""

    def __init__(self, start):
        self.start, self.slower = start, 1
        if start.func is benchmarks.cpu.torch_training:
            _, layout, compiled = start.args
            if compiled:
                raise SideFailed("RuntimeError: no compiler found")
            self.slower = {"channels_last": 2, "contiguous_format": 4}[layout]
        elif start.func is benchmarks.cpu.torch_convolutions:
            self.slower = {"channels_last": 8, "contiguous_format": 5}[start.args[2]]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def seconds(self, work):
        if work != "step":
            return 1.0 * self.slower
        job = self.start.args[0]
        return self.slower * (1 + job.batch * job.side**2) / job.cores

    def memory(self):
        return 100

    def peak(self, work):
        return 100 + 30 * self.slower


def test_all_parts_and_their_use(arguments, monkeypatch, tmp_path, capsys):
    """With times and memory that are known, and a torch.compile that fails."""
    if sys.platform != "linux":
        pytest.skip("memory is measured on Linux only")
    monkeypatch.setattr(benchmarks.cpu, "Side", Pretended)
    monkeypatch.setattr(benchmarks.cpu, "find_spec", lambda name: True)
    monkeypatch.setattr(benchmarks.cpu, "version", lambda name: "2.13.0")
    assert benchmarks.cpu.run(arguments("--workers", "2"), TINY) == 0
    out = capsys.readouterr().out
    assert "torch.compile failed: RuntimeError: no compiler found" in out

    record = read_json(tmp_path / "record.json")
    (started,) = record["runs"]
    run = record["runs"][started]
    assert run["part_seconds"].keys() == set(benchmarks.cpu.PARTS)
    assert (run["device"]["workers"], run["device"]["torch_threads"]) == (2, 2)
    found = dict(rows(record, ""))
    assert all(row.pop("run") == started for row in found.values())
    step = (1 + 2 * 9**2) / 2
    assert found.pop("step/arch1-tstn/2") == {
        "ours": step,
        "ours_minimum": step,
        "torch": 2 * step,
        "torch_minimum": 2 * step,
        "layout": "channels_last",
        "other_layout": 4 * step,
        "ratio": 0.5,
        "ratio_minimum": 0.5,
        "compiled": None,
        "compiled_error": "RuntimeError: no compiler found",
    }
    assert found.pop("memory/arch1-tstn/2") == {
        "ours": 30,
        "ours_whole": 130,
        "torch": 60,
        "torch_whole": 160,
        "compiled": None,
        "compiled_error": "RuntimeError: no compiler found",
        "ratio": 0.5,
        "ratio_whole": 0.8125,
    }
    for way in ("forward", "backward"):
        row = found.pop(f"convolution/2-3-5x5-pool/{way}")
        assert (row["ours"], row["torch"], row["other_layout"]) == (1, 5, 8)
        assert (row["layout"], row["ratio"]) == ("contiguous_format", 0.2)
    for what, size, ours, quantity, value in [
        ("batch", 2, 163 / 2, "per_image", 163 / 4),
        ("batch", 3, 244 / 2, "per_image", 244 / 6),
        ("side", 8, 129 / 2, "per_pixel", 129 / 2 / 128),
        ("side", 9, 163 / 2, "per_pixel", 163 / 2 / 162),
        ("workers", 1, 163, "speedup", 1),
        ("workers", 2, 163 / 2, "speedup", 2),
    ]:
        row = found.pop(f"growth/{what}/arch1-tstn/{size}")
        assert row == pytest.approx(
            {
                "ours": ours,
                "ours_minimum": ours,
                "torch": 2 * ours,
                "torch_minimum": 2 * ours,
                "ratio": 0.5,
                "ratio_minimum": 0.5,
                quantity: value,
            },
            rel=1e-4,
        )
    for batch in (2, 3):
        parts = found.pop(f"profile/arch1-tstn/{batch}")
        whole = parts.pop("ours")
        assert parts.keys() == {*benchmarks.profile.PARTS, "update", "rest"}
        assert all(0 < seconds < whole for seconds in parts.values())
    assert found == {
        "growth/batch/arch1-tstn": {"variation": pytest.approx(163 / 4 / (244 / 6), rel=1e-4)},
        "growth/side/arch1-tstn": {"variation": pytest.approx(129 / 128 / (163 / 162), rel=1e-4)},
    }

    monkeypatch.setattr(readme, "BENCHMARK", tmp_path / "record.json")
    text = readme.benchmark().splitlines()
    assert text[8] == "| where a step of arch1-tstn goes | batch 2 | batch 3 |"
    assert [line.split(" | ")[0] for line in text[10:]] == [
        "| convolutions, ms for each image",
        "| dense, ms for each image",
        "| transformer, ms for each image",
        "| others, ms for each image",
        "| zeroing, ms for each image",
        "| update, ms for each image",
        "| rest, ms for each image",
        "| whole step",
    ]
    assert text[2:7] == [
        "| arch1-tstn | 2 | 81.500 | 163.000 | - | 0.50 | 0.50 |",
        "",
        f"Medians of 2 steps of each, on 2 of {run['device']['cores']} cores of "
        f"{run['device']['name']}, PyTorch 2.13.0.",
        "Of arch1-tstn, the time for each image differs by at most 0 % between a batch of 2 and "
        "one of 3.",
        "Of arch1-tstn, the time for each pixel differs by at most 0 % between a side of 8 and "
        "one of 9.",
    ]
    figure = benchmarks.figure.figure(record)
    figure.draw_without_rendering()
    drawn, page = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.min.min() > -0.01 and (drawn.max < page + 0.01).all()
    ours, theirs = figure.axes[4].lines
    assert ours.get_ydata() == pytest.approx([1e9 * 129 / 256, 1e9 * 163 / 324], rel=1e-4)
    assert theirs.get_ydata() == pytest.approx(2 * ours.get_ydata(), rel=1e-4)


@pytest.mark.slow
def test_parts_with_pytorch(arguments, tmp_path, capsys):
    pytest.importorskip("torch")
    assert benchmarks.cpu.run(arguments("--only", "steps", "memory", "convolutions"), TINY) == 0
    out = capsys.readouterr().out
    record = read_json(tmp_path / "record.json")
    block = "convolution/2-3-5x5-pool"
    names = ["step/arch1-tstn/2", "memory/arch1-tstn/2", f"{block}/forward", f"{block}/backward"]
    for name in names:
        assert f"\n{name} " in out
        assert record[f"{name}/ours"] > 0 and record[f"{name}/torch"] > 0
        assert record[f"{name}/ratio"] > 0


def test_without_pytorch_it_says_so(arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarks.cpu, "find_spec", lambda name: None)
    given = arguments("--only", "steps", "growth", "--workers", "2")
    assert benchmarks.cpu.run(given, TINY) == 0
    out = capsys.readouterr().out
    for name in ("step/arch1-tstn/2 ", "growth/batch/arch1-tstn/3 ", "growth/workers/arch1-tstn/2"):
        (line,) = [line for line in out.splitlines() if line.startswith(name)]
        ours, *rest = line.removeprefix(name).split()
        assert float(ours) > 0 and set(rest) == {"-"}
    assert "PyTorch is not installed" in out and "pip install torch" in out
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="memory is measured on Linux, with psutil"):
        benchmarks.cpu.run(arguments("--only", "memory"), TINY)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "one of the arguments --cpu --gpu is required"),
        ("--cpu --gpu", "not allowed with argument"),
        ("--cpu --precision fp32", "--precision goes with --gpu"),
        ("--gpu --workers 2", "--workers goes with --cpu"),
        (
            "--cpu --only kernels",
            "--only with --cpu takes steps memory convolutions growth profile, got",
        ),
        ("--gpu --only steps", "--only with --gpu takes ceilings kernels networks, got steps"),
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
    [
        ("cpu", [64, 256], 5, benchmarks.cpu.PARTS),
        ("gpu", 256, 20, ("ceilings", "kernels", "networks")),
    ],
)
def test_each_engine_has_its_own_defaults(engine, batch_size, rounds, parts, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", f"--{engine}"])
    given = benchmark.parsed()
    assert (given.batch_size, given.rounds, given.only) == (batch_size, rounds, list(parts))
    assert given.out == Path(benchmark.__file__).parent / "records" / f"benchmark-{engine}.json"
    assert given.nets == table3.SIX and given.workers == sweep.CORES


def test_pytest_benchmark_is_left_out_where_it_is_installed(pytestconfig):
    assert pytestconfig.pluginmanager.is_blocked("benchmark")
