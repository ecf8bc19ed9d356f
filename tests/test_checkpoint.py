"""Checkpoints: what was saved comes back, anything else is refused, a full disk loses nothing."""

import errno
import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ministn.errors import UserError
from ministn.files import remove_temporaries, write_atomically
from ministn.training import checkpoint

ARRAYS = {
    "classifier/conv1/weight": np.arange(-4, 8, dtype=np.float32).reshape(2, 3, 2) / 7,
    "adam/m": np.array([1e-45, np.inf, -0.0], np.float32),
    "counts": np.array([[3]], np.int64),
}
STATE = {"epoch": 3, "best": None, "loss": 0.1 + 0.2, "history": [{"error": 12.5}], "é": "ü"}
SAVE = f"""
import numpy as np
from pathlib import Path
from ministn.training import checkpoint
arrays = {{"b": np.arange(12, dtype=np.float32).reshape(3, 4).T, "a": np.ones(3)}}
checkpoint.save(Path("saved"), arrays, {STATE!r})
"""


def child(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in ``folder``."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def foreign(dtype: str = "F32", **metadata: str) -> bytes:
    """A safetensors file with one array of four bytes, as another program would write it."""
    count = {"F32": 1, "BF16": 2, "F8_E4M3": 4}[dtype]
    header = {"a": {"dtype": dtype, "shape": [count], "data_offsets": [0, 4]}}
    text = json.dumps(header | ({"__metadata__": metadata} if metadata else {})).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4)


def saved(path: Path) -> bytes:
    checkpoint.save(path, ARRAYS, STATE)
    return path.read_bytes()


def test_round_trip(tmp_path):
    checkpoint.save(tmp_path / "x", ARRAYS, STATE)
    arrays, state = checkpoint.load(tmp_path / "x")
    assert state == {"format": checkpoint.FORMAT, **STATE}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()
    into = {name: np.zeros_like(array) for name, array in ARRAYS.items()}
    places = {name: array.ctypes.data for name, array in into.items()}
    checkpoint.fill(tmp_path / "x", arrays, into)
    assert all(into[name].tobytes() == array.tobytes() for name, array in ARRAYS.items())
    assert all(into[name].ctypes.data == place for name, place in places.items())


def test_arrays_that_are_not_contiguous_come_back_in_their_own_order(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    views = {"transposed": base.T, "stepped": base[::2, 1::3], "reversed": base[::-1]}
    checkpoint.save(tmp_path / "x", views, {})
    for name, array in checkpoint.load(tmp_path / "x")[0].items():
        np.testing.assert_array_equal(array, views[name])


def test_equal_content_gives_equal_bytes_in_every_process(tmp_path):
    """Whatever the hash seed and the order in which a dict was filled; and there is no clock."""
    digests = set()
    for seed in ("1", "2"):
        done = child(SAVE, tmp_path, PYTHONHASHSEED=seed)
        assert (done.returncode, done.stderr) == (0, "")
        digests.add(hashlib.sha256((tmp_path / "saved").read_bytes()).hexdigest())
    checkpoint.save(
        tmp_path / "here",
        {"a": np.ones(3), "b": np.arange(12, dtype=np.float32).reshape(3, 4).T},
        dict(reversed(STATE.items())),
    )
    digests.add(hashlib.sha256((tmp_path / "here").read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: b"", "not a readable checkpoint"),
        (lambda whole: whole[:5], "not a readable checkpoint"),
        (lambda whole: whole[: len(whole) // 2], "not a readable checkpoint"),
        (lambda whole: whole[:-1], "not a readable checkpoint"),
        (lambda whole: whole + b"x", "not a readable checkpoint"),
        (lambda whole: bytes(1000), "not a readable checkpoint"),
        (lambda whole: b"\xff" * 100, "not a readable checkpoint"),
        (lambda whole: pickle.dumps({"a": [1, 2]}), "not a readable checkpoint"),
        (lambda whole: foreign(), "not written by ministn"),
        (lambda whole: foreign("BF16"), "not written by ministn"),
        (lambda whole: foreign("F8_E4M3", format="pt"), "not written by ministn"),
        (lambda whole: foreign(ministn="{"), "not written by ministn"),
        (lambda whole: foreign(ministn="[1]"), "not written by ministn"),
        (lambda whole: foreign(ministn='{"epoch": 1}'), "not written by ministn"),
        (lambda whole: foreign(ministn='{"format": 2}'), "format 2, this version reads 1"),
        (lambda whole: foreign(ministn='{"format": true}'), "format True, this version reads 1"),
        (lambda whole: foreign(ministn='{"format": "x"}'), "format 'x', this version reads 1"),
        (lambda whole: foreign(ministn="[" * 100_000), "not written by ministn"),
        (
            lambda whole: foreign("BF16", ministn='{"format": 1}'),
            "not written by ministn: .*bfloat",
        ),
        (lambda whole: foreign("F8_E4M3", ministn='{"format": 1}'), "not written by ministn: .*f"),
    ],
)
def test_other_files_are_refused_by_name(content, message, tmp_path):
    path = tmp_path / "last.safetensors"
    path.write_bytes(content(saved(tmp_path / "good")))
    with pytest.raises(UserError, match=message) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "message"), [("none", "does not exist"), ("", "is not a file")])
def test_missing_file_and_folder_are_refused(name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        checkpoint.load(tmp_path / name)


class Trap:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "last.safetensors"
    content = pickle.dumps(Trap(trace))
    np.save(tmp_path / "array.npy", np.array([Trap(trace)], object), allow_pickle=True)
    for trapped in (content, (tmp_path / "array.npy").read_bytes()):
        path.write_bytes(trapped)
        with pytest.raises(UserError, match="not a readable checkpoint"):
            checkpoint.load(path)
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists(), "the trap does not work"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": None}, "it lacks array 'counts'"),
        ({"more": np.ones(1)}, "it has an unknown array 'more'"),
        (
            {"adam/m": np.ones(4, np.float32)},
            r"'adam/m' is float32 \(4,\), expected float32 \(3,\)",
        ),
        ({"adam/m": np.ones(3)}, r"'adam/m' is float64 \(3,\), expected float32 \(3,\)"),
        ({"counts": np.ones(1, np.int64)}, r"'counts' is int64 \(1,\), expected int64 \(1, 1\)"),
    ],
)
def test_fill_refuses_another_network_and_changes_nothing(change, message, tmp_path):
    found = {name: array for name, array in (ARRAYS | change).items() if array is not None}
    into = {name: np.full_like(array, 7) for name, array in ARRAYS.items()}
    with pytest.raises(UserError, match=f"of another network.*{message}"):
        checkpoint.fill(tmp_path / "last.safetensors", found, into)
    assert all((array == 7).all() for array in into.values())


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failing_disk_keeps_the_last_good_file(name, tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    good = saved(path)
    with monkeypatch.context() as patch, pytest.raises(UserError) as error:
        patch.setattr(os, name, full)
        checkpoint.save(path, {}, {})
    assert str(error.value) == (
        f"cannot save {path}: No space left on device; the previous one is kept"
    )
    assert path.read_bytes() == good and os.listdir(tmp_path) == [path.name]
    checkpoint.save(path, {}, {})
    assert path.read_bytes() != good


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_that_is_really_full(tmp_path, monkeypatch):
    """The system's own "No space left on device", while the temporary file is written."""
    path = tmp_path / "last.safetensors"
    good = saved(path)
    opened = os.open

    def on_the_full_device(file, *how):
        os.close(opened(file, *how))
        return opened("/dev/full", os.O_WRONLY)

    monkeypatch.setattr("ministn.files.os.open", on_the_full_device)
    with pytest.raises(UserError, match="No space left on device; the previous one is kept"):
        checkpoint.save(path, {"a": np.zeros(100_000)}, {})
    assert path.read_bytes() == good and os.listdir(tmp_path) == [path.name]


def test_a_write_that_stops_half_way(tmp_path):
    """A limit on the size of files, in a process of its own."""
    pytest.importorskip("resource")
    done = child(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from ministn import cli\n"
        "from ministn.training import checkpoint\n"
        "path = Path('last.safetensors')\n"
        "checkpoint.save(path, {'a': np.ones(1000)}, {})\n"
        "cli.run(lambda: checkpoint.save(path, {'a': np.zeros(10_000)}, {}))\n",
        tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: cannot save last.safetensors: File too large; the previous one is kept\n"
    )
    assert checkpoint.load(tmp_path / "last.safetensors")[0]["a"].sum() == 1000
    assert os.listdir(tmp_path) == ["last.safetensors"]


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(UserError, match=r"cannot save.*there is no previous one"):
            write_atomically(folder / "x", b"content")
    assert os.listdir(tmp_path) == ["file"]


def test_writing_leaves_no_temporary_and_removing_takes_only_those(tmp_path):
    write_atomically(tmp_path / "a", b"1")
    write_atomically(tmp_path / "a", b"2")
    (tmp_path / "record.json.0123abcd.tmp").touch()
    (tmp_path / "best.safetensors.tmp").touch()  # an earlier version's
    (tmp_path / "figure.png.tmp").mkdir()
    others = ["a", "figure.png.tmp", "notes.tmp", "tmp"]
    for name in ("notes.tmp", "tmp"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == others and (tmp_path / "a").read_bytes() == b"2"


def test_state_without_a_json_number_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path / "x", ARRAYS, {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


class Odd(np.ndarray):
    """An array of a class of one's own, as masked ones are."""


@pytest.mark.parametrize(
    ("arrays", "state", "error", "message"),
    [
        ({}, {"format": "x"}, ValueError, "the key 'format'"),
        ({}, {1: 2}, TypeError, "keys of state must be text, got 1"),
        ({}, {"a": [{"b": {None: 2}}]}, TypeError, r"keys of an entry of state\['a'\]\['b'\] must"),
        ({}, {"a": np.float32(1)}, TypeError, "JSON"),
        ({}, {"a": {1, 2}}, TypeError, "JSON"),
        ({}, [1], TypeError, "state must be a dict, got list"),
        ({"__metadata__": np.ones(1)}, {}, ValueError, "may be called '__metadata__'"),
        ({3: np.ones(1)}, {}, TypeError, "names of arrays must be text, got 3"),
        ({"a": np.ma.ones(1)}, {}, TypeError, "'a' must be a plain array, got MaskedArray"),
        ({"a": np.ones(1).view(Odd)}, {}, TypeError, "'a' must be a plain array, got Odd"),
        ({"a": [1.0]}, {}, TypeError, "'a' must be a plain array, got list"),
        ({"a": np.array([None])}, {}, TypeError, "'a' must hold numbers .* got object"),
        ({"a": np.array(["x"])}, {}, TypeError, "'a' must hold numbers .* got <U1"),
        ({"a": np.ones(1, complex)}, {}, TypeError, "'a' must hold numbers .* got complex128"),
        ({"a": np.ones(1, np.longdouble)}, {}, TypeError, "'a' must hold numbers .* got"),
        ({"a": np.ones(1, "M8[s]")}, {}, TypeError, "'a' must hold numbers .* got datetime64"),
        ({"a": np.ones(1, [("x", "f4")])}, {}, TypeError, "'a' must hold numbers .* got"),
    ],
)
def test_what_would_not_come_back_is_refused_before_anything_is_written(
    arrays, state, error, message, tmp_path
):
    path = tmp_path / "x"
    good = saved(path)
    with pytest.raises(error, match=message):
        checkpoint.save(path, arrays, state)
    assert path.read_bytes() == good and os.listdir(tmp_path) == ["x"]


def test_every_shape_and_number_comes_back(tmp_path):
    kinds = "bool i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split()
    shapes = [(), (0,), (0, 3), (1,), (2, 3)]
    arrays = {f"{kind} {shape}": np.ones(shape, kind) for kind in kinds for shape in shapes}
    state = {"text": "\ud800 \n", "deep": [[{"": None}]], "large": 2**80, "tiny": 5e-324}
    checkpoint.save(str(tmp_path / "x"), arrays, state)
    found, said = checkpoint.load(tmp_path / "x")
    assert said == {"format": 1, **state} and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found[name], array)
    into = {name: np.zeros_like(array) for name, array in arrays.items()}
    checkpoint.fill(tmp_path / "x", found, into)


def test_the_other_order_of_bytes_comes_back_as_numbers(tmp_path):
    array = np.arange(3, dtype=">f4")
    checkpoint.save(tmp_path / "x", {"a": array}, {})
    found = checkpoint.load(tmp_path / "x")[0]["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is not a file: name a checkpoint"):
        checkpoint.load(tmp_path / "pipe")


def test_a_file_that_must_not_be_read_is_not_to_be_deleted(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    saved(tmp_path / "x")
    monkeypatch.setattr("builtins.open", refuse)  # what root would never see
    with pytest.raises(UserError, match=r"x cannot be read: Permission denied$"):
        checkpoint.load(tmp_path / "x")
