"""reproduce/gpu_check.py: nothing is lost, whatever happens to it or to what it starts."""

import json
import os
import subprocess
import sys
import tarfile
import time
from importlib import import_module
from pathlib import Path

import psutil
import pytest

from ministn import backend
from ministn.errors import UserError
from ministn.models import NETWORKS, Tstn
from ministn.runs import environment

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "reproduce" / "gpu_check.py"
ON_SHIM = ROOT / "tests" / "on_shim.py"


def surroundings():
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(autouse=True)
def scripts(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "reproduce"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def module():
    return import_module("gpu_check")


@pytest.fixture
def parts():
    return import_module("gpu_check_parts")


@pytest.fixture
def engine():
    return import_module("gpu_check_engine")


# -- the command line ------------------------------------------------------------------------------


def command(*flags):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *flags], env=surroundings(), capture_output=True, text=True
    )


def test_without_a_gpu_it_ends_with_one_line(tmp_path):
    try:
        backend.gpu()
    except UserError as error:
        ended = command("--minutes", "2")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"error: {error}\n"
        assert list(tmp_path.iterdir()) == []
    else:
        pytest.skip("there is a GPU")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "the following arguments are required: --minutes; --help lists all flags"),
        ("--minutes 0", "--minutes must be above 0, got 0"),
        ("--minutes nan", "--minutes must be above 0, got nan"),
        ("--minutes 2 --parts fun", "argument --parts: invalid choice: 'fun'"),
    ],
)
def test_flags_that_cannot_be(flags, said, module, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *flags.split()])
    with pytest.raises(UserError) as error:
        module.main()
    assert str(error.value).startswith(said)


# -- processes, limits and what is left out --------------------------------------------------------


@pytest.fixture
def run(module, parts, monkeypatch, tmp_path, capsys):
    """Run the command on calls that are a few lines of Python: its record, and what it said.

    calls: {part: {name: code}}; parts without any are left out.
    """
    monkeypatch.setattr(module, "PYTHON", (sys.executable, "-S"))
    monkeypatch.setattr(module, "GRACE", 0.5)
    monkeypatch.setattr(module, "TICK", 0.01)
    monkeypatch.setattr(module, "KEEP", 0.05)
    monkeypatch.setattr(module.Check, "_device", lambda self: {"name": "a GPU"})
    monkeypatch.setattr(parts.Parts, "faults", lambda self: [])
    monkeypatch.setattr(parts.Parts, "result", lambda self, part, name, faults: [])

    def run(calls, minutes=1.0, flags=""):
        def calls_of(self, part, wrong):
            if part not in calls:
                raise parts.LeftOut("nothing to do")
            return [parts.Call(name, ("-c", code)) for name, code in calls[part].items()]

        monkeypatch.setattr(parts.Parts, "calls", calls_of)
        line = f"gpu_check.py --minutes {minutes} --out out {flags}"
        monkeypatch.setattr(sys, "argv", line.split())
        status = module.main()
        record = json.loads((tmp_path / "out" / "gpu-check.json").read_text())
        return record, status, capsys.readouterr().out

    return run


def statuses(record):
    return {name: entry["status"] for name, entry in record["calls"].items()}


def limits(module, monkeypatch, **changes):
    """Other shares than those of hours that cost money."""
    shares = {name: module.Share(1, 0.01, 60) for name in module.PARTS} | changes
    monkeypatch.setattr(module, "PARTS", shares)


def ended(process):
    """Whether a process has; a dead one may wait for somebody to ask."""
    return not psutil.pid_exists(process) or psutil.Process(process).status() == "zombie"


def test_what_fails_or_hangs_takes_nothing_with_it(run, module, monkeypatch, tmp_path):
    limits(module, monkeypatch, tests=module.Share(1, 0.01, 1.0))
    hangs = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    open("{}", "w").write(str(child))
time.sleep(1000)
""".format(tmp_path / "child")
    calls = {
        "check": {"check": "raise SystemExit(3)"},
        "tests": {"tests": hangs},
        "kernels": {"kernels": "print('fine')"},
    }
    begun = time.monotonic()
    record, status, said = run(calls)
    assert time.monotonic() - begun < 10 and status == 1
    expected = {
        "check": "failed: status 3",
        "tests": "stopped at its limit",
        "kernels": "done",
    }
    assert statuses(record) == expected
    assert record["left_out"]["profile"] == "nothing to do"
    assert "profile: left out, nothing to do" in said and said.count("\nkernels ") == 1
    assert ended(int((tmp_path / "child").read_text()))
    assert "== kernels ==\nfine\n" in (tmp_path / "out" / "output.log").read_text()

    calls["check"] = calls["tests"] = {"check": "", "tests": ""}
    record, status, said = run(calls)
    assert set(statuses(record).values()) == {"done"} and status == 0
    assert "kernels: done before" in said
    assert record["calls"]["tests"]["seconds"] > 1  # of both times


def test_asked_to_stop_it_saves(run, module, monkeypatch, tmp_path):
    limits(module, monkeypatch, table3=module.Share(1, 0.01, 1.0))
    saves = """
import signal, time
def save(*_):
    open("{}", "w").write("weights")
    raise SystemExit(130)
signal.signal(signal.SIGTERM, save)
time.sleep(1000)
""".format(tmp_path / "saved")
    record, *_ = run({"table3": {"table3": saves}})
    assert statuses(record) == {"table3": "stopped at its limit"}
    assert (tmp_path / "saved").read_text() == "weights"


def test_time_is_divided_by_weights_and_flows_on(run, module, monkeypatch):
    limits(module, monkeypatch, check=module.Share(2, 0.01, 60), kernels=module.Share(1, 31, 60))
    every = {part: {part: ""} for part in ("check", "tests", "kernels", "networks")}
    monkeypatch.setattr(module, "GRACE", 10.0)
    record, _, said = run(every, minutes=70 / 60)  # 60 seconds for 2 + 1 + 1 + 1
    assert "check: at most 24 s" in said
    assert "tests: at most 20 s" in said  # a third of what is left
    assert "networks: at most 60 s" in said or "networks: at most 59 s" in said
    assert record["left_out"]["kernels"].endswith("s are left, 31 are needed")
    assert "kernels" not in record["calls"]
    _, _, said = run(every, minutes=80 / 60)
    assert "kernels: at most 60 s" in said  # the others are done


def test_other_sources_begin_anew(run, monkeypatch, tmp_path):
    calls = {"check": {"check": ""}}
    run(calls)
    (tmp_path / "out" / "tests.log").write_text("of the first")
    assert "check: done before" in run(calls)[2]
    monkeypatch.setattr(environment, "source_sha256", lambda: "another")
    assert "check: at most" in run(calls)[2]
    assert (tmp_path / "out" / "tests-before.log").read_text() == "of the first"
    assert "check: at most" in run(calls, flags="--small")[2]


def test_a_wrong_engine_is_not_measured(run, module, parts, monkeypatch, tmp_path):
    limits(module, monkeypatch)
    monkeypatch.setattr(parts.Parts, "faults", lambda self: ["loss off by 1"])
    names = ["check", "tests", "kernels", "networks", "table3", "profile", "sanitize"]
    every = {part: {part: ""} for part in names}
    record, status, _ = run(every)
    assert list(record["calls"]) == ["check", "tests", "sanitize"] and status == 1
    assert set(record["left_out"].values()) == {"the check found the engine wrong"}
    (tmp_path / "out" / "gpu-check.json").unlink()
    record, *_ = run(every, flags="--parts check kernels sanitize")
    assert list(record["calls"]) == ["check", "tests", "sanitize"]


def test_interrupted_by_a_signal(run, tmp_path):
    """As by Ctrl-C: what was running is stopped, and the table comes all the same."""
    interrupt = f"import os, time; os.kill({os.getpid()}, 15); time.sleep(1000)"
    with pytest.raises(KeyboardInterrupt):
        run({"check": {"check": ""}, "tests": {"tests": interrupt}})
    record = json.loads((tmp_path / "out" / "gpu-check.json").read_text())
    assert statuses(record) == {"check": "done", "tests": "interrupted"}


# -- what the parts run and find -------------------------------------------------------------------


def test_what_cannot_be_done_says_why(parts, monkeypatch, tmp_path):
    made = parts.Parts(tmp_path, tmp_path / "runs", tmp_path, small=False)
    monkeypatch.setattr(parts, "find_spec", lambda name: None)
    monkeypatch.setattr(parts.shutil, "which", lambda *name, path=None: None)
    for part, reason in [
        ("kernels", "PyTorch is not installed"),
        ("networks", "PyTorch is not installed"),
        ("table3", f"no MNIST in {tmp_path}: set MINISTN_DATA, or --data-dir"),
        ("profile", "there is no ncu"),
        ("sanitize", "there is no compute-sanitizer"),
    ]:
        with pytest.raises(parts.LeftOut, match=f"^{reason}$"):
            made.calls(part, False)


def test_commands_are_those_of_the_scripts(parts, monkeypatch, tmp_path):
    """Their own parsers take them; the most valuable come first."""
    monkeypatch.setattr(parts, "find_spec", lambda name: True)
    monkeypatch.setattr(parts.mnist, "find", lambda name, folders: Path(name))
    monkeypatch.setattr(parts.shutil, "which", lambda name, path=None: None)
    made = parts.Parts(tmp_path, tmp_path / "runs", tmp_path, small=False)
    benchmark, table3 = import_module("benchmark"), import_module("table3")
    for part in ("kernels", "networks"):
        for call in made.calls(part, False):
            given = benchmark.parser().parse_args(call.argv[1:])
            assert given.gpu and given.only == [part] and len(given.precision) == 1
    assert [c.name for c in made.calls("networks", False)][:1] == ["networks arch1-tstn tf32"]
    settings = []
    for call in made.calls("table3", False):
        given = table3.EXPERIMENT.parser.parse_args(call.argv[1:])
        assert given.gpu and given.resume and given.data_dir == tmp_path
        settings += table3.EXPERIMENT.settings_of(given)
    assert settings[0].network == Tstn(1) and settings[0].training.epochs == 196
    names = {s.network.name for s in settings}
    assert names == set(table3.SIX) and all(s.network == NETWORKS[s.network.name] for s in settings)
    assert {(s.precision, s.training.loc_lr) for s in settings} == {("tf32", 0.3)}
    (short,), (long,) = made.calls("tests", False), made.calls("tests", True)
    assert "--tb=short" in short.argv and "--tb=long" in long.argv


def test_tests_that_passed_are_not_run_again(parts, tmp_path):
    (tmp_path / "tests.log").write_text(
        "tests/test_a.py::test_one[gpu-(0, 3)] PASSED     [ 11%]\n"
        "tests/test_a.py::test_two[gpu] FAILED            [ 22%]\n"
        "tests/test_a.py::test_two PASSED                 [ 33%]\n"
        "[gw3] [ 44%] PASSED tests/test_b.py::test_three[gpu] \n"
        "FAILED tests/test_a.py::test_two[gpu] - assert False\n"
        "tests/test_b.py::test_four[gpu] "
    )
    outcomes = parts.tests(tmp_path / "tests.log")
    assert parts.counted(outcomes) == ["3 passed, 1 failed", "tests/test_a.py::test_two[gpu]"]
    (call,) = parts.Parts(tmp_path, tmp_path, None, small=True).calls("tests", False)
    assert [word for word in call.argv if "deselect" in word] == [
        "--deselect=tests/test_a.py::test_one[gpu-(0, 3)]",
        "--deselect=tests/test_b.py::test_three[gpu]",
    ]


def test_records_of_runs_are_kept_in_one_file(parts, tmp_path):
    runs, tar = tmp_path / "runs", tmp_path / "table3.tar"
    parts.pack(runs, tar)
    assert not tar.exists()
    for name in ("first", "second"):
        (runs / name).mkdir(parents=True)
        (runs / name / "record.json").write_text(f'"{name}"')
        (runs / name / "last.safetensors").touch()
    parts.pack(runs, tar)
    (runs / "first" / "record.json").unlink()
    (runs / "second" / "record.json").write_text('"longer"')
    parts.pack(runs, tar)
    with tarfile.open(tar) as archive:
        assert archive.getnames() == ["first/record.json", "second/record.json"]
    assert parts.unpacked(tar)["first/record.json"] == b'"first"'
    assert parts.unpacked(tar)["second/record.json"] == b'"longer"'


def sound(engine):
    """A check's record with nothing wrong in it."""
    step = {"asked": 5, "done": 5, "first_loss": 2.5, "last_loss": 2.4}
    names = [f"{net} {p}" for net in engine.SMALL.nets for p in ("fp32", "tf32")]
    return {
        "failed": {},
        "agreement": {name: {"off": 9e-6 if "fp32" in name else 4e-3} for name in names},
        "products": {"fp32": 9e-7, "tf32": 3e-4},
        "steps": {name: dict(step) for name in names},
    }


@pytest.mark.parametrize(
    ("section", "name", "value", "fault"),
    [
        ("agreement", "arch1-cnn fp32", {"off": 2e-5}, "arch1-cnn fp32: loss off by 2.0e-05"),
        ("agreement", "arch1-cnn fp32", {"off": float("nan")}, "arch1-cnn fp32: loss off by nan"),
        ("agreement", "arch1-cnn tf32", {"off": 6e-3}, "arch1-cnn tf32: loss off by 6.0e-03"),
        ("agreement", "arch1-cnn tf32", None, "arch1-cnn tf32: not compared with the CPU"),
        ("products", "fp32", 2e-6, "fp32 product off by 2.0e-06"),
        ("failed", "compile relu", "...", "compile relu failed"),
        ("steps", "arch1-cnn tf32", {"asked": 5, "done": 2}, "arch1-cnn tf32: 2 of 5 steps"),
        (
            "steps", "arch1-cnn tf32",
            {"asked": 5, "done": 5, "first_loss": 2.0, "last_loss": 2.0},
            "arch1-cnn tf32: the last loss equals the first",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_engine(section, name, value, fault, engine):
    record = sound(engine)
    assert engine.faults(record, engine.SMALL) == []
    record[section][name] = value
    if value is None:
        del record[section][name]
    (found,) = engine.faults(record, engine.SMALL)
    assert found.startswith(fault)
