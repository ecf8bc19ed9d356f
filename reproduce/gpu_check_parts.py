"""The parts of gpu_check.py: what each of them runs, and in lines for the table, what it found."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import benchmarks.record
import gpu_check_engine as engine

from ministn.data import mnist
from ministn.data.folders import search_path
from ministn.files import read_json, write_atomically
from ministn.kinds import from_json

NETS = "arch1-tstn arch2-tstn arch1-cnn arch2-cnn arch1-untied arch2-untied".split()
TRAINED = "arch1-tstn arch1-cnn arch2-cnn arch1-untied arch2-tstn arch2-untied".split()
PROTOCOL = ("--loc-lr", "0.3")  # at 1 the transformers may collapse; at 0.3 they attend
# pytest -v, in one process and in several.
OUTCOME = "(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)"
ALONE = re.compile(rf"^(tests/\S+?::.*?) {OUTCOME}\b")
SHARED = re.compile(rf"^\[gw\d+\] \[ *\d+%\] {OUTCOME} (tests/.*?) *$")
NAMED = 5  # failed tests, and slow kernels, that the table names

Lines = list[str]


class Call(NamedTuple):
    """One process: what Python runs, under what, where its output goes and how it is stopped."""

    name: str
    argv: tuple[str, ...]
    under: tuple[str, ...] = ()
    log: str = "output.log"
    stop: signal.Signals = signal.SIGTERM
    fine: tuple[int, ...] = (0,)


class LeftOut(Exception):
    """Why a part cannot be done here."""


class Parts:
    """What each part runs and comes to. out: folder of the records. runs: where table3 trains."""

    def __init__(self, out: Path, runs: Path, data_dir: Path | None, small: bool) -> None:
        self.out, self.runs, self.data_dir, self.small = out, runs, data_dir, small

    def keep(self) -> None:
        """Copy the records of training into one file in ``out``."""
        pack(self.runs, self.out / "table3.tar")

    def faults(self) -> Lines:
        """What the check found wrong with the engine."""
        scale = engine.SMALL if self.small else engine.PAPERS
        return engine.faults(engine.read(self.out / "check.json"), scale)

    def result(self, part: str, name: str, faults: Lines) -> Lines:
        """What a call came to."""
        match part:
            case "check":
                wrong = [f"WRONG: {fault}" for fault in faults]
                return wrong + check(engine.read(self.out / "check.json"))
            case "tests":
                return counted(tests(self.out / "tests.log"))
            case "kernels":
                return kernels(rows(self.out, f"kernel/{name.split()[1]}/"))
            case "networks":
                _, net, precision = name.split()
                found = rows(self.out, f"network/{precision}/{net}/")
                return [network(row) for row in found.values()]
            case "table3":
                return trained(self.out / "table3.tar", name.partition(" ")[2])
        return ["see output.log"]

    def calls(self, part: str, wrong: bool) -> list[Call]:
        """The processes of a part, tests with long tracebacks where the engine is wrong.

        Raises LeftOut where it cannot be done here.
        """
        return getattr(self, f"_{part}")(wrong)

    def _check(self, wrong: bool) -> list[Call]:
        flags = ("--out", str(self.out / "check.json"), *self._small("--small"))
        return [Call("check", ("reproduce/gpu_check_engine.py", *flags))]

    def _tests(self, wrong: bool) -> list[Call]:
        log = self.out / "tests.log"
        passed = [name for name, what in tests(log).items() if what == "PASSED"]
        # A name without parameters would deselect those that begin like it, too.
        without = [f"--deselect={name}" for name in passed if name.endswith("]")]
        several = () if self.small or not shared() else ("-n", str(min(4, os.cpu_count() or 1)))
        which = self._small("tests/test_cuda_ops.py", "-k", "relu")
        how = ("--tb=long", "--maxfail=50") if wrong else ("--tb=short",)
        quiet = ("-p", "no:benchmark", "-p", "no:cacheprovider")
        argv = ("-m", "pytest", "-m", "gpu", "-v", *how, *quiet, *several, *which, *without)
        fine = (0, 5) if passed else (0,)  # 5: none is left
        return [Call("tests", argv, log=log.name, stop=signal.SIGINT, fine=fine)]

    def _kernels(self, wrong: bool) -> list[Call]:
        return [
            Call(f"kernels {precision}", self._benchmark("kernels", precision))
            for precision in ("tf32", "fp32")
        ]

    def _networks(self, wrong: bool) -> list[Call]:
        return [
            Call(f"networks {net} {p}", self._benchmark("networks", p, "--nets", net))
            for net in (["arch1-cnn"] if self.small else NETS)
            for p in ("tf32", "fp32")
        ]

    def _benchmark(self, part: str, precision: str, *more: str) -> tuple[str, ...]:
        if find_spec("torch") is None:
            raise LeftOut("PyTorch is not installed")
        small = self._small("--batch-size", "2", "--rounds", "1")
        flags = ("--only", part, "--precision", precision, *more, *small)
        out = ("--out", str(self.out / "benchmark.json"))
        return ("reproduce/benchmark.py", "--gpu", *flags, *out)

    def _table3(self, wrong: bool) -> list[Call]:
        flags: tuple[str, ...] = ("--gpu", "--precision", "tf32", "--resume", *PROTOCOL)
        flags += ("--out", str(self.runs))
        if self.small:
            tiny = "--data digits --train-size 64 --epochs 16 --batch-size 32 --canvas 32".split()
            return [Call("table3", ("reproduce/table3.py", *flags, *tiny, "--nets", "small-stn"))]
        folders = search_path("mnist", self.data_dir)
        if not all(mnist.find(name, folders) for name in mnist.FILES):
            raise LeftOut(
                f"no MNIST in {' or '.join(map(str, folders))}: set MINISTN_DATA, or --data-dir"
            )
        if self.data_dir:
            flags += ("--data-dir", str(self.data_dir.resolve()))
        return [
            Call(f"table3 {net}", ("reproduce/table3.py", *flags, "--nets", net)) for net in TRAINED
        ]

    def _profile(self, wrong: bool) -> list[Call]:
        sections = [f"--section={name}" for name in ("SpeedOfLight", "Occupancy", "LaunchStats")]
        return [self._step(p, "profile", tool("ncu"), *sections) for p in ("tf32", "fp32")]

    def _sanitize(self, wrong: bool) -> list[Call]:
        flags = ("--tool", "memcheck", "--error-exitcode", "1", "--print-limit", "20")
        return [self._step("tf32", "sanitize", tool("compute-sanitizer"), *flags)]

    def _step(self, precision: str, part: str, *under: str) -> Call:
        small = self._small("--small") if part == "profile" else ("--small",)
        argv = ("reproduce/gpu_check_engine.py", "--step", "arch1-tstn", precision, *small)
        return Call(f"{part} {precision}", argv, under)

    def _small(self, *flags: str) -> tuple[str, ...]:
        return flags if self.small else ()


def tool(name: str) -> str:
    """The path of one of CUDA's tools. Raises LeftOut where there is none."""
    path = shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")
    if path is None:
        raise LeftOut(f"there is no {name}")
    return path


def shared() -> bool:
    """Whether several processes may use the GPU, and pytest knows how to start them."""
    if find_spec("xdist") is None or shutil.which("nvidia-smi") is None:
        return False
    query = ["nvidia-smi", "--query-gpu=compute_mode", "--format=csv,noheader"]
    said = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
    return said[:1] == ["Default"]


# -- what came of it ---------------------------------------------------------------------------


def check(record: engine.Record) -> Lines:
    """The numbers of the check."""
    compiled = record.get("compile", {})
    found = [f"{len(compiled)} files compiled in {sum(compiled.values()):.0f} s"]
    for key, what in (("off", "loss"), ("gradient_off", "gradient")):
        off = worst(record.get("agreement", {}), key)
        found.append(f"{what} off by at most " + ", ".join(f"{v:.1e} {p}" for p, v in off.items()))
    products = record.get("products", {})
    found.append("product off by " + ", ".join(f"{v:.1e} {p}" for p, v in products.items()))
    if record.get("stream", {}).get("kept") is False:
        found.append("after a copy of a view, training goes on otherwise: the stream is lost")
    found += [
        f"step of {name}: {row['gpu_ms']:.3f} ms, {row['host_ms']:.3f} ms of the host's"
        for name, row in record.get("steps", {}).items()
    ]
    return found


def worst(agreement: dict[str, Any], key: str) -> dict[str, float]:
    """The largest difference in each precision."""
    found: dict[str, float] = {}
    for name, row in agreement.items():
        precision = name.split()[1]
        found[precision] = max(found.get(precision, 0.0), row[key])
    return found


def tests(log: Path) -> dict[str, str]:
    """{test: what came of it last}, of a log that may have been cut off anywhere."""
    found: dict[str, str] = {}
    text = log.read_text(errors="replace") if log.exists() else ""
    for line in text.splitlines():
        if alone := ALONE.match(line):
            found[alone[1]] = alone[2]
        elif shared := SHARED.match(line):
            found[shared[2]] = shared[1]
    return found


def counted(outcomes: dict[str, str]) -> Lines:
    """How many tests passed and failed, and the first that failed."""
    count = Counter(outcomes.values())
    failed = [name for name, what in outcomes.items() if what in ("FAILED", "ERROR")]
    return [
        ", ".join(f"{n} {what.lower()}" for what, n in count.most_common()) or "none ran",
        *failed[:NAMED],
    ]


def rows(out: Path, prefix: str) -> dict[str, Any]:
    """What the benchmark's record has under a prefix."""
    path = out / "benchmark.json"
    return dict(benchmarks.record.rows(read_json(path), prefix)) if path.exists() else {}


def kernels(found: dict[str, Any]) -> Lines:
    """Beside PyTorch: the median, and the slowest."""
    if not found:
        return []
    ratios = {name: row["torch_eager"]["ratio"] for name, row in found.items()}
    slowest = sorted(ratios, key=lambda name: -ratios[name])[:NAMED]
    return [
        f"{len(found)} kernels take {median(ratios.values()):.2f} of PyTorch's time (median)",
        *(f"{name.rpartition('/')[0]}: {ratios[name]:.2f}" for name in slowest),
    ]


def network(row: dict[str, Any]) -> str:
    """A training step beside PyTorch's."""
    sides = {"eager": row["torch_eager"], "compiled": row["torch_compile"]}
    theirs = [
        f"{side} {1e3 * times['median']:.3f} (ratio {times['ratio']:.2f})"
        for side, times in sides.items()
        if times is not None
    ]
    return ", ".join([f"ours {1e3 * row['ours']['median']:.3f} ms", *theirs])


def trained(tar: Path, net: str) -> Lines:
    """How far each run has come, and its test error."""
    found = []
    for content in unpacked(tar).values():
        record = json.loads(content)
        settings = from_json(record["settings"])
        if net and settings.network.name != net:
            continue
        text = f"{record['status']}, {len(record['epochs'])} of {settings.training.epochs} epochs"
        if best := record["best"]:
            text += f", test error {best['test_error']:.2f} % (epoch {best['epoch']})"
            if best["test_overlap"] is not None:
                text += f", overlap {best['test_overlap']:.2f}"
        elif record["epochs"]:
            text += f", validation error {record['epochs'][-1]['valid_error']:.2f} %"
        found.append(text)
    return found


def pack(runs: Path, tar: Path) -> None:
    """Put the runs' records into one file, and keep those of runs that are elsewhere now."""
    records = {f"{path.parent.name}/{path.name}": path for path in runs.glob("*/record.json")}
    if not records:
        return
    contents = unpacked(tar) | {name: path.read_bytes() for name, path in records.items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in sorted(contents.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    write_atomically(tar, packed.getvalue())


def unpacked(tar: Path) -> dict[str, bytes]:
    """{name: content} of all files in it; of none where there is none."""
    if not tar.exists():
        return {}
    with tarfile.open(tar) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}
