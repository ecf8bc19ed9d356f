"""MNIST from its four idx files: found or downloaded, and checked each time they are read."""

import gzip
import math
import os
import sys
import zlib
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from ministn.data.dataset import Digits
from ministn.data.folders import find as first_of
from ministn.data.folders import search_path
from ministn.errors import UserError

# SHA-256 of the uncompressed content: the same digits are compressed differently by each mirror.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = [
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "https://yann.lecun.com/exdb/mnist",  # the original, off and on
]
SIDE = 28
VALID = 10_000  # the last images of the training file
IDX_UINT8 = bytes([0, 0, 8])  # how an idx file of bytes begins; the number of axes follows
GZIP = b"\x1f\x8b"
FETCH = "python -m ministn.data fetch"
REPLACE = f"put the right file in its place, or delete it and run `{FETCH}`"


def load(data_dir: Path | str | None = None) -> dict[str, Digits]:
    """The digits of the splits train, valid and test: images (n, 28, 28).

    data_dir: the only folder looked in, and nothing is downloaded; by default the folders of
    `search_path`, then a download. Raises UserError for a file that is missing or altered.
    """
    folders = search_path("mnist", data_dir)
    arrays = []
    for name, digest in FILES.items():
        path = find(name, folders)
        if path is None and data_dir is not None:
            raise UserError(
                f"{data_dir} has no {name} or {name}.gz: put MNIST's four files there, or let "
                f"`{FETCH} --data-dir {data_dir}` download them"
            )
        arrays.append(read(path or download(name, folders), digest))
    train, test = Digits(*arrays[:2]), Digits(*arrays[2:])
    return {"train": train[:-VALID], "valid": train[-VALID:], "test": test}


def fetch(data_dir: Path | str | None = None) -> list[Path]:
    """Download the files that are in none of the folders, check all four, say where they are.

    Downloads go to data_dir, by default to the user's cache. Raises UserError.
    """
    folders = search_path("mnist", data_dir)
    paths = [find(name, folders) or download(name, folders) for name in FILES]
    for path, digest in zip(paths, FILES.values(), strict=True):
        read(path, digest)
    return paths


def find(name: str, folders: list[Path]) -> Path | None:
    """The file called `name`, plain or .gz, in the first folder that has it."""
    return first_of(folders, name, f"{name}.gz")


def read(path: Path, digest: str) -> np.ndarray:
    """The uint8 array in an idx file, plain or compressed, with this SHA-256 when uncompressed.

    Raises UserError for any other content.
    """
    try:
        content = path.read_bytes()
        if content.startswith(GZIP):  # some servers uncompress a .gz file on the way
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read, {error}; {REPLACE}") from error
    start = 4 + 4 * int.from_bytes(content[3:4])  # where the header ends and the array starts
    if not content.startswith(IDX_UINT8) or len(content) < start:
        raise UserError(
            f"{path} is not an idx file of bytes: expected it to begin with {IDX_UINT8.hex()} and "
            f"its shape, found {content[:4].hex() or 'nothing'}; {REPLACE}"
        )
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    if len(content) != start + math.prod(shape):
        raise UserError(
            f"{path} has the wrong length: expected {start + math.prod(shape)} bytes for shape "
            f"{tuple(shape)}, found {len(content)}; {REPLACE}"
        )
    if (found := sha256(content).hexdigest()) != digest:
        raise UserError(
            f"{path} is not MNIST's: expected SHA-256 {digest} of its uncompressed content, "
            f"found {found}; {REPLACE}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def download(name: str, folders: list[Path]) -> Path:
    """Download one file into the last of the folders from the first mirror that has it right.

    It gets its name only once its content is checked, so an interrupted download leaves nothing
    that is ever read. Raises UserError when no mirror serves the file, or without pooch.
    """
    try:
        import pooch
    except ImportError as error:
        raise UserError(
            f"{name} is in no folder looked in, and a download needs pooch: pip install pooch, or "
            "copy MNIST's four files into FOLDER/mnist and set MINISTN_DATA=FOLDER"
        ) from error
    folder = folders[-1]
    path = Path(os.path.realpath(folder / f"{name}.gz"))  # a link is followed
    partial = path.with_name(f"{path.name}.tmp")
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "download.lock"):  # of several runs started at once, one downloads
            if (finished := find(name, folders)) is not None:
                return finished
            for mirror in MIRRORS:
                host = urlsplit(mirror).netloc
                try:
                    # pooch sets the total; it takes a bar without one for no bar.
                    with tqdm(
                        desc=f"{name} from {host}",
                        total=1,
                        unit="B",
                        unit_scale=True,
                        disable=sys.stderr is None,
                    ) as bar:
                        get = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=15)
                        get(f"{mirror}/{name}.gz", str(partial), None)
                    read(partial, FILES[name])
                    return partial.replace(path)
                except UserError:
                    failures.append(f"{host}: wrong content")
                except (OSError, ValueError) as error:
                    reason = getattr(error, "strerror", None) or type(error).__name__
                    failures.append(f"{host}: {reason}")
                finally:
                    partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    raise UserError(
        f"{name} is not in {' or '.join(map(str, folders))} and could not be downloaded "
        f"({'; '.join(failures)}): copy MNIST's four files into {folder}, or run "
        f"`{FETCH} --data-dir FOLDER/mnist` where there is a network, copy FOLDER here and set "
        f"MINISTN_DATA=FOLDER"
    )
