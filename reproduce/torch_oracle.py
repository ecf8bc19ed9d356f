"""Take the same training steps in ministn and in PyTorch, and compare the losses.

    python reproduce/torch_oracle.py

Both sides start from our initial weights and see the same images, in float64 and without dropout.
Prints the largest difference for each network, writes both loss curves to
reproduce/records/torch-oracle.json and exits with 1 if a difference exceeds the bound.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ministn import cli, models
from ministn.data import Form
from ministn.files import check_output, write_atomically
from ministn.fit import train_on_batch
from ministn.layers import Dropout
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import generator
from ministn.runs import environment

try:
    import torch
    import torch_twins
except ModuleNotFoundError:
    sys.exit("error: this comparison needs PyTorch; install it with: pip install torch")

RECORD = Path(__file__).parent / "records" / "torch-oracle.json"
NETWORKS = [name for name in models.NETWORKS if name != "small-stn"]
SEED, STEPS, BATCH = 0, 20, 8

# At 0.001 these tiny networks are unstable, and a rounding error grows a million times in 20
# steps. At 0.0003 the curves stay within 1e-14 of each other: a bound of 1e-10 leaves room for
# other libraries and processors, and is still exceeded by Adam with its epsilon elsewhere.
LR = 0.0003
BOUND = 1e-10

# At first theta is the identity, which puts every sample on a whole pixel: on a kink, where the
# two libraries may use the slopes of different sides. They use the same one here, because
#  - H - 1 and W - 1 are powers of two, so that PyTorch's coordinates are whole numbers exactly;
#  - the images have a blank margin: at coordinate 0 PyTorch has slope 0, we that of the first cell.
SIZE = (9, 17)
MARGIN = 2


class Curves(NamedTuple):
    """The loss of each step, before its update."""

    ministn: list[float]
    pytorch: list[float]

    @property
    def difference(self) -> float:
        """The largest difference of the two losses of a step, relative to PyTorch's."""
        ours, theirs = np.array(self)
        return float(np.max(np.abs(ours - theirs) / theirs))


def follow(name: str, *, correct_v: bool = False) -> Curves:
    """Train network ``name`` on both sides. correct_v: see ``pytorch_losses``."""
    torch.set_num_threads(1)  # the arrays are tiny
    network = models.NETWORKS[name].build(Form(SIZE))
    buffer = ParameterBuffer(network.parameters(), SEED, np.float64)
    twin = torch_twins.build(models.NETWORKS[name], Form(SIZE))
    twin = twin.double().eval()  # eval() switches dropout off
    torch_twins.copy_weights(buffer.parameters, twin)

    rng = generator(SEED, "torch oracle")
    images = np.zeros((BATCH, *SIZE, 1))
    inside = images[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    inside[...] = rng.uniform(0, 1, inside.shape)
    labels = rng.integers(0, 10, BATCH)

    theirs = pytorch_losses(twin, images, labels, correct_v)
    return Curves(ministn_losses(network, buffer, images, labels), theirs)


def ministn_losses(
    network: models.Network, buffer: ParameterBuffer, images: np.ndarray, labels: np.ndarray
) -> list[float]:
    """Train our network, its dropout at rate 0."""
    for layer in network.classifier.layers:
        if isinstance(layer, Dropout):
            layer.rate = 0.0
    optimizer = Optimizer(Adam(), buffer)
    return [
        train_on_batch(network, optimizer, images, labels, lr=LR, seed=SEED) for _ in range(STEPS)
    ]


def pytorch_losses(
    twin: torch.nn.Module, images: np.ndarray, labels: np.ndarray, correct_v: bool = False
) -> list[float]:
    """Train the twin with Lasagne's Adam, which adds epsilon to the uncorrected sqrt(v).

    correct_v: add it to the corrected one instead, as torch.optim.Adam does.
    """
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    x, y = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels)
    parameters = list(twin.parameters())
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    losses = []
    for t in range(1, STEPS + 1):
        loss = torch.nn.functional.cross_entropy(twin(x), y)
        gradients = torch.autograd.grad(loss, parameters)
        root = (1 - beta2**t) ** 0.5
        with torch.no_grad():
            for p, g, (m, v) in zip(parameters, gradients, moments, strict=True):
                m += (1 - beta1) * (g - m)
                v += (1 - beta2) * (g * g - v)
                scale = v.sqrt() + epsilon * (root if correct_v else 1)
                p.sub_(LR * root / (1 - beta1**t) * m / scale)
        losses.append(loss.item())
    return losses


def record(curves: dict[str, Curves]) -> dict[str, Any]:
    """What is kept: both curves of each network and what they depend on."""
    return {
        "format": 1,
        "command": "python reproduce/torch_oracle.py",
        **environment.commit(),
        "source_sha256": environment.source_sha256(),
        "versions": environment.versions() | {"torch": torch.__version__},
        "device": environment.processor(),
        "settings": {
            "dtype": "float64",
            "size": SIZE,
            "batch": BATCH,
            "steps": STEPS,
            "lr": LR,
            "seed": SEED,
            "dropout": 0.0,
        },
        "bound": BOUND,
        "networks": {
            name: {"largest_relative_difference": c.difference, **c._asdict()}
            for name, c in curves.items()
        },
    }


def main() -> int:
    parser = cli.Parser(
        description="Take the same 20 training steps in ministn and in PyTorch, from the same "
        "weights, and compare the losses."
    )
    parser.add_argument("--out", type=Path, default=RECORD, help="where to write the record")
    options = parser.parse_args()
    check_output(options.out)
    curves = {}
    for name in NETWORKS:
        curves[name] = follow(name)
        ours = curves[name].ministn
        print(
            f"{name:<14}loss {ours[0]:.4f} to {ours[-1]:.4f}, "
            f"largest relative difference {curves[name].difference:.1e}"
        )
    write_atomically(options.out, (json.dumps(record(curves), indent=1) + "\n").encode())
    largest = max(curve.difference for curve in curves.values())
    print(f"largest {largest:.1e}, allowed {BOUND:.0e}; written to {options.out}")
    return int(not largest < BOUND)


if __name__ == "__main__":
    cli.run(main)
