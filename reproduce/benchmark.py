"""How long a training step takes, ours beside PyTorch's.

A step is forward, backward and update, with dropout, on random images. The sides take turns within
one run, so that whatever else the machine does touches all of them.

--cpu: the networks of each experiment, on all cores, or as many as --workers says, beside PyTorch
eager, and one network of each paper beside torch.compile; then the memory that takes, convolutions
one by one, how the step grows and where its time goes. Times are wall seconds: nothing else should
run. Parts may be run one after another: each adds to the record.

--gpu: beside PyTorch eager and torch.compile, in the same precision; then each kernel beside its
counterpart, and beside what the GPU reaches at best, measured in the same run.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import benchmarks.cpu
import table3
from benchmarks.blocks import PAPERS
from benchmarks.networks import ASKED_FOR, BENCHED

from ministn import backend, cli, models
from ministn.cuda.choice import PRECISIONS
from ministn.errors import UserError
from ministn.runs import sweep

RECORDS = Path(__file__).parent / "records"
ROUNDS = {"cpu": 5, "gpu": 20}
GPU_BATCH_SIZE = 256
PARTS = {"cpu": benchmarks.cpu.PARTS, "gpu": ("ceilings", "kernels", "networks")}

EXAMPLES = """\
examples (times of --cpu on two cores of a 2020 server):
  python reproduce/benchmark.py --cpu
      everything: an hour or more, by an estimate
  python reproduce/benchmark.py --cpu --only steps --nets arch1-tstn --batch-size 256
      measures one network again, in a minute, and leaves the rest of the record as it is
  python reproduce/benchmark.py --cpu --only convolutions --papers plankton svhn
      likewise the convolutions of two papers, in some five minutes, by an estimate
  python reproduce/benchmark.py --cpu --only steps --nets small-stn --batch-size 32 --out small.json
      seconds; the committed record stays as it is
  python reproduce/benchmark.py --gpu
      every kernel and all six networks, in float32 and in TF32
  python reproduce/benchmark.py --gpu --only networks --nets arch1-tstn --precision tf32
      measures one network in one precision again, and leaves the rest of the record as it is
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = cli.Parser(
        prog="python reproduce/benchmark.py",
        description=__doc__,
        epilog=EXAMPLES,
    )
    what = p.add_argument_group("what to measure, --cpu or --gpu")
    engine = what.add_mutually_exclusive_group(required=True)
    engine.add_argument("--cpu", action="store_true", help="the CPU engine")
    engine.add_argument("--gpu", action="store_true", help="the GPU engine")
    what.add_argument(
        "--nets",
        nargs="+",
        choices=BENCHED,
        metavar="NET",
        help=f"which networks, of {' '.join(BENCHED)}; default: all but {' '.join(ASKED_FOR)}, on "
        "a GPU the first six, and of others only small-stn is possible",
    )
    what.add_argument(
        "--papers",
        nargs="+",
        choices=PAPERS,
        metavar="PAPER",
        help=f"with --cpu only: whose networks, unless --nets says it, and whose convolutions, of "
        f"{' '.join(PAPERS)}; default: all",
    )
    what.add_argument(
        "--batch-size",
        nargs="+",
        type=int,
        metavar="N",
        help="images in a step; default: 64 and 256 on a CPU, or the experiment's own where it is "
        "neither; 256 on a GPU, which takes one only",
    )
    what.add_argument(
        "--only",
        nargs="+",
        metavar="PART",
        help=f"only these parts, of {' '.join(PARTS['cpu'])} on a CPU, of "
        f"{' '.join(PARTS['gpu'])} on a GPU; default: all",
    )
    what.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        metavar="P",
        help="how products are computed, with --gpu only, of fp32 tf32; default: both",
    )
    how = p.add_argument_group("how to run")
    how.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="how often each side is timed: one step on a CPU, ten steps or one call of a kernel "
        "on a GPU; default: 5 on a CPU, 20 on a GPU",
    )
    how.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="record to write; what it has already and is not measured again stays; default: "
        "reproduce/records/benchmark-cpu.json or benchmark-gpu.json",
    )
    how.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="our processes, and PyTorch's threads, with --cpu only; default: one for each core, "
        f"here {sweep.CORES}",
    )
    return p


def parsed() -> argparse.Namespace:
    """The command line with the defaults of its engine. Raises UserError for what cannot be."""
    arguments = parser().parse_args()
    engine, other = ("gpu", "cpu") if arguments.gpu else ("cpu", "gpu")
    for name in ("workers", "papers") if arguments.gpu else ("precision",):
        if getattr(arguments, name):
            raise UserError(f"--{name} goes with --{other}; --help lists all flags")
    arguments.only = arguments.only or list(PARTS[engine])
    for part in arguments.only:
        if part not in PARTS[engine]:
            raise UserError(f"--only with --{engine} takes {' '.join(PARTS[engine])}, got {part}")
    if arguments.rounds is None:
        arguments.rounds = ROUNDS[engine]
    if arguments.workers is None:
        arguments.workers = sweep.CORES
    if arguments.gpu:
        _check_gpu(arguments)
    for name in ("batch_size", "rounds", "workers"):
        given = getattr(arguments, name)
        least = min(given or [1]) if name == "batch_size" else given
        if least < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {least}")
    arguments.papers = arguments.papers or list(PAPERS)
    arguments.nets = arguments.nets or [
        name
        for name, network in BENCHED.items()
        if network.paper in arguments.papers and name not in ASKED_FOR
    ]
    if arguments.gpu:
        (arguments.batch_size,) = arguments.batch_size
    arguments.out = arguments.out or RECORDS / f"benchmark-{engine}.json"
    arguments.precision = arguments.precision or list(PRECISIONS)
    return arguments


def _check_gpu(arguments: argparse.Namespace) -> None:
    """Its own defaults. Raises UserError for a network or a number of batches that it has not."""
    arguments.nets = arguments.nets or table3.SIX
    for name in arguments.nets:
        if name not in models.NETWORKS:
            raise UserError(f"--nets with --gpu takes {' '.join(models.NETWORKS)}, got {name}")
    arguments.batch_size = arguments.batch_size or [GPU_BATCH_SIZE]
    if len(arguments.batch_size) > 1:
        raise UserError("--gpu takes one --batch-size only")


def main() -> int:
    arguments = parsed()
    if arguments.gpu:
        gpu = backend.gpu()
        if find_spec("torch") is None:
            raise UserError("--gpu compares with PyTorch, built for CUDA: pip install torch")
        from benchmarks.gpu import run

        return run(arguments, gpu)
    return benchmarks.cpu.run(arguments)


if __name__ == "__main__":
    cli.run(main)
