"""Part ``check`` of gpu_check.py, in a process of its own: is the GPU engine right, and how fast?

compile    Every kernel of every .cu file, in seconds.
agreement  Loss and gradients of networks, from perturbed parameters, beside the CPU's.
products   How far a dense layer's product is from float64's. In fp32 it is cuBLAS's.
steps      Training steps in a row: the GPU's time, and the host's to ask for one.
stream     Whether training goes on as before once a view has been copied to the host.

The record is written after every line of it; what is in it already is not measured again.
"""

import argparse
import gc
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from ministn import backend, cli, data, models
from ministn.backend import Device
from ministn.cuda import choice, dense, launch
from ministn.data import Form, Split
from ministn.engines import implementation
from ministn.files import read_json, write_atomically
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator
from ministn.runs import environment
from ministn.tasks import Classification
from ministn.training.steps import Epoch, Outcome, QueuedSteps

IMAGES = 8  # in a comparison with the CPU
# Of parameters: enough to move points off the pixels; with 0.02 the transformers of Architecture 2
# blow rounding up to 7e-6 of the loss, with this it stays below 4e-7.
PERTURBATION = 0.005
PRODUCT = 64, 3000, 72  # rows, terms and columns; none of the last two fills whole tiles
LR = 1e-5  # small: there is nothing to be learned from noise
WARM_UP = 3  # steps not timed: plain, captured, launched
SHOWN = 2000  # last characters of a traceback in the record

# What is further off than this is wrong, not rounding.
LOSS = {"fp32": 1e-5, "tf32": 5e-3}  # relative
FLOAT32_PRODUCT = 1e-6  # relative; near 1e-7, and 3e-4 if cuBLAS rounds factors to TF32

Record = dict[str, Any]


class Scale(NamedTuple):
    """nets: networks compared and timed. side: of their images. steps: that are timed."""

    nets: tuple[str, ...] = ("arch1-tstn", "arch2-tstn", "arch1-cnn", "arch2-cnn")
    side: int = 60
    batch: int = 256
    steps: int = 50


PAPERS = Scale()
SMALL = Scale(("arch1-cnn",), 12, 2, 2)


class Check:
    """The record at a path, and what fills it in."""

    def __init__(self, path: Path, scale: Scale, device: Device) -> None:
        self.path, self.scale, self.device = path, scale, device
        self.record: Record = {
            "scale": json.loads(json.dumps(scale)),
            "source_sha256": environment.source_sha256(),
            "device": environment.device(device),
        }
        before = read(path)
        if all(before.get(key) == value for key, value in self.record.items()):
            self.record = before
        self.record |= {**environment.commit(), "versions": environment.versions(), "failed": {}}

    def run(self) -> None:
        """Measure whatever is not in the record."""
        for path in sorted(launch.FOLDER.glob("*.cu")):
            self._measure("compile", path.stem, self._compile, path.stem)
        each = [(name, p) for name in self.scale.nets for p in choice.PRECISIONS]
        for name, precision in each:
            self._measure("agreement", f"{name} {precision}", self._agreement, name, precision)
        for precision in choice.PRECISIONS:
            self._measure("products", precision, self._product, precision)
        for name, precision in each:
            self._measure("steps", f"{name} {precision}", self._timed, name, precision)
        self._measure("stream", "kept", self._stream)  # last, for the others need it

    def _measure(self, section: str, name: str, work: Callable[..., Any], *arguments: Any) -> None:
        """Write down what the work returns, or how it failed: then it is tried again next time."""
        if name in self.record.get(section, {}):
            return
        try:
            found = work(*arguments)
            self.record.setdefault(section, {})[name] = found
        except Exception as error:
            found = f"FAILED: {type(error).__name__}: {error}"
            shown = "".join(traceback.format_exception(error))[-SHOWN:]
            self.record["failed"][f"{section} {name}"] = shown
        write_atomically(self.path, (json.dumps(self.record, indent=1) + "\n").encode())
        print(f"{section} {name}: {found}")
        gc.collect()  # a network that is done with may be part of a circle

    # -- sections --------------------------------------------------------------------------------

    def _compile(self, file: str) -> float:
        start = time.perf_counter()
        for name in launch.signatures(file):
            self.device.kernel(launch.source(file), name)
        return round(time.perf_counter() - start, 2)

    def _agreement(self, name: str, precision: str) -> Record:
        want_loss, want = self._gradients(name, None)
        with choice.precision(precision):
            loss, got = self._gradients(name, self.device)
        norm = np.linalg.norm(want)
        return {
            "loss": loss,
            "off": abs(loss / want_loss - 1),
            "gradient_off": float(np.linalg.norm(got - want) / norm),
            "gradient_cosine": float(got @ want / np.linalg.norm(got) / norm),
        }

    def _gradients(self, name: str, device: Device | None) -> tuple[float, np.ndarray]:
        """Loss and all gradients of a few images, on the CPU without a device."""
        rng = generator(0, "check of gradients")
        split = noise(rng, IMAGES, self.scale.side)
        network = models.NETWORKS[name].build(Form(split.size))
        buffer = ParameterBuffer(network.parameters(), 0, device=device)
        values = backend.to_cpu(buffer.data)
        normal = rng.normal(0, PERTURBATION, values.shape).astype(np.float32)
        backend.assign(buffer.data, values + normal)
        labels = split.labels.astype(np.int32)
        images, labels = (device.to_gpu(a) if device else a for a in (split.images, labels))
        logits, cache = network.forward(data.as_batch(images), Step(1, 2))
        forward, backward = implementation("softmax_cross_entropy", logits)
        loss, loss_cache = forward(logits, labels)
        assert cache is not None
        network.backward(backward(loss_cache), cache)
        loss = np.asarray(backend.to_cpu(loss)).item()  # on the CPU it is a float already
        return loss, backend.to_cpu(buffer.grad).astype(np.float64)

    def _product(self, precision: str) -> float:
        rows, terms, columns = PRODUCT
        rng = generator(0, "check of products")
        x, weight = (rng.standard_normal(s, np.float32) for s in ((rows, terms), (terms, columns)))
        to_gpu, zeros = self.device.to_gpu, self.device.zeros
        with choice.precision(precision):
            y, _ = dense(to_gpu(x), to_gpu(weight), zeros((columns,), np.float32))
        exact = x.astype(np.float64) @ weight
        return float(np.linalg.norm(self.device.to_cpu(y) - exact) / np.linalg.norm(exact))

    def _timed(self, name: str, precision: str) -> Record:
        host: list[float] = []

        def several() -> None:
            for number in range(WARM_UP, WARM_UP + self.scale.steps):
                start = time.perf_counter()
                steps.take(number)
                host.append(time.perf_counter() - start)

        with choice.precision(precision):
            steps = steps_of(name, self.scale, self.device, captured=precision == "tf32")
            outcomes = warmed_up(steps)
            seconds = self.device.elapsed(several)
            outcomes += steps.outcomes()
        return {
            "gpu_ms": 1e3 * seconds / self.scale.steps,
            "host_ms": 1e3 * median(host),
            "first_loss": outcomes[0].loss if outcomes else None,
            "last_loss": outcomes[-1].loss if outcomes else None,
            "asked": WARM_UP + self.scale.steps,
            "done": len(outcomes),
        }

    def _stream(self) -> bool:
        before = self._losses()
        self.device.to_cpu(self.device.to_gpu(np.zeros((4, 6), np.float32))[:, ::2])
        return len(before) == WARM_UP and self._losses() == before

    def _losses(self) -> list[float]:
        with choice.precision("tf32"):
            steps = steps_of(self.scale.nets[0], self.scale, self.device, captured=True)
            return [outcome.loss for outcome in warmed_up(steps)]


def steps_of(name: str, scale: Scale, device: Device, captured: bool) -> QueuedSteps:
    """Steps of a new network on random images, none taken yet."""
    total = (WARM_UP + scale.steps) * scale.batch
    split = noise(generator(0, "check of steps"), total, scale.side)
    network = models.NETWORKS[name].build(Form(split.size))
    optimizer = Optimizer(Adam(), ParameterBuffer(network.parameters(), 0, device=device))
    steps = QueuedSteps(
        network, optimizer, split, scale.batch, 0, Classification(), device, captured
    )
    steps.begin(Epoch(1, np.arange(total), [LR] * steps.batches, 0), 0)
    return steps


def noise(rng: np.random.Generator, count: int, side: int) -> Split:
    """Random images."""
    images = rng.integers(0, 256, (count, side, side), np.uint8)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    return Split(images, labels, np.zeros((count, 4), np.int16))


def warmed_up(steps: QueuedSteps) -> list[Outcome]:
    """The outcomes of the first few steps."""
    for number in range(WARM_UP):
        steps.take(number)
    return steps.outcomes()


# -- what the record says ------------------------------------------------------------------------


def read(path: Path) -> Record:
    """The record, empty where there is none."""
    return read_json(path) if path.exists() else {}


def faults(record: Record, scale: Scale) -> list[str]:
    """What is wrong with the engine, a line each."""
    found = [f"{name} failed" for name in record.get("failed", {})]
    agreement = record.get("agreement", {})
    for precision, most in LOSS.items():
        for name in scale.nets:
            row = agreement.get(f"{name} {precision}")
            if row is None:
                found.append(f"{name} {precision}: not compared with the CPU")
            elif not row["off"] <= most:
                found.append(f"{name} {precision}: loss off by {row['off']:.1e}, at most {most:g}")
    product = record.get("products", {}).get("fp32", 0.0)
    if not product <= FLOAT32_PRODUCT:
        found.append(f"fp32 product off by {product:.1e}, at most {FLOAT32_PRODUCT:g}")
    for name, row in record.get("steps", {}).items():
        if row["done"] < row["asked"]:
            found.append(f"{name}: {row['done']} of {row['asked']} steps were done")
        elif row["last_loss"] == row["first_loss"]:
            found.append(f"{name}: the last loss equals the first")
    return found


# -- the command ---------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = cli.Parser(prog="python reproduce/gpu_check_engine.py", description=__doc__.split("\n")[0])
    p.add_argument("--out", type=Path, metavar="FILE", help="the record; without it, name the GPU")
    p.add_argument("--small", action="store_true", help="small networks, few steps")
    p.add_argument("--step", nargs=2, metavar=("NET", "P"), help="one training step, no record")
    return p


def main() -> int:
    arguments = parser().parse_args()
    device = backend.gpu()
    scale = SMALL if arguments.small else PAPERS
    if arguments.step:
        name, precision = arguments.step
        with choice.precision(precision):
            steps = steps_of(name, scale, device, captured=False)  # a profiler sees each kernel
            steps.take(0)
            print(*steps.outcomes())
    elif arguments.out:
        check = Check(arguments.out, scale, device)
        check.run()
        return 1 if check.record["failed"] else 0
    else:
        print(json.dumps(environment.device(device)))
    return 0


if __name__ == "__main__":
    cli.run(main)
