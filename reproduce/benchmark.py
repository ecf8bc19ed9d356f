"""How long a training step takes, ours beside PyTorch's.

A step is forward, backward and Adam, with dropout, on fresh random images. The two take turns
within one run, so that whatever else the machine does touches both. Shown are medians.

--cpu: on one thread each, beside PyTorch eager. Times are processor seconds, which on one thread
are the seconds that pass on an idle machine.

--gpu: beside PyTorch eager and torch.compile, in the same precision; then each kernel beside its
counterpart, and beside what the GPU reaches at best, measured in the same run.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ministn import backend, cli, environment, models, ops
from ministn.cuda.choice import PRECISIONS
from ministn.errors import UserError
from ministn.files import write_atomically
from ministn.optimizers import Adam
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator

RECORDS = Path(__file__).parent / "records"
SIX = [name for name in models.NETWORKS if name != "small-stn"]
SIZE, CLASSES, LR = (60, 60), 10, 0.001
ROUNDS = {"cpu": 5, "gpu": 20}
PARTS = ("kernels", "networks")  # of the GPU's benchmark
WARM_UP = 1  # steps of each side that are not counted: memory and PyTorch's primitives are new

EXAMPLES = """\
examples (times of --cpu on two cores of a 2020 server):
  python reproduce/benchmark.py --cpu
      all six networks at batch 256: about seven minutes
  python reproduce/benchmark.py --cpu --nets arch1-tstn --rounds 9
      one network, with a steadier median: about a minute
  python reproduce/benchmark.py --cpu --nets small-stn --batch-size 32 --rounds 3 --out small.json
      seconds; the committed record stays as it is
  python reproduce/benchmark.py --gpu
      every kernel and all six networks, in float32 and in TF32
  python reproduce/benchmark.py --gpu --only networks --nets arch1-tstn --out small.json
      one network; the committed record stays as it is
"""

TrainingStep = Callable[[np.ndarray, np.ndarray], object]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = cli.Parser(
        prog="python reproduce/benchmark.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    engine = p.add_mutually_exclusive_group(required=True)
    engine.add_argument("--cpu", action="store_true", help="measure the CPU engine")
    engine.add_argument("--gpu", action="store_true", help="measure the GPU engine")
    p.add_argument(
        "--nets",
        nargs="+",
        choices=models.NETWORKS,
        default=SIX,
        metavar="NET",
        help=f"of {' '.join(models.NETWORKS)}; default: the first six",
    )
    p.add_argument("--batch-size", type=int, default=256, metavar="N", help="default: 256")
    p.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="counted times of each side: of one step on a CPU (default: 5), "
        "of ten steps or of one call of a kernel on a GPU (default: 20)",
    )
    p.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="record to write; default: reproduce/records/benchmark-cpu.json or benchmark-gpu.json",
    )
    gpu = p.add_argument_group("with --gpu")
    gpu.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, metavar="P", help="default: fp32 tf32"
    )
    gpu.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help="of kernels, networks; default: both",
    )
    return p


def parsed() -> argparse.Namespace:
    """The command line with the defaults of its engine. Raises UserError for what cannot be."""
    arguments = parser().parse_args()
    engine = "gpu" if arguments.gpu else "cpu"
    if arguments.cpu and (arguments.precision or arguments.only):
        raise UserError("--precision and --only go with --gpu; --help lists all flags")
    if arguments.rounds is None:
        arguments.rounds = ROUNDS[engine]
    for name in ("batch_size", "rounds"):
        if getattr(arguments, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} must be at least 1, got {getattr(arguments, name)}")
    arguments.out = arguments.out or RECORDS / f"benchmark-{engine}.json"
    arguments.precision = arguments.precision or list(PRECISIONS)
    arguments.only = arguments.only or list(PARTS)
    return arguments


def our_step(name: str) -> TrainingStep:
    """A function of (images (N, H, W, 1), labels (N,)) that trains our network by one step."""
    network = models.build(name, SIZE, CLASSES)
    buffer = ParameterBuffer(network.parameters(), seed=0)
    optimizer = Adam(buffer)

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        buffer.zero_grad()
        logits, cache = network.forward(images, Step(0, optimizer.t))
        assert cache is not None  # it is None in evaluation only
        _, loss_cache = ops.softmax_cross_entropy(logits, labels)
        network.backward(ops.softmax_cross_entropy_backward(loss_cache), cache)
        optimizer.step(LR)

    return step


def torch_step(name: str) -> TrainingStep:
    """The same for PyTorch, as its own tutorials write it."""
    import torch
    import torch_twin

    torch.set_num_threads(1)
    network = torch_twin.build(name, SIZE, CLASSES)
    optimizer = torch.optim.Adam(network.parameters(), LR)

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        # With one channel both layouts are the same bytes.
        x, y = torch.from_numpy(images).reshape(-1, 1, *SIZE), torch.from_numpy(labels)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step


def measure(
    steps: dict[str, TrainingStep], batch_size: int, rounds: int, progress: tqdm
) -> dict[str, list[float]]:
    """Processor seconds of every counted step of each side, which take turns."""
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    for number in range(-WARM_UP, rounds):
        rng = generator(0, "benchmark", number + WARM_UP)
        images = rng.random((batch_size, *SIZE, 1), np.float32)
        labels = rng.integers(0, CLASSES, batch_size)
        for side, step in steps.items():
            start = time.process_time()
            step(images, labels)
            if number >= 0:
                seconds[side].append(time.process_time() - start)
            progress.update()
    return seconds


def result(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians in seconds, ratio = ours / PyTorch's (None without it), and all times."""
    ours = median(seconds["ours"])
    theirs = median(seconds["torch"]) if "torch" in seconds else None
    return {
        "ours": ours,
        "torch": theirs,
        "ratio": None if theirs is None else ours / theirs,
        "seconds": seconds,
    }


def line(name: str, row: dict[str, Any]) -> str:
    """A line of the table: seconds for a step."""
    cells = [
        "-" if row[key] is None else format(row[key], digits)
        for key, digits in (("ours", ".3f"), ("torch", ".3f"), ("ratio", ".2f"))
    ]
    return f"{name:14}{cells[0]:>10}{cells[1]:>12}{cells[2]:>8}"


def main() -> int:
    arguments = parsed()
    if arguments.gpu:
        gpu = backend.gpu()
        if find_spec("torch") is None:
            raise UserError("--gpu compares with PyTorch, built for CUDA: pip install torch")
        import benchmark_gpu

        return benchmark_gpu.run(arguments, gpu)
    return on_cpu(arguments)


def on_cpu(arguments: argparse.Namespace) -> int:
    """Measure the CPU engine."""
    with_torch = find_spec("torch") is not None
    where = f"on one thread of {environment.processor()}"
    print(f"a training step at batch {arguments.batch_size} {where}, median of {arguments.rounds}")
    print(f"{'network':14}{'ours, s':>10}{'PyTorch, s':>12}{'ratio':>8}", flush=True)
    networks = {}
    total = len(arguments.nets) * (1 + with_torch) * (WARM_UP + arguments.rounds)
    with threadpool_limits(1), tqdm(total=total, unit="step") as progress:
        for name in arguments.nets:
            progress.set_description(name)
            steps = {"ours": our_step(name)} | ({"torch": torch_step(name)} if with_torch else {})
            seconds = measure(steps, arguments.batch_size, arguments.rounds, progress)
            networks[name] = result(seconds)
            progress.write(line(name, networks[name]))  # now: what follows may take minutes
    if not with_torch:
        print("PyTorch is not installed: nothing to compare with, and no record is written")
        print("to compare: pip install torch")
        return 0
    save(networks, arguments)
    return 0


def save(networks: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the record."""
    record = {
        "format": 1,
        "command": shlex.join(["python", "reproduce/benchmark.py", *sys.argv[1:]]),
        **environment.commit(),
        "source_sha256": environment.source_sha256(),
        "device": environment.device() | {"threads": 1},
        "versions": environment.versions() | {"torch": version("torch")},
        "batch_size": arguments.batch_size,
        "networks": networks,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out, (json.dumps(record, indent=1) + "\n").encode())
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    cli.run(main)
