"""``benchmark.py --gpu``: our GPU engine and PyTorch's, side by side on one GPU.

Every time of ours stands beside PyTorch's in the same precision. The two take turns within one
run, so that clocks and temperature touch both, and never overlap. Times are the GPU's own, between
two events in its queue of work.

ceilings  What the GPU reaches at best, copying and multiplying matrices: see benchmark_costs.py.
kernels   One call at a time. Before each, a long fill empties the L2 cache and keeps the GPU busy
          until the host has asked for the whole call, so that no launch is waited for.
networks  Training steps in a row, as in an epoch, each on other images, which lie on the GPU as
          bytes. Where the host is slower than the GPU, this shows.
"""

import argparse
import gc
import json
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import benchmark_costs as costs
import benchmark_torch
import numpy as np
from benchmark_costs import Row
from benchmark_kernels import OPERATIONS, Pair, Places
from benchmark_torch import TorchDevice, TorchSteps
from benchmark_turns import in_turns
from tqdm import tqdm

from ministn import models
from ministn.backend import Device, memory_explained
from ministn.cuda import choice
from ministn.data import Split
from ministn.errors import UserError
from ministn.files import write_atomically
from ministn.optimizers import Adam
from ministn.parameter import ParameterBuffer
from ministn.randomness import generator
from ministn.runs import environment
from ministn.training.steps import Epoch, GpuSteps

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
        self.record: dict[str, Any] = {
            "format": 1,
            "command": shlex.join(["python", "reproduce/benchmark.py", *sys.argv[1:]]),
            **environment.commit(),
            "source_sha256": environment.source_sha256(),
            "device": environment.device(ours),
            "versions": environment.versions() | benchmark_torch.versions(),
            "flags": {},
            "notes": NOTES,
            "batch_size": arguments.batch_size,
            "rounds": arguments.rounds,
            "steps_per_round": STEPS,
            "part_seconds": {},
            "ceilings": None,
            "kernels": {},
            "networks": {},
        }

    def run(self) -> None:
        """Measure the ceilings, then the parts that were asked for."""
        print(f"batch {self.arguments.batch_size} on {self.ours.name}, PyTorch {PYTORCH}")
        with self._part("ceilings"):
            self._measure_ceilings()
        parts = {"kernels": self._measure_kernels, "networks": self._measure_networks}
        for part in self.arguments.only:
            for name in self.arguments.precision:
                with self._part(f"{part} {name}"), self._precision(name):
                    parts[part](name)
        print(f"written: {self.arguments.out}")

    def save(self) -> None:
        """Write the record as it is."""
        out = self.arguments.out
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, (json.dumps(self.record, indent=1) + "\n").encode())

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.record["part_seconds"][name] = round(seconds, 1)
        self.save()
        print(f"{name}: {seconds:.1f} seconds\n", flush=True)

    @contextmanager
    def _precision(self, name: str) -> Iterator[None]:
        """Both sides compute in this precision."""
        with choice.precision(name), benchmark_torch.precision(name):
            self.record["flags"][name] = benchmark_torch.flags()
            yield

    # -- ceilings --------------------------------------------------------------------------------

    def _measure_ceilings(self) -> None:
        scale = self.scale
        copy = benchmark_torch.longest_copy(self.theirs, scale.copy)
        flops = {}
        for name in dict.fromkeys(("fp32", *self.arguments.precision)):
            with self._precision(name):
                product = benchmark_torch.largest_product(self.theirs, scale.product)
                flops[name] = 2 * scale.product**3 / self._fastest(product)
        self.ceilings = costs.Ceilings(2 * scale.copy / self._fastest(copy), flops)
        self.record["ceilings"] = {
            "bytes_per_second": self.ceilings.bytes,
            "bytes_moved": 2 * scale.copy,
            "flops_per_second": flops,
            "product": [scale.product] * 3,
        }
        rates = ", ".join(f"{name} {rate / 1e12:.1f} TFLOP/s" for name, rate in flops.items())
        print(f"ceilings: copy {self.ceilings.bytes / 1e12:.2f} TB/s, {rates}")

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
        rows = self.record["kernels"].setdefault(precision, {})
        print(KERNEL_COLUMNS.format(f"kernel, {precision}, us", *KERNEL_HEADS))
        with tqdm(OPERATIONS, desc=precision, unit="operation") as progress:
            for operation in progress:
                for pair in operation(places):
                    rows[pair.name] = row = self._kernel(pair, *fills)
                    progress.write(kernel_line(pair.name, row))
                self.save()

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
        rows = self.record["networks"].setdefault(precision, {})
        print(NETWORK_COLUMNS.format(f"training step, {precision}, ms", *NETWORK_HEADS))
        with tqdm(self.arguments.nets, desc=precision, unit="network") as progress:
            for name in progress:
                rows[name] = row = self._network(name, precision, split, order)
                self.save()
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
                theirs = TorchSteps(self.theirs, name, split, order, batch_size, LR, compiled)
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
    ) -> tuple[models.Network, GpuSteps]:
        network = models.build(name, split.images.shape[1:])
        optimizer = Adam(ParameterBuffer(network.parameters(), 0, device=self.ours))
        steps = GpuSteps(
            network,
            optimizer,
            split,
            self.arguments.batch_size,
            seed=0,
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


def check_finite(name: str, steps: GpuSteps, taken: int) -> None:
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


def shown(value: float | None, unit: float, digits: int) -> str:
    """The value times a unit; a dash for one that there is not."""
    return "-" if value is None else f"{value * unit:.{digits}f}"
