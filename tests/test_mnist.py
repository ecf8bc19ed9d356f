"""Finding, downloading and checking MNIST's files, with files of the same form but 3x2 pixels."""

import gzip
import hashlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from small_runs import child
from test_table3 import FOLDER, SCRIPT, TINY

from ministn.data import Cluttered, folders, mnist
from ministn.data import __main__ as command
from ministn.errors import UserError

IMAGES = "train-images-idx3-ubyte"


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


# Pixels of the training, validation and test digits are worth 1, 10 and 100.
WORTH = np.repeat([1, 10, 100], [50_000, 10_000, 10_000]).astype(np.uint8)
PIXELS = np.tile(WORTH[:, None, None], (1, 3, 2))
LABELS = np.arange(70_000).astype(np.uint8)
CONTENT = {
    IMAGES: idx(PIXELS[:60_000]),
    "train-labels-idx1-ubyte": idx(LABELS[:60_000]),
    "t10k-images-idx3-ubyte": idx(PIXELS[60_000:]),
    "t10k-labels-idx1-ubyte": idx(LABELS[60_000:]),
}
PACKED = {name: gzip.compress(content, 1) for name, content in CONTENT.items()}


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine with its own cache and variables, for which CONTENT is MNIST."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(mnist, "FILES", sums)
    monkeypatch.setattr(mnist, "MIRRORS", [])
    monkeypatch.setattr(folders, "user_cache", lambda: tmp_path / "cache" / "ministn")
    monkeypatch.delenv("MINISTN_DATA", raising=False)


def fill(folder, packed=True, leave_out=()):
    folder.mkdir(parents=True, exist_ok=True)
    for name in CONTENT:
        if name not in leave_out:
            target = folder / (f"{name}.gz" if packed else name)
            target.write_bytes((PACKED if packed else CONTENT)[name])
    return folder


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("packed", [True, False])
def test_reads_plain_and_compressed_files_in_file_order(tmp_path, packed):
    splits = mnist.load(fill(tmp_path / "here", packed))
    start = 0
    for name, size in {"train": 50_000, "valid": 10_000, "test": 10_000}.items():
        rows = slice(start, start + size)
        assert np.array_equal(splits[name].images, PIXELS[rows])
        assert np.array_equal(splits[name].labels, LABELS[rows])
        start += size


def test_clutter_comes_from_the_digits_of_the_own_split(tmp_path):
    made = Cluttered(train_size=40, canvas=5, distractors=2, patch=2)
    loaded = made.load(fill(tmp_path))
    assert np.unique(loaded.train.images).tolist() == [0, 1, 2, 3]
    assert np.unique(loaded.valid.images).tolist() == [0, 10, 20, 30]
    assert np.unique(loaded.test.images).tolist() == [0, 100, 200, 255]


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (PACKED[IMAGES][:-9], "cannot be read"),
        (PACKED[IMAGES][:200] + b"????" + PACKED[IMAGES][204:], "cannot be read"),
        (b"", "expected it to begin with 000008 and its shape, found nothing"),
        (b"<html>", "expected it to begin with 000008 and its shape, found 3c68746d"),
        (CONTENT[IMAGES][:3], "expected it to begin with 000008"),
        (CONTENT[IMAGES][:11], "expected it to begin with 000008"),
        (CONTENT[IMAGES][:-1], "expected 360016 bytes for shape .60000, 3, 2., found 360015"),
        (CONTENT[IMAGES] + b"\0", "wrong length: .* found 360017"),
        (CONTENT[IMAGES][:-1] + b"\7", "expected SHA-256 [0-9a-f]{64} .* found [0-9a-f]{64}"),
    ],
    ids=[
        "cut gzip",
        "broken gzip",
        "empty",
        "html",
        "cut magic",
        "cut header",
        "short",
        "long",
        "altered",
    ],
)
def test_bad_files_are_named(tmp_path, stored, words):
    bad = fill(tmp_path) / f"{IMAGES}.gz"
    bad.write_bytes(stored)
    for call in (mnist.load, mnist.fetch):
        with pytest.raises(UserError, match=words) as caught:
            call(tmp_path)
        assert str(bad) in str(caught.value) and "\n" not in str(caught.value)


def test_a_given_folder_is_the_only_place_looked_in(monkeypatch, tmp_path, mirrors):
    monkeypatch.setenv("MINISTN_DATA", str(fill(tmp_path / "shared" / "mnist").parent))
    monkeypatch.setattr(mnist, "MIRRORS", [mirrors["right"]])
    partly = fill(tmp_path / "partly", leave_out=["t10k-labels-idx1-ubyte"])
    message = complaint(mnist.load, partly)
    assert "t10k-labels-idx1-ubyte" in message and str(partly) in message


def test_looks_in_ministn_data_then_in_the_cache(monkeypatch, tmp_path):
    cache = fill(tmp_path / "cache" / "ministn" / "mnist")
    assert {path.parent for path in mnist.fetch()} == {cache}
    shared = fill(tmp_path / "shared" / "mnist", packed=False, leave_out=[IMAGES])
    monkeypatch.setenv("MINISTN_DATA", str(shared.parent))
    assert [path.parent for path in mnist.fetch()] == [cache, shared, shared, shared]
    (shared / IMAGES).write_bytes(b"")
    assert str(shared / IMAGES) in complaint(mnist.load)


@pytest.fixture
def mirrors(monkeypatch):
    """Addresses of mirrors on this machine, each with its own trouble, and a right one."""
    pytest.importorskip("pooch")

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self):
            _, kind, file = self.path.split("/")
            body = PACKED[file.removesuffix(".gz")]
            self.send_response(404 if kind == "missing" else 200)
            self.send_header("Content-Length", str(len(body)))
            if kind == "unpacking":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            bodies = {"garbage": body[::-1], "broken": body[: len(body) // 2], "missing": b""}
            self.wfile.write(bodies.get(kind, body))

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    kinds = ("garbage", "broken", "missing", "right", "unpacking")
    yield {kind: f"http://127.0.0.1:{server.server_port}/{kind}" for kind in kinds} | {
        "dead": "http://127.0.0.1:1"
    }
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("last", ["right", "unpacking"])
def test_tries_one_mirror_after_the_other(monkeypatch, tmp_path, capsys, mirrors, last):
    kinds = ["dead", "missing", "garbage", "broken", last]
    monkeypatch.setattr(mnist, "MIRRORS", [mirrors[kind] for kind in kinds])
    cache = tmp_path / "cache" / "ministn" / "mnist"
    cache.mkdir(parents=True)
    (cache / f"{IMAGES}.gz.tmp").write_bytes(b"left by a killed download")
    assert len(mnist.load()["train"]) == 50_000
    assert sorted(path.name for path in cache.glob("*ubyte*")) == sorted(
        f"{name}.gz" for name in CONTENT
    )
    assert "100%" in capsys.readouterr().err
    monkeypatch.setattr(mnist, "MIRRORS", [])
    assert len(mnist.load()["test"]) == 10_000


def test_only_a_download_needs_pooch(monkeypatch, tmp_path):
    """And of all the packages that the GPU's machine may lack, nothing else needs one."""
    monkeypatch.undo()
    for package in ("pooch", "platformdirs"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    assert folders.user_cache() is None
    monkeypatch.delenv("MINISTN_DATA", raising=False)
    assert "pip install pooch" in complaint(mnist.load)
    monkeypatch.setenv("MINISTN_DATA", str(tmp_path))
    assert "pip install pooch" in complaint(mnist.fetch)

    done = child(WITHOUT, str(SCRIPT), *TINY.split(), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / FOLDER / "record.json").exists()


# Runs a script after it has imported all of the package.
WITHOUT = """
import pkgutil, runpy, sys
sys.modules |= dict.fromkeys(["pooch", "platformdirs", "hatchling"])
import ministn
for module in pkgutil.walk_packages(ministn.__path__, "ministn."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_says_what_to_do_when_no_mirror_works(monkeypatch, tmp_path, mirrors):
    kinds = ["dead", "missing", "garbage", "broken"]
    monkeypatch.setattr(mnist, "MIRRORS", [mirrors[kind] for kind in kinds])
    message = complaint(mnist.load)
    cache = tmp_path / "cache" / "ministn" / "mnist"
    for words in (IMAGES, str(cache), "ConnectionError", "HTTPError", "wrong content", "fetch"):
        assert words in message
    assert not list(cache.glob("*ubyte*"))


def test_an_interrupted_download_leaves_nothing(monkeypatch, tmp_path, mirrors):
    def interrupt(path, digest):
        assert path.stat().st_size > 0
        raise KeyboardInterrupt

    monkeypatch.setattr(mnist, "MIRRORS", [mirrors["right"]])
    monkeypatch.setattr(mnist, "read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mnist.fetch(tmp_path / "here")
    assert not list((tmp_path / "here").glob("*ubyte*"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    pytest.importorskip("pooch")
    (tmp_path / "file").write_text("not a folder")
    assert f"cannot write to {tmp_path / 'file'}" in complaint(mnist.fetch, tmp_path / "file")


def test_fetch_command(monkeypatch, tmp_path, capsys, mirrors):
    monkeypatch.setattr(mnist, "MIRRORS", [mirrors["right"]])
    assert command.main(["fetch", "--data-dir", str(tmp_path / "here")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [str(tmp_path / "here" / f"{name}.gz") for name in CONTENT]
    assert len(mnist.load(tmp_path / "here")["train"]) == 50_000

    (tmp_path / "here" / f"{IMAGES}.gz").write_bytes(b"")
    assert IMAGES in complaint(command.main, ["fetch", "--data-dir", str(tmp_path / "here")])
    assert capsys.readouterr().out == ""


def test_command_runs_as_a_module():
    call = [sys.executable, "-m", "ministn.data", "--help"]
    shown = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert "python -m ministn.data" in shown and "fetch" in shown
