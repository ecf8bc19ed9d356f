"""Every kernel compiles for real GPUs, into code that fits them. No GPU is needed.

The compiler is CuPy's, NVRTC, from the package nvidia-cuda-nvrtc-cu12. ptxas, inside it, logs
what each kernel takes of a multiprocessor; PTX and cubin show what the kernel was made of.
"""

import ctypes
import re
from functools import cache
from importlib import metadata
from typing import NamedTuple

import pytest

from ministn import backend
from ministn.cuda import launch

PACKAGE = "nvidia-cuda-nvrtc-cu12"
FILES = sorted(path.stem for path in launch.FOLDER.glob("*.cu"))
CAPABILITIES = (75, 80, 90)
REGISTERS = 65536  # of a multiprocessor; a warp is given 256 at a time, 8 for each thread
STATIC_SHARED = 48 * 1024  # bytes


def on_tensor_cores(file):
    return '#include "tensor_core.cuh"' in (launch.FOLDER / f"{file}.cu").read_text()


CASES = [
    pytest.param(file, capability, id=f"{file}-sm_{capability}")
    for file in FILES
    for capability in CAPABILITIES
    if capability >= 80 or not on_tensor_cores(file)
]


@cache
def nvrtc():
    """The compiler as a library, or a skip."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if re.fullmatch(r"libnvrtc\.so\.\d+", file.name):
            return ctypes.CDLL(str(file.locate()))
    pytest.skip(f"no {PACKAGE}: the extra `test` has it on Linux, x86-64")


class Compiled(NamedTuple):
    log: str
    cubin: bytes
    ptx: str


def compiled(source, capability):
    """Compile CUDA C++ with the options that CuPy passes. Raises ValueError with NVRTC's log."""
    library, program = nvrtc(), ctypes.c_void_p()
    options = [
        *backend.COMPILER_OPTIONS,
        "-ftz=true",  # this and the next two are CuPy's own
        f"-arch=sm_{capability}",
        "--device-as-default-execution-space",
        "--ptxas-options=-v",
    ]
    arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None
    )
    assert created == 0

    def result(name):
        size = ctypes.c_size_t()
        assert getattr(library, f"nvrtcGet{name}Size")(program, ctypes.byref(size)) == 0
        content = ctypes.create_string_buffer(size.value)
        assert getattr(library, f"nvrtcGet{name}")(program, content) == 0
        return content.raw

    def text(name):
        return result(name).rstrip(b"\0").decode()

    try:
        if library.nvrtcCompileProgram(program, len(options), arguments):
            raise ValueError(text("ProgramLog"))
        return Compiled(text("ProgramLog"), result("CUBIN"), text("PTX"))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


compiled_file = cache(lambda file, capability: compiled(launch.source(file), capability))


def problems(log, threads):
    """What ptxas says of kernels that must not be. threads: {kernel: those of a block}."""
    found = []
    parts = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    kernels = dict(zip(parts[::2], parts[1::2], strict=True))
    assert kernels.keys() == threads.keys()
    for name, text in kernels.items():
        spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", text)
        assert spilled, f"{name}: nothing is said of spills"
        if any(int(count) for counts in spilled for count in counts):
            found.append(f"{name} spills registers")
        registers = int(re.search(r"Used (\d+) registers", text)[1])
        if -(-registers // 8) * 8 * threads[name] > REGISTERS:
            found.append(f"{name}: {registers} registers, {threads[name]} threads fit no GPU")
        shared = re.search(r"(\d+) bytes smem", text)
        if shared and int(shared[1]) > STATIC_SHARED:
            found.append(f"{name} has {shared[1]} bytes of static shared memory")
    return found


def threads_of(file):
    return {name: signature.threads for name, signature in launch.signatures(file).items()}


def entries(ptx):
    """{kernel: its instructions}."""
    parts = re.split(r"\.entry (\w+)", ptx)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(("file", "capability"), CASES)
def test_a_file_compiles_and_fits(file, capability):
    result = compiled_file(file, capability)
    assert problems(result.log, threads_of(file)) == []
    names = launch.signatures(file).keys()
    assert entries(result.ptx).keys() == names
    for name in names:
        assert f".text.{name}\0".encode() in result.cubin


@pytest.mark.parametrize("file", FILES)
def test_products_and_copies_are_those_of_tensor_cores_where_they_should_be(file):
    for name, instructions in entries(compiled_file(file, 90).ptx).items():
        multiplies = name.startswith(("conv_tf32", "dense_tf32"))
        multiplies &= not name.endswith(("_pack", "_finish"))
        assert ("mma.sync.aligned.m16n8k8" in instructions) == multiplies, name
        copies = multiplies and name.startswith("conv")
        assert ("cp.async.cg.shared.global" in instructions) == copies, name


IN_DOUBLE = {"mean", "note_left"}  # on purpose, and little of it


@pytest.mark.parametrize("file", FILES)
def test_no_arithmetic_is_in_double_by_accident(file):
    for name, instructions in entries(compiled_file(file, 90).ptx).items():
        assert (".f64" in instructions) == (name in IN_DOUBLE), name


@pytest.mark.parametrize(
    "name", ["adam", "affine_grid", "affine_grid_3d", "projective_grid", "note_left"]
)
def test_what_is_rounded_one_by_one_is_not_fused(name):
    """No fused multiply-add, and no product that ptxas may still make one of."""
    (file,) = (file for file in FILES if name in launch.signatures(file))
    instructions = entries(compiled_file(file, 90).ptx)[name]
    assert re.search(r"mul\.rn(\.ftz)?\.f(32|64)", instructions)
    assert not re.search(r"\bfma\.|\bmul(\.ftz)?\.f", instructions)


# ---- these tests can fail


def test_spills_are_seen():
    """conv_first_input needs more than the 32 registers that eight blocks leave it."""
    bounded, crowded = "__launch_bounds__(256)", "__launch_bounds__(256, 8)"
    source = launch.source("conv_first_input")
    assert bounded in source
    log = compiled(source.replace(bounded, crowded), 90).log
    names = launch.signatures("conv_first_input")
    assert sorted(problems(log, threads_of("conv_first_input"))) == [
        f"{name} spills registers" for name in sorted(names)
    ]


def test_too_many_registers_or_too_much_shared_memory_are_seen():
    log = compiled_file("conv_exact_weight", 90).log
    names = sorted(launch.signatures("conv_exact_weight"))
    found = sorted(problems(log, dict.fromkeys(names, 1024)))
    assert [line.split(":")[0] for line in found] == names
    log = re.sub(r"\d+ bytes smem", "49153 bytes smem", log)
    found = sorted(problems(log, threads_of("conv_exact_weight")))
    assert found == [f"{name} has 49153 bytes of static shared memory" for name in names]


def test_fused_products_are_seen():
    source = launch.source("adam").replace("__fmul_rn(gi, gain1)", "gi * gain1")
    source = source.replace("__fadd_rn(__fmul_rn(m[i], beta1), ", "(m[i] * beta1 + ")
    assert "fma.rn" in entries(compiled(source, 90).ptx)["adam"]


@pytest.mark.parametrize("file", [file for file in FILES if on_tensor_cores(file)])
def test_without_tensor_cores_the_message_says_so(file):
    with pytest.raises(ValueError, match=r"TF32 products need compute capability 8\.0"):
        compiled_file(file, 75)
