"""The door to the kernels, launch.py, on a device that only notes what it is asked for."""

import re
from math import prod
from types import SimpleNamespace

import numpy as np
import pytest

from ministn import backend
from ministn.cuda import launch

FILES = sorted(path.stem for path in launch.FOLDER.glob("*.cu"))


# ---- signatures


@pytest.mark.parametrize("file", FILES)
def test_every_kernel_is_declared_as_launch_reads_it(file):
    text = launch.source(file)
    kernels = launch.signatures(file)
    assert len(kernels) == text.count("__global__") == len(re.findall('^extern "C"', text, re.M))
    assert len(kernels) > 0 and "#include" not in text
    for name, signature in kernels.items():
        assert signature.threads % 32 == 0 or name == "count_step"
        head, *_ = text[text.index(f"{name}(") :].partition(")")
        assert len(signature.parameters) == head.count(",") + 1
        assert sum(p.is_pointer for p in signature.parameters) == head.count("*")


def test_a_signature_has_dtypes_and_pointers():
    threads, parameters = launch.signatures("dropout")["dropout"]
    assert threads == 256
    assert [(p.name, p.dtype.name, p.is_pointer) for p in parameters] == [
        ("x", "float32", True),
        ("y", "float32", True),
        ("keep", "uint8", True),
        ("number", "uint32", True),
        ("size", "int32", False),
        *((name, "uint32", False) for name in ("first_counter", "offset", "call", "purpose")),
        *((name, "uint32", False) for name in ("key0", "key1")),
        ("threshold", "uint64", False),
        ("scale", "float32", False),
    ]
    theta, axis, *_ = launch.signatures("outcome")["note_left"].parameters
    assert (theta.dtype.name, axis.dtype.name) == ("float32", "float64")


def test_a_parameter_of_another_type_is_an_error():
    with pytest.raises(ValueError, match=r"^x.cu: no dtype is known for parameter 'short n'"):
        launch._parameter("x", " short n")


# ---- launches


class Array:
    """What launch looks at in an array."""

    def __init__(self, *shape, dtype=np.float32, contiguous=True):
        self.shape, self.size, self.dtype = shape, prod(shape), np.dtype(dtype)
        self.flags = SimpleNamespace(c_contiguous=contiguous)


class Device:
    """A device that notes launches."""

    name = "a notebook"

    def __init__(self):
        self.array = type("Array", (Array,), {})
        self.launched = []

    def kernel(self, source, name):
        assert name in source
        return lambda *launch: self.launched.append((name, *launch))


OTHER = Device()


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr(backend, "_devices", {})
    device = Device()
    backend.register(device)
    backend.register(OTHER)
    return device


def test_what_is_launched(notebook):
    x, y = notebook.array(3, 200), notebook.array(3, 200)
    launch.launch("relu", "relu", 3, x, y, 600)
    launch.launch("relu", "relu", (3, 2), x, y, np.int64(600), shared_bytes=64)
    assert notebook.launched == [
        ("relu", (3,), (256,), (x, y, 600), 0),
        ("relu", (3, 2), (256,), (x, y, 600), 64),
    ]


def test_numbers_get_the_kernels_types(notebook):
    x, y = notebook.array(4), notebook.array(4)
    keep, number = notebook.array(4, dtype=np.uint8), notebook.array(1, dtype=np.uint32)
    unsigned = 0, 2**32 - 1, np.int64(2**31), 3.0, np.float64(5), True
    launch.launch(
        "dropout", "dropout", 1, x, y, keep, number, -(2**31), *unsigned, 2**64 - 1, 1 / 3
    )
    ((*_, arguments, _),) = notebook.launched
    arrays, numbers = arguments[:4], arguments[4:]
    assert arrays == (x, y, keep, number)
    assert [type(n) for n in numbers] == [np.int32, *[np.uint32] * 6, np.uint64, np.float32]
    assert numbers == (-(2**31), 0, 2**32 - 1, 2**31, 3, 5, 1, 2**64 - 1, np.float32(1 / 3))


@pytest.mark.parametrize("grid", [0, (0,), (5, 0), (0, 3, 2)])
def test_a_grid_without_blocks_is_nothing_to_do(notebook, grid):
    x = notebook.array(0)
    launch.launch("relu", "relu", grid, x, x, 0)
    assert notebook.launched == []
    with pytest.raises(TypeError, match="takes 3 arguments"):
        launch.launch("relu", "relu", grid, x, x)


@pytest.mark.parametrize("grid", [2**31 - 1, (1, 65535), (1, 1, 65535)])
def test_the_largest_grids(notebook, grid):
    launch.launch("relu", "relu", grid, notebook.array(4), notebook.array(4), 4)
    assert len(notebook.launched) == 1


@pytest.mark.parametrize(
    "grid", [-1, 2**31, (1, -1), (1, 65536), (1, 1, 65536), (1, 1, 1, 1), (0, -1)]
)
def test_impossible_grids(notebook, grid):
    with pytest.raises(ValueError, match=r"^relu: impossible grid \("):
        launch.launch("relu", "relu", grid, notebook.array(4), notebook.array(4), 4)


# What is given for y and size of relu(x, y, size), and the error.
BAD = [
    ((), TypeError, "relu takes 3 arguments, got 1"),
    ((Array(4), 4, 4), TypeError, "relu takes 3 arguments, got 4"),
    ((Array(4, dtype=np.float64), 4), TypeError, "relu: y must be float32, got float64"),
    ((Array(4, dtype=np.int32), 4), TypeError, "relu: y must be float32, got int32"),
    ((1.5, 4), TypeError, "relu: y must be an array, got float"),
    ((None, 4), TypeError, "relu: y must be an array, got NoneType"),
    (([1.0], 4), TypeError, "relu: y must be an array, got list"),
    ((np.float32(1), 4), ValueError, "relu: y must be an array on a notebook, got float32"),
    ((np.zeros(4), 4), ValueError, "relu: y must be an array on a notebook, got ndarray"),
    ((OTHER.array(4), 4), ValueError, "relu: y must be an array on a notebook, got Array"),
    (
        (Array(4, 3, contiguous=False), 4),
        *(ValueError, "relu: y must be contiguous, got a view of shape (4, 3)"),
    ),
    (
        (Array(2**16, 2**15), 4),
        *(ValueError, "relu: y must have fewer than 2^31 elements, got 2147483648"),
    ),
    ((Array(4), Array(4)), TypeError, "relu: size must be a number, got Array"),
    ((Array(4), np.array(4)), TypeError, "relu: size must be a number, got ndarray"),
    ((Array(4), None), TypeError, "relu: size must be a number, got NoneType"),
    ((Array(4), "4"), TypeError, "relu: size must be a number, got str"),
    ((Array(4), 4.5), TypeError, "relu: size must be a whole number, got 4.5"),
    ((Array(4), float("nan")), TypeError, "relu: size must be a whole number, got nan"),
    ((Array(4), float("inf")), TypeError, "relu: size must be a whole number, got inf"),
    ((Array(4), 2**31), ValueError, "relu: size must fit int32, got 2147483648"),
    ((Array(4), -(2**31) - 1), ValueError, "relu: size must fit int32, got -2147483649"),
]


@pytest.mark.parametrize(("given", "error", "message"), BAD, ids=[bad[2] for bad in BAD])
def test_bad_arguments(notebook, given, error, message):
    def on_notebook(argument):
        if type(argument) is not Array:
            return argument
        array = notebook.array()
        vars(array).update(vars(argument))
        return array

    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        launch.launch("relu", "relu", 1, notebook.array(4), *map(on_notebook, given))
    assert notebook.launched == []


def test_the_largest_array(notebook):
    x = notebook.array(2**31 - 1)
    launch.launch("relu", "relu", 1, x, x, x.size)
    assert len(notebook.launched) == 1


def test_numbers_for_unsigned_parameters(notebook):
    x, keep = notebook.array(4), notebook.array(4, dtype=np.uint8)
    number = notebook.array(1, dtype=np.uint32)

    def dropout(offset, threshold, scale=1.0):
        arguments = 4, 0, offset, 0, 0, 0, 0, threshold, scale
        launch.launch("dropout", "dropout", 1, x, x, keep, number, *arguments)

    for offset, threshold, message in (
        (-1, 0, "offset must fit uint32, got -1"),
        (2**32, 0, "offset must fit uint32, got 4294967296"),
        (0, 2**64, "threshold must fit uint64, got 18446744073709551616"),
    ):
        with pytest.raises(ValueError, match=f"^dropout: {message}$"):
            dropout(offset, threshold)
    with pytest.raises(TypeError, match=r"^dropout: scale must be a number, got NoneType$"):
        dropout(0, 0, None)


def test_no_array_of_a_gpu_at_all(notebook):
    x = np.zeros(4, np.float32)
    with pytest.raises(TypeError, match=r"^relu: no argument is an array on a GPU$"):
        launch.launch("relu", "relu", 1, x, x, 4)


def test_kernels_and_files_that_do_not_exist(notebook):
    with pytest.raises(ValueError, match=r"^relu\.cu has no kernel 'gelu', only relu, relu_backw"):
        launch.launch("relu", "gelu", 1, notebook.array(4))
    with pytest.raises(FileNotFoundError, match=r"gelu\.cu"):
        launch.launch("gelu", "gelu", 1, notebook.array(4))


@pytest.mark.parametrize(
    ("size", "blocks"), [(0, 0), (1, 1), (256, 1), (257, 2), (2**31 - 1, 2**23)]
)
def test_blocks_for(size, blocks):
    assert launch.blocks_for(size) == blocks
