"""PyTorch's side of ``benchmark.py``: how it is set up, timed and made to train.

It gets every option that it documents for speed and that computes the same: channels-last arrays,
Adam in one fused kernel, images that lie on the device as bytes; on a GPU a choice among cuDNN's
algorithms by trying them (``cudnn.benchmark``), on a CPU what benchmarks/sides.py says.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch_twin
from torch.nn import functional

from ministn.data import Split
from ministn.errors import UserError
from ministn.ops.batch import BYTE


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


class TorchSteps:
    """Training steps of a twin, batch after batch in ``order``; compiled: by torch.compile."""

    def __init__(
        self,
        device: TorchDevice,
        name: str,
        split: Split,
        order: np.ndarray,
        batch_size: int,
        lr: float,
        compiled: bool,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        self.batch_size, self._layout = batch_size, layout
        self._images = device.tensor(split.images)
        self._labels = device.tensor(split.labels.astype(np.int64))
        self._order = device.tensor(order.astype(np.int64))
        network: Any = torch_twin.build(name, split.images.shape[1:])
        self.network = network.to(device.device, memory_format=layout)
        self._loss = self.loss
        if compiled:
            torch.compiler.reset()  # forget other networks: how often it may compile is limited
            self._loss = torch.compile(self.loss)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr, fused=True)

    def take(self, batch: int) -> None:
        """A step on this batch of the order."""
        rows = self._order[batch * self.batch_size :][: self.batch_size]
        self._optimizer.zero_grad()
        self._loss(rows).backward()
        self._optimizer.step()

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of these images."""
        images = self._images[rows].unsqueeze(1) * float(BYTE)  # bytes times a float: float32
        x = images.to(memory_format=self._layout)
        return functional.cross_entropy(self.network(x), self._labels[rows])


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
