"""A device without a GPU: its arrays lie in host memory, its kernels run on the CPU shim.

The array type is as strict as CuPy's: it does not mix with NumPy arrays, and nothing turns it
into one but ``to_cpu``. So what runs here does not lean on NumPy by accident.
"""

import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cudacpu.module import Module


class Emulated:
    """An array of an EmulatedDevice: what the engine's Python may do with one, and no more."""

    __array_ufunc__ = None  # NumPy's operators and functions refuse it

    def __init__(self, host: np.ndarray) -> None:
        self.host = host

    dtype = property(lambda self: self.host.dtype)
    shape = property(lambda self: self.host.shape)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    flags = property(lambda self: self.host.flags)
    T = property(lambda self: self._like(self.host.T))

    def __len__(self) -> int:
        return len(self.host)

    def __repr__(self) -> str:
        return f"Emulated({self.host!r})"

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed; use to_cpu")

    def reshape(self, *shape: Any) -> "Emulated":
        return self._like(self.host.reshape(*shape))

    def transpose(self, *axes: Any) -> "Emulated":
        return self._like(self.host.transpose(*axes))

    def copy(self) -> "Emulated":
        return self._like(self.host.copy())

    def sum(self, axis: Any = None) -> "Emulated":
        return self._like(self.host.sum(axis=axis))

    def astype(self, dtype: Any) -> "Emulated":
        return self._like(self.host.astype(dtype))

    def clip(self, low: Any, high: Any) -> "Emulated":
        return self._like(self.host.clip(low, high))

    def view(self, dtype: Any) -> "Emulated":
        return self._like(self.host.view(dtype))

    def fill(self, value: float) -> None:
        self.host.fill(value)

    def __getitem__(self, index: Any) -> "Emulated":
        return self._like(self.host[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.host[index] = self._operand(value)

    def __add__(self, other: Any) -> "Emulated":
        return self._like(self.host + self._operand(other))

    def __iadd__(self, other: Any) -> "Emulated":
        self.host += self._operand(other)
        return self

    def __mul__(self, other: Any) -> "Emulated":
        return self._like(self.host * self._operand(other))

    def __truediv__(self, other: Any) -> "Emulated":
        return self._like(self.host / self._operand(other))

    def __matmul__(self, other: Any) -> "Emulated":
        return self._like(self.host @ self._operand(other))

    def _like(self, result: Any) -> "Emulated":
        return type(self)(np.asarray(result))

    def _operand(self, value: Any) -> Any:
        if isinstance(value, type(self)):
            return value.host
        if isinstance(value, (int, float, np.number)):
            return value
        raise TypeError(f"unsupported type {type(value).__name__}")


class EmulatedDevice:
    """A ministn.backend.Device. checked: kernels run under the memory and race checker. options:
    for g++.

    Memory comes filled with NaN (in whole numbers: with ones in every bit), so that a kernel that
    leaves out an element is seen.
    """

    name = "the CPU shim"

    def __init__(
        self, checked: bool = False, capability: int = 90, options: Sequence[str] = ()
    ) -> None:
        self.checked = checked
        self.options = options
        self.capability = capability
        self.array = type("Emulated", (Emulated,), {})  # of its own: a type belongs to one device
        self._modules: dict[str, Module] = {}

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Emulated:
        host = np.empty(shape, dtype)
        host.view(np.uint8).fill(0xFF) if host.size else None
        return self.array(host)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Emulated:
        return self.array(np.zeros(shape, dtype))

    def contiguous(self, array: Emulated) -> Emulated:
        return array if array.flags.c_contiguous else self.array(np.ascontiguousarray(array.host))

    def to_gpu(self, array: np.ndarray) -> Emulated:
        return self.array(np.array(array, order="C"))

    def to_cpu(self, array: Emulated) -> np.ndarray:
        return array.host.copy()

    def repeating(self, work: Callable[[], None]) -> Callable[[], None]:
        """There are no graphs here: the same launches are made again."""
        return work

    def elapsed(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def memory(self, work: Callable[[], object]) -> int:
        """Only of what ``work`` makes itself: NumPy tells tracemalloc of every array."""
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "capability": self.capability}

    def kernel(self, source: str, name: str) -> Any:
        if source not in self._modules:
            self._modules[source] = Module(source, self.options, check=self.checked)
        function = self._modules[source].get_function(name)

        def call(
            grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...], shared: int
        ) -> None:
            hosts = [a.host if isinstance(a, Emulated) else a for a in arguments]
            function(grid, block, hosts, shared_mem=shared)

        return call
