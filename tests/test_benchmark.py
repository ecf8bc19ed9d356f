"""reproduce/benchmark.py --cpu, the whole program, and what the README makes of its record."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from platform import machine

import pytest

from ministn.errors import UserError
from ministn.files import read_json
from ministn.kinds import replaced
from ministn.runs import environment, sweep

sys.path.insert(0, str(Path(__file__).parents[1] / "reproduce"))

import benchmark
import benchmarks.cpu
import benchmarks.figure
import benchmarks.page
import benchmarks.profile
import benchmarks.record
import table3
from benchmarks.blocks import PAPERS, Block
from benchmarks.cpu import Scale
from benchmarks.networks import BENCHED
from benchmarks.record import rows
from benchmarks.turns import SideFailed

SMALL = BENCHED["arch1-tstn"]._replace(
    settings=replaced(BENCHED["arch1-tstn"].settings, "data.canvas", 9)
)
TINY = Scale(
    networks={"arch1-tstn": SMALL},
    blocks=(Block("tstn", 2, 5, 2, 3, pool=True), Block("svhn", 2, 5, 2, 3)),
    growing="arch1-tstn",
    batch=2,
    batches=(2, 3),
    sides=(8, 9),
)


# -- the processor that is computed for ------------------------------------------------------------


def warnings_with(**variables):
    """What ``forced`` says in a process with these variables."""
    asked = "import json; from benchmarks.cpu import forced; print(json.dumps(forced()))"
    paths = [str(Path(__file__).parents[1]), str(Path(benchmark.__file__).parent)]
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_an_older_kernel_is_warned_of(monkeypatch):
    for name in benchmarks.cpu.FORCING:
        monkeypatch.delenv(name, raising=False)
    assert benchmarks.cpu.forced() == []
    if not environment.blas().startswith("openblas ") or machine() not in ("x86_64", "AMD64"):
        pytest.skip("NumPy's library has no kernel for Nehalem")
    first, second = warnings_with(OPENBLAS_CORETYPE="Nehalem")
    assert first.startswith("OPENBLAS_CORETYPE=Nehalem is set, which may force older kernels")
    newer = r"NumPy computes with openblas Nehalem; without that it would with openblas (\w+)"
    assert re.fullmatch(newer, second)[1] != "Nehalem"


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
            self.slower = {"channels_last": 8, "contiguous_format": 5}[start.args[1]]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def seconds(self, work):
        if work != "step":
            return 1.0 * self.slower
        job = self.start.args[0]
        side = job.settings.data.canvas
        return self.slower * (1 + job.batch * side**2) / job.cores

    turn = seconds

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
    assert benchmarks.cpu.run(arguments("--workers", "2", "--papers", "tstn"), TINY) == 0
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
        row = found.pop(f"convolution/tstn/2-3-3x3-5x5-pool/2/{way}")
        assert (row["ours"], row["torch"], row["other_layout"]) == (1, 5, 8)
        assert (row["layout"], row["ratio"]) == ("contiguous_format", 0.2)
        assert row["flops"] == (1 if way == "forward" else 2) * 2 * 2 * 4**2 * 9 * 2 * 3
        assert row["counted"] > 0
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
        assert parts.pop("pools") == 0  # they are in the convolutions
        assert parts.pop("gru") == 0
        assert all(0 < seconds < whole for seconds in parts.values())
    assert found == {
        "growth/batch/arch1-tstn": {"variation": pytest.approx(163 / 4 / (244 / 6), rel=1e-4)},
        "growth/side/arch1-tstn": {"variation": pytest.approx(129 / 128 / (163 / 162), rel=1e-4)},
    }

    text = benchmarks.page.page(tmp_path / "record.json").splitlines()
    name = run["device"]["name"]
    assert text[2:5] == [
        "| arch1-tstn | 2 | 81500.0 | 163000.0 | - | 0.50 | 0.50 |",
        "",
        f"Medians of 2 steps of each, on 2 of {run['device']['cores']} cores of {name}, NumPy with "
        f"{run['device']['blas']}, PyTorch 2.13.0.",
    ]
    assert text[10:14] == [
        "| tstn | 2-3-3x3-5x5-pool | 2 | 2000.0 | 10000.0 | 0.20 | 0 | 0 | 0.0 |",
        "",
        "Of arch1-tstn, the time for each image differs by at most 0 % between a batch of 2 and "
        "one of 3.",
        "Of arch1-tstn, the time for each pixel differs by at most 0 % between a side of 8 and "
        "one of 9.",
    ]
    parts = ["convolutions", "dense", "gru", "sampler", "grid", "pools", "others"]
    parts += ["zeroing", "update"]
    assert text[17] == (f"| ms for each image | batch | {' | '.join(parts)} | rest | whole step |")
    assert [line.split(" | ")[:2] for line in text[19:21]] == [
        ["| arch1-tstn", "2"],
        ["| arch1-tstn", "3"],
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
    parts = ["--only", "steps", "memory", "convolutions", "--papers", "tstn"]
    assert benchmarks.cpu.run(arguments(*parts), TINY) == 0
    out = capsys.readouterr().out
    record = read_json(tmp_path / "record.json")
    block = "convolution/tstn/2-3-3x3-5x5-pool/2"
    names = ["step/arch1-tstn/2", "memory/arch1-tstn/2", f"{block}/forward", f"{block}/backward"]
    for name in names:
        assert f"\n{name} " in out
        assert record[f"{name}/ours"] > 0 and record[f"{name}/torch"] > 0
        assert record[f"{name}/ratio"] > 0


def test_without_pytorch_it_says_so(arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarks.cpu, "find_spec", lambda name: None)
    assert benchmarks.cpu.run(arguments("--only", "growth"), TINY) == 0
    assert benchmarks.cpu.run(arguments("--only", "steps", "--workers", "2"), TINY) == 0
    out = capsys.readouterr().out
    for name in ("step/arch1-tstn/2 ", "growth/batch/arch1-tstn/3 ", "growth/workers/arch1-tstn/1"):
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
        ("--gpu --papers stn", "--papers goes with --cpu"),
        ("--gpu --nets r-cnn", "--nets with --gpu takes arch1-cnn .* small-stn, got r-cnn"),
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
        ("cpu", None, 5, benchmarks.cpu.PARTS),
        ("gpu", 256, 20, ("ceilings", "kernels", "networks")),
    ],
)
def test_each_engine_has_its_own_defaults(engine, batch_size, rounds, parts, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", f"--{engine}"])
    given = benchmark.parsed()
    assert (given.batch_size, given.rounds, given.only) == (batch_size, rounds, list(parts))
    assert given.out == Path(benchmark.__file__).parent / "records" / f"benchmark-{engine}.json"
    assert given.workers == sweep.CORES and given.papers == list(PAPERS)
    assert given.nets == (
        table3.SIX if engine == "gpu" else [n for n in BENCHED if n != "small-stn"]
    )


def test_papers_choose_networks(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--cpu", "--papers", "tstn", "svhn"])
    of_svhn = ["svhn-cnn", "svhn-c0-large", "svhn-sl3"]
    assert benchmark.parsed().nets == [*table3.SIX, *of_svhn]
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--nets", "r-cnn"])
    assert benchmark.parsed().nets == ["r-cnn"]


def test_pytest_benchmark_is_left_out_where_it_is_installed(pytestconfig):
    assert pytestconfig.pluginmanager.is_blocked("benchmark")
