"""Who holds the GPU engine's arrays and runs its kernels. The only file that imports CuPy.

CuPy is optional: ``cp`` is None without it. Everything above asks a ``Device`` for memory, copies
and kernels, so the tests can register one that runs the same kernels without a GPU.
"""

import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from ministn.errors import UserError

try:
    import cupy as cp
except ImportError:
    cp = None

Array = Any  # an array of some Device: shape, dtype, slices and arithmetic as NumPy's
Shape = tuple[int, ...]
# Called with a grid, a block (each one to three sizes), the arguments and bytes of dynamic shared
# memory. Returns at once; the GPU may still be at work.
CompiledKernel = Callable[[Shape, Shape, tuple[Any, ...], int], None]

COMPILER_OPTIONS = ("--std=c++17",)
STATIC_SHARED_BYTES = 48 * 1024  # a kernel that wants more must ask for it before its launch
FEW = 4  # channels that are copied one after another: of 4 a copy takes half as long, of 8 twice


class Device(Protocol):
    """One GPU, with one queue of work.

    name: of the product. capability: 10 x major + minor version of its instruction set: 90 is
    Hopper. array: the type of its arrays.
    """

    name: str
    capability: int
    array: type

    def __hash__(self) -> int: ...

    def empty(self, shape: Shape, dtype: Any) -> Array: ...

    def zeros(self, shape: Shape, dtype: Any) -> Array: ...

    def contiguous(self, array: Array) -> Array:
        """The array itself if it is C-contiguous, else a copy that is."""

    def to_gpu(self, array: np.ndarray) -> Array:
        """A copy on the device."""

    def to_cpu(self, array: Array) -> np.ndarray:
        """A copy on the host; waits for all work that was asked for before."""

    def kernel(self, source: str, name: str) -> CompiledKernel:
        """The kernel called ``name``, of CUDA C++ text that does not include anything."""

    def repeating(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that does ``work``, as fast as the device can do the same thing again.

        ``work`` must ask for the same launches each time it is called, at least one, on the same
        arrays apart from those that it makes itself, and may not call cuBLAS.
        """

    def elapsed(self, work: Callable[[], object]) -> float:
        """Seconds from when the device begins what ``work`` asks for until it is done."""

    def memory(self, work: Callable[[], object]) -> int:
        """Most bytes of arrays that there were at once while ``work`` was done."""

    def describe(self) -> dict[str, Any]:
        """What a record says of the device and its software."""


class CupyDevice:
    """The GPU that CuPy finds first (CUDA_VISIBLE_DEVICES chooses among several)."""

    def __init__(self) -> None:
        properties = cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id)
        self.name: str = properties["name"].decode()
        self.capability = 10 * properties["major"] + properties["minor"]
        self.array = cp.ndarray
        # A graph can be captured on any stream but the default one, so all work is done on this.
        # Wherever CuPy leaves a ``with stream`` block, its own ones included, it makes the default
        # stream current again, with which this one shares no order.
        self._stream = cp.cuda.Stream(non_blocking=True)
        self._stream.use()
        self._launches = 0
        self._graphs_memory = cp.cuda.MemoryPool(self._keep)
        self._kept: list[Any] = []
        self._module = cache(lambda source: cp.RawModule(code=source, options=COMPILER_OPTIONS))

    def _keep(self, size: int) -> Any:
        """Memory for graphs. They write to it for as long as they are launched, though the arrays
        that it was asked for are gone; so it is never given back, however short memory is.
        """
        memory = cp.cuda.Memory(size)
        self._kept.append(memory)
        return cp.cuda.MemoryPointer(memory, 0)

    def empty(self, shape: Shape, dtype: Any) -> Array:
        return cp.empty(shape, dtype)

    def zeros(self, shape: Shape, dtype: Any) -> Array:
        return cp.zeros(shape, dtype)

    def contiguous(self, array: Array) -> Array:
        return array if array.flags.c_contiguous else cp.ascontiguousarray(array)

    def to_gpu(self, array: np.ndarray) -> Array:
        # Not from the graphs' memory, even in the first call of work that will be captured: what
        # is copied may be kept, and used by others.
        with cp.cuda.using_allocator(cp.get_default_memory_pool().malloc):
            return cp.array(array, order="C")

    def to_cpu(self, array: Array) -> np.ndarray:
        return cp.asnumpy(self.contiguous(array))  # of a view CuPy would change the stream

    def kernel(self, source: str, name: str) -> CompiledKernel:
        kernel = self._module(source).get_function(name)
        allowed = STATIC_SHARED_BYTES

        def call(grid: Shape, block: Shape, arguments: tuple[Any, ...], shared_bytes: int) -> None:
            nonlocal allowed
            self._launches += 1
            if shared_bytes > allowed:
                kernel.max_dynamic_shared_size_bytes = allowed = shared_bytes
                kernel.preferred_shared_memory_carveout = 100  # percent; the rest is cache
            kernel(grid, block, arguments, shared_mem=shared_bytes)

        return call

    def repeating(self, work: Callable[[], None]) -> Callable[[], None]:
        """The first call does the work plainly: it compiles kernels and finds the memory needed.

        The second captures it as a CUDA graph; from then on the graph is launched.
        """
        graph: Any = None
        done = False

        def call() -> None:
            nonlocal graph, done
            self._stream.use()
            if graph is None:
                with cp.cuda.using_allocator(self._graphs_memory.malloc):
                    if not done:
                        work()
                        done = True
                        return
                    graph = self._captured(work)
            graph.launch(self._stream)

        return call

    def _captured(self, work: Callable[[], None]) -> Any:
        """The work as a CUDA graph; it is not done. Raises RuntimeError if it launches nothing."""
        before = self._launches
        self._stream.begin_capture()
        try:
            work()
            if self._launches == before:
                raise RuntimeError("the work that is to be repeated launched no kernel")
        except BaseException:
            with suppress(cp.cuda.runtime.CUDARuntimeError):  # of the capture that is no good now
                self._stream.end_capture()
            raise
        return self._stream.end_capture()

    def elapsed(self, work: Callable[[], object]) -> float:
        begin, end = cp.cuda.Event(), cp.cuda.Event()
        self._stream.use()
        begin.record(self._stream)
        work()
        end.record(self._stream)
        end.synchronize()
        return cp.cuda.get_elapsed_time(begin, end) / 1000

    def memory(self, work: Callable[[], object]) -> int:
        """A captured graph asks for no memory: what it uses counts only the first two times."""
        pools = cp.get_default_memory_pool(), self._graphs_memory
        most = 0

        class Watch(cp.cuda.MemoryHook):
            name = "most bytes at once"

            def malloc_postprocess(self, **allocated: int) -> None:
                nonlocal most
                most = max(most, sum(pool.used_bytes() for pool in pools))

        watch = Watch()
        watch.malloc_postprocess()
        with watch:
            work()
        return most

    def describe(self) -> dict[str, Any]:
        runtime = cp.cuda.runtime
        return {
            "name": self.name,
            "capability": self.capability,
            "driver": runtime.driverGetVersion(),
            "cuda": runtime.runtimeGetVersion(),
            "nvrtc": list(cp.cuda.nvrtc.getVersion()),
            "cublas": cp.cuda.cublas.getVersion(cp.cuda.device.get_cublas_handle()),
            "cupy": cp.__version__,
        }


_devices: dict[type, Device] = {}


def register(device: Device) -> None:
    """From now on arrays of type ``device.array`` are this device's."""
    _devices[device.array] = device


@cache
def gpu() -> Device:
    """The first GPU. Raises UserError that says what to install where there is none."""
    if cp is None:
        raise UserError(
            "the GPU engine needs CuPy: pip install -e '.[gpu]' for CUDA 12, '.[gpu13]' for CUDA 13"
        )
    try:
        found = cp.cuda.runtime.getDeviceCount()
    except cp.cuda.runtime.CUDARuntimeError as error:
        raise UserError(
            f"no GPU: {error}; install NVIDIA's driver, or leave out --gpu to run on the CPU"
        ) from error
    if found == 0:
        raise UserError("no GPU is visible (is CUDA_VISIBLE_DEVICES empty?)")
    if os.environ.get("CUPY_TF32", "0") != "0":
        raise UserError("unset CUPY_TF32: it rounds products that are meant to be float32")
    try:
        cp.RawKernel('extern "C" __global__ void nothing() {}', "nothing").compile()
        cp.cuda.device.get_cublas_handle()
    except Exception as error:  # whatever CuPy makes of a library that is missing or does not fit
        reason = textwrap.shorten(str(error), 200)
        raise UserError(
            f"CuPy cannot use CUDA's libraries ({reason}): pip install 'cupy-cuda12x[ctk]' for "
            "CUDA 12, 'cupy-cuda13x[ctk]' for CUDA 13"
        ) from error
    device = CupyDevice()
    register(device)
    return device


def device_of(x: Any) -> Device | None:
    """The device that holds ``x``; None for a NumPy array."""
    return _devices.get(type(x))


def device_holding(**array: Any) -> Device:
    """The device of the one array given by name. Raises TypeError if it is on none."""
    ((name, x),) = array.items()
    device = device_of(x)
    if device is None:
        raise TypeError(f"{name} must be an array on a GPU, got {type(x).__name__}")
    return device


def to_cpu(x: Any) -> np.ndarray:
    """``x`` as a NumPy array, wherever it lies."""
    device = device_of(x)
    return x if device is None else device.to_cpu(x)


def assign(x: Any, values: np.ndarray) -> None:
    """Write NumPy ``values`` into ``x``, wherever it lies."""
    device = device_of(x)
    x[...] = values if device is None else device.to_gpu(values)


@contextmanager
def memory_explained(remedy: str) -> Iterator[None]:
    """Inside this block too little memory is a UserError: how much was needed, and the remedy."""
    try:
        yield
    except MemoryError as error:
        raise UserError(f"{error}; {remedy}") from error


def joined(parts: Sequence[Array]) -> Array:
    """Arrays (.., C_k) side by side, along their last axis: (.., C_1 + C_2 + ..)."""
    widths = [part.shape[-1] for part in parts]
    y = _empty_like(parts[0], (*parts[0].shape[:-1], sum(widths)))
    for part, place in zip(parts, _places(widths), strict=True):
        _copy(part, y[..., place])
    return y


def parted(y: Array, widths: Sequence[int]) -> list[Array]:
    """The opposite: copies, for kernels take no views."""
    parts = [_empty_like(y, (*y.shape[:-1], width)) for width in widths]
    for part, place in zip(parts, _places(widths), strict=True):
        _copy(y[..., place], part)
    return parts


def _copy(x: Array, y: Array) -> None:
    """Write x into y, both (.., C). In NumPy few channels go one after another: rows of two numbers
    take six times as long.
    """
    if device_of(x) is None and x.shape[-1] <= FEW:
        for channel in range(x.shape[-1]):
            y[..., channel] = x[..., channel]
    else:
        y[...] = x


def _places(widths: Sequence[int]) -> list[slice]:
    """Where along the last axis each part lies."""
    stops = list(accumulate(widths))
    return [slice(stop - width, stop) for width, stop in zip(widths, stops, strict=True)]


def _empty_like(x: Array, shape: Shape) -> Array:
    """An array of this shape, of the type and on the engine of ``x``."""
    device = device_of(x)
    return np.empty(shape, x.dtype) if device is None else device.empty(shape, x.dtype)
