"""Out and in: networks and theta in PyTorch's and ONNX's conventions, and back.

half_pixel.py  theta for PyTorch's default convention
layout.py      our arrays in the order in which they lie there: channels first
graph.py       a network as a list of operations on such arrays
trace.py       what each layer is in that list
warps.py       and what each transform and sampler is
pytorch.py     the list as a torch.nn.Module, and weights back from it
onnx_file.py   the list as an ONNX file, and weights back from it
check.py       whether both compute the same: ``python -m ministn.interop``

Neither PyTorch nor ONNX is needed before it is used: both are in the extra ``interop``.
"""

from ministn.interop.half_pixel import theta_from_half_pixel, theta_to_half_pixel
from ministn.interop.onnx_file import from_onnx, to_onnx
from ministn.interop.pytorch import from_torch, to_torch

__all__ = [
    "from_onnx",
    "from_torch",
    "theta_from_half_pixel",
    "theta_to_half_pixel",
    "to_onnx",
    "to_torch",
]
