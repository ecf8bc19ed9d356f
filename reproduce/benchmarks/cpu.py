"""``benchmark.py --cpu``: our CPU engine and PyTorch's, side by side on the same cores.

steps         Training steps of each network: ours, PyTorch eager in both layouts, torch.compile.
memory        The most memory in use at once during training steps, less what was in use when the
              libraries were loaded and the workers started: parameters, gradients, Adam's state,
              images and activations.
convolutions  Each shape of convolution block in the six networks at 60x60, on one thread.
growth        The step of Architecture 1's TSTN at growing batch, image and number of workers. A
              turn is two steps, of which the second counts, for the first finds all caches cold:
              in training one step follows the other, and a small one gains most by that.
profile       Where the time of that step goes, at growing batch (benchmarks/profile.py).

Every side has a process of its own, and all that are compared take turns (benchmarks/turns.py).
What a side compiles in its first step is not counted. How the record is laid out is in
benchmarks/record.py.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from benchmarks.profile import profile
from benchmarks.record import COLUMNS, HEADS, Record, Row, compared, line, ratios
from benchmarks.sides import (
    BLOCKS,
    LAYOUTS,
    Block,
    Job,
    our_convolutions,
    our_training,
    torch_convolutions,
    torch_training,
)
from benchmarks.turns import Side, SideFailed, Start, in_turns
from ministn.errors import UserError
from ministn.runs import environment

PARTS = ("steps", "memory", "convolutions", "growth", "profile")
WARM_UP = 1  # rounds that are not counted: memory and PyTorch's primitives are new
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

Turns = dict[str, Callable[[], float]]


class Scale(NamedTuple):
    """Sizes that no flag changes. The tests' are smaller."""

    canvas: int = 60  # height and width of an image
    blocks: Sequence[Block] = BLOCKS
    block_batch: int = 64  # images that a convolution block gets
    network: str = "arch1-tstn"  # whose growth is measured
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
    print(f"on {arguments.workers} of {os.cpu_count()} cores of {environment.processor()}")
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
        jobs = self._jobs()
        with tqdm(total=4 * len(jobs) * (WARM_UP + self.rounds), unit="step") as progress:
            for job in jobs:
                progress.set_description(f"{job.network} {job.batch}")
                starts = self._sides(
                    partial(our_training, job),
                    **{layout: partial(torch_training, job, layout, False) for layout in LAYOUTS},
                    compiled=partial(torch_training, job, LAYOUTS[0], True),
                )
                with ExitStack() as stack:
                    turns, failed = self._warmed_up(stack, starts, progress)
                    row = compared(in_turns(turns, self.rounds), LAYOUTS)
                if failed:
                    row |= {"compiled": None, "compiled_error": failed}
                    progress.write(f"  torch.compile failed: {failed}")
                self._note(f"step/{job.network}/{job.batch}", row, 1e3)

    def _memory(self) -> None:
        print(COLUMNS.format("memory of training, MB", *HEADS))
        jobs = self._jobs()
        with tqdm(total=3 * len(jobs), unit="side") as progress:
            for job in jobs:
                progress.set_description(f"{job.network} {job.batch}")
                starts = self._sides(
                    partial(our_training, job),
                    torch=partial(torch_training, job, LAYOUTS[0], False),
                    compiled=partial(torch_training, job, LAYOUTS[0], True),
                )
                row: Row = {}
                for side, start in starts.items():
                    try:
                        row[side], row[f"{side}_whole"] = peak(start, self.rounds)
                    except SideFailed as error:
                        if side != "compiled":
                            raise
                        row |= {side: None, "compiled_error": str(error)}
                    progress.update()
                self._note(f"memory/{job.network}/{job.batch}", row | ratios(row), 1e-6)

    def _convolutions(self) -> None:
        print(COLUMNS.format("convolution on one thread, ms", *HEADS))
        blocks, batch = list(self.scale.blocks), self.scale.block_batch
        starts = self._sides(
            partial(our_convolutions, blocks, batch),
            **{layout: partial(torch_convolutions, blocks, batch, layout) for layout in LAYOUTS},
        )
        works = [f"{block}/{way}" for block in blocks for way in ("forward", "backward")]
        total = len(works) * len(starts) * (WARM_UP + self.rounds)
        with ExitStack() as stack, tqdm(total=total, unit="call") as progress:
            sides = {name: stack.enter_context(Side(start)) for name, start in starts.items()}
            for side in sides.values():
                side.seconds("set up")
            for work in works:
                turns = {name: turn(side, work, progress) for name, side in sides.items()}
                in_turns(turns, WARM_UP)
                row = compared(in_turns(turns, self.rounds), LAYOUTS)
                self._note(f"convolution/{work}", row, 1e3)

    def _growth(self) -> None:
        print(COLUMNS.format("growth of a training step, ms", *HEADS))
        scale = self.scale
        job = Job(scale.network, scale.canvas, scale.batch, self.cores)
        rows = self._grown("batch", {n: job._replace(batch=n) for n in scale.batches})
        for n, row in rows.items():
            row["per_image"] = row["ours"] / n
        self._note_growth("batch", rows, "per_image")
        rows = self._grown("side", {side: job._replace(side=side) for side in scale.sides})
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
        total = len(starts) * (WARM_UP + 2 * self.rounds)
        with ExitStack() as stack, tqdm(total=total, desc=what, unit="step") as progress:
            turns, _ = self._warmed_up(stack, starts, progress)
            seconds = in_turns({name: second(one) for name, one in turns.items()}, self.rounds)
        return {
            size: compared({side: seconds[f"{size} {side}"] for side in sides[size]})
            for size in jobs
        }

    def _note_growth(self, what: str, rows: dict[int, Row], constant: str | None = None) -> None:
        """constant: the quantity that would not grow if all were ideal."""
        prefix = f"growth/{what}/{self.scale.network}"
        for size, row in rows.items():
            self._note(f"{prefix}/{size}", row, 1e3)
        if constant:
            values = [row[constant] for row in rows.values()]
            self.record.note(prefix, {"variation": max(values) / min(values)})

    def _profile(self) -> None:
        scale = self.scale
        print(f"parts of a training step of {scale.network}, ms for each image")
        for batch in scale.batches:
            job = Job(scale.network, scale.canvas, batch, self.cores)
            row = profile(job, WARM_UP, self.rounds)
            self.record.note(f"profile/{scale.network}/{batch}", row)
            each = ", ".join(f"{part} {1e3 * s / batch:.3f}" for part, s in row.items())
            print(f"  batch {batch}: {each}", flush=True)

    def _sides(self, ours: Start, **theirs: Start) -> dict[str, Start]:
        return {"ours": ours, **(theirs if self.with_torch else {})}

    def _jobs(self) -> list[Job]:
        arguments, canvas = self.arguments, self.scale.canvas
        return [
            Job(name, canvas, batch, self.cores)
            for batch in arguments.batch_size
            for name in arguments.nets
        ]

    def _warmed_up(
        self, stack: ExitStack, starts: dict[str, Start], progress: tqdm
    ) -> tuple[Turns, str | None]:
        """Turns of a training step, and why torch.compile is not among them, if it is not."""
        turns: Turns = {}
        failed = None
        for name, start in starts.items():
            try:
                side = stack.enter_context(Side(start))
                side.seconds("set up")
                one = turn(side, "step", progress)
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


def second(one: Callable[[], float]) -> Callable[[], float]:
    """A turn of two, of which the second counts."""

    def two() -> float:
        one()
        return one()

    return two


def turn(side: Side, work: str, progress: tqdm) -> Callable[[], float]:
    """A side's turn at some work."""

    def one() -> float:
        seconds = side.seconds(work)
        progress.update()
        return seconds

    return one


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
        "versions": environment.versions() | {"torch": version("torch")},
        "rounds": rounds,
        "part_seconds": {},
    }  # fmt: skip
