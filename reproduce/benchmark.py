"""How long a training step takes, ours beside PyTorch's.

A step is forward, backward and Adam, with dropout, on random images. The sides take turns within
one run, so that whatever else the machine does touches all of them.

--cpu: on all cores, or as many as --workers says, beside PyTorch eager and torch.compile; then the
memory that takes, convolutions one by one, and how the step grows. Times are wall seconds: nothing
else should run.

--gpu: beside PyTorch eager and torch.compile, in the same precision; then each kernel beside its
counterpart, and beside what the GPU reaches at best, measured in the same run.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import benchmarks.cpu
import table3

from ministn import backend, cli, models
from ministn.cuda.choice import PRECISIONS
from ministn.errors import UserError
from ministn.runs import sweep

RECORDS = Path(__file__).parent / "records"
ROUNDS = {"cpu": 5, "gpu": 20}
BATCH_SIZES = {"cpu": [64, 256], "gpu": [256]}
PARTS = {"cpu": benchmarks.cpu.PARTS, "gpu": ("ceilings", "kernels", "networks")}

EXAMPLES = """\
examples (times of --cpu on two cores of a 2020 server):
  python reproduce/benchmark.py --cpu
      everything: about half an hour
  python reproduce/benchmark.py --cpu --only steps --nets arch1-tstn --batch-size 256
      measures one network again, in a minute, and leaves the rest of the record as it is
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
        choices=models.NETWORKS,
        default=table3.SIX,
        metavar="NET",
        help=f"which networks, of {' '.join(models.NETWORKS)}; default: the first six",
    )
    what.add_argument(
        "--batch-size",
        nargs="+",
        type=int,
        metavar="N",
        help="images in a step; default: 64 and 256 on a CPU, 256 on a GPU, which takes one only",
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
    if arguments.workers if arguments.gpu else arguments.precision:
        raise UserError(
            f"--{'workers' if arguments.gpu else 'precision'} goes with --{other}; "
            "--help lists all flags"
        )
    arguments.only = arguments.only or list(PARTS[engine])
    for part in arguments.only:
        if part not in PARTS[engine]:
            raise UserError(f"--only with --{engine} takes {' '.join(PARTS[engine])}, got {part}")
    if arguments.rounds is None:
        arguments.rounds = ROUNDS[engine]
    if arguments.workers is None:
        arguments.workers = sweep.CORES
    arguments.batch_size = arguments.batch_size or BATCH_SIZES[engine]
    for name in ("batch_size", "rounds", "workers"):
        given = getattr(arguments, name)
        least = min(given) if isinstance(given, list) else given
        if least < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {least}")
    if arguments.gpu:
        if len(arguments.batch_size) > 1:
            raise UserError("--gpu takes one --batch-size only")
        (arguments.batch_size,) = arguments.batch_size
    arguments.out = arguments.out or RECORDS / f"benchmark-{engine}.json"
    arguments.precision = arguments.precision or list(PRECISIONS)
    return arguments


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
