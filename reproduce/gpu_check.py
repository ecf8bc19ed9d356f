"""Everything worth knowing of a GPU that is rented by the minute, in order of value.

check     the engine beside the CPU: compiled, compared, timed (gpu_check_engine.py)
tests     pytest -m gpu; of a run that was stopped, those that have not passed
kernels   each beside PyTorch and what the GPU reaches at best (benchmark.py)
networks  a training step beside PyTorch eager and torch.compile; one network, one precision a call
table3    the paper's protocol in tf32, network after network (table3.py)
profile   each kernel of a step under ncu, where there is one
sanitize  a step under compute-sanitizer, where there is one

Every part has its share of the time left and runs in processes of its own: nothing is lost when one
fails, hangs or is killed. The same command again skips what is done and goes on with the rest; once
the sources have changed it begins anew. Where the check finds the engine wrong, tests with long
tracebacks take the place of what would measure it.

Files in DIR, few and small: gpu-check.json (what was done), check.json, tests.log, tests-before.log
(of other sources), benchmark.json, table3.tar (the runs' records), output.log (all else printed).
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from gpu_check_parts import Call, LeftOut, Parts

from ministn import cli
from ministn.errors import UserError
from ministn.files import read_json, write_atomically
from ministn.runs import environment

ROOT = Path(__file__).parents[1]
PYTHON = (sys.executable,)  # what runs the parts


class Share(NamedTuple):
    """How the minutes are divided.

    weight: of the time left when the part begins, it gets its weight over that of all parts still
    to be done, so what one does not use goes to the later ones. least: with fewer seconds no call
    is begun. most: seconds after which one call is taken to hang.
    """

    weight: int
    least: float
    most: float


PARTS = {
    "check": Share(20, 15, 180),  # takes a minute and ends by itself: what is left flows on
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

EXAMPLES = """\
examples:
  python reproduce/gpu_check.py --minutes 9 --out gpu
      everything, as far as nine minutes go; again to go on
  python reproduce/gpu_check.py --minutes 20 --out gpu --parts networks table3
      these parts only
  python reproduce/gpu_check.py --minutes 2 --out small --small
      whether the command itself works there: every part at its smallest size
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = cli.Parser(
        prog="python reproduce/gpu_check.py",
        description=__doc__,
        epilog=EXAMPLES,
    )
    what = p.add_argument_group("what to do")
    what.add_argument(
        "--minutes", type=float, required=True, metavar="M", help="how long, for all parts together"
    )
    what.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="PART",
        help=f"only these, of {' '.join(PARTS)}; default: all",
    )
    what.add_argument(
        "--small", action="store_true", help="everything at its smallest size: seconds each"
    )
    how = p.add_argument_group("how to run")
    how.add_argument(
        "--out",
        type=Path,
        default=Path("gpu-check"),
        metavar="DIR",
        help="where the files named above go; default: gpu-check",
    )
    how.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/gpu-check"),
        metavar="DIR",
        help="where table3 trains, with its checkpoints; default: runs/gpu-check",
    )
    how.add_argument("--data-dir", type=Path, metavar="DIR", help="as in table3.py --help")
    return p


class Check:
    """One run of the command, and its record, which is written whenever something ends."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.out, self.small = arguments.out.resolve(), arguments.small
        self.does = Parts(self.out, arguments.runs.resolve(), arguments.data_dir, self.small)
        self.parts = [part for part in PARTS if part in arguments.parts]
        self.deadline = time.monotonic() + 60 * arguments.minutes - GRACE
        self.device = self._device()
        self.out.mkdir(parents=True, exist_ok=True)
        same = {"small": self.small, "source_sha256": environment.source_sha256()}
        self.path = self.out / "gpu-check.json"
        before = read_json(self.path) if self.path.exists() else {}
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
        self.does.keep()

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
            *_, last = said.stderr.strip().splitlines() or [f"no GPU: status {said.returncode}"]
            raise UserError(last.removeprefix("error: "))
        return json.loads(said.stdout.splitlines()[-1])

    def save(self) -> None:
        write_atomically(self.path, (json.dumps(self.record, indent=1) + "\n").encode())

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
        return self.does.calls(part, bool(faults))

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
        return self.does.faults()

    def _call(self, part: str, call: Call, end: float) -> None:
        """One process, unless it is done or has no time left; and what became of it."""
        if self._done(call):
            print(f"{call.name}: done before")
            return
        begun, share = time.monotonic(), PARTS[part]
        limit = min(end - begun, share.most)
        if limit < share.least:
            left = f"{max(limit, 0):.0f} s are left, {share.least:g} are needed"
            self._leave_out(call.name, left)
            return
        entry = self.record["calls"].setdefault(call.name, {"seconds": 0.0})
        print(f"{call.name}: at most {limit:.0f} s", flush=True)
        entry["status"] = "running"
        self.save()
        status, before = "interrupted", entry["seconds"]
        try:
            status = self._process(call, begun + limit)
        finally:
            self.does.keep()
            entry["status"] = status
            entry["seconds"] = round(before + time.monotonic() - begun, 1)
            entry["result"] = self.does.result(part, call.name, self.faults())
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
                        self.does.keep()
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


def table(record: dict[str, Any]) -> str:
    """Everything that was done or left out."""
    lines = ["", f"{'on ' + record['device']['name']:32}{'seconds':>8}  result"]
    for name, entry in record["calls"].items():
        lines.append(f"{name:32}{entry['seconds']:8.1f}  {entry['status']}")
        lines += [f"{'':42}{line}" for line in entry.get("result", [])]
    lines += [f"{name:40}  left out: {reason}" for name, reason in record["left_out"].items()]
    return "\n".join(lines)


def main() -> int:
    arguments = parser().parse_args()
    if not arguments.minutes > 0:
        raise UserError(f"--minutes must be above 0, got {arguments.minutes:g}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end it in the same way
    check = Check(arguments)
    try:
        check.run()
    finally:
        print(table(check.record))
    done = all(entry["status"] == "done" for entry in check.record["calls"].values())
    return 0 if done and not check.faults() else 1


if __name__ == "__main__":
    cli.run(main)
