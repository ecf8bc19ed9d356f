"""The device that the GPU engine's tests run on where there is no GPU."""

import shutil
from functools import cache

import pytest
from cudacpu.device import EmulatedDevice

from ministn import backend


@cache
def emulated(checked: bool) -> EmulatedDevice:
    """The CPU shim, or a skip that says what it needs."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: the kernels cannot be compiled for the CPU shim")
    device = EmulatedDevice(checked)
    backend.register(device)
    return device
