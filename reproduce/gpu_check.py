"""Everything worth knowing of a GPU that is rented by the minute, in order of value.

check     the engine beside the CPU: compiled, compared, timed (gpu_check_engine.py)
tests     pytest -m gpu; of a run that was stopped, those that have not passed
kernels   each beside PyTorch and what the GPU reaches at best (benchmark.py)
networks  a training step beside PyTorch eager and torch.compile; one network, one precision a call
table3    the paper's protocol in tf32, network after network (table3.py)
profile   each kernel of a step under ncu, where there is one
sanitize  a step under compute-sanitizer, where there is one

Every part has a limit, see PARTS, and runs in processes of its own: nothing is lost when one fails,
hangs or is killed. The same command again skips what is done and goes on with the rest, with these
sources. Where the check finds the engine wrong, tests with long tracebacks take the place of what
would measure it.

Files in DIR, few and small: gpu-check.json (what was done), check.json, tests.log and that of other
sources before, benchmark.json, table3.tar (the runs' records), output.log (what all other processes printed).
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import gpu_check_engine as engine
import gpu_check_results as results

from ministn import cli, environment
from ministn.data import mnist
from ministn.errors import UserError
from ministn.files import write_atomically

ROOT = Path(__file__).parents[1]
PYTHON = (sys.executable,)  # what runs the parts


class Share(NamedTuple):
    """How the minutes are divided.

    weight: of the time left when the part begins, it gets its weight over that of all parts still
    to be done, so what one does not use goes to the later ones. least: seconds with which no call is
    begun, being too few. most: seconds after which one call is taken to hang.
    """

    weight: int
    least: float
    most: float


PARTS = {
    "check": Share(4, 15, 240),
    "tests": Share(4, 15, 1200),
    "kernels": Share(2, 15, 120),
    "networks": Share(4, 20, 120),
    "table3": Share(5, 20, 3600),
    "profile": Share(1, 10, 120),
    "sanitize": Share(1, 10, 120),
}
IF_WRONG = ("tests", "sanitize")  # after a check that finds the engine wrong
GRACE = 10.0  # seconds from being asked to stop until being killed; a checkpoint is 120 MB
TICK, KEEP = 0.5, 10.0  # seconds between looks at a process, and between copies of its records
NAMED_IN = 60.0  # seconds for the GPU to say its name

NETS = "arch1-tstn arch2-tstn arch1-cnn arch2-cnn arch1-untied arch2-untied".split()
TRAINED = "arch1-tstn arch1-cnn arch2-cnn arch1-untied arch2-tstn arch2-untied".split()
PROTOCOL = ("--loc-lr", "0.3")  # at 1 the transformers may collapse; at 0.3 they attend

EXAMPLES = """\
examples:
  python reproduce/gpu_check.py --minutes 9 --out gpu
      everything, as far as nine minutes go; again to go on
  python reproduce/gpu_check.py --minutes 20 --out gpu --parts networks table3
      these parts only
  python reproduce/gpu_check.py --minutes 2 --out small --small
      whether the command itself works there: every part at its smallest size
"""


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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = cli.Parser(
        prog="python reproduce/gpu_check.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--minutes", type=float, required=True, metavar="M", help="for all together")
    p.add_argument(
        "--out", type=Path, default=Path("gpu-check"), metavar="DIR", help="default: gpu-check"
    )
    p.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="PART",
        help="default: all",
    )
    p.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/gpu-check"),
        metavar="DIR",
        help="where table3 trains, with its checkpoints; default: runs/gpu-check",
    )
    p.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="the only place to look for MNIST's four files"
    )
    p.add_argument("--small", action="store_true", help="all at the smallest size: seconds each")
    return p


# -- what each part runs -------------------------------------------------------------------------


class Check:
    """The parts' calls, the files in ``out``, and what became of each call."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.out, self.runs = arguments.out.resolve(), arguments.runs.resolve()
        self.small, self.data_dir = arguments.small, arguments.data_dir
        self.parts = [part for part in PARTS if part in arguments.parts]
        self.deadline = time.monotonic() + 60 * arguments.minutes - GRACE
        self.device = self._device()
        self.out.mkdir(parents=True, exist_ok=True)
        same = {"small": self.small, "source_sha256": environment.source_sha256()}
        self.path = self.out / "gpu-check.json"
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        if not same.items() <= before.items():
            before = {}
            with suppress(FileNotFoundError):
                (self.out / "tests.log").replace(self.out / "tests-before.log")
        self.record: dict[str, Any] = {
            **same, **environment.commit(), "device": self.device,
            "calls": before.get("calls", {}), "left_out": {},
        }  # fmt: skip
        for entry in self.record["calls"].values():
            if entry["status"] == "running":
                entry["status"] = "killed"
        self.save()
        self.keep()

    def _device(self) -> dict[str, Any]:
        """The GPU, from a process of its own: one that holds a GPU may keep others from it."""
        try:
            said = subprocess.run(
                [*PYTHON, "reproduce/gpu_check_engine.py"],
                cwd=ROOT, env=surroundings(), capture_output=True, text=True, timeout=NAMED_IN,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UserError(f"the GPU has not said its name in {NAMED_IN:.0f} seconds") from None
        if said.returncode:
            last = said.stderr.strip().splitlines()[-1]
            raise UserError(last.removeprefix("error: "))
        return json.loads(said.stdout)

    def save(self) -> None:
        write_atomically(self.path, (json.dumps(self.record, indent=1) + "\n").encode())

    def keep(self) -> None:
        """Copy the records of training into the one file."""
        results.pack(self.runs, self.out / "table3.tar")

    def calls(self, part: str, faults: bool) -> list[Call]:
        """The processes of a part. Raises LeftOut where it cannot be done here."""
        return getattr(self, f"_{part}")(faults)

    def _check(self, faults: bool) -> list[Call]:
        flags = ("--out", str(self.out / "check.json"), *self._small("--small"))
        return [Call("check", ("reproduce/gpu_check_engine.py", *flags))]

    def _tests(self, faults: bool) -> list[Call]:
        log = self.out / "tests.log"
        passed = [name for name, what in results.tests(log).items() if what == "PASSED"]
        # A name without parameters would deselect those that begin like it, too.
        without = [f"--deselect={name}" for name in passed if name.endswith("]")]
        several = () if self.small or not shared() else ("-n", str(min(4, os.cpu_count() or 1)))
        which = self._small("tests/test_cuda_ops.py", "-k", "relu")
        how = ("--tb=long", "--maxfail=50") if faults else ("--tb=short",)
        quiet = ("-p", "no:benchmark", "-p", "no:cacheprovider")
        argv = ("-m", "pytest", "-m", "gpu", "-v", *how, *quiet, *several, *which, *without)
        fine = (0, 5) if passed else (0,)  # 5: none is left
        return [Call("tests", argv, log=log.name, stop=signal.SIGINT, fine=fine)]

    def _kernels(self, faults: bool) -> list[Call]:
        return [
            Call(f"kernels {precision}", self._benchmark("kernels", precision))
            for precision in ("tf32", "fp32")
        ]

    def _networks(self, faults: bool) -> list[Call]:
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

    def _table3(self, faults: bool) -> list[Call]:
        flags: tuple[str, ...] = ("--gpu", "--precision", "tf32", "--resume", *PROTOCOL)
        flags += ("--out", str(self.runs))
        if self.small:
            tiny = "--data digits --train-size 64 --epochs 4 --batch-size 32 --canvas 32".split()
            return [Call("table3", ("reproduce/table3.py", *flags, *tiny, "--nets", "small-stn"))]
        folders = mnist.search_path(self.data_dir)
        if not all(mnist.find(name, folders) for name in mnist.FILES):
            raise LeftOut(
                f"no MNIST in {' or '.join(map(str, folders))}: set MINISTN_DATA, or --data-dir"
            )
        if self.data_dir:
            flags += ("--data-dir", str(self.data_dir.resolve()))
        return [
            Call(f"table3 {net}", ("reproduce/table3.py", *flags, "--nets", net)) for net in TRAINED
        ]

    def _profile(self, faults: bool) -> list[Call]:
        sections = [f"--section={name}" for name in ("SpeedOfLight", "Occupancy", "LaunchStats")]
        return [self._step(p, "profile", tool("ncu"), *sections) for p in ("tf32", "fp32")]

    def _sanitize(self, faults: bool) -> list[Call]:
        flags = ("--tool", "memcheck", "--error-exitcode", "1", "--print-limit", "20")
        return [self._step("tf32", "sanitize", tool("compute-sanitizer"), *flags)]

    def _step(self, precision: str, part: str, *under: str) -> Call:
        small = self._small("--small") if part == "profile" else ("--small",)
        argv = ("reproduce/gpu_check_engine.py", "--step", "arch1-tstn", precision, *small)
        return Call(f"{part} {precision}", argv, under)

    def _small(self, *flags: str) -> tuple[str, ...]:
        return flags if self.small else ()

    # -- one after another -----------------------------------------------------------------------

    def run(self) -> None:
        """All parts, as far as the time goes."""
        todo, faults = list(self.parts), self.faults()
        while todo:
            part, *todo = todo
            try:
                calls = self._possible(part, faults)
            except LeftOut as reason:
                self._leave_out(part, str(reason))
                continue
            later = sum(PARTS[name].weight for name in todo if self._waits(name, faults))
            now, weight = time.monotonic(), PARTS[part].weight
            end = now + max(0.0, self.deadline - now) * weight / (weight + later)
            for call in calls:
                self._call(part, call, end)
            if part == "check":
                faults = self.faults()
                if faults and "tests" not in todo:
                    todo = ["tests", *todo]

    def _possible(self, part: str, faults: list[str]) -> list[Call]:
        """The calls of a part that makes sense. Raises LeftOut if it does not."""
        if faults and part not in ("check", *IF_WRONG):
            raise LeftOut("the check found the engine wrong")
        return self.calls(part, bool(faults))

    def _waits(self, part: str, faults: list[str]) -> bool:
        """Whether a part has something to do."""
        try:
            return not all(self._done(call) for call in self._possible(part, faults))
        except LeftOut:
            return False

    def _done(self, call: Call) -> bool:
        return self.record["calls"].get(call.name, {}).get("status") == "done"

    def faults(self) -> list[str]:
        """What the check found wrong; nothing before it has come to its end or its limit."""
        status = self.record["calls"].get("check", {}).get("status", "new")
        if status in ("new", "running", "killed", "interrupted"):
            return []
        scale = engine.SMALL if self.small else engine.PAPERS
        return engine.faults(engine.read(self.out / "check.json"), scale)

    def _call(self, part: str, call: Call, end: float) -> None:
        """One process, unless it is done or has no time left; and what became of it."""
        if self._done(call):
            print(f"{call.name}: done before")
            return
        begun, share = time.monotonic(), PARTS[part]
        limit = min(end - begun, share.most)
        if limit < share.least:
            self._leave_out(
                call.name, f"{max(limit, 0):.0f} s are left, {share.least:g} are needed"
            )
            return
        entry = self.record["calls"].setdefault(call.name, {"seconds": 0.0})
        print(f"{call.name}: at most {limit:.0f} s", flush=True)
        entry["status"] = "running"
        self.save()
        status, before = "interrupted", entry["seconds"]
        try:
            status = self._process(call, begun + limit)
        finally:
            self.keep()
            entry["status"] = status
            entry["seconds"] = round(before + time.monotonic() - begun, 1)
            entry["result"] = results.of(part, call.name, self.out, self.faults)
            self.save()
        print(f"{call.name}: {status}", flush=True)

    def _process(self, call: Call, end: float) -> str:
        """Run it; at its end, in time or not, nothing that it started is left."""
        with open(self.out / call.log, "ab") as log:
            log.write(f"\n== {call.name} ==\n".encode())
            log.flush()
            process = subprocess.Popen(
                [*call.under, *PYTHON, *call.argv],
                cwd=ROOT, env=surroundings(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=end_with_parent,
            )  # fmt: skip
            with stopped(process, call.stop):
                kept = time.monotonic()
                while (now := time.monotonic()) < end:
                    with suppress(subprocess.TimeoutExpired):
                        code = process.wait(TICK)
                        return "done" if code in call.fine else f"failed: status {code}"
                    if now - kept > KEEP:
                        self.keep()
                        kept = now
        return "stopped at its limit"

    def _leave_out(self, name: str, reason: str) -> None:
        self.record["left_out"][name] = reason
        self.save()
        print(f"{name}: left out, {reason}", flush=True)


@contextmanager
def stopped(process: subprocess.Popen[bytes], how: signal.Signals) -> Iterator[None]:
    """After this block the process and all it started have ended: asked first, then killed."""
    try:
        yield
    finally:
        try:
            if process.poll() is None:
                process.send_signal(how)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def end_with_parent() -> None:
    """Ask Linux to stop this process when the one that started it is killed."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def surroundings() -> dict[str, str]:
    """The environment of all processes: they find the package where this one does."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    return os.environ | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}


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


def main() -> int:
    arguments = parser().parse_args()
    if not arguments.minutes > 0:
        raise UserError(f"--minutes must be above 0, got {arguments.minutes:g}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end it in the same way
    check = Check(arguments)
    try:
        check.run()
    finally:
        print(results.table(check.record))
    return 1 if any(entry["status"] != "done" for entry in check.record["calls"].values()) else 0


if __name__ == "__main__":
    cli.run(main)
