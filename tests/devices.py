"""The devices that the GPU engine's tests run on, and why one may be missing."""

import shutil
from functools import cache

import pytest
from cudacpu.device import EmulatedDevice

from ministn import backend
from ministn.errors import UserError


@cache
def emulated(checked: bool) -> EmulatedDevice:
    """The CPU shim, or a skip that says what it needs."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: the kernels cannot be compiled for the CPU shim")
    device = EmulatedDevice(checked)
    backend.register(device)
    return device


@cache
def real() -> backend.Device:
    """The first GPU, or a skip that says what is missing."""
    try:
        return backend.gpu()
    except UserError as error:
        pytest.skip(str(error))
