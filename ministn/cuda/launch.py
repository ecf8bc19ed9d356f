"""The only door to the kernels: finds, compiles, checks and launches them.

A kernel's signature is declared once, in its .cu file:

    extern "C" __global__ void __launch_bounds__(256) relu(const float* x, float* y, int size)

Everything is checked against it, because the GPU checks nothing: a float64 array, a view or a
Python float where a float32 is expected would read and write other memory in silence. The first
number in __launch_bounds__ is the number of threads a block is launched with; a second one is how
many blocks a multiprocessor must have registers for.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import Array, CompiledKernel, Device, device_of

FOLDER = Path(__file__).parent
LARGEST = 2**31 - 1  # kernels count elements in int

DTYPES: dict[str, np.dtype] = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "int": np.dtype(np.int32),
    "unsigned": np.dtype(np.uint32),
    "unsigned char": np.dtype(np.uint8),
    "long long": np.dtype(np.int64),
    "unsigned long long": np.dtype(np.uint64),
}
LIMITS = {
    dtype: (np.iinfo(dtype).min, np.iinfo(dtype).max)
    for dtype in DTYPES.values()
    if dtype.kind in "iu"
}
INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)
ENTRY = re.compile(
    r'extern "C" __global__ void __launch_bounds__\((\d+)(?:, \d+)?\)\s*(\w+)\(([^)]*)\)', re.DOTALL
)


class Parameter(NamedTuple):
    name: str
    dtype: np.dtype
    is_pointer: bool


class Signature(NamedTuple):
    threads: int
    parameters: tuple[Parameter, ...]


def launch(
    file: str, name: str, grid: int | tuple[int, ...], *arguments: Any, shared_bytes: int = 0
) -> None:
    """Launch kernel ``name`` of <file>.cu on the device that holds its arrays.

    grid: number of blocks along x, or along (x, y) or (x, y, z). arguments: arrays for pointers,
    Python or NumPy numbers for values. shared_bytes: dynamic shared memory for each block. A grid
    without blocks is nothing to do.

    Raises TypeError for a wrong number of arguments, an array of another dtype, a number for an
    array or the reverse; ValueError for an unknown kernel, an array that is not contiguous, lies on
    another device or is too large, a number that does not fit, or an impossible grid.
    """
    kernels = signatures(file)
    if name not in kernels:
        raise ValueError(f"{file}.cu has no kernel {name!r}, only {', '.join(kernels)}")
    signature = kernels[name]
    if len(arguments) != len(signature.parameters):
        raise TypeError(f"{name} takes {len(signature.parameters)} arguments, got {len(arguments)}")
    device = _device(name, arguments)
    checked = tuple(
        _checked(name, device, parameter, argument)
        for parameter, argument in zip(signature.parameters, arguments, strict=True)
    )
    blocks = (grid,) if isinstance(grid, int) else tuple(grid)
    limits = (LARGEST, 65535, 65535)
    if len(blocks) > 3 or any(not 0 <= n <= most for n, most in zip(blocks, limits, strict=False)):
        raise ValueError(f"{name}: impossible grid {blocks}")
    if 0 not in blocks:
        _compiled(device, file, name)(blocks, (signature.threads,), checked, shared_bytes)


def blocks_for(size: int, per_block: int = 256) -> int:
    """Blocks that ``size`` elements fill, the last one perhaps in part."""
    return -(-size // per_block)


@cache
def source(file: str) -> str:
    """The text of <file>.cu with its headers in place: it stands alone."""
    text = (FOLDER / f"{file}.cu").read_text()
    return INCLUDE.sub(lambda match: (FOLDER / match[1]).read_text(), text)


@cache
def signatures(file: str) -> dict[str, Signature]:
    """Every kernel that <file>.cu declares."""
    return {
        name: Signature(int(threads), tuple(_parameter(file, p) for p in parameters.split(",")))
        for threads, name, parameters in ENTRY.findall(source(file))
    }


def _parameter(file: str, declaration: str) -> Parameter:
    """ "const float* __restrict__ x" -> ("x", float32, True)."""
    words = declaration.replace("*", " * ").replace("__restrict__", " ").split()
    kind = " ".join(word for word in words[:-1] if word not in ("const", "*"))
    if kind not in DTYPES:
        raise ValueError(f"{file}.cu: no dtype is known for parameter {declaration.strip()!r}")
    return Parameter(words[-1], DTYPES[kind], "*" in words)


@cache
def _compiled(device: Device, file: str, name: str) -> CompiledKernel:
    return device.kernel(source(file), name)


def _device(name: str, arguments: Sequence[Any]) -> Device:
    devices = [device for device in map(device_of, arguments) if device is not None]
    if not devices:
        raise TypeError(f"{name}: no argument is an array on a GPU")
    return devices[0]


def _checked(name: str, device: Device, parameter: Parameter, argument: Any) -> Any:
    """The array itself, or the number in the kernel's type."""
    place = f"{name}: {parameter.name}"
    if not parameter.is_pointer:
        return _number(place, parameter.dtype, argument)
    if not hasattr(argument, "dtype") or not hasattr(argument, "shape") or argument.shape is None:
        raise TypeError(f"{place} must be an array, got {type(argument).__name__}")
    _check_array(place, device, parameter.dtype, argument)
    return argument


def _check_array(place: str, device: Device, dtype: np.dtype, array: Array) -> None:
    if device_of(array) is not device:
        raise ValueError(f"{place} must be an array on {device.name}, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{place} must be {dtype}, got {array.dtype}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{place} must be contiguous, got a view of shape {array.shape}")
    if array.size > LARGEST:
        raise ValueError(f"{place} must have fewer than 2^31 elements, got {array.size}")


def _number(place: str, dtype: np.dtype, value: Any) -> np.generic:
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{place} must be a number, got {type(value).__name__}")
    if dtype.kind == "f":
        return dtype.type(value)
    if value % 1 != 0:  # or it is not finite
        raise TypeError(f"{place} must be a whole number, got {value}")
    least, most = LIMITS[dtype]
    if not least <= value <= most:
        raise ValueError(f"{place} must fit {dtype}, got {value}")
    return dtype.type(value)
