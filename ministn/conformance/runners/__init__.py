"""One file for each library: how it is asked for a grid, a sample and a warp."""

from collections.abc import Callable

from ministn.conformance.compare import Runner
from ministn.conformance.runners import kornia, numpy, onnxruntime, scipy, torch

# By the names on the command line. Each raises UserError where the library is missing.
RUNNERS: dict[str, Callable[[], Runner]] = {
    "ministn": numpy.Ministn,
    "torch": torch.Torch,
    "kornia": kornia.Kornia,
    "onnxruntime": onnxruntime.OnnxRuntime,
    "scipy": scipy.SciPy,
}
