"""What the two sides of ``benchmark.py --cpu`` do: training steps, and single convolution blocks.

Each function here is the beginning of a process, see benchmarks/turns.py: libraries are loaded and
workers started when it yields; what it yields prepares everything else, and returns the work.

PyTorch gets every option that it documents for speed on a CPU and that computes the same:
channels-last arrays where they are faster, the optimiser in one fused kernel, and huge pages for
large arrays, which NumPy asks for by itself.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.blocks import Block
from benchmarks.turns import SetUp, Work
from ministn import parallel
from ministn.data import Split
from ministn.engines import implementation
from ministn.errors import UserError
from ministn.ops.leaky_relu import SLOPE
from ministn.parallel import Team
from ministn.randomness import generator
from ministn.runs import Settings
from ministn.training.steps import Epoch, PlainSteps
from ministn.training.trainer import optimized

LR = 1e-5  # small: there is nothing to be learned from noise
BATCHES = 4  # of noise, to train on again and again
WAYS = "forward", "backward"
LAYOUTS = ("channels_last", "contiguous_format")  # torch.memory_format: NHWC and NCHW


class Job(NamedTuple):
    """A run to be timed in batches of so many, and the cores it may use; name: in the record."""

    name: str
    settings: Settings
    batch: int
    cores: int

    def noise(self) -> tuple[Split, np.ndarray]:
        """Images and labels of the run's form, and the order in which they are taken.

        Volumes are made now: that is no part of a step.
        """
        split = self.settings.data.noise(BATCHES * self.batch)
        images = np.asarray(split.images)
        if images is not split.images:
            split = Split(images, split.labels, split.boxes)
        return split, generator(0, "benchmark").permutation(len(split))


@contextmanager
def our_training(job: Job) -> Iterator[SetUp]:
    """Work "step": a training step shared by the job's worker processes."""
    with parallel.team(job.cores) as team:
        team.ask_all("do", int)  # who answers has loaded the libraries
        yield lambda: {"step": our_step(job, team)}


def our_step(job: Job, team: Team) -> Work:
    """A training step shared by a team. It raises UserError where the loss is not finite."""
    settings = job.settings
    split, order = job.noise()
    build = partial(
        optimized,
        partial(settings.network.build, settings.data.form),
        settings.training,
        settings.seed,
    )
    network, optimizer = build()
    task = settings.task.prepare(network, split, settings.seed)
    steps = PlainSteps(network, optimizer, split, job.batch, settings.seed, task, team, build)
    steps.begin(Epoch(1, order, [LR] * BATCHES, 0), 0)
    batches = cycle(range(BATCHES))

    def step() -> None:
        steps.take(next(batches))
        (outcome,) = steps.outcomes()
        if not np.isfinite(outcome.loss):
            raise UserError(f"{job.name} diverged: its times mean nothing")

    return step


@contextmanager
def torch_training(job: Job, layout: str, compiled: bool) -> Iterator[SetUp]:
    """Work "step": the same in PyTorch, with as many threads as cores."""
    torch = _torch(job.cores)
    import torch_twins

    from benchmarks.pytorch import EXAMPLES, TorchDevice, TorchSteps

    def set_up() -> dict[str, Work]:
        settings, device = job.settings, TorchDevice("cpu")
        split, order = job.noise()
        form = settings.data.form
        steps = TorchSteps(
            device,
            torch_twins.build(settings.network, form),
            EXAMPLES[settings.task.kind](device, split, form.channels),
            order,
            replace(settings.training, lr=LR, batch_size=job.batch),
            compiled,
            layout=getattr(torch, layout),
        )
        batches = cycle(range(BATCHES))
        return {"step": lambda: steps.take(next(batches))}

    yield set_up


Ways = tuple[Work, Work]  # forward and backward


@contextmanager
def our_convolutions(blocks: list[Block]) -> Iterator[SetUp]:
    """Works "<block>/set up", then its "/forward" and "/backward", with all gradients, on one
    thread.
    """
    with threadpool_limits(1):
        yield partial(_works, _our_block, blocks)


def _our_block(block: Block, x: Any, weight: Any, bias: Any, dy: Any) -> Ways:
    forward, backward = implementation("conv_block", x)
    _, cache = forward(x, weight, bias, **block.options)
    return (
        lambda: forward(x, weight, bias, **block.options),
        lambda: backward(dy, cache, True),
    )


@contextmanager
def torch_convolutions(blocks: list[Block], layout: str) -> Iterator[SetUp]:
    """The same in PyTorch, with convolution, activation and pool one after another."""
    torch = _torch(1)
    from torch.nn import functional

    activations = {
        "relu": functional.relu,
        "leaky_relu": partial(functional.leaky_relu, negative_slope=SLOPE),
    }

    def ways(block: Block, x: Any, weight: Any, bias: Any, dy: Any) -> Ways:
        def arranged(array: np.ndarray, *axes: int) -> Any:
            tensor = torch.from_numpy(array).permute(*axes)
            return tensor.contiguous(memory_format=getattr(torch, layout))

        inputs = arranged(x, 0, 3, 1, 2), arranged(weight, 3, 2, 0, 1), torch.from_numpy(bias)
        for tensor in inputs:
            tensor.requires_grad_()
        # "same" with a stride is no option of PyTorch's; with an odd kernel it is this margin.
        margin = block.kernel // 2 if block.padding == "same" else 0

        def forward() -> Any:
            y = functional.conv2d(*inputs, stride=block.stride, padding=margin)
            y = activations[block.activation](y)
            return functional.max_pool2d(y, 2) if block.pool else y

        y, dy = forward(), arranged(dy, 0, 3, 1, 2)
        return forward, lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)

    yield partial(_works, ways, blocks)


def _works(ways: Callable[..., Ways], blocks: list[Block]) -> dict[str, Work]:
    """A block's arrays are there from its own "set up" to the next one's."""
    ready: dict[str, Work] = {}

    def set_up(block: Block) -> None:
        ready.clear()
        ready.update(zip(WAYS, ways(block, **block.arrays()), strict=True))

    def work(way: str) -> object:
        return ready[way]()

    works: dict[str, Work] = {}
    for block in blocks:
        works[f"{block.name}/set up"] = partial(set_up, block)
        works |= {f"{block.name}/{way}": partial(work, way) for way in WAYS}
    return works


def _torch(threads: int) -> Any:
    """PyTorch, set to this many threads."""
    os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # huge pages: read when PyTorch first allocates
    import torch

    torch.set_num_threads(threads)
    return torch
