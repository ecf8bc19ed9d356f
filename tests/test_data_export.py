"""Data sets as files: what is in them, that it is the same everywhere, and that none is cut off."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ministn.data import (
    Addition,
    Cluttered,
    CroppedToDigit,
    Crops,
    Distorted,
    Extruded,
    OneDigit,
    Plankton,
    Sequences,
    Svhn,
    as_batch,
)  # fmt: skip
from ministn.data.__main__ import main
from ministn.data.export import SETS, export
from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.plot import data_sets

ROOT = Path(__file__).parents[1]
TINY = Cluttered(EMBEDDED, 24, 2, 6, 110)

# Of embedded digits with 64 training images, the same under NumPy 1.26, 2.0 and 2.4, with and
# without a processor's vector units, and with OpenBLAS's kernels for old and new ones.
DIGESTS = {
    "addition": "ddbef1c211e24160", "cluttered": "668709dc927c545d", "cropped": "c2be6506a37a79c0",
    "colocalisation": "a8040e6f676e1b18", "crops": "957f545e495b508b",
    "plankton": "71828356f5051108", "sequences": "3cc5e37ffabe7b1a", "svhn": "1fdbfa8360d90cda",
    "R": "cfd496c219d6de39", "RTS": "c59e1ac50b606e01", "P": "d1005f30d3ecda04",
    "E": "6dfd22071451de13", "TC": "be84861933193057", "S": "b1502aa1d277535d",
}  # fmt: skip


def read(path):
    with np.load(path) as file:  # which would refuse what is pickled
        return dict(file)


def test_cluttered_digits_have_the_layout_of_the_lost_file(tmp_path):
    said = export(TINY, tmp_path / "tiny.npz", bar=False)
    found, made = read(tmp_path / "tiny.npz"), TINY.load()
    splits = {"train": made.train, "valid": made.valid, "test": made.test}
    assert list(found) == [
        *(f"{kind}_{name}" for name in splits for kind in ("x", "y", "boxes")),
        "description", "seed", "epoch", "data_sha256", "sha256",
    ]  # fmt: skip
    for name, split in splits.items():
        x, y = found[f"x_{name}"], found[f"y_{name}"]
        assert x.dtype == y.dtype == np.float32 and 0 <= x.min() < x.max() <= 1
        np.testing.assert_array_equal(x, as_batch(split.images).reshape(len(split), 24 * 24))
        assert y.shape == (len(split), 10) and (y.sum(axis=1) == 1).all()
        np.testing.assert_array_equal(y.argmax(axis=1), split.labels)
        np.testing.assert_array_equal(found[f"boxes_{name}"], split.boxes)
    assert found["data_sha256"] == made.sha256 and found["sha256"] == said
    assert (found["seed"], found["epoch"]) == (0, 1)
    assert "cluttered" in str(found["description"]) and "one-hot" in str(found["description"])


def test_others_are_bytes_with_labels_boxes_and_poses(tmp_path):
    data = Distorted("R", EMBEDDED, 64, seed=3)
    export(data, tmp_path / "r.npz", epoch=2, bar=False)
    found, made = read(tmp_path / "r.npz"), data.load()
    images, labels = made.train.epoch(2)
    np.testing.assert_array_equal(found["images_train"], images)
    np.testing.assert_array_equal(found["labels_train"], labels)
    for kind in ("images", "labels", "boxes", "poses"):
        np.testing.assert_array_equal(found[f"{kind}_test"], getattr(made.test, kind))
    assert found["images_train"].dtype == np.uint8 and not any("valid" in name for name in found)
    assert (found["seed"], found["epoch"]) == (3, 2)


def test_pairs_are_of_the_images_to_test(tmp_path):
    export(OneDigit(4, 0, EMBEDDED), tmp_path / "pairs.npz", bar=False)
    found = read(tmp_path / "pairs.npz")
    assert [name for name in found if found[name].ndim] == [
        f"{kind}_test" for kind in ("images", "labels", "boxes", "poses")
    ]


def test_the_digest_is_over_the_arrays_in_order(tmp_path):
    """Computed by what the description says alone."""
    said = export(Sequences(EMBEDDED, train_size=64), tmp_path / "s.npz", bar=False)
    digest = hashlib.sha256()
    for name, array in read(tmp_path / "s.npz").items():
        if array.ndim:
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    assert digest.hexdigest() == said


def small(name):
    """A set of embedded digits; the test split is as it is."""
    made = {
        "addition": Addition(EMBEDDED, 64), "cluttered": TINY,
        "colocalisation": OneDigit(4, 16, EMBEDDED),
        "cropped": CroppedToDigit(EMBEDDED, 24, 2, 6, 64), "crops": Crops(EMBEDDED, 64),
        "plankton": Plankton(33, EMBEDDED, 64), "sequences": Sequences(EMBEDDED, train_size=64),
        "svhn": Svhn(EMBEDDED, 64),
    }  # fmt: skip
    return made.get(name) or Distorted(name, EMBEDDED, 64)


@pytest.mark.parametrize("name", DIGESTS)
def test_the_same_set_has_the_same_bytes_everywhere(name, tmp_path):
    assert export(small(name), tmp_path / "set.npz", bar=False)[:16] == DIGESTS[name]


def test_on_a_plainer_machine_too(tmp_path):
    """Without vector units, and with matrix products for an old processor."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    plain = {"NPY_DISABLE_CPU_FEATURES": " ".join(found), "OPENBLAS_CORETYPE": "Nehalem"}
    code = (
        "import sys, test_data_export as exports\n"
        "from pathlib import Path\n"
        "for name in ('S', 'E'):\n"
        "    print(exports.export(exports.small(name), Path('s.npz'), bar=False)[:16])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | plain | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )  # fmt: skip
    assert done.stdout.split() == [DIGESTS["S"], DIGESTS["E"]], done.stderr


def test_volumes_are_made_as_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Extruded, "test_size", 3)
    export(Extruded(EMBEDDED, 2), tmp_path / "v.npz", bar=False)
    found, made = read(tmp_path / "v.npz"), Extruded(EMBEDDED, 2).load()
    np.testing.assert_array_equal(found["images_test"], np.asarray(made.test.images))
    np.testing.assert_array_equal(found["images_train"], np.asarray(made.train.epoch(1).images))


def test_every_set_that_can_be_looked_at_can_be_exported():
    assert SETS.keys() == data_sets.SETS.keys()
    assert [data.name for name, data in SETS.items() if name in ("mnist", "S", "crops")] == [
        "cluttered", "s", "crops",
    ]  # fmt: skip


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "digits", "--seed", "5", "--train-size", "64"]) == 0
    said, found = capsys.readouterr().out, read("digits.npz")
    assert "seed=5" in said and str(found["sha256"]) in said and len(found["x_train"]) == 64
    for words, message in (
        (["export", "nothing"], "invalid choice: 'nothing'"),
        (["export", "digits", "--epoch", "0"], "epoch must be"),
        (["export", "digits", "--train-size", "0"], "train_size must be"),
    ):
        with pytest.raises(UserError, match=message):
            main(words)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs POSIX's limits")
def test_a_full_disk_leaves_no_half_file(tmp_path):
    """As the system reports one: nothing may grow beyond a million bytes."""
    code = (
        "import resource, sys\nfrom ministn import cli\nfrom ministn.data.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\n"
        "cli.run(lambda: main(['export', 'digits']))"
    )
    (tmp_path / "digits.npz").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.endswith("File too large; the previous one is kept\n"), done.stderr
    assert os.listdir(tmp_path) == ["digits.npz"]
    assert (tmp_path / "digits.npz").read_bytes() == b"old"


def test_ctrl_c_leaves_no_half_file(tmp_path):
    command = [sys.executable, "-m", "ministn.data", "export", "digits", "--train-size", "40000"]
    child = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in a shell's background
    )  # fmt: skip
    while not list(tmp_path.glob("digits.npz.*.tmp")):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    assert child.wait(60) != 0 and os.listdir(tmp_path) == []
    child.stderr.close()


def test_the_pages_loader(tmp_path, monkeypatch):
    """Its lines of NumPy everywhere, and all of it where PyTorch is."""
    page = (ROOT / "ministn" / "README.md").read_text()
    blocks = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if "DataLoader" in block)
    assert len([line for line in block.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    main(["export", "digits", "--train-size", "64"])
    found = read("digits.npz")
    for name in ("train", "valid", "test"):
        images = found[f"x_{name}"].reshape(-1, 1, 36, 36)
        assert len(images) == len(found[f"y_{name}"].argmax(axis=1))
    torch = pytest.importorskip("torch")
    names = {}
    exec(compile(block, "ministn/README.md", "exec"), names)
    images, labels = names["sets"]["train"].tensors
    assert images.shape == (64, 1, 36, 36) and labels.dtype == torch.int64
    assert len(next(iter(names["batches"]))[1]) == 64
