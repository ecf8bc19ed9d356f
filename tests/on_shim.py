"""Run a script, or a module after -m, with the CPU shim in the GPU's place.

    python tests/on_shim.py reproduce/gpu_check.py --minutes 2 --out DIR --small

The processes that gpu_check.py starts are run in the same way.
"""

import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "reproduce"))

import devices  # noqa: E402

from ministn import backend  # noqa: E402


def main() -> None:
    device = devices.emulated(checked=False)
    backend.gpu = lambda: device
    sys.argv = sys.argv[1:]
    script = Path(sys.argv[0]).name
    if script == "gpu_check.py":
        import gpu_check

        gpu_check.PYTHON = (sys.executable, __file__)
        gpu_check.cli.run(gpu_check.main)
    if script == "benchmark.py" and find_spec("torch"):
        smallest_benchmark()
    if script == "-m":
        runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def smallest_benchmark() -> None:
    """PyTorch on the CPU, and sizes that no flag changes."""
    import benchmarks.gpu
    import torch
    from benchmarks.pytorch import TorchDevice

    torch.compile = lambda function: function
    torch.compiler.reset = lambda: None
    scale = benchmarks.gpu.Scale(canvas=12, fill=1000, copy=1000, product=16)
    benchmarks.gpu.Scale = lambda: scale
    benchmarks.gpu.TorchDevice = lambda: TorchDevice("cpu")
    benchmarks.gpu.STEPS = 2


if __name__ == "__main__":
    main()
