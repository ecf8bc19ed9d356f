"""Compile CUDA C++ for the CPU and launch its kernels, in the manner of cupy.RawModule.

module = Module(text, check=True)
module.get_function("relu")((blocks,), (256,), (x, y, np.int32(x.size)))
"""

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cudacpu import compiler
from cudacpu.translate import Entry, KernelError, Parameter, entries, line_text, translated

__all__ = ["Kernel", "KernelError", "Module"]

MOST_THREADS, MOST_SHARED_BYTES, MOST_ARRAYS = 1024, 227 * 1024, 64
LIMITS_OF_GRID = (2**31 - 1, 65535, 65535)
LIMITS_OF_BLOCK = (1024, 1024, 64)
TERMS = int(os.environ.get("CUDACPU_TERMS", "4"))  # fewer at once lose more
UINT3 = ctypes.c_uint * 3


class Array(ctypes.Structure):  # as in launch.h; so are the next two
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("argument", ctypes.c_int),
        ("item_bytes", ctypes.c_uint),
        ("writable", ctypes.c_int),
    )


class Launch(ctypes.Structure):
    _fields_ = (
        ("kernel", ctypes.c_void_p),
        ("parameters", ctypes.c_void_p),
        ("parameter_count", ctypes.c_int),
        ("grid", UINT3),
        ("block", UINT3),
        ("shared_bytes", ctypes.c_size_t),
        ("order", ctypes.c_uint),
        ("workers", ctypes.c_uint),
        ("terms", ctypes.c_uint),
        ("checked", ctypes.c_int),
        ("arrays", ctypes.POINTER(Array)),
        ("array_count", ctypes.c_int),
        ("constants", ctypes.c_void_p * 2),
    )


class Report(ctypes.Structure):
    _fields_ = (
        ("text", ctypes.c_char_p),
        ("file", ctypes.c_char_p),
        ("line", ctypes.c_int),
        ("instruction", ctypes.c_void_p),
        ("earlier", ctypes.c_void_p),
    )


class Module:
    """The kernels of one text that stands alone. Raises KernelError if it does not compile.

    options: for g++, after and so over the usual ones. check: every access to memory is checked,
    3 to 90 times as slow. runtime_options: for the runtime, of which there can be several.
    """

    def __init__(
        self,
        source: str,
        options: Sequence[str] = (),
        check: bool = False,
        runtime_options: Sequence[str] = (),
    ) -> None:
        self.source, self.check = source, check
        self.entries = entries(source)
        self.runtime = compiler.runtime(runtime_options)
        self.path = compiler.kernels(translated(source), options, check, self.runtime)
        self.library = ctypes.CDLL(str(self.path))
        self.launch = ctypes.CDLL(str(self.runtime)).cudacpu_launch
        self.launch.restype = ctypes.POINTER(Report)
        self.constants = (ctypes.c_void_p * 2).in_dll(self.library, "cudacpu_constants")
        self.config()

    def config(self, order: int = 0, threads: int = 0, terms: int = TERMS) -> None:
        """How kernels are run from now on.

        order: in which lanes, warps and blocks get their turn: 0 forward, 1 backward, any other
        number is the seed of a random order. threads: of the operating system, among which blocks
        are divided; 0: one for each processor. A checked kernel always has one. terms: how many
        products a tensor core adds at once, 4 or 8, and then cuts the sum off, as GPUs do; 0: it
        adds one by one and rounds.
        """
        self.order, self.threads, self.terms = order, threads, terms

    def get_function(self, name: str) -> "Kernel":
        if name not in self.entries:
            raise KernelError(f'no kernel extern "C" __global__ void {name}(...) is in the text')
        return Kernel(self, name, self.entries[name])


class Kernel:
    """Called with a grid, a block (each one to three sizes), arguments, bytes of dynamic shared
    memory. Returns when the kernel has ended; raises KernelError if it did what it must not."""

    def __init__(self, module: Module, name: str, entry: Entry) -> None:
        self.module, self.name, self.entry = module, name, entry
        function = getattr(module.library, f"cudacpu_{name}")
        self._address = ctypes.cast(function, ctypes.c_void_p)

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared_mem: int = 0,
    ) -> None:
        parameters, arrays = self._packed(arguments)
        blocks = self._sizes("grid", grid, LIMITS_OF_GRID, 2**31 - 1)
        threads = self._sizes("block", block, LIMITS_OF_BLOCK, self.entry.threads)
        if not 0 <= shared_mem <= MOST_SHARED_BYTES:
            raise KernelError(f"{self.name}: {shared_mem} bytes of shared memory")
        module = self.module
        launch = Launch(
            self._address, parameters.ctypes.data, len(parameters), blocks, threads, shared_mem,
            module.order, module.threads, module.terms, module.check,
            (Array * len(arrays))(*arrays), len(arrays), module.constants,
        )  # fmt: skip
        report = module.launch(ctypes.byref(launch))
        if report:
            raise KernelError(self._explained(report.contents))

    def _sizes(self, what: str, sizes: Sequence[int], limits: Sequence[int], most: int) -> Any:
        three = (*sizes, 1, 1)[:3]
        if (
            len(sizes) > 3
            or any(not 0 < n <= limit for n, limit in zip(three, limits, strict=True))
            or np.prod(three, dtype=object) > most
        ):
            raise KernelError(f"{self.name}: impossible {what} {tuple(sizes)}")
        return UINT3(*three)

    def _packed(self, arguments: Sequence[Any]) -> tuple[np.ndarray, list[Array]]:
        """Every argument in 8 bytes, and what is known of the arrays."""
        expected = self.entry.parameters
        if len(arguments) != len(expected):
            raise KernelError(f"{self.name} takes {len(expected)} arguments, got {len(arguments)}")
        packed, arrays = np.zeros(len(expected), np.uint64), []
        for i, (parameter, argument) in enumerate(zip(expected, arguments, strict=True)):
            if parameter.is_pointer:
                arrays.append(self._array(i, parameter, argument))
                packed[i] = argument.ctypes.data
            else:
                number = self._number(i, parameter, argument)
                packed[i : i + 1].view(parameter.dtype)[0] = number
        if len(arrays) > MOST_ARRAYS:
            raise KernelError(f"{self.name}: {len(arrays)} arrays, at most {MOST_ARRAYS} work")
        return packed, arrays

    def _array(self, i: int, parameter: Parameter, argument: Any) -> Array:
        place = f"{self.name}: argument {i}, {parameter.name},"
        if not isinstance(argument, np.ndarray) or argument.dtype != parameter.dtype:
            kind = getattr(argument, "dtype", type(argument).__name__)
            raise KernelError(f"{place} must be an array of {parameter.dtype}, got {kind}")
        if not argument.flags.c_contiguous:
            raise KernelError(f"{place} must be contiguous")
        writable = argument.flags.writeable and not parameter.is_const
        return Array(
            argument.ctypes.data, argument.nbytes, parameter.name.encode(), i,
            argument.itemsize, writable,
        )  # fmt: skip

    def _number(self, i: int, parameter: Parameter, argument: Any) -> np.generic:
        """Of the very type: CuPy, too, passes a Python int on as 8 bytes, whatever is expected."""
        number = np.asarray(argument)
        if number.dtype != parameter.dtype or number.shape != ():
            kind = f"an array of shape {number.shape}" if number.shape else number.dtype
            raise KernelError(
                f"{self.name}: argument {i}, {parameter.name}, must be a {parameter.dtype} number, "
                f"got {kind}"
            )
        return number[()]

    def _explained(self, report: Report) -> str:
        """What is wrong, and the lines of the source."""
        lines = [f"{self.name}: {report.text.decode()}"]
        if report.file:
            lines.append(self._line((report.file.decode(), report.line)))
        elif report.instruction:
            first, *calls = self._places(report.instruction) or [("", 0)]
            lines += [self._line(first), *(f"called at {self._line(call)}" for call in calls)]
        if report.earlier:
            lines += [f"after {self._line(place)}" for place in self._places(report.earlier)[:1]]
        return "\n  ".join(line for line in lines if line)

    def _places(self, return_address: int) -> list[compiler.SourceLine]:
        offset = return_address - 1 - self.module.constants[0]
        return compiler.places_of(self.module.path, offset, self.module.runtime)

    def _line(self, place: compiler.SourceLine) -> str:
        file, line = place
        if not file:
            return ""
        file = file.removeprefix(f"{self.module.path.parent}/")
        return f"{file}:{line}: {line_text(self.module.source, file, line)}".rstrip(": ")
