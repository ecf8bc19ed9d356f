"""Every kernel compiles for real GPUs, into code that fits them. No GPU is needed.

The compiler is CuPy's, NVRTC, from NVIDIA's package for CUDA 12 or 13. ptxas, inside it, logs what
each kernel takes of a multiprocessor; PTX and cubin show what the kernel was made of.
"""

import ctypes
import re
from functools import cache
from importlib import metadata
from typing import NamedTuple

import pytest

from ministn import backend
from ministn.cuda import conv_tf32, launch

PACKAGES = "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"
FILES = sorted(path.stem for path in launch.FOLDER.glob("*.cu"))
CAPABILITIES = (75, 80, 90)
REGISTERS = 65536  # of a multiprocessor; a warp is given 256 at a time, 8 for each thread
STATIC_SHARED = 48 * 1024  # bytes

# Blocks that a multiprocessor of sm_90 holds at once, of the kernels whose threads need the most
# registers: three blocks of 128 threads leave each 168, two leave what they ask for. With too few
# there is nothing to do while they wait for memory. NVRTC 12.9, 13.0 and 13.5 keep to it.
BLOCKS = {
    "forward_wide": 3,
    "forward_narrow": 3,
    "forward_wide_leaky": 3,
    "forward_narrow_leaky": 3,
    "input_gradient_wide": 3,
    "input_gradient_narrow": 3,
    "weight_gradient_wide": 3,
    "weight_gradient_narrow": 3,
    "conv_tf32_32": 3,
    "conv_tf32_32_pool": 3,
    "conv_tf32_64": 2,
    "conv_tf32_64_pool": 2,
    "conv_tf32_32_leaky": 3,
    "conv_tf32_32_pool_leaky": 3,
    "conv_tf32_64_leaky": 2,
    "conv_tf32_64_pool_leaky": 2,
    "conv_tf32_input_gradient_32": 3,
    "conv_tf32_input_gradient_32_pool": 3,
    "conv_tf32_input_gradient_64": 2,
    "conv_tf32_input_gradient_64_pool": 2,
    "conv_tf32_weight_gradient": 2,
    "conv_tf32_weight_gradient_pool": 2,
    "dense_tf32": 2,
    "dense_tf32_input_gradient": 2,
    "dense_tf32_weight_gradient": 3,
    "bicubic_scatter": 3,
}
WARPS = 32  # of the 64 that it can hold, at least so many of every other kernel


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
    for package in PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        libraries = {file.name.partition(".so.")[0]: str(file.locate()) for file in files}
        if "libnvrtc" in libraries:
            ctypes.CDLL(libraries["libnvrtc-builtins"])  # which it may not find by itself
            return ctypes.CDLL(libraries["libnvrtc"])
    pytest.skip(f"no {PACKAGES[0]}: the extra `test` has it on Linux, x86-64")


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


class Needs(NamedTuple):
    """What a thread and a block take of a multiprocessor, as ptxas logs it. shared: bytes."""

    registers: int
    shared: int


def needs(text):
    shared = re.search(r"(\d+) bytes smem", text)
    return Needs(int(re.search(r"Used (\d+) registers", text)[1]), int(shared[1]) if shared else 0)


def kernels_in(log):
    """{kernel: what ptxas says of it}."""
    parts = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def problems(log, threads):
    """What ptxas says of kernels that must not be. threads: {kernel: those of a block}."""
    found = []
    kernels = kernels_in(log)
    assert kernels.keys() == threads.keys()
    for name, text in kernels.items():
        spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", text)
        assert spilled, f"{name}: nothing is said of spills"
        if any(int(count) for counts in spilled for count in counts):
            found.append(f"{name} spills registers")
        registers, shared = needs(text)
        if -(-registers // 8) * 8 * threads[name] > REGISTERS:
            found.append(f"{name}: {registers} registers, {threads[name]} threads fit no GPU")
        if shared > STATIC_SHARED:
            found.append(f"{name} has {shared} bytes of static shared memory")
    return found


def blocks_at_once(registers, shared, threads):
    """Blocks that a multiprocessor of sm_90 holds. shared: static and dynamic bytes of a block.

    It has four parts with a quarter of its registers and of its 64 warps each, and 228 KiB of
    shared memory, of which each block takes 1 KiB more than it asks for.
    """
    warps = -(-threads // 32)
    by_registers = 4 * min(16, REGISTERS // 4 // (32 * -(-registers // 8) * 8)) // warps
    return min(by_registers, 228 * 1024 // (shared + 1024), 32)


def dynamic_shared(name):
    """Bytes that conv_tf32.py asks for at the launch of a kernel; nothing else asks for any."""
    if name in ("conv_tf32_weight_gradient", "conv_tf32_weight_gradient_pool"):
        return conv_tf32.WEIGHT_STAGES
    if outputs := re.fullmatch(r"conv_tf32_(input_gradient_)?(32|64)(_pool)?(_leaky)?", name):
        gradient, out, pool, _ = outputs.groups()
        return conv_tf32._stages(int(out)) + (conv_tf32._raw(bool(pool)) if gradient else 0)
    return 0


def too_few_blocks(file, log):
    found = []
    threads = threads_of(file)
    for name, text in kernels_in(log).items():
        registers, shared = needs(text)
        blocks = blocks_at_once(registers, shared + dynamic_shared(name), threads[name])
        warps = -(-threads[name] // 32)
        if blocks < BLOCKS.get(name, WARPS // warps):
            found.append(f"{name}: {blocks} blocks at once, {registers} registers")
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
def test_enough_blocks_run_at_once(file):
    assert too_few_blocks(file, compiled_file(file, 90).log) == []


@pytest.mark.parametrize("file", FILES)
def test_products_and_copies_are_those_of_tensor_cores_where_they_should_be(file):
    for name, instructions in entries(compiled_file(file, 90).ptx).items():
        multiplies = on_tensor_cores(file) and name not in ("conv_tf32_pack", "dense_tf32_finish")
        assert ("mma.sync.aligned.m16n8k8" in instructions) == multiplies, name
        copies = multiplies and file in ("conv_tf32", "conv_tf32_weight")
        assert ("cp.async.cg.shared.global" in instructions) == copies, name


# On purpose, and little of it.
IN_DOUBLE = {"limit_norm", "mean", "note_left", "squares_of_blocks", "sum_of_blocks"}


@pytest.mark.parametrize("file", FILES)
def test_no_arithmetic_is_in_double_by_accident(file):
    for name, instructions in entries(compiled_file(file, 90).ptx).items():
        assert (".f64" in instructions) == (name in IN_DOUBLE), name


ONE_BY_ONE = (
    "adam", "affine_grid", "affine_grid_3d", "nesterov", "note_left", "projective_grid", "rmsprop",
    "sgd",
)  # fmt: skip


@pytest.mark.parametrize("name", ONE_BY_ONE)
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


def test_too_few_blocks_are_seen():
    log = re.sub(r"Used \d+ registers", "Used 169 registers", compiled_file("conv_exact", 90).log)
    found = [line.split(",")[0] for line in too_few_blocks("conv_exact", log)]
    ways = "forward_{}", "forward_{}_leaky", "input_gradient_{}"
    kernels = sorted(way.format(kind) for way in ways for kind in ("narrow", "wide"))
    assert sorted(found) == [f"{name}: 2 blocks at once" for name in kernels] + [
        "turn: 1 blocks at once"
    ]
    assert blocks_at_once(168, 0, 128) == 3
    assert blocks_at_once(32, 98560, 128) == 2 and blocks_at_once(8, 0, 1) == 32
    assert BLOCKS.keys() <= {name for file in FILES for name in launch.signatures(file)}


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
