"""The CPU shim's checker: every fault seeded in faults.cu is reported, and nothing that is none."""

import re
import shutil
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from cudacpu.module import KernelError, Module
from test_cudacpu import FOLDER, ORDERS, float32, module

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


class Fault(NamedTuple):
    """What faults.cu says of a kernel."""

    name: str
    message: str
    blocks: int
    shared_bytes: int


FAULTS = (FOLDER / "faults.cu").read_text()
COMMENTED = re.compile(
    r"(?:// blocks: (\d+)\n)?(?:// shared: (\d+)\n)?// expect: (.+?)\n"
    r'extern "C" __global__ void (\w+)',
    re.DOTALL,
)


def faults():
    return [
        Fault(name, re.sub(r"\n// +", " ", message), int(blocks or 1), int(shared or 0))
        for blocks, shared, message, name in COMMENTED.findall(FAULTS)
    ]


@cache
def faulty():
    return Module(FAULTS, check=True)


def run(fault):
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    faulty().get_function(fault.name)((fault.blocks,), (64,), (x, y), fault.shared_bytes)


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_fault_is_reported(fault):
    with pytest.raises(KernelError, match=f"^{fault.name}: {re.escape(fault.message)}") as error:
        run(fault)
    assert re.search(r"^  kernel\.cu:\d+: .*// here$", str(error.value), re.MULTILINE)


@pytest.mark.parametrize("order", ORDERS[1:])
def test_faults_are_reported_in_every_order(order):
    """Which access of two comes second differs."""
    faulty().config(order)
    for fault in faults():
        with pytest.raises(KernelError, match=f"^{fault.name}: .* block "):
            run(fault)
    faulty().config()


def test_every_fault_is_tried():
    assert [fault.name for fault in faults()] == list(faulty().entries)


def test_a_fault_leaves_nothing_behind():
    run_fault, x = faults()[0], float32(96)
    with pytest.raises(KernelError):
        run(run_fault)
    for _ in range(2):
        module(True).get_function("within_a_warp")((1,), (32,), (x,))


def test_off_by_one_within_a_larger_array():
    """Views lie side by side, but a kernel may not cross from one to another."""
    x, y, size = np.zeros(64, np.float32), np.zeros(64, np.float32), np.int32(32)
    with pytest.raises(KernelError, match="read out of bounds: element 31 of argument 1, y, "):
        module(True).get_function("add_one")((1,), (32,), (y, x[:31], size))
    with pytest.raises(KernelError, match="write out of bounds: element 31 of argument 0, x, "):
        module(True).get_function("add_one")((1,), (32,), (x[32:63], x[:32], size))


def test_read_only_arrays_stay_as_they_are():
    x, y, size = float32(32), float32(32), np.int32(32)
    x.flags.writeable = False
    with pytest.raises(KernelError, match="write to a const array: element 0 of argument 0, x,"):
        module(True).get_function("add_one")((1,), (32,), (x, y, size))
    module(True).get_function("add_one")((1,), (32,), (y, x, size))


OVERRUNS = """  // in the first block only: blocks run side by side, and one is reported
extern "C" __global__ void overrun(int at) {
    if (blockIdx.x) return;
    __shared__ float s[4];
    float* const p = s;
    p[at] = 1.f;
}
extern "C" __global__ void dynamic_overrun(int at) {
    if (blockIdx.x) return;
    extern __shared__ float s[];
    s[at] = 1.f;
}
extern "C" __global__ void divergent(int at) {
    if (blockIdx.x) return;
    if (threadIdx.x < at) __syncthreads();
    else __syncwarp();
}"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("overrun", "write past the end of shared array s in block (0,0,0)"),
        ("dynamic_overrun", "write past the end of the dynamic shared memory in block (0,0,0)"),
        ("divergent", "deadlock in block (0,0,0): thread (0,0,0) waits at __syncthreads for ever"),
    ],
)
def test_without_the_checker_some_faults_are_found_too(name, message):
    kernel = Module(OVERRUNS).get_function(name)
    with pytest.raises(KernelError, match=re.escape(f"{name}: {message}")):
        kernel((2,), (32,), (np.int32(4),), shared_mem=16)
