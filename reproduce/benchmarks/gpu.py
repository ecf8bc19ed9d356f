"""``benchmark.py --gpu``: our GPU engine and PyTorch's, side by side on one GPU.

Every time of ours stands beside PyTorch's in the same precision. The two take turns within one
run, so that clocks and temperature touch both, and never overlap. Times are the GPU's own, between
two events in its queue of work.

ceilings  What the GPU reaches at best, copying and multiplying matrices: see benchmarks/costs.py.
          Measured when asked for, and where the record has none of this GPU to compare with.
kernels   One call at a time. Before each, a long fill empties the L2 cache and keeps the GPU busy
          until the host has asked for the whole call, so that no launch is waited for.
networks  Training steps in a row, as in an epoch, each on other images, which lie on the GPU as
          bytes. Where the host is slower than the GPU, this shows.

A run replaces what it measures in the record and keeps the rest, so one network in one precision is
one short call. How the record is laid out is in benchmarks/record.py.
"""

import argparse
import gc
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch_twins
from tqdm import tqdm

import benchmarks.pytorch
from benchmarks import costs
from benchmarks.costs import Row
from benchmarks.kernels import OPERATIONS, Pair, Places
from benchmarks.pytorch import Labelled, TorchDevice, TorchSteps
from benchmarks.record import Record, shown
from benchmarks.turns import in_turns
from ministn import models
from ministn.backend import Device, memory_explained
from ministn.cuda import choice
from ministn.data import Form, Split
from ministn.errors import UserError
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import generator
from ministn.runs import environment
from ministn.tasks import Classification
from ministn.training.protocol import Training
from ministn.training.steps import Epoch, QueuedSteps

LR = 1e-5  # small: there is nothing to be learned from noise
STEPS = 10  # training steps that are timed together; the first ten, and PyTorch's second, warm up
WARM_UP = 3  # calls of everything else that are not counted

PYTORCH = "channels-last, Adam(fused=True), torch.compile in its default mode, images on the GPU"
NOTES = [
    f"PyTorch: {PYTORCH}",
    "times are seconds of one call or one training step: median and minimum over the rounds",
    "ratio: our median over PyTorch's",
    "bytes, flops: what has to be moved and computed at least; sums over a training step",
    "share_of_ceiling: the least time they take at the ceilings, over our median",
    "memory: most bytes at once in a training step, with parameters, Adam's state and images",
]


class Scale(NamedTuple):
    """The papers' images, and what it takes to busy a large GPU. The tests' are smaller."""

    canvas: int = 60  # height and width of an image
    fill: int = 2**31  # bytes that are filled before every call of a kernel
    copy: int = 2**30  # bytes that are copied for the ceiling
    product: int = 8192  # side of the matrices that are multiplied for the ceilings


def run(arguments: argparse.Namespace, ours: Device) -> int:
    """Measure what the command line asks for. Raises UserError if that cannot be done here."""
    for name in arguments.precision:
        choice.check_precision(name, ours)
    with memory_explained("a smaller --batch-size lowers it"):
        Benchmark(arguments, ours, TorchDevice(), Scale()).run()
    return 0


class Benchmark:
    """One run of the benchmark, and its record, which is written whenever there is more in it."""

    def __init__(
        self, arguments: argparse.Namespace, ours: Device, theirs: TorchDevice, scale: Scale
    ) -> None:
        self.arguments, self.ours, self.theirs, self.scale = arguments, ours, theirs, scale
        self.source: dict[str, Any] = {
            "command": shlex.join(["python", "reproduce/benchmark.py", *sys.argv[1:]]),
            **environment.commit(),
            "source_sha256": environment.source_sha256(),
            "device": environment.device(ours),
            "versions": environment.versions() | benchmarks.pytorch.versions(),
            "flags": {},
            "rounds": arguments.rounds,
            "steps_per_round": STEPS,
            "part_seconds": {},
        }
        started = datetime.now(UTC).isoformat(timespec="microseconds")
        self.record = Record(arguments.out, started, self.source, NOTES)

    def run(self) -> None:
        """Measure the parts that were asked for, and the ceilings that they need."""
        print(f"batch {self.arguments.batch_size} on {self.ours.name}, PyTorch {PYTORCH}")
        with self._part("ceilings"):
            self.ceilings = self._ceilings()
        parts = {"kernels": self._measure_kernels, "networks": self._measure_networks}
        for part in self.arguments.only:
            if part == "ceilings":
                continue
            for name in self.arguments.precision:
                with self._part(f"{part} {name}"), self._precision(name):
                    parts[part](name)
        print(f"written: {self.arguments.out}")

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.source["part_seconds"][name] = round(seconds, 1)
        self.record.save()
        print(f"{name}: {seconds:.1f} seconds\n", flush=True)

    @contextmanager
    def _precision(self, name: str) -> Iterator[None]:
        """Both sides compute in this precision."""
        with choice.precision(name), benchmarks.pytorch.precision(name):
            self.source["flags"][name] = benchmarks.pytorch.flags()
            yield

    # -- ceilings --------------------------------------------------------------------------------

    def _ceilings(self) -> costs.Ceilings:
        scale = self.scale
        with self._precision("fp32"):
            copy = benchmarks.pytorch.longest_copy(self.theirs, scale.copy)
            moved = self._ceiling("copy", "bytes", 2 * scale.copy, copy)
        flops = {}
        for name in dict.fromkeys(("fp32", *self.arguments.precision)):
            with self._precision(name):
                product = benchmarks.pytorch.largest_product(self.theirs, scale.product)
                flops[name] = self._ceiling(name, "flops", 2 * scale.product**3, product)
        rates = ", ".join(f"{name} {rate / 1e12:.1f} TFLOP/s" for name, rate in flops.items())
        print(f"ceilings: copy {moved / 1e12:.2f} TB/s, {rates}")
        return costs.Ceilings(moved, flops)

    def _ceiling(self, name: str, what: str, amount: int, work: Callable[[], object]) -> float:
        """The most of it in a second: measured now if asked for, or if not yet on this GPU."""
        name, rate = f"ceiling/{name}", f"{what}_per_second"
        row = self.record.found(name, device=self.source["device"])
        if row is None or "ceilings" in self.arguments.only:
            row = {rate: amount / self._fastest(work), what: amount}
            self.record.note(name, row)
        return row[rate]

    def _fastest(self, work: Callable[[], object]) -> float:
        for _ in range(WARM_UP):
            work()
        return min(self.theirs.elapsed(work) for _ in range(self.arguments.rounds))

    # -- kernels ---------------------------------------------------------------------------------

    def _measure_kernels(self, precision: str) -> None:
        places = Places(
            self.ours,
            self.theirs,
            self.arguments.batch_size,
            self.scale.canvas,
            generator(0, "benchmark of kernels"),
        )
        fills = (
            self.ours.empty((self.scale.fill,), np.uint8),
            self.theirs.tensor(np.empty(self.scale.fill, np.uint8)),
        )
        print(KERNEL_COLUMNS.format(f"kernel, {precision}, us", *KERNEL_HEADS))
        with tqdm(OPERATIONS, desc=precision, unit="operation") as progress:
            for operation in progress:
                for pair in operation(places):
                    row = self._kernel(pair, *fills)
                    self.record.note(f"kernel/{precision}/{pair.name}/{places.batch}", row)
                    progress.write(kernel_line(pair.name, row))

    def _kernel(self, pair: Pair, our_fill: Any, their_fill: Any) -> Row:
        def ours() -> float:
            our_fill.fill(0)
            return self.ours.elapsed(pair.ours)

        def theirs() -> float:
            their_fill.zero_()
            return self.theirs.elapsed(pair.theirs)

        sides = {"ours": ours, "torch_eager": theirs}
        in_turns(sides, WARM_UP)
        return costs.compared(in_turns(sides, self.arguments.rounds), pair.costs, self.ceilings)

    # -- networks --------------------------------------------------------------------------------

    def _measure_networks(self, precision: str) -> None:
        split, order = self._noise()
        print(NETWORK_COLUMNS.format(f"training step, {precision}, ms", *NETWORK_HEADS))
        with tqdm(self.arguments.nets, desc=precision, unit="network") as progress:
            for name in progress:
                row = self._network(name, precision, split, order)
                self.record.note(f"network/{precision}/{name}/{self.arguments.batch_size}", row)
                progress.write(network_line(name, row))
                if row["torch_compile"] is None:
                    progress.write(f"  torch.compile failed: {row['torch_compile_error']}")
                gc.collect()  # compiled functions hold their arrays in circles

    def _noise(self) -> tuple[Split, np.ndarray]:
        """Random images for every step of a side, and the order in which they are taken."""
        rng = generator(0, "benchmark of networks")
        total = (2 + self.arguments.rounds) * STEPS * self.arguments.batch_size
        shape = total, self.scale.canvas, self.scale.canvas
        images = rng.integers(0, 256, shape, np.uint8)
        labels = rng.integers(0, 10, total).astype(np.uint8)
        return Split(images, labels, np.zeros((total, 4), np.int16)), rng.permutation(total)

    def _network(self, name: str, precision: str, split: Split, order: np.ndarray) -> Row:
        batch_size = self.arguments.batch_size
        before = self.ours.memory(nothing)
        network, steps = self._our_steps(name, precision, split, order)
        sides = {"ours": seconds_of_a_step(self.ours, steps.take)}
        memory: dict[str, int | None] = {"ours": self.ours.memory(sides["ours"]) - before}
        error = None
        for side, compiled in (("torch_eager", False), ("torch_compile", True)):
            memory[side] = None
            before = self.theirs.memory(nothing)
            try:
                theirs = TorchSteps(
                    self.theirs, torch_twins.build(models.NETWORKS[name], Form(split.size)),
                    Labelled(self.theirs, split, channels=1), order,
                    Training(lr=LR, batch_size=batch_size, epochs=1), compiled,
                )  # fmt: skip
                one = seconds_of_a_step(self.theirs, theirs.take)
                one()  # cuDNN tries its algorithms, which takes memory of its own
                memory[side] = self.theirs.memory(one) - before
                sides[side] = one
            except Exception as failure:
                if not compiled:
                    raise
                error = textwrap.shorten(f"{type(failure).__name__}: {failure}", 300)
        seconds = in_turns(sides, self.arguments.rounds)
        check_finite(name, steps, (1 + self.arguments.rounds) * STEPS)
        size = (self.scale.canvas, self.scale.canvas)
        row = costs.compared(seconds, costs.training_step(network, size, batch_size), self.ceilings)
        if error is not None:
            row |= {"torch_compile": None, "torch_compile_error": error}
        return row | {"memory": memory}

    def _our_steps(
        self, name: str, precision: str, split: Split, order: np.ndarray
    ) -> tuple[models.Network, QueuedSteps]:
        network = models.NETWORKS[name].build(Form(split.size))
        optimizer = Optimizer(Adam(), ParameterBuffer(network.parameters(), 0, device=self.ours))
        steps = QueuedSteps(
            network,
            optimizer,
            split,
            self.arguments.batch_size,
            seed=0,
            task=Classification(),
            device=self.ours,
            captured=precision == "tf32",
        )
        steps.begin(Epoch(1, order, [LR] * steps.batches, 0), 0)
        return network, steps


def nothing() -> None:
    """Work that is none: the memory it takes is what has been taken before."""


def seconds_of_a_step(device: Any, take: Callable[[int], object]) -> Callable[[], float]:
    """A function that takes the next STEPS steps: the mean seconds of one."""
    numbers = count()

    def several() -> None:
        for _ in range(STEPS):
            take(next(numbers))

    return lambda: device.elapsed(several) / STEPS


def check_finite(name: str, steps: QueuedSteps, taken: int) -> None:
    """Raise UserError if training stopped: what follows a loss that is not finite does no work."""
    outcomes = steps.outcomes()
    if len(outcomes) < taken or not np.isfinite(outcomes[-1].loss):
        raise UserError(f"{name} diverged at step {len(outcomes)}: its times mean nothing")


# -- the table -----------------------------------------------------------------------------------

KERNEL_COLUMNS = "{:44}{:>9}{:>9}{:>7}{:>7}{:>9}{:>12}"
KERNEL_HEADS = "ours", "PyTorch", "ratio", "TB/s", "TFLOP/s", "of ceiling"
NETWORK_COLUMNS = "{:36}{:>9}{:>9}{:>9}{:>7}{:>9}{:>12}  {}"
NETWORK_HEADS = "ours", "eager", "compile", "ratio", "compile", "of ceiling", "memory of each, GB"


def kernel_line(name: str, row: Row) -> str:
    """A line of the table: times in microseconds."""
    return KERNEL_COLUMNS.format(
        name,
        shown(row["ours"]["median"], 1e6, 1),
        shown(row["torch_eager"]["median"], 1e6, 1),
        shown(row["torch_eager"]["ratio"], 1, 2),
        shown(row["bytes_per_second"], 1e-12, 2),
        shown(row["flops_per_second"] or None, 1e-12, 1),
        shown(row["share_of_ceiling"], 100, 0) + " %",
    )


def network_line(name: str, row: Row) -> str:
    """A line of the table: times in milliseconds."""
    compiled = row["torch_compile"]
    return NETWORK_COLUMNS.format(
        name,
        shown(row["ours"]["median"], 1e3, 3),
        shown(row["torch_eager"]["median"], 1e3, 3),
        shown(compiled and compiled["median"], 1e3, 3),
        shown(row["torch_eager"]["ratio"], 1, 2),
        shown(compiled and compiled["ratio"], 1, 2),
        shown(row["share_of_ceiling"], 100, 0) + " %",
        " / ".join(shown(most, 1e-9, 2) for most in row["memory"].values()),
    )
