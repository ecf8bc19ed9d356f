"""PyTorch's side of ``benchmark.py``: how it is set up, timed and made to train.

It gets every option that it documents for speed and that computes the same: channels-last arrays,
the optimiser in one fused kernel, images that lie on the device as bytes; on a GPU a choice among
cuDNN's algorithms by trying them (``cudnn.benchmark``), on a CPU what benchmarks/sides.py says.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import nn

from ministn.data import Split
from ministn.data.colocalisation import draw_crops
from ministn.errors import UserError
from ministn.ops.batch import BYTE
from ministn.training.protocol import Training


class TorchDevice:
    """Where PyTorch computes: "cuda" or "cpu"."""

    def __init__(self, name: str = "cuda") -> None:
        if name == "cuda" and not torch.cuda.is_available():
            raise UserError(
                f"PyTorch {torch.__version__} sees no GPU: install a build for CUDA, "
                "see pytorch.org"
            )
        self.device = torch.device(name)
        self._on_gpu = name == "cuda"

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """A copy on the device."""
        return torch.from_numpy(array).to(self.device, copy=True)

    def maps(self, array: np.ndarray) -> torch.Tensor:
        """(N, H, W, C) -> (N, C, H, W) channels-last: the same bytes."""
        return self.tensor(array).permute(0, 3, 1, 2)

    def kernels(self, array: np.ndarray) -> torch.Tensor:
        """A convolution's weight (kh, kw, C, K) -> (K, C, kh, kw) channels-last."""
        weight = self.tensor(array).permute(3, 2, 0, 1)
        return weight.contiguous().to(memory_format=torch.channels_last)

    def wait(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()

    def elapsed(self, work: Callable[[], object]) -> float:
        """Seconds from when the device begins what ``work`` asks for until it is done."""
        if not self._on_gpu:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000

    def memory(self, work: Callable[[], object]) -> int:
        """Most bytes of tensors on the GPU while ``work`` was done; 0 on the CPU."""
        if not self._on_gpu:
            work()
            return 0
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated()


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Inside this block PyTorch's products are "fp32" or "tf32", and cuDNN tries its algorithms."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    matmul.allow_tf32 = cudnn.allow_tf32 = name == "tf32"
    cudnn.benchmark = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def flags() -> dict[str, bool]:
    """The flags in force that decide how products are computed."""
    return {
        "torch.backends.cuda.matmul.allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "torch.backends.cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "torch.backends.cudnn.benchmark": torch.backends.cudnn.benchmark,
    }


def versions() -> dict[str, Any]:
    """PyTorch, and what it was built with."""
    return {
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


class Labelled:
    """Images and labels of a split on the device, of which a batch takes some.

    channels: of the images. A batch is images (N, C, ...) as bytes, and labels (N,).
    """

    def __init__(self, device: TorchDevice, split: Split, channels: int) -> None:
        images = device.tensor(split.images)
        self.images = images.permute(0, 3, 1, 2) if channels > 1 else images.unsqueeze(1)
        self.labels = device.tensor(split.labels.astype(np.int64))

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.images[rows], self.labels[rows]


class Compared:
    """Pairs of images, on the CPU: see data/colocalisation.py.

    A batch is each of its images once (N, 1, H, W), pairs (P, 2) of them, and theta (N, 3) of a
    crop at a random place in each.
    """

    def __init__(self, device: TorchDevice, split: Split, channels: int) -> None:
        self._split, self._draws = split, count(1)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        images, labels = self._split.batch(rows.numpy())
        random = draw_crops(len(images), seed=0, step=next(self._draws))
        arrays = images[:, None], labels.pairs.astype(np.int64), random
        return tuple(map(torch.from_numpy, arrays))


# What a step learns from, by the kind of the task.
EXAMPLES: dict[str, Any] = {"classification": Labelled, "colocalisation": Compared}


class TorchSteps:
    """Training steps of a twin, batch after batch in ``order``; compiled: by torch.compile.

    examples: one of EXAMPLES. training: its optimiser, learning rate and batch size.
    Raises UserError for an optimiser that this side has not.
    """

    def __init__(
        self,
        device: TorchDevice,
        twin: Any,
        examples: Labelled | Compared,
        order: np.ndarray,
        training: Training,
        compiled: bool,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        self.examples, self.batch_size, self._layout = examples, training.batch_size, layout
        self._order = device.tensor(order.astype(np.int64))
        self.network = twin.to(device.device, memory_format=layout)
        self._loss = self.loss
        if compiled:
            torch.compiler.reset()  # forget other networks: how often it may compile is limited
            self._loss = torch.compile(self.loss)
        self._optimizer = optimizer(training, self.network)
        self._limits = training.clip, training.clip_norm

    def take(self, batch: int) -> None:
        """A step on this batch of the order."""
        rows = self._order[batch * self.batch_size :][: self.batch_size]
        self._optimizer.zero_grad()
        self._loss(*self.examples.batch(rows)).backward()
        each, norm = self._limits
        if each is not None:
            nn.utils.clip_grad_value_(self.network.parameters(), each)
        if norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), norm)
        self._optimizer.step()

    def loss(self, images: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
        """The mean loss of images, bytes (N, C, H, W) or (N, 1, D, H, W)."""
        x = images * float(BYTE)  # bytes times a float: float32
        if x.dim() == 4:
            x = x.to(memory_format=self._layout)
        return self.network.loss(x, *labels)


def optimizer(training: Training, network: nn.Module) -> torch.optim.Optimizer:
    """PyTorch's of the same rule. Raises UserError if there is none.

    Its RMSprop adds epsilon to the root, where ours adds it inside.
    """
    rule: Any = training.optimizer
    learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if rule.kind == "adam":
        betas = rule.beta1, rule.beta2
        return torch.optim.Adam(learned.values(), training.lr, betas, rule.epsilon, fused=True)
    if rule.kind in ("sgd", "nesterov"):
        biases = [p for name, p in learned.items() if name.endswith("bias")]
        weights = [p for name, p in learned.items() if not name.endswith("bias")]
        decays = rule.weight_decay, rule.weight_decay * rule.decay_biases
        both = zip((weights, biases), decays, strict=True)
        groups = [{"params": params, "weight_decay": decay} for params, decay in both]
        ahead = rule.kind == "nesterov"
        return torch.optim.SGD(groups, training.lr, rule.momentum, nesterov=ahead, fused=True)
    if rule.kind == "rmsprop":
        return torch.optim.RMSprop(learned.values(), training.lr, rule.rho, rule.epsilon)
    raise UserError(f"PyTorch's side of the benchmark has no {rule.kind} yet")


def largest_product(device: TorchDevice, side: int) -> Callable[[], object]:
    """The product of two square matrices, for cuBLAS: 2 side^3 operations."""
    a, b = torch.rand(2, side, side, device=device.device)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def longest_copy(device: TorchDevice, size: int) -> Callable[[], object]:
    """A copy of ``size`` bytes, which reads as many and writes as many."""
    source = torch.zeros(size, dtype=torch.uint8, device=device.device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
