"""What the two sides of ``benchmark.py --cpu`` do: training steps, and single convolution blocks.

Each function here is the beginning of a process, see benchmarks/turns.py: libraries are loaded and
workers started when it yields; what it yields prepares everything else, and returns the work.

PyTorch gets every option that it documents for speed on a CPU and that computes the same:
channels-last arrays where they are faster, Adam in one fused kernel, and huge pages for large
arrays, which NumPy asks for by itself.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.turns import SetUp, Work
from ministn import models, parallel
from ministn.data import Form, Split
from ministn.engines import implementation
from ministn.errors import UserError
from ministn.parallel import Team
from ministn.randomness import generator
from ministn.tasks import Classification
from ministn.training.protocol import Training
from ministn.training.steps import Epoch, PlainSteps
from ministn.training.trainer import optimized

LR = 1e-5  # small: there is nothing to be learned from noise
BATCHES = 4  # of noise, to train on again and again
LAYOUTS = ("channels_last", "contiguous_format")  # torch.memory_format: NHWC and NCHW


class Job(NamedTuple):
    """A network to be trained on images of side x side pixels, and the cores it may use."""

    network: str
    side: int
    batch: int
    cores: int

    def noise(self) -> tuple[Split, np.ndarray]:
        """Images and labels, and the order in which they are taken."""
        rng = generator(0, "benchmark")
        count = BATCHES * self.batch
        images = rng.integers(0, 256, (count, self.side, self.side), np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        return Split(images, labels, np.zeros((count, 4), np.int16)), rng.permutation(count)


class Block(NamedTuple):
    """A 3x3 'same' convolution, bias and ReLU, maybe with a 2x2 pool, on maps of side x side."""

    side: int
    channels: int
    kernels: int
    pool: bool

    def __str__(self) -> str:
        pool = "-pool" if self.pool else ""
        return f"{self.channels}-{self.kernels}-{self.side}x{self.side}{pool}"

    def arrays(self, batch: int) -> dict[str, np.ndarray]:
        """x, weight, bias and dy in our layout."""
        normal, out = generator(0, "benchmark").standard_normal, self.side // (1 + self.pool)
        weight = normal((3, 3, self.channels, self.kernels), np.float32)
        return {
            "x": normal((batch, self.side, self.side, self.channels), np.float32),
            "weight": weight / np.float32(np.sqrt(9 * self.channels)),
            "bias": normal(self.kernels, np.float32),
            "dy": normal((batch, out, out, self.kernels), np.float32),
        }


# Of the six networks at 60x60: the classifiers' with a pool, the last of a layer, then the
# localisation networks', whose last pool is off. 15x15 with a pool drops a row and a column.
BLOCKS = [
    Block(60, 1, 32, True),
    Block(60, 1, 32, False),
    Block(60, 32, 32, True),
    Block(30, 32, 64, True),
    Block(30, 32, 64, False),
    Block(30, 64, 64, True),
    Block(15, 64, 128, True),
    Block(15, 64, 128, False),
    Block(15, 128, 128, True),
    Block(15, 128, 128, False),
]


@contextmanager
def our_training(job: Job) -> Iterator[SetUp]:
    """Work "step": a training step shared by as many worker processes as there are cores."""
    with parallel.team(job.cores) as team:
        team.ask_all("do", int)  # who answers has loaded the libraries
        yield lambda: {"step": our_step(job, team)}


def our_step(job: Job, team: Team) -> Work:
    """A training step shared by a team. It raises UserError where the loss is not finite."""
    split, order = job.noise()
    network = partial(models.NETWORKS[job.network].build, Form((job.side, job.side)))
    build = partial(optimized, network, Training(epochs=1), 0)
    steps = PlainSteps(*build(), split, job.batch, 0, Classification(), team, build)
    steps.begin(Epoch(1, order, [LR] * BATCHES, 0), 0)
    batches = cycle(range(BATCHES))

    def step() -> None:
        steps.take(next(batches))
        (outcome,) = steps.outcomes()
        if not np.isfinite(outcome.loss):
            raise UserError(f"{job.network} diverged: its times mean nothing")

    return step


@contextmanager
def torch_training(job: Job, layout: str, compiled: bool) -> Iterator[SetUp]:
    """Work "step": the same in PyTorch, with as many threads."""
    torch = _torch(job.cores)
    from benchmarks.pytorch import TorchDevice, TorchSteps

    def set_up() -> dict[str, Work]:
        steps = TorchSteps(
            TorchDevice("cpu"), job.network, *job.noise(), job.batch, LR, compiled,
            layout=getattr(torch, layout),
        )  # fmt: skip
        batches = cycle(range(BATCHES))
        return {"step": lambda: steps.take(next(batches))}

    yield set_up


@contextmanager
def our_convolutions(blocks: list[Block], batch: int) -> Iterator[SetUp]:
    """Works "<block>/forward" and "<block>/backward", with all gradients, on one thread."""
    with threadpool_limits(1):
        yield partial(_works, _our_block, blocks, batch)


def _our_block(block: Block, x: Any, weight: Any, bias: Any, dy: Any) -> tuple[Work, Work]:
    forward, backward = implementation("conv_block", x)
    _, cache = forward(x, weight, bias, padding="same", pool=block.pool)
    return (
        lambda: forward(x, weight, bias, padding="same", pool=block.pool),
        lambda: backward(dy, cache, True),
    )


@contextmanager
def torch_convolutions(blocks: list[Block], batch: int, layout: str) -> Iterator[SetUp]:
    """The same in PyTorch, with convolution, ReLU and pool one after another."""
    torch = _torch(1)
    from torch.nn import functional

    def work(block: Block, x: Any, weight: Any, bias: Any, dy: Any) -> tuple[Work, Work]:
        def arranged(array: np.ndarray, *axes: int) -> Any:
            tensor = torch.from_numpy(array).permute(*axes)
            return tensor.contiguous(memory_format=getattr(torch, layout))

        inputs = arranged(x, 0, 3, 1, 2), arranged(weight, 3, 2, 0, 1), torch.from_numpy(bias)
        for tensor in inputs:
            tensor.requires_grad_()

        def forward() -> Any:
            y = functional.conv2d(*inputs, padding=1).relu()
            return functional.max_pool2d(y, 2) if block.pool else y

        y, dy = forward(), arranged(dy, 0, 3, 1, 2)
        return forward, lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)

    yield partial(_works, work, blocks, batch)


def _works(
    work: Callable[..., tuple[Work, Work]], blocks: list[Block], batch: int
) -> dict[str, Work]:
    works: dict[str, Work] = {}
    for block in blocks:
        forward, backward = work(block, **block.arrays(batch))
        works |= {f"{block}/forward": forward, f"{block}/backward": backward}
    return works


def _torch(threads: int) -> Any:
    """PyTorch, set to this many threads."""
    os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # huge pages: read when PyTorch first allocates
    import torch

    torch.set_num_threads(threads)
    return torch
