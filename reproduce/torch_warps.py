"""What PyTorch makes of some warps, and their gradients, for the tests of ministn/interop.

    python reproduce/torch_warps.py

In both of PyTorch's conventions, with each kernel and border that both libraries have, in float64.
Writes reproduce/records/torch-warps.json, so that the tests can compare without PyTorch.
"""

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ministn import cli
from ministn.files import check_output, write_atomically
from ministn.interop.warps import PADDING
from ministn.randomness import generator
from ministn.runs import environment

try:
    import torch
    from torch.nn import functional
except ModuleNotFoundError:
    sys.exit("error: these numbers are PyTorch's; install it with: pip install torch")

RECORD = Path(__file__).parent / "records" / "torch-warps.json"
KERNELS = "bilinear", "nearest", "bicubic"
INPUT, OUTPUT = (3, 4), (2, 3)


def warp(
    theta: np.ndarray, image: np.ndarray, size: tuple[int, int], *,
    align_corners: bool, kernel: str, border: str,
) -> dict[str, np.ndarray]:  # fmt: skip
    """theta (N, 2, 3), image (N, H, W, C) -> y (N, h, w, C), dtheta and dimage for ``upstream(y)``.

    border: our name of it.
    """
    parameters = torch.tensor(theta, requires_grad=True)
    pixels = torch.tensor(image, requires_grad=True)
    channels_first = pixels.permute(0, 3, 1, 2)
    shape = [*channels_first.shape[:2], *size]
    grid = functional.affine_grid(parameters, shape, align_corners=align_corners)
    y = functional.grid_sample(
        channels_first, grid,
        mode=kernel, padding_mode=PADDING[border], align_corners=align_corners,
    ).permute(0, 2, 3, 1)  # fmt: skip
    dy = torch.from_numpy(upstream(y.shape))
    dtheta, dimage = torch.autograd.grad(y, [parameters, pixels], dy)
    return {"y": y.detach().numpy(), "dtheta": dtheta.numpy(), "dimage": dimage.numpy()}


def upstream(shape: tuple[int, ...]) -> np.ndarray:
    """dy: some numbers that are easy to make again."""
    return np.cos(np.arange(np.prod(shape))).reshape(shape)


def warps() -> dict[str, Any]:
    """Two images, thetas that read up to twice as far, and what each case makes of them."""
    rng = generator(0, "torch warps")
    theta, image = rng.uniform(-1, 1, (2, 2, 3)), rng.normal(size=(2, *INPUT, 1))
    cases = []
    for align_corners, kernel, border in product([True, False], KERNELS, PADDING):
        if border == "mirror" and not align_corners:
            continue  # reflected about the outer edges of pixels there
        options: dict[str, Any] = {
            "align_corners": align_corners, "kernel": kernel, "border": border,
        }  # fmt: skip
        results = warp(theta, image, OUTPUT, **options)
        cases.append(options | {name: array.tolist() for name, array in results.items()})
    arrays = {"theta": theta.tolist(), "image": image.tolist()}
    return arrays | {"output_size": OUTPUT, "cases": cases}


def main() -> int:
    parser = cli.Parser(description="Write down what PyTorch makes of some warps.")
    parser.add_argument("--out", type=Path, default=RECORD, help="where to write the record")
    options = parser.parse_args()
    check_output(options.out)
    record = {
        "format": 1,
        "command": "python reproduce/torch_warps.py",
        **environment.commit(),
        "versions": environment.versions() | {"torch": torch.__version__},
        **warps(),
    }
    write_atomically(options.out, (json.dumps(record) + "\n").encode())
    print(f"{len(record['cases'])} warps written to {options.out}")
    return 0


if __name__ == "__main__":
    cli.run(main)
