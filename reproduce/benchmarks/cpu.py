"""``benchmark.py --cpu``: our CPU engine and PyTorch's, side by side on the same cores.

steps         Training steps of each network of benchmarks/networks.py: ours and PyTorch eager in
              both layouts; of one network of each paper torch.compile as well.
memory        The most memory in use at once during training steps, less what was in use when the
              libraries were loaded and the workers started: parameters, gradients, the optimiser's
              state, images and activations.
convolutions  Each shape of convolution block of benchmarks/blocks.py, on one thread.
growth        The step of Architecture 1's TSTN at growing batch, image and number of workers.
profile       Where the time of a network's step goes (benchmarks/profile.py), of Architecture 1's
              TSTN at growing batch.

Every side has a process of its own, and all that are compared take turns (benchmarks/turns.py). A
turn is a tenth of a second of steps, or calls, two at least, and their median without the first: in
training one step follows the other, and a small one gains most by that.

What a side compiles in its first step is not counted. How the record is laid out is in
benchmarks/record.py.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from benchmarks.blocks import BLOCKS, Block
from benchmarks.networks import BENCHED, Benched
from benchmarks.profile import profile
from benchmarks.record import COLUMNS, HEADS, Record, Row, compared, line, ratios
from benchmarks.sides import (
    LAYOUTS,
    WAYS,
    Job,
    our_convolutions,
    our_training,
    torch_convolutions,
    torch_training,
)
from benchmarks.turns import Side, SideFailed, Start, in_turns
from ministn.errors import UserError
from ministn.kinds import replaced
from ministn.runs import environment

PARTS = ("steps", "memory", "convolutions", "growth", "profile")
WARM_UP = 1  # rounds that are not counted: memory and PyTorch's primitives are new
# They make OpenBLAS compute as for another processor than it runs on, or PyTorch likewise.
FORCING = (
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
)  # fmt: skip
OWN_BLAS = "import numpy; from ministn.runs import environment; print(environment.blas())"
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

Turns = dict[str, Callable[[], float]]


class Scale(NamedTuple):
    """Sizes that no flag changes. The tests' are smaller."""

    networks: Mapping[str, Benched] = BENCHED
    blocks: Sequence[Block] = BLOCKS
    growing: str = "arch1-tstn"  # whose growth is measured
    batch: int = 256  # of it, where the batch does not grow
    batches: Sequence[int] = (64, 128, 256, 512, 1024)
    sides: Sequence[int] = (28, 60, 84, 112)


PAPERS = Scale()


def run(arguments: argparse.Namespace, scale: Scale = PAPERS) -> int:
    """Measure what the command line asks for. Raises UserError if that cannot be done here."""
    if "memory" in arguments.only and not (
        sys.platform == "linux" and find_spec("psutil") is not None
    ):
        raise UserError(
            "memory is measured on Linux, with psutil: pip install psutil, or choose others of "
            f"{' '.join(PARTS)} with --only"
        )
    print(
        f"on {arguments.workers} of {os.cpu_count()} cores of {environment.processor()}, NumPy "
        f"with {environment.blas()}"
    )
    for warning in forced():
        print(f"warning: {warning}", file=sys.stderr)
    with_torch = find_spec("torch") is not None
    Benchmark(arguments, scale, with_torch).run()
    if with_torch:
        print(f"written: {arguments.out}")
    else:
        print("PyTorch is not installed: nothing to compare with, and no record is written")
        print("to compare: pip install torch")
    return 0


class Benchmark:
    """One run of the benchmark. The record is written whenever there is more in it."""

    def __init__(self, arguments: argparse.Namespace, scale: Scale, with_torch: bool) -> None:
        self.arguments, self.scale, self.with_torch = arguments, scale, with_torch
        self.cores, self.rounds = arguments.workers, arguments.rounds
        self.source = provenance(self.cores, self.rounds) if with_torch else {"part_seconds": {}}
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.record = Record(arguments.out if with_torch else None, started, self.source)

    def run(self) -> None:
        """Measure the parts that were asked for."""
        parts = {
            "steps": self._steps,
            "memory": self._memory,
            "convolutions": self._convolutions,
            "growth": self._growth,
            "profile": self._profile,
        }
        for part in self.arguments.only:
            start = time.perf_counter()
            parts[part]()
            seconds = time.perf_counter() - start
            self.source["part_seconds"][part] = round(seconds, 1)
            self.record.save()
            print(f"{part}: {seconds:.1f} seconds\n", flush=True)

    def _steps(self) -> None:
        print(COLUMNS.format("training step, ms", *HEADS))
        with tqdm(self._jobs(), unit="network") as progress:
            for job in progress:
                progress.set_description(f"{job.name} {job.batch}")
                starts = self._sides(
                    partial(our_training, job),
                    **{layout: partial(torch_training, job, layout, False) for layout in LAYOUTS},
                    **self._compiled(job),
                )
                with ExitStack() as stack:
                    turns, failed = self._warmed_up(stack, starts)
                    row = compared(in_turns(turns, self.rounds), LAYOUTS)
                if failed:
                    row |= {"compiled": None, "compiled_error": failed}
                    progress.write(f"  torch.compile failed: {failed}")
                self._note(f"step/{job.name}/{job.batch}", row, 1e3)

    def _memory(self) -> None:
        print(COLUMNS.format("memory of training, MB", *HEADS))
        with tqdm(self._jobs(), unit="network") as progress:
            for job in progress:
                progress.set_description(f"{job.name} {job.batch}")
                starts = self._sides(
                    partial(our_training, job),
                    torch=partial(torch_training, job, LAYOUTS[0], False),
                    **self._compiled(job),
                )
                row: Row = {}
                for side, start in starts.items():
                    try:
                        row[side], row[f"{side}_whole"] = peak(start, self.rounds)
                    except SideFailed as error:
                        if side != "compiled":
                            raise
                        row |= {side: None, "compiled_error": str(error)}
                self._note(f"memory/{job.name}/{job.batch}", row | ratios(row), 1e-6)

    def _convolutions(self) -> None:
        print(COLUMNS.format("convolution on one thread, ms", *HEADS))
        blocks = [b for b in self.scale.blocks if b.paper in self.arguments.papers]
        starts = self._sides(
            partial(our_convolutions, blocks),
            **{layout: partial(torch_convolutions, blocks, layout) for layout in LAYOUTS},
        )
        with ExitStack() as stack, tqdm(blocks, unit="block") as progress:
            sides = {name: stack.enter_context(Side(start)) for name, start in starts.items()}
            for side in sides.values():
                side.seconds("set up")
            for block in progress:
                for side in sides.values():
                    side.seconds(f"{block.name}/set up")
                least = block.least()
                for way in WAYS:
                    work = f"{block.name}/{way}"
                    turns = {name: partial(side.turn, work) for name, side in sides.items()}
                    in_turns(turns, WARM_UP)
                    row = compared(in_turns(turns, self.rounds), LAYOUTS) | least[way]
                    self._note(f"convolution/{work}", row, 1e3)

    def _growth(self) -> None:
        scale = self.scale
        if scale.growing not in self.arguments.nets:
            print(f"growth is that of {scale.growing}, which is not asked for")
            return
        print(COLUMNS.format("growth of a training step, ms", *HEADS))
        settings = scale.networks[scale.growing].settings
        job = Job(scale.growing, settings, scale.batch, self.cores)
        rows = self._grown("batch", {n: job._replace(batch=n) for n in scale.batches})
        for n, row in rows.items():
            row["per_image"] = row["ours"] / n
        self._note_growth("batch", rows, "per_image")
        sized = {side: replaced(settings, "data.canvas", side) for side in scale.sides}
        rows = self._grown("side", {n: job._replace(settings=s) for n, s in sized.items()})
        for side, row in rows.items():
            row["per_pixel"] = row["ours"] / (scale.batch * side**2)
        self._note_growth("side", rows, "per_pixel")
        numbers = range(1, self.cores + 1)
        rows = self._grown("workers", {n: job._replace(cores=n) for n in numbers})
        for row in rows.values():
            row["speedup"] = rows[1]["ours"] / row["ours"]
        self._note_growth("workers", rows)

    def _grown(self, what: str, jobs: dict[int, Job]) -> dict[int, Row]:
        """A row for each job. All of them take turns, since they are compared with each other."""
        sides = {
            size: self._sides(
                partial(our_training, job), torch=partial(torch_training, job, LAYOUTS[0], False)
            )
            for size, job in jobs.items()
        }
        starts = {f"{size} {side}": sides[size][side] for size in jobs for side in sides[size]}
        print(f"  {what}: {', '.join(map(str, jobs))}", flush=True)
        with ExitStack() as stack:
            turns, _ = self._warmed_up(stack, starts)
            seconds = in_turns(turns, self.rounds)
        return {
            size: compared({side: seconds[f"{size} {side}"] for side in sides[size]})
            for size in jobs
        }

    def _note_growth(self, what: str, rows: dict[int, Row], constant: str | None = None) -> None:
        """constant: the quantity that would not grow if all were ideal."""
        prefix = f"growth/{what}/{self.scale.growing}"
        for size, row in rows.items():
            self._note(f"{prefix}/{size}", row, 1e3)
        if constant:
            values = [row[constant] for row in rows.values()]
            self.record.note(prefix, {"variation": max(values) / min(values)})

    def _profile(self) -> None:
        print("parts of a training step, ms for each image")
        scale, grown = self.scale, {self.scale.growing: self.scale.batches}
        for name in self.arguments.nets:
            network = scale.networks[name]
            for batch in grown.get(name, network.batches):
                job = Job(name, network.settings, batch, self.cores)
                row = profile(job, WARM_UP, self.rounds)
                self.record.note(f"profile/{name}/{batch}", row)
                each = ", ".join(f"{part} {1e3 * s / batch:.3f}" for part, s in row.items())
                print(f"  {name}, batch {batch}: {each}", flush=True)

    def _sides(self, ours: Start, **theirs: Start) -> dict[str, Start]:
        return {"ours": ours, **(theirs if self.with_torch else {})}

    def _compiled(self, job: Job) -> dict[str, Start]:
        """torch.compile, where it is to be timed."""
        wanted = self.scale.networks[job.name].compiled
        return {"compiled": partial(torch_training, job, LAYOUTS[0], True)} if wanted else {}

    def _jobs(self) -> list[Job]:
        found = []
        for name in self.arguments.nets:
            network = self.scale.networks[name]
            for batch in self.arguments.batch_size or network.batches:
                found.append(Job(name, network.settings, batch, self.cores))
        return found

    def _warmed_up(self, stack: ExitStack, starts: dict[str, Start]) -> tuple[Turns, str | None]:
        """Turns of a training step, and why torch.compile is not among them, if it is not."""
        turns: Turns = {}
        failed = None
        for name, start in starts.items():
            try:
                side = stack.enter_context(Side(start))
                side.seconds("set up")
                one = partial(side.turn, "step")
                in_turns({name: one}, WARM_UP)
                turns[name] = one
            except SideFailed as error:
                if name != "compiled":
                    raise
                failed = str(error)
        return turns, failed

    def _note(self, name: str, row: Row, unit: float) -> None:
        self.record.note(name, row)
        tqdm.write(line(name, row, unit))  # now: what follows may take minutes


def forced() -> list[str]:
    """Warnings of environment variables that may make either side slower than the processor is."""
    found = {name: os.environ[name] for name in FORCING if name in os.environ}
    said = [
        f"{name}={value} is set, which may force older kernels than the processor has"
        for name, value in found.items()
    ]
    if found:
        others = {name: value for name, value in os.environ.items() if name not in found}
        asked = [sys.executable, "-c", OWN_BLAS]
        own = subprocess.run(asked, env=others, capture_output=True, text=True, check=True)
        now, without = environment.blas(), own.stdout.strip()
        if now != without:
            said.append(f"NumPy computes with {now}; without that it would with {without}")
    return said


def peak(start: Start, rounds: int) -> tuple[int, int]:
    """Bytes that training steps take, and bytes with the libraries and all."""
    with Side(start) as side:
        before = side.memory()
        side.seconds("set up")
        for _ in range(WARM_UP):
            side.seconds("step")
        most = max(side.peak("step") for _ in range(rounds))
    return most - before, most


def provenance(cores: int, rounds: int) -> Row:
    """How a run was made."""
    pages = HUGE_PAGES.read_text().split("[")[1].split("]")[0] if HUGE_PAGES.exists() else None
    return {
        "command": shlex.join(["python", "reproduce/benchmark.py", *sys.argv[1:]]),
        **environment.commit(),
        "source_sha256": environment.source_sha256(),
        "device": {
            **environment.device(), "workers": cores, "threads": 1, "torch_threads": cores,
            "huge_pages": pages,
        },
        "variables": {name: os.environ[name] for name in FORCING if name in os.environ},
        "versions": environment.versions() | {"torch": version("torch")},
        "rounds": rounds,
        "part_seconds": {},
    }  # fmt: skip
