"""The CPU shim: CUDA's language does what it should, and wrong calls and texts are reported."""

import os
import re
import shutil
import time
from functools import cache
from pathlib import Path

import cudacpu
import numpy as np
import pytest
from cudacpu import compiler
from cudacpu.module import KernelError, Module
from helpers import tf32

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")

FOLDER = Path(cudacpu.__file__).parent
ORDERS = [0, 1, 7, 8]


@cache
def module(checked):
    return Module((FOLDER / "correct.cu").read_text(), check=checked)


@pytest.fixture(params=[True, False], ids=["checked", "plain"])
def checked(request):
    return request.param


@pytest.fixture(params=ORDERS, ids=lambda order: f"order {order}")
def launch(request, checked):
    """Kernels of correct.cu, with and without checker, in several orders of threads and blocks."""
    module(checked).config(request.param, threads=2)
    yield module(checked).get_function
    module(checked).config()


def float32(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_every_thread_of_every_block_runs_once(launch):
    threads, blocks = np.full((2, 24, 105), -1, np.int32)
    launch("indices")((2, 3, 4), (3, 5, 7), (threads, blocks))
    np.testing.assert_array_equal(threads, np.tile(np.arange(105), (24, 1)))
    np.testing.assert_array_equal(blocks, np.repeat(np.arange(24)[:, None], 105, 1))


def test_shuffles(launch):
    x, y = np.arange(64, dtype=np.int32) * 10, np.zeros((64, 6), np.int32)
    launch("shuffles")((1,), (64,), (x, y))
    i = np.arange(64)
    warp, lane = i // 32 * 32, i % 32
    sources = (
        warp + 5,
        warp + np.where(lane >= 3, lane - 3, lane),
        warp + np.where(lane < 29, lane + 3, lane),
        i ^ 6,
        i // 8 * 8 + 1,
        np.where(i % 8 < 6, i + 2, i),
    )
    np.testing.assert_array_equal(y, 10 * np.stack(sources, 1))


def test_votes(launch):
    x, y = np.arange(64, dtype=np.int32), np.zeros((64, 4), np.uint32)
    launch("votes")((1,), (64,), (x, y))
    np.testing.assert_array_equal(y[:, 0], np.repeat([0xFFFFFFFE, 0xFFFFFFFF], 32))
    np.testing.assert_array_equal(y[:, 1], np.repeat([0, 0, 0, 1], 16))
    np.testing.assert_array_equal(y[:, 2], np.repeat([0, 1, 1, 1], 16))
    np.testing.assert_array_equal(y[:, 3], x ^ 1)


def test_block_sums(launch):
    x = np.random.default_rng(0).integers(-9, 9, 5000).astype(np.float32)
    sums = np.full(7, np.nan, np.float32)
    launch("block_sums")((7,), (256,), (x, sums, np.int32(x.size)))
    parts = np.zeros(20 * 256, np.float32)
    parts[: x.size] = x
    expected = [parts.reshape(20, 256)[b::7].sum() for b in range(7)]
    np.testing.assert_array_equal(sums, expected)


def test_barriers_and_shared_memory(launch):
    x = float32(96)
    y = x.copy()
    launch("reversals")((1,), (96,), (y,), shared_mem=4 * 96)
    np.testing.assert_array_equal(y, x[::-1])
    launch("within_a_warp")((1,), (32,), (y,))
    np.testing.assert_array_equal(y[:32], x[-32:])
    launch("within_parts_of_a_warp")((1,), (32,), (y,))
    np.testing.assert_array_equal(y[:32], 2 * x[-32:][np.arange(32) ^ 3])


@pytest.mark.parametrize("order", ORDERS)
def test_each_block_finds_nan_in_shared_memory(order):
    found = np.zeros((5, 64), np.float32)
    module(False).config(order, threads=1)
    module(False).get_function("leftovers")((5,), (32,), (found,), shared_mem=128)
    assert np.isnan(found).all()


def test_atomics(launch):
    ints = np.zeros(3, np.int32)
    unsigneds, longs = np.zeros(3, np.uint32), np.zeros(3, np.uint64)
    olds = np.zeros(256, np.int32)
    launch("atomics")((4,), (64,), (ints, unsigneds, longs, olds))
    assert ints.tolist() == [256, 5, -250]
    assert unsigneds.tolist() == [768, 2**32 - 1, 2**32 - 1]
    assert longs.tolist() == [2**64 - (255 * 128 << 20), 255 << 40, 2**64 - 1]
    assert sorted(olds) == list(range(256))


def test_tensor_core_multiplies_rounded_factors(launch):
    a, b, d = float32(16, 8), float32(8, 8, seed=1), float32(16, 8, seed=2)
    expected = d + tf32(a).astype(float) @ tf32(b).astype(float)
    launch("tensor_core")((1,), (32,), (a, b, d))
    np.testing.assert_allclose(d, expected, rtol=0, atol=2e-6)


def test_tensor_core_finds_every_element_in_its_lane(launch):
    """Exact: each product of whole numbers belongs to one element of A and one of B."""
    a, b = np.zeros((16, 8), np.float32), np.zeros((8, 8), np.float32)
    for i, k, j in ((0, 0, 0), (15, 7, 7), (3, 5, 2), (8, 4, 1), (9, 3, 6)):
        a[:], b[:], d = 0, 0, np.zeros((16, 8), np.float32)
        a[i, k], b[k, j] = 3, 5
        launch("tensor_core")((1,), (32,), (a, b, d))
        assert d[i, j] == 15 and np.count_nonzero(d) == 1


@pytest.mark.parametrize(("terms", "last_bits"), [(0, 4), (4, 1), (8, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_tensor_core_cuts_off(terms, last_bits, sign):
    """1 and four products of 0.875 of its last bit, of which all at once 0.5 count.

    One by one each sum is rounded up. Four at once are 1 and three, 1.5 bits, then one more.
    """
    a, b, d = (np.zeros(shape, np.float32) for shape in ((16, 8), (8, 8), (16, 8)))
    a[0, :5] = 1
    b[:5, 0] = sign, *[sign * 0.875 * 2**-23] * 4
    module(False).config(terms=terms)
    module(False).get_function("tensor_core")((1,), (32,), (a, b, d))
    module(False).config()
    assert d[0, 0] == sign * (1 + last_bits * 2**-23)


def test_rounding_to_tf32(launch):
    x = np.concatenate([float32(26), [1 + 2**-11, -1 - 2**-11, 0, -0.0, np.inf, np.nan]])
    x = x.astype(np.float32)
    y = np.zeros(32, np.uint32)
    launch("rounding")((1,), (32,), (x, y))
    np.testing.assert_array_equal(y.view(np.float32), [*tf32(x[:-2]), np.inf, np.nan])
    assert y[26:28].view(np.float32).tolist() == [1 + 2**-10, -1 - 2**-10]  # away from zero


def test_asynchronous_copies(launch):
    x, y = float32(5 * 128), np.full(5 * 128, np.nan, np.float32)
    launch("copies")((1,), (32,), (x, y, np.int32(5)))
    x[-8:] = 0
    np.testing.assert_array_equal(y, x)


def test_arithmetic(launch):
    x = np.array([3, 7, np.nan, 4, 1e10], np.float32)
    y, whole, bits = np.zeros(6, np.float32), np.zeros(12, np.int64), np.zeros(4, np.uint32)
    launch("arithmetic")((1,), (1,), (x, y, whole, bits))
    assert y.tolist() == [24, 1, 2, 0.5, 4, 4]
    assert whole.tolist() == [
        2, -2, -3, 3, 2**31 - 1, 0, -(10**10), 10**15, 0, -(2**63), 5, 5,
    ]  # fmt: skip
    assert bits.tolist() == [0x7FFFFFFF, 0x80000000, 4 + 31 + 4, 0x7FC01234]


def test_arguments_of_every_type(launch):
    c = np.zeros((32, 4), np.uint8)
    numbers = (np.int64(2**40 + 2), np.uint8(255), np.float64(3.25))
    launch("types")((1,), (32,), (np.array([3.25]), c, *numbers))
    np.testing.assert_array_equal(c, np.tile([255, 2, 3, 4], (32, 1)))


def test_arrays_may_overlap_and_lie_side_by_side(launch):
    x = np.arange(96, dtype=np.float32)
    launch("add_one")((1,), (32,), (x[:32], x[:32], np.int32(32)))  # in place
    launch("add_one")((1,), (32,), (x[32:64], x[64:], np.int32(32)))
    np.testing.assert_array_equal(x[:64].reshape(2, 32), np.arange(32) + np.array([[1], [65]]))


def test_empty_arrays(launch):
    launch("add_one")((1,), (32,), (*np.zeros((2, 0), np.float32), np.int32(0)))


def test_fibers_for_other_processors():
    slow = Module(module(False).source, runtime_options=["-DCUDACPU_UCONTEXT"])
    x = float32(96)
    y = x.copy()
    slow.get_function("reversals")((1,), (96,), (y,), shared_mem=4 * 96)
    np.testing.assert_array_equal(y, x[::-1])


def test_fused_multiply_add_is_an_option():
    """Off, as in NumPy, unless it is asked for; it changes results, and __fmul_rn prevents it."""
    text = """extern "C" __global__ void fused(const float* x, float* y) {
        y[0] = x[0] * x[1] + x[2];
        y[1] = __fadd_rn(__fmul_rn(x[0], x[1]), x[2]);
    }"""
    x = np.array([1 + 2**-12, 1 + 2**-12, -1 - 2**-11], np.float32)  # x0 x1 = -x2 + 2^-24
    for options, expected in ((), [0, 0]), (("-ffp-contract=fast", "-mfma"), [2**-24, 0]):
        y = np.ones(2, np.float32)
        Module(text, options=options).get_function("fused")((1,), (1,), (x, y))
        assert y.tolist() == expected


# ---- wrong calls and texts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "add_one takes 3 arguments, got 0"),
        ((1, 2, 3, 4), "add_one takes 3 arguments, got 4"),
        ((0, 0, 0), "argument 0, x, must be an array of float32, got int"),
        (("f8", "f4", 0), "argument 0, x, must be an array of float32, got float64"),
        (("f4", "view", 0), "argument 1, y, must be contiguous"),
        (("f4", "f4", "f4"), "argument 2, size, must be a int32 number, got an array"),
        (("f4", "f4", 1), "argument 2, size, must be a int32 number, got int64"),
        (("f4", "f4", np.float32(1)), "argument 2, size, must be a int32 number, got float32"),
    ],
)
def test_wrong_arguments(arguments, message):
    arrays = {name: np.zeros(4, name) for name in ("f4", "f8")} | {"view": np.zeros(8, "f4")[::2]}
    given = [arrays[a] if isinstance(a, str) else a for a in arguments]
    with pytest.raises(KernelError, match=re.escape(message)):
        module(False).get_function("add_one")((1,), (32,), given)


@pytest.mark.parametrize(
    ("grid", "block", "shared", "message"),
    [
        ((0,), (32,), 0, "add_one: impossible grid (0,)"),
        ((1, 65536), (32,), 0, "add_one: impossible grid (1, 65536)"),
        ((1,), (33,), 0, "add_one: impossible block (33,)"),  # more than its __launch_bounds__
        ((1,), (1, 1, 1, 1), 0, "add_one: impossible block (1, 1, 1, 1)"),
        ((1,), (32,), 227 * 1024 + 1, "add_one: 232449 bytes of shared memory"),
    ],
)
def test_impossible_launches(grid, block, shared, message):
    x = np.zeros(4, np.float32)
    with pytest.raises(KernelError, match=re.escape(message)):
        module(False).get_function("add_one")(grid, block, (x, x, np.int32(4)), shared)


def test_unknown_kernel():
    with pytest.raises(KernelError, match=r"no kernel extern .* void nothing"):
        module(False).get_function("nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n#line 7 \"name.cuh\"\n float x = unknown;", "name.cuh:7:.* error: .unknown. was not"),
        ("__device__ void f(float* x) { atomicAdd(x, 1.f); }", "kernel.cu:1:.*deleted function"),
        ("\n__device__ void f() {\n __shared__ int i, j; }", "line 3: write one shared array in a"),
        ('extern "C" __global__ void f(half* x) {}', "f: no NumPy dtype is known for 'half. x'"),
        ("int undefined(); int f() { return undefined(); }", "undefined"),
        (
            """extern "C" __global__ void f(const int* x, int* y) {
                int large[16000];
                for (int i = 0; i < 16000; ++i) large[i] = x[i % x[0]];
                y[0] = large[x[1]];
            }""",
            "frame size",
        ),
    ],
)  # fmt: skip
def test_text_that_does_not_compile(text, message):
    with pytest.raises(KernelError, match=message):
        Module(text)


def test_faults_name_the_file_that_a_line_directive_names():
    text = """#line 41 "header.cuh"
    __device__ void write(float* x) { x[threadIdx.x] = 1.f; }
    #line 1 "file.cu"
    extern "C" __global__ void f(float* x) { write(x); }"""
    kernel = Module(text, check=True).get_function("f")
    with pytest.raises(KernelError, match=r"\n  header\.cuh:41: __device__ void write.* = 1\.f; }"):
        kernel((1,), (2,), (np.zeros(1, np.float32),))


def test_messages_quote_callers_and_the_other_access_of_a_race():
    text = """
    __device__ __forceinline__ float half(const float* x) { return *x / 2.f; }
    extern "C" __global__ void f(float* x, int i) {
        x[threadIdx.x] = 1.f;
        x[0] = half(x + i);
    }"""
    kernel, quoted = Module(text, check=True).get_function("f"), []
    for i in (1, 2):
        with pytest.raises(KernelError) as error:
            kernel((1,), (2,), (np.zeros(2, np.float32), np.int32(i)))
        quoted.append(str(error.value).splitlines()[1:])
    half = "kernel.cu:2: __device__ __forceinline__ float half(const float* x) { return *x / 2.f; }"
    write, call = "kernel.cu:4: x[threadIdx.x] = 1.f;", "kernel.cu:5: x[0] = half(x + i);"
    assert quoted == [
        [f"  {write}", f"  after {half}"],
        [f"  {half}", f"  called at {call}"],
    ]


def test_libraries_are_compiled_once(monkeypatch):
    module(False)
    monkeypatch.setattr("cudacpu.compiler._run", None)
    Module(module(False).source)


def test_libraries_that_nobody_uses_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, age in ("old", compiler.KEPT_SECONDS + 60), ("new", 60):
        library = tmp_path / f"cudacpu-{os.getuid()}" / name / "library.so"
        library.parent.mkdir(parents=True)
        library.touch()
        os.utime(library, (time.time() - age,) * 2)
    assert [folder.name for folder in compiler._cache().iterdir()] == ["new"]


def test_the_readme(capfd):
    """Its examples run as it says, and the first says what it says without its barrier."""
    text = (FOLDER / "README.md").read_text()
    code, of_the_project = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    printed = capfd.readouterr().out
    exec(of_the_project, names)
    x, y = names["grid"].host[0, 0].T
    assert x.tolist() == [-0.75, -0.25, 0.25, 0.75, 1.25] and not y.any()
    for line in ("block 1, thread 6: 141", "[1. 3. 5. 7. 9.]"):
        assert line in printed and f"    {line}\n" in text
    with pytest.raises(KernelError) as error:
        exec(code.replace("    __syncthreads();\n", ""), {})
    for line in str(error.value).splitlines():
        assert f"    {line}\n" in text
